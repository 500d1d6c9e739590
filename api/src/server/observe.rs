//! What is done to every gRPC call: it waits until the member may answer it; on its way out it is counted by method and
//! code, and etcd's words are put into the errors that the gRPC library makes itself; and calls without an end are ended
//! when the server shuts down.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::Either;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use keelson_raft::Trouble;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::framing::trailers;
use super::gate::Gate;
use crate::error::Failure;
use crate::metrics::{Call, Metrics};

const GRPC: &str = "application/grpc";
/// Names that every call looks for are not parsed for each.
pub(super) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Wraps the router.
#[derive(Clone)]
pub(super) struct Observe<S> {
    inner: S,
    metrics: Arc<Metrics>,
    gate: Gate,
    stopping: CancellationToken,
}

impl<S> Observe<S> {
    pub(super) fn new(
        inner: S,
        metrics: Arc<Metrics>,
        gate: Gate,
        stopping: CancellationToken,
    ) -> Self {
        Observe {
            inner,
            metrics,
            gate,
            stopping,
        }
    }
}

impl<S, B> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<ObservedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call =
            is_grpc(request.headers()).then(|| self.metrics.calls.of(request.uri().path()).clone());
        let stopping = call
            .as_ref()
            .is_some_and(|call| call.endless)
            .then(|| self.stopping.clone());
        let mut open = call.map(Open::new);
        let response = if open.is_none() || self.gate.is_open() {
            Either::Left(self.inner.call(request))
        } else {
            let (gate, mut inner) = (self.gate.clone(), self.inner.clone());
            Either::Right(async move {
                match gate.passed().await {
                    Ok(()) => inner.call(request).await,
                    Err(trouble) => Ok(Status::from(Failure::from(trouble)).into_http()),
                }
            })
        };
        Box::pin(async move {
            let mut response = response.await?;
            if let Some(open) = open.take_if(|_| response.headers().contains_key(&GRPC_STATUS)) {
                open.end(response.headers_mut());
            }
            let stopping = stopping.map(|token| Box::pin(token.cancelled_owned()));
            Ok(response.map(|inner| ObservedBody {
                inner,
                open,
                stopping,
            }))
        })
    }
}

/// Whether a request calls itself a call.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

/// A call that has not ended. One that is dropped was cancelled by its client.
struct Open {
    call: Arc<Call>,
    ended: bool,
}

impl Open {
    fn new(call: Arc<Call>) -> Open {
        call.started();
        Open { call, ended: false }
    }

    /// Counts the status in headers or trailers, and puts etcd's words into it.
    fn end(mut self, headers: &mut HeaderMap) {
        let code = headers
            .get(&GRPC_STATUS)
            .map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        let message = (code == Code::OutOfRange).then(|| headers.get(&GRPC_MESSAGE));
        let code = match message.flatten().and_then(oversize) {
            Some((found, limit)) => {
                let text = format!("grpc: received message larger than max ({found} vs. {limit})");
                // Only letters that need no escape.
                headers.insert(
                    &GRPC_MESSAGE,
                    HeaderValue::from_str(&text.replace(' ', "%20")).expect("plain ASCII"),
                );
                headers.insert(
                    &GRPC_STATUS,
                    HeaderValue::from(Code::ResourceExhausted as i32),
                );
                Code::ResourceExhausted
            }
            None => code,
        };
        self.call.handled(code);
        self.ended = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            self.call.handled(Code::Cancelled);
        }
    }
}

/// The numbers in the library's words for a message over the limit.
fn oversize(message: &HeaderValue) -> Option<(u64, u64)> {
    let text = message.to_str().ok()?.replace("%20", " ");
    let text = text.strip_prefix("Error, decoded message length too large: found ")?;
    let (found, limit) = text.split_once(" bytes, the limit is: ")?;
    Some((
        found.parse().ok()?,
        limit.strip_suffix(" bytes")?.parse().ok()?,
    ))
}

