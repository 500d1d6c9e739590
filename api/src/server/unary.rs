//! Calls of one message each way, without what the gRPC library does for streams.
//!
//! A put or a get is over in microseconds, and the library's general road costs as much as the rest: buffers of 8 KiB for
//! each message, boxes around bodies and futures. Here a message that came in one piece is decoded where it lies, and a
//! reply is one allocation of its size. What a client can see is the library's, errors and their texts included.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use keelson_store::Pieces;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Status};

use super::framing::{PREFIX_BYTES, check, declared, put, refuse_compression, response};
use super::laid::Laid;
use super::observe::GRPC_STATUS;

/// Answers one call: the request is read wholly, then `answer` is asked. A message of more than `limit` bytes is refused.
pub(super) async fn unary<B, I, O, F>(
    request: Request<B>,
    limit: usize,
    answer: impl FnOnce(tonic::Request<I>) -> F,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
    I: Message + Default,
    O: Answer,
    F: Future<Output = Result<O, Status>>,
{
    let answered = match receive(request, limit).await {
        Ok(request) => answer(request).await,
        Err(status) => Err(status),
    };
    match answered.and_then(O::into_response) {
        Ok(response) => response,
        Err(status) => status.into_http(),
    }
}

/// What a call is answered with.
pub(super) trait Answer {
    /// The response that says it.
    fn into_response(self) -> Result<Response<Body>, Status>;
}

impl<O: Message> Answer for tonic::Response<O> {
    fn into_response(self) -> Result<Response<Body>, Status> {
        let (metadata, message, _) = self.into_parts();
        let mut bytes = BytesMut::new();
        put(&message, &mut bytes)?;
        let mut response = response(Body::new(Reply::Message(bytes.freeze())));
        response.headers_mut().extend(metadata.into_headers());
        Ok(response)
    }
}

impl Answer for Laid {
    fn into_response(self) -> Result<Response<Body>, Status> {
        Ok(response(Body::new(Reply::Pieces(self.into_pieces()))))
    }
}

async fn receive<B, I>(request: Request<B>, limit: usize) -> Result<tonic::Request<I>, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
    I: Message + Default,
{
    let (parts, mut body) = request.into_parts();
    refuse_compression(&parts.headers)?;
    let mut received = Received::default();
    // To its end, as the library does: a call begins when its client has said all.
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        if let Ok(data) = frame.into_data() {
            received.add(data, limit)?;
        }
    }
    let message =
        I::decode(received.message()?).map_err(|error| Status::internal(error.to_string()))?;
    Ok(tonic::Request::from_parts(
        MetadataMap::from_headers(parts.headers),
        Extensions::default(),
        message,
    ))
}

/// What has come of a message and its prefix: the piece it came in, or a buffer once there were several.
#[derive(Default)]
enum Received {
    #[default]
    Nothing,
    Whole(Bytes),
    Pieces(BytesMut),
}

impl Received {
    fn add(&mut self, data: Bytes, limit: usize) -> Result<(), Status> {
        // Many clients end their stream with a frame of its own, without data.
        if data.is_empty() {
            return Ok(());
        }
        *self = match std::mem::take(self) {
            Received::Nothing => Received::Whole(data),
            Received::Whole(first) => {
                let mut pieces = BytesMut::with_capacity(first.len() + data.len());
                pieces.put(first);
                pieces.put(data);
                Received::Pieces(pieces)
            }
            Received::Pieces(mut pieces) => {
                // Of what follows the message no more is kept than came with its last piece.
                let whole = declared(&pieces).map(|length| PREFIX_BYTES + length);
                if whole.is_none_or(|whole| pieces.len() < whole) {
                    if let Some(whole) = whole {
                        // Doubling would take up to twice as much.
                        pieces.reserve(data.len().max(whole - pieces.len()));
                    }
                    pieces.put(data);
                }
                Received::Pieces(pieces)
            }
        };
        check(self.bytes(), limit)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Received::Nothing => &[],
            Received::Whole(bytes) => bytes,
            Received::Pieces(bytes) => bytes,
        }
    }

    /// The message, when nothing more will come.
    fn message(self) -> Result<Bytes, Status> {
        let mut bytes = match self {
            Received::Nothing => return Err(Status::internal("Missing request message.")),
            Received::Whole(bytes) => bytes,
            Received::Pieces(bytes) => bytes.freeze(),
        };
        match declared(&bytes) {
            Some(length) if bytes.len() >= PREFIX_BYTES + length => {
                bytes.advance(PREFIX_BYTES);
                bytes.truncate(length);
                Ok(bytes)
            }
            None if bytes.is_empty() => Err(Status::internal("Missing request message.")),
            _ => Err(Status::internal("Unexpected EOF decoding stream.")),
        }
    }
}

