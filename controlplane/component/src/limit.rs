//! A limit on how long the API server may take to answer.
//!
//! A connection that is open at this end only looks like one whose server thinks: without a limit, whoever asked over it
//! waits for ever. A watch is answered for as long as it lasts, so that only its beginning is limited; its silence is
//! for whoever reads it to judge.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tower::{BoxError, Service};

/// By when a request must have been answered, to the last byte unless it is a watch.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A service whose answers are limited in time.
#[derive(Clone)]
pub struct Limited<S>(pub S);

impl<S, A, B> Service<Request<A>> for Limited<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<LimitedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let deadline = Instant::now() + ANSWER_MAX;
        let endless = is_watch(request.uri());
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = timeout_at(deadline, answer).await.map_err(|_| too_late())?;
            Ok(answer.map_err(Into::into)?.map(|body| LimitedBody {
                body,
                deadline: (!endless).then(|| Box::pin(sleep_until(deadline))),
            }))
        })
    }
}

fn is_watch(uri: &http::Uri) -> bool {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    parameters.any(|parameter| matches!(parameter, "watch=true" | "watch=1"))
}

fn too_late() -> BoxError {
    let message = format!("no answer within {} s", ANSWER_MAX.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message).into()
}

/// The body of an answer, which breaks off when it is not complete in time.
pub struct LimitedBody<B> {
    body: B,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> Body for LimitedBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match &mut self.deadline {
            Some(deadline) => deadline
                .as_mut()
                .poll(context)
                .map(|()| Some(Err(too_late()))),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use futures::{StreamExt, TryStreamExt};
    use http_body_util::{Full, StreamBody};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{ListParams, WatchParams};
    use kube::{Api, Client};

    use super::*;

    /// A server that says so much, and then nothing, without an end; `None` says nothing at all.
    fn silent_after(said: Option<&'static str>) -> Api<ConfigMap> {
        let answer = move |_: Request<kube::client::Body>| async move {
            let Some(said) = said else {
                return std::future::pending().await;
            };
            let frame = Ok::<_, Infallible>(Frame::data(bytes::Bytes::from(said)));
            let frames = stream::iter([frame]).chain(stream::pending());
            Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
        };
        let client = Client::new(Limited(tower::service_fn(answer)), "default");
        Api::default_namespaced(client)
    }

    const LIST: &str = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":["#;
    const ADDED: &str = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n";

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_begins_or_never_ends_is_given_up() {
        for said in [None, Some(LIST)] {
            let begun = Instant::now();
            let listed = silent_after(said).list(&ListParams::default()).await;
            assert!(listed.is_err(), "{said:?}");
            assert_eq!(begun.elapsed().as_secs(), ANSWER_MAX.as_secs(), "{said:?}");
        }
        let params = WatchParams::default();
        assert!(silent_after(None).watch(&params, "0").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_begun_may_be_silent_for_longer() {
        let api = silent_after(Some(ADDED));
        let watched = api.watch(&WatchParams::default(), "0").await.unwrap();
        let mut events = std::pin::pin!(watched);
        assert!(events.try_next().await.unwrap().is_some());
        let silence = tokio::time::timeout(3 * ANSWER_MAX, events.try_next()).await;
        assert!(silence.is_err(), "{silence:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_passed_on_whole() {
        let list = format!("{LIST}]}}");
        let answer = move |_: Request<kube::client::Body>| {
            let body = Full::<bytes::Bytes>::from(list.clone());
            async move {
                tokio::time::sleep(ANSWER_MAX / 2).await;
                Ok::<_, Infallible>(Response::new(body))
            }
        };
        let client = Client::new(Limited(tower::service_fn(answer)), "default");
        let api = Api::<ConfigMap>::default_namespaced(client);
        assert!(
            api.list(&ListParams::default())
                .await
                .unwrap()
                .items
                .is_empty()
        );
    }
}
