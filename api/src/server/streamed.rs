//! Calls that are answered by one message after another, each of which is made when the client has room for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame};
use keelson_store::Pieces;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;

use super::framing::response;
use super::laid::Laid;
use super::unary::receive;

/// Answers one call: the request is read wholly, then `answer` is asked. A message of more than `limit` bytes is refused.
pub(super) async fn streamed<B, I, S, F>(
    request: Request<B>,
    limit: usize,
    answer: impl FnOnce(tonic::Request<I>) -> F,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
    I: Message + Default,
    S: Stream<Item = Result<Laid, Status>> + Send + 'static,
    F: Future<Output = Result<S, Status>>,
{
    let answered = match receive(request, limit).await {
        Ok(request) => answer(request).await,
        Err(status) => Err(status),
    };
    match answered {
        Ok(messages) => response(Body::new(Streamed {
            messages: Some(Box::pin(messages)),
            message: None,
        })),
        Err(status) => status.into_http(),
    }
}

/// The body of a response.
struct Streamed<S> {
    /// None once the last was taken.
    messages: Option<Pin<Box<S>>>,
    /// What is left of the one that is being sent.
    message: Option<Pieces>,
}

impl<S: Stream<Item = Result<Laid, Status>>> HttpBody for Streamed<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.message.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(messages) = &mut self.messages else {
                return Poll::Ready(None);
            };
            let status = match ready!(messages.as_mut().poll_next(cx)) {
                Some(Ok(message)) => {
                    self.message = Some(message.into_pieces());
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.messages = None;
            let mut trailers = HeaderMap::new();
            let trailers = status
                .add_header(&mut trailers)
                .map(|()| Frame::trailers(trailers));
            return Poll::Ready(Some(trailers));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_none()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use keelson_proto::etcdserverpb::{
        PutRequest, RangeRequest, RangeStreamResponse, ResponseHeader,
    };
    use keelson_store::memory::MemoryEngine;
    use keelson_store::{Options, Store};
    use tonic::Code;

    use super::super::framing::{PREFIX_BYTES, declared, put};
    use super::*;

    /// A part of nothing, that tells a revision.
    fn part(revision: i64) -> Result<Laid, Status> {
        let engine = std::sync::Arc::new(MemoryEngine::new());
        let store = Store::open(engine, Options { cache_bytes: 0 }).unwrap();
        let nothing = RangeRequest {
            key: Bytes::from_static(b"a"),
            ..RangeRequest::default()
        };
        let range = store.reader().now().range_encoded(&nothing).unwrap();
        let header = ResponseHeader {
            revision,
            ..ResponseHeader::default()
        };
        Laid::part(range, Some(&header))
    }

    /// The revisions of the messages, and how it ends.
    async fn told(messages: Vec<Result<Laid, Status>>) -> (Vec<i64>, Code) {
        let mut sent = bytes::BytesMut::new();
        put(&PutRequest::default(), &mut sent).unwrap();
        let request = Request::new(Full::new(sent.freeze()));
        let response = streamed(request, 100, async move |_: tonic::Request<PutRequest>| {
            Ok(futures::stream::iter(messages))
        })
        .await;
        let body = response.into_body().collect().await.unwrap();
        let code = Code::from_bytes(body.trailers().unwrap()["grpc-status"].as_bytes());
        let mut bytes = body.to_bytes();
        let mut revisions = Vec::new();
        while let Some(length) = declared(&bytes) {
            let message = bytes
                .split_to(PREFIX_BYTES + length)
                .split_off(PREFIX_BYTES);
            let message = RangeStreamResponse::decode(message).unwrap();
            let header = message.range_response.unwrap().header.unwrap();
            revisions.push(header.revision);
        }
        (revisions, code)
    }

    #[tokio::test]
    async fn the_messages_come_one_after_another_and_then_how_it_ended() {
        assert_eq!(told(Vec::new()).await, (vec![], Code::Ok));
        assert_eq!(told(vec![part(1), part(2)]).await, (vec![1, 2], Code::Ok));
        let failed = vec![part(1), Err(Status::out_of_range("compacted")), part(2)];
        assert_eq!(told(failed).await, (vec![1], Code::OutOfRange));
    }
}