/// A reply's body, watched until it ends.
pub(super) struct ObservedBody {
    inner: Body,
    open: Option<Open>,
    /// Only for calls that would go on for ever.
    stopping: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending => {
                let Some(stopping) = &mut this.stopping else {
                    return Poll::Pending;
                };
                ready!(stopping.as_mut().poll(cx));
                this.stopping = None;
                this.inner = Body::empty();
                Some(trailers(&Status::from(Failure::from(Trouble::Stopped))))
            }
            Poll::Ready(frame) => frame,
        };
        let Some(Ok(mut frame)) = frame else {
            return Poll::Ready(frame);
        };
        if let Some(trailers) = frame.trailers_mut()
            && let Some(open) = this.open.take()
        {
            open.end(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    const PUT: &str = "/etcdserverpb.KV/Put";
    const WATCH: &str = "/etcdserverpb.Watch/Watch";

    async fn call(
        metrics: &Arc<Metrics>,
        stopping: &CancellationToken,
        path: &str,
        body: Body,
    ) -> Response<ObservedBody> {
        let gate = Gate::new(Duration::ZERO, stopping.clone());
        gate.clone().open_when(std::future::ready(Ok(()))).await;
        call_through(gate, metrics, stopping, path, body).await
    }

    async fn call_through(
        gate: Gate,
        metrics: &Arc<Metrics>,
        stopping: &CancellationToken,
        path: &str,
        body: Body,
    ) -> Response<ObservedBody> {
        let body = Arc::new(std::sync::Mutex::new(Some(body)));
        let inner = tower::service_fn(move |_: Request<()>| {
            let response = Response::new(body.lock().unwrap().take().unwrap());
            async move { Ok::<_, Infallible>(response) }
        });
        let request = Request::builder()
            .uri(path)
            .header(header::CONTENT_TYPE, GRPC)
            .body(())
            .unwrap();
        Observe::new(inner, metrics.clone(), gate, stopping.clone())
            .call(request)
            .await
            .unwrap()
    }

    fn ends_with(code: Code, message: &'static str) -> Body {
        let mut trailers = HeaderMap::new();
        Status::new(code, message)
            .add_header(&mut trailers)
            .unwrap();
        Body::new(
            http_body_util::Empty::<Bytes>::new().with_trailers(async move { Some(Ok(trailers)) }),
        )
    }

    fn counted(metrics: &Metrics, path: &str, code: &str) -> bool {
        let method = path.rsplit('/').next().unwrap();
        let page = metrics.render().unwrap();
        page.lines().any(|line| {
            line.starts_with("grpc_server_handled_total")
                && line.contains(&format!("grpc_method=\"{method}\",grpc_code=\"{code}\""))
                && line.ends_with("} 1")
        })
    }

    #[tokio::test]
    async fn a_call_is_counted_with_the_code_in_its_trailers() {
        let metrics = Arc::new(Metrics::new());
        let response = call(
            &metrics,
            &CancellationToken::new(),
            PUT,
            ends_with(Code::NotFound, "no"),
        )
        .await;
        assert!(!counted(&metrics, PUT, "NotFound"));
        response.into_body().collect().await.unwrap();
        assert!(counted(&metrics, PUT, "NotFound"));
    }

    #[tokio::test]
    async fn a_call_whose_client_goes_away_is_counted_as_cancelled() {
        let metrics = Arc::new(Metrics::new());
        drop(
            call(
                &metrics,
                &CancellationToken::new(),
                PUT,
                ends_with(Code::Ok, ""),
            )
            .await,
        );
        assert!(counted(&metrics, PUT, "Canceled"));
    }

    #[tokio::test]
    async fn a_watch_ends_with_server_stopped_when_the_server_stops() {
        let metrics = Arc::new(Metrics::new());
        let stopping = CancellationToken::new();
        let endless = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let endless = Body::new(http_body_util::StreamBody::new(endless));
        let response = call(&metrics, &stopping, WATCH, endless).await;
        stopping.cancel();
        let trailers = response
            .into_body()
            .collect()
            .await
            .unwrap()
            .trailers()
            .cloned()
            .unwrap();
        assert_eq!(trailers[&GRPC_STATUS], "14");
        assert_eq!(trailers[&GRPC_MESSAGE], "etcdserver:%20server%20stopped");
        assert!(counted(&metrics, WATCH, "Unavailable"));
    }

    #[tokio::test]
    async fn a_call_that_has_waited_in_vain_for_the_member_to_recover_is_refused_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let stopping = CancellationToken::new();
        let gate = Gate::new(Duration::ZERO, stopping.clone());
        let response = call_through(gate, &metrics, &stopping, PUT, Body::empty()).await;
        assert_eq!(response.headers()[&GRPC_STATUS], "14");
        assert_eq!(
            response.headers()[&GRPC_MESSAGE],
            "etcdserver:%20no%20leader"
        );
        assert!(counted(&metrics, PUT, "Unavailable"));
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_refused_in_grpc_gos_words() {
        let metrics = Arc::new(Metrics::new());
        let words = "Error, decoded message length too large: found 3000000 bytes, the limit is: 2097152 bytes";
        let response = call(
            &metrics,
            &CancellationToken::new(),
            PUT,
            ends_with(Code::OutOfRange, words),
        )
        .await;
        let trailers = response
            .into_body()
            .collect()
            .await
            .unwrap()
            .trailers()
            .cloned()
            .unwrap();
        assert_eq!(trailers[&GRPC_STATUS], "8");
        let text = trailers[&GRPC_MESSAGE]
            .to_str()
            .unwrap()
            .replace("%20", " ");
        assert_eq!(
            text,
            "grpc: received message larger than max (3000000 vs. 2097152)"
        );
    }
}