/// A reply's body: the message, then the status.
enum Reply {
    Message(Bytes),
    Pieces(Pieces),
    Status,
    Ended,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match std::mem::replace(&mut *self, Reply::Ended) {
            Reply::Message(bytes) => {
                *self = Reply::Status;
                Frame::data(bytes)
            }
            Reply::Pieces(mut pieces) => {
                if let Some(piece) = pieces.next() {
                    *self = Reply::Pieces(pieces);
                    Frame::data(piece)
                } else {
                    Frame::trailers(ok())
                }
            }
            Reply::Status => Frame::trailers(ok()),
            Reply::Ended => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Ended)
    }
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(&GRPC_STATUS, HeaderValue::from(Code::Ok as i32));
    trailers
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::BodyExt;
    use keelson_proto::etcdserverpb::{PutRequest, PutResponse};

    use super::super::framing::GRPC_ENCODING;
    use super::*;

    const LIMIT: usize = 100;

    /// A body in pieces.
    struct Pieces(VecDeque<Bytes>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = StdError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, message].concat()
    }

    fn put(key: &'static str) -> PutRequest {
        PutRequest {
            key: Bytes::from(key),
            ..PutRequest::default()
        }
    }

    /// The key that arrives, or the status.
    async fn send(bytes: &[u8], piece: usize) -> Result<Bytes, Status> {
        let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        let request = Request::new(Pieces(pieces));
        receive::<_, PutRequest>(request, LIMIT)
            .await
            .map(|request| request.into_inner().key)
    }

    #[tokio::test]
    async fn a_message_arrives_in_however_many_pieces_it_came() {
        let sent = framed(0, &put("key").encode_to_vec());
        for piece in 1..=sent.len() {
            assert_eq!(send(&sent, piece).await.unwrap(), "key", "{piece}");
        }
    }

    #[tokio::test]
    async fn what_follows_the_message_is_ignored() {
        let message = put("key").encode_to_vec();
        let sent = [framed(0, &message), framed(0, &message), vec![7; 1000]].concat();
        for piece in [1, 4, 9, 2000] {
            assert_eq!(send(&sent, piece).await.unwrap(), "key", "{piece}");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_in_the_librarys_words() {
        let status = async |bytes: &[u8], piece| {
            let status = send(bytes, piece).await.unwrap_err();
            (status.code(), status.message().to_owned())
        };
        let internal = |text: &str| (Code::Internal, text.to_owned());
        assert_eq!(status(&[], 1).await, internal("Missing request message."));
        let cut = framed(0, &put("key").encode_to_vec());
        for end in 1..cut.len() {
            assert_eq!(
                status(&cut[..end], 2).await,
                internal("Unexpected EOF decoding stream."),
                "{end}"
            );
        }
        assert_eq!(
            status(&framed(1, b""), 5).await,
            internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was specified"
            )
        );
        assert!(status(&framed(9, b""), 5).await.1.contains("flag: 9"));
        // Known as soon as the prefix is there.
        let (code, text) = status(&framed(0, &[0; 101]), 5).await;
        assert_eq!(code, Code::OutOfRange);
        assert!(
            text.contains("found 101 bytes, the limit is: 100 bytes"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn compression_is_refused_and_identity_is_none() {
        let request = |encoding: &'static str| {
            let sent = framed(0, &put("key").encode_to_vec());
            Request::builder()
                .header(&GRPC_ENCODING, encoding)
                .body(Pieces([Bytes::from(sent)].into()))
                .unwrap()
        };
        assert!(
            receive::<_, PutRequest>(request("identity"), LIMIT)
                .await
                .is_ok()
        );
        let status = receive::<_, PutRequest>(request("gzip"), LIMIT)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(
            status.metadata().get("grpc-accept-encoding").unwrap(),
            "identity"
        );
    }

    #[tokio::test]
    async fn a_reply_is_the_message_and_then_its_status() {
        let sent = framed(0, &put("key").encode_to_vec());
        let request = Request::new(Pieces([Bytes::from(sent)].into()));
        let answer =
            async |_: tonic::Request<PutRequest>| Ok(tonic::Response::new(PutResponse::default()));
        let response = unary(request, LIMIT, answer).await;
        assert_eq!(
            response.headers()[http::header::CONTENT_TYPE],
            "application/grpc"
        );
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()[&GRPC_STATUS], "0");
        assert_eq!(body.to_bytes(), framed(0, b""));
    }

    #[tokio::test]
    async fn a_refusal_is_in_the_headers() {
        let sent = framed(0, &put("key").encode_to_vec());
        let request = Request::new(Pieces([Bytes::from(sent)].into()));
        let answer = async |_: tonic::Request<PutRequest>| {
            Err::<tonic::Response<PutResponse>, _>(Status::not_found("no"))
        };
        let response = unary(request, LIMIT, answer).await;
        assert_eq!(response.headers()[&GRPC_STATUS], "5");
    }
}
