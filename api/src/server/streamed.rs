//! Calls that are answered by one message after another, each of which is made when the client has room for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::Response;
use http_body::{Body as HttpBody, Frame};
use keelson_store::Pieces;
use tonic::Status;
use tonic::body::Body;

use super::framing::{response, trailers};
use super::laid::Laid;
use super::unary::Answer;

/// A call's answer: the messages of a stream.
pub(super) struct Messages<S>(pub(super) S);

impl<S: Stream<Item = Result<Laid, Status>> + Send + 'static> Answer for Messages<S> {
    fn into_response(self) -> Result<Response<Body>, Status> {
        Ok(response(Body::new(Streamed {
            messages: Some(Box::pin(self.0)),
            message: None,
        })))
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
            return Poll::Ready(Some(trailers(&status)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_none()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::{BodyExt, Full};
    use keelson_proto::etcdserverpb::{
        PutRequest, RangeRequest, RangeStreamResponse, ResponseHeader,
    };
    use keelson_store::memory::MemoryEngine;
    use keelson_store::{Options, Store};
    use prost::Message;
    use tonic::Code;

    use super::super::framing::{PREFIX_BYTES, declared, put};
    use super::super::unary::unary;
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
        let response = unary(request, 100, async move |_: tonic::Request<PutRequest>| {
            Ok(Messages(futures::stream::iter(messages)))
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
