//! Calls in which a client sends message after message, and each is answered by one, in their order.
//!
//! A message is over in less than a microsecond, so here it costs no task, no queue and no future if it can be answered at
//! once. What came together is answered together, in one piece. What a client can see is what the gRPC library would do.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::framing::{PREFIX_BYTES, check, declared, put, refuse_compression, response, trailers};

/// Replies that are ready are sent together, up to about this.
const SEND_TOGETHER_BYTES: usize = 16 << 10;

/// Messages of one call that wait for their answers at once.
const WAITING_MAX: usize = 128;

/// Answers the messages of one call.
pub(crate) trait Answers: Send + Unpin + 'static {
    /// What the client sends.
    type Request: Message + Default;
    /// What it gets for it.
    type Reply: Message;

    /// The reply, if nothing need be waited for.
    fn at_once(&mut self, request: &Self::Request) -> Option<Self::Reply>;

    /// The reply. Those that are there together are asked for together, and given in the order of their requests.
    fn later(&mut self, request: Self::Request) -> BoxFuture<'static, Result<Self::Reply, Status>>;

    /// Ready when the call must end although its client goes on.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Status>;
}

/// Answers one call, by what `open` makes of its metadata. A message of more than `limit` bytes is refused.
pub(super) fn exchange<B, A>(
    request: Request<B>,
    limit: usize,
    open: impl FnOnce(&MetadataMap) -> Result<A, Status>,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
    A: Answers,
{
    let (parts, body) = request.into_parts();
    let opened = refuse_compression(&parts.headers)
        .and_then(|()| open(&MetadataMap::from_headers(parts.headers)));
    let answers = match opened {
        Ok(answers) => answers,
        Err(status) => return status.into_http(),
    };
    response(Body::new(Exchange {
        requests: Some(Requests {
            body,
            limit,
            whole: Bytes::new(),
            pieces: BytesMut::new(),
        }),
        answers,
        waiting: FuturesOrdered::new(),
        end: None,
        ended: false,
    }))
}

/// The replies of one call, as the body of its response.
struct Exchange<B, A: Answers> {
    /// None once no more are read.
    requests: Option<Requests<B>>,
    answers: A,
    /// Replies that something is waited for, in their order. While there are any, no later request is answered at once.
    waiting: FuturesOrdered<BoxFuture<'static, Result<A::Reply, Status>>>,
    /// How the call ends, once what is ready has been sent.
    end: Option<Status>,
    ended: bool,
}

impl<B, A> Exchange<B, A>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
    A: Answers,
{
    /// Adds the replies that are ready, up to about as many bytes as are sent together.
    fn gather(&mut self, cx: &mut Context<'_>, replies: &mut BytesMut) {
        while self.end.is_none() && replies.len() < SEND_TOGETHER_BYTES {
            if !self.waiting.is_empty() {
                match self.waiting.poll_next_unpin(cx) {
                    Poll::Ready(Some(reply)) => {
                        self.say(reply, replies);
                        continue;
                    }
                    Poll::Pending if self.waiting.len() >= WAITING_MAX => return,
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
            let Some(requests) = &mut self.requests else {
                if self.waiting.is_empty() {
                    self.end = Some(Status::ok(""));
                }
                return;
            };
            match requests.poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => self.ask(request, replies),
                Poll::Ready(Some(Err(status))) => {
                    self.requests = None;
                    // After the answers to all that came before.
                    self.waiting
                        .push_back(Box::pin(std::future::ready(Err(status))));
                }
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return,
            }
        }
    }

    fn ask(&mut self, request: A::Request, replies: &mut BytesMut) {
        if self.waiting.is_empty()
            && let Some(reply) = self.answers.at_once(&request)
        {
            self.say(Ok(reply), replies);
        } else {
            self.waiting.push_back(self.answers.later(request));
        }
    }

    fn say(&mut self, reply: Result<A::Reply, Status>, replies: &mut BytesMut) {
        if let Err(status) = reply.and_then(|reply| put(&reply, replies)) {
            self.end = Some(status);
        }
    }
}

impl<B, A> HttpBody for Exchange<B, A>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
    A: Answers,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let mut replies = BytesMut::new();
        if this.end.is_none() {
            match this.answers.poll_over(cx) {
                Poll::Ready(status) => this.end = Some(status),
                Poll::Pending => this.gather(cx, &mut replies),
            }
        }
        if !replies.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(replies.freeze()))));
        }
        let Some(status) = this.end.take() else {
            return Poll::Pending;
        };
        this.ended = true;
        Poll::Ready(Some(trailers(&status)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// The messages that a client sends.
struct Requests<B> {
    body: B,
    limit: usize,
    /// What came last, and holds what is read next; or else `pieces` does.
    whole: Bytes,
    /// A message that is not all there.
    pieces: BytesMut,
}

impl<B> Requests<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    fn poll_next<I: Message + Default>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<I, Status>>> {
        loop {
            match self.next() {
                Ok(None) => {}
                message => return Poll::Ready(message.transpose()),
            }
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.add(data),
                    // The client's trailers: nothing follows them.
                    Err(_) => return Poll::Ready(None),
                },
                Some(Err(error)) => {
                    let status = Status::from_error(error.into());
                    let left = status.code() == Code::Cancelled;
                    return Poll::Ready((!left).then_some(Err(status)));
                }
                None if self.whole.is_empty() && self.pieces.is_empty() => {
                    return Poll::Ready(None);
                }
                None => {
                    let status = Status::internal("Unexpected EOF decoding stream.");
                    return Poll::Ready(Some(Err(status)));
                }
            }
        }
    }

    fn add(&mut self, data: Bytes) {
        if self.whole.is_empty() && self.pieces.is_empty() {
            self.whole = data;
        } else {
            self.pieces
                .extend_from_slice(&std::mem::take(&mut self.whole));
            self.pieces.extend_from_slice(&data);
        }
    }

    /// The next message, if it is all there.
    fn next<I: Message + Default>(&mut self) -> Result<Option<I>, Status> {
        let bytes = if self.pieces.is_empty() {
            &self.whole
        } else {
            &*self.pieces
        };
        check(bytes, self.limit)?;
        let end = declared(bytes).map(|length| PREFIX_BYTES + length);
        let Some(end) = end.filter(|end| bytes.len() >= *end) else {
            return Ok(None);
        };
        if !self.pieces.is_empty() {
            self.whole = std::mem::take(&mut self.pieces).freeze();
        }
        let message = I::decode(&self.whole[PREFIX_BYTES..end])
            .map_err(|error| Status::internal(error.to_string()))?;
        self.whole.advance(end);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures::channel::oneshot;
    use http_body_util::BodyExt;
    use keelson_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};

    use super::super::observe::GRPC_STATUS;
    use super::*;

    const LIMIT: usize = 100;

    /// Answers a lease with its id: negative ones when told to.
    #[derive(Default)]
    struct Echo {
        told: VecDeque<oneshot::Receiver<Result<(), Status>>>,
        over: Option<oneshot::Receiver<Status>>,
    }

    fn reply(id: i64) -> LeaseKeepAliveResponse {
        LeaseKeepAliveResponse {
            id,
            ..LeaseKeepAliveResponse::default()
        }
    }

    impl Answers for Echo {
        type Request = LeaseKeepAliveRequest;
        type Reply = LeaseKeepAliveResponse;

        fn at_once(&mut self, request: &LeaseKeepAliveRequest) -> Option<LeaseKeepAliveResponse> {
            (request.id > 0).then(|| reply(request.id))
        }

        fn later(
            &mut self,
            request: LeaseKeepAliveRequest,
        ) -> BoxFuture<'static, Result<LeaseKeepAliveResponse, Status>> {
            if request.id > 0 {
                return Box::pin(async move { Ok(reply(request.id)) });
            }
            let told = self.told.pop_front().expect("as many as are asked for");
            Box::pin(async move { told.await.unwrap().map(|()| reply(request.id)) })
        }

        fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
            match &mut self.over {
                Some(over) => Pin::new(over).poll(cx).map(Result::unwrap),
                None => Poll::Pending,
            }
        }
    }

    /// A body of what is in a channel.
    type Sent = http_body_util::StreamBody<
        futures::channel::mpsc::Receiver<Result<Frame<Bytes>, StdError>>,
    >;

    struct Client {
        sender: Option<futures::channel::mpsc::Sender<Result<Frame<Bytes>, StdError>>>,
        replies: Body,
    }

    fn call(answers: Echo) -> Client {
        let (sender, receiver) = futures::channel::mpsc::channel(1_000);
        let request = Request::new(Sent::new(receiver));
        let response = exchange(request, LIMIT, |_| Ok(answers));
        Client {
            sender: Some(sender),
            replies: response.into_body(),
        }
    }

    fn framed(ids: &[i64]) -> Bytes {
        let mut bytes = BytesMut::new();
        for &id in ids {
            put(&LeaseKeepAliveRequest { id }, &mut bytes).unwrap();
        }
        bytes.freeze()
    }

    impl Client {
        fn send(&mut self, piece: Result<Bytes, StdError>) {
            let sender = self.sender.as_mut().unwrap();
            sender.try_send(piece.map(Frame::data)).unwrap();
        }

        fn close(&mut self) {
            self.sender = None;
        }

        /// What is said without waiting; none if nothing is.
        fn now(&mut self) -> Option<Frame<Bytes>> {
            let frame = futures::FutureExt::now_or_never(self.replies.frame());
            frame.map(|frame| frame.unwrap().unwrap())
        }

        /// The ids in the frame that is there.
        fn ids(&mut self) -> Vec<i64> {
            let Some(frame) = self.now() else {
                return Vec::new();
            };
            let mut bytes = frame.into_data().unwrap();
            let mut ids = Vec::new();
            while let Some(length) = declared(&bytes) {
                let message = bytes
                    .split_to(PREFIX_BYTES + length)
                    .split_off(PREFIX_BYTES);
                ids.push(LeaseKeepAliveResponse::decode(message).unwrap().id);
            }
            ids
        }

        fn status(&mut self) -> Status {
            let trailers = self.now().unwrap().into_trailers().unwrap();
            assert!(trailers.contains_key(&GRPC_STATUS));
            Status::from_header_map(&trailers).unwrap()
        }
    }

    #[test]
    fn what_came_together_is_answered_together() {
        let mut client = call(Echo::default());
        assert!(client.now().is_none());
        client.send(Ok(framed(&[1, 2, 3])));
        client.send(Ok(framed(&[4])));
        assert_eq!(client.ids(), [1, 2, 3, 4]);
        assert!(client.now().is_none());
        client.send(Ok(framed(&[5])));
        assert_eq!(client.ids(), [5]);
        client.close();
        assert_eq!(client.status().code(), Code::Ok);
        assert!(client.replies.is_end_stream());
    }

    #[test]
    fn messages_arrive_in_however_many_pieces_they_came() {
        let ids = [1, 300, 70_000, 5];
        let sent = framed(&ids);
        for piece in 1..=sent.len() {
            let mut client = call(Echo::default());
            for piece in sent.chunks(piece) {
                client.send(Ok(Bytes::copy_from_slice(piece)));
            }
            assert_eq!(client.ids(), ids, "{piece}");
        }
    }

    #[test]
    fn answers_come_in_the_order_of_the_requests_whichever_is_ready_first() {
        let (tells, told): (Vec<_>, _) = (0..2).map(|_| oneshot::channel()).unzip();
        let mut client = call(Echo { told, over: None });
        client.send(Ok(framed(&[1, -2, 3, -4, 5])));
        client.close();
        assert_eq!(client.ids(), [1]);
        assert!(client.now().is_none());
        let [first, second] = tells.try_into().unwrap();
        second.send(Ok(())).unwrap();
        assert!(client.now().is_none());
        first.send(Ok(())).unwrap();
        assert_eq!(client.ids(), [-2, 3, -4, 5]);
        assert_eq!(client.status().code(), Code::Ok);
    }

    #[test]
    fn an_answer_that_failed_ends_the_call_after_those_before_it() {
        let (tell, told) = oneshot::channel();
        let mut client = call(Echo {
            told: [told].into(),
            over: None,
        });
        client.send(Ok(framed(&[1, -2, 3])));
        tell.send(Err(Status::unavailable("no leader"))).unwrap();
        assert_eq!(client.ids(), [1]);
        assert_eq!(client.status().message(), "no leader");
        assert!(client.replies.is_end_stream());
    }

    #[test]
    fn what_is_no_message_ends_the_call_after_the_answers_to_what_came_before() {
        let ends = |sent: &[u8]| {
            let mut client = call(Echo::default());
            client.send(Ok(framed(&[1])));
            client.send(Ok(Bytes::copy_from_slice(sent)));
            client.close();
            assert_eq!(client.ids(), [1]);
            let status = client.status();
            (status.code(), status.message().to_owned())
        };
        let cut_off = (Code::Internal, "Unexpected EOF decoding stream.".to_owned());
        assert_eq!(ends(&framed(&[2])[..3]), cut_off);
        assert_eq!(ends(&framed(&[2])[..6]), cut_off);
        assert_eq!(ends(&[0, 0, 0, 0, 2, 0x08, 0xFF]).0, Code::Internal);
        assert_eq!(ends(&[7, 0, 0, 0, 0]).0, Code::Internal);
        assert_eq!(ends(&[0, 0, 0, 0, 101]).0, Code::OutOfRange);
    }

    #[test]
    fn a_client_that_leaves_ends_its_call_and_a_broken_connection_is_told() {
        let ends = |error: Status| {
            let mut client = call(Echo::default());
            client.send(Err(error.into()));
            client.status().code()
        };
        assert_eq!(ends(Status::cancelled("gone")), Code::Ok);
        assert_eq!(ends(Status::unknown("broken")), Code::Unknown);
    }

    #[test]
    fn a_call_ends_when_it_must_whatever_it_waits_for() {
        let (tell, over) = oneshot::channel();
        let (_never, told) = oneshot::channel();
        let mut client = call(Echo {
            told: [told].into(),
            over: Some(over),
        });
        client.send(Ok(framed(&[-1])));
        assert!(client.now().is_none());
        tell.send(Status::unavailable("no leader")).unwrap();
        assert_eq!(client.status().code(), Code::Unavailable);
    }

    #[test]
    fn no_more_requests_are_read_than_may_wait_for_their_answers() {
        let (_tells, told): (Vec<_>, VecDeque<_>) =
            (0..WAITING_MAX).map(|_| oneshot::channel()).unzip();
        let mut client = call(Echo { told, over: None });
        // One more would be one too many for the answers, which panic.
        client.send(Ok(framed(&vec![-1; WAITING_MAX + 1])));
        assert!(client.now().is_none());
    }

    #[test]
    fn many_answers_come_in_several_frames() {
        let mut client = call(Echo::default());
        let ids: Vec<i64> = (1..10_000).collect();
        client.send(Ok(framed(&ids)));
        client.close();
        let mut found = client.ids();
        assert!(found.len() < ids.len());
        while found.len() < ids.len() {
            let more = client.ids();
            assert!(!more.is_empty());
            found.extend(more);
        }
        assert_eq!(found, ids);
        assert_eq!(client.status().code(), Code::Ok);
    }

    #[test]
    fn a_call_that_is_not_opened_is_refused_in_the_headers() {
        let request = || Request::builder().body(Sent::new(futures::channel::mpsc::channel(0).1));
        let response = exchange(request().unwrap(), LIMIT, |_| {
            Err::<Echo, _>(Status::unavailable("no leader"))
        });
        assert_eq!(response.headers()[&GRPC_STATUS], "14");
        let mut compressed = request().unwrap();
        let gzip = http::HeaderValue::from_static("gzip");
        compressed.headers_mut().insert("grpc-encoding", gzip);
        let response = exchange(compressed, LIMIT, |_| Ok(Echo::default()));
        assert_eq!(response.headers()[&GRPC_STATUS], "12");
    }
}
