//! How members talk: requests and replies, over anything that can carry them.
//!
//! Production carries them over TCP ([`crate::tcp`]), simulation over a network of its own.

use std::future::Future;
use std::pin::Pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keelson_proto::{commandpb, peerpb};
use prost::Message;

/// The version of the peer protocol. Members of different versions do not talk.
pub const PROTOCOL: u32 = 1;

/// Requests of a lane share a connection and do not wait for those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Log entries, many under way at once, handled in their order.
    Append,
    /// Heartbeats and votes: never behind bulk.
    Heartbeat,
    /// Snapshots.
    Snapshot,
    /// What members ask each other on behalf of clients.
    Forward,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Lane; 4] = [Lane::Append, Lane::Heartbeat, Lane::Snapshot, Lane::Forward];
}

/// Why a call brought no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request did not leave this member, or the other says that it has not read it: it may be sent again.
    #[error("cannot reach member {to:x}: {why}")]
    NotSent {
        /// The member.
        to: u64,
        /// What happened.
        why: String,
        /// The member's machine is there, and says that nobody takes connections: its program does not run.
        is_refused: bool,
    },
    /// The request may have been received: a write must not be sent again.
    #[error("lost the connection to member {to:x}: {why}")]
    Lost {
        /// The member.
        to: u64,
        /// What happened.
        why: String,
    },
}

/// Bytes that are no message of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// A kind that this version does not know.
    #[error("a message of kind {0} is not known to this version")]
    Kind(u8),
    /// A message of a known kind that does not decode.
    #[error("malformed message")]
    Malformed(#[from] prost::DecodeError),
}

/// A call under way.
pub type Call = Pin<Box<dyn Future<Output = Result<Reply, CallError>> + Send>>;

/// The client's side of the peer network.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request at once, before the returned future is polled; requests to one member on one lane arrive
    /// in the order of the calls, or not at all. Dropping the future forgets the reply.
    fn call(&self, to: u64, lane: Lane, request: Request) -> Call;

    /// The members to be reached, and where: replaces what was known.
    fn set_peers(&self, peers: &[commandpb::Node]);
}

/// The server's side: answers the requests of other members.
pub trait Answer: Send + Sync + 'static {
    /// Looks at who connects, and says whether it may.
    fn admit(&self, hello: &peerpb::Hello) -> peerpb::HelloReply;

    /// Answers a request of `from`. Requests of the append lane must be polled in the order of their arrival.
    fn answer(&self, from: u64, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>>;

    /// What to do when a connection has ended on which `from` asked.
    fn ended(&self, from: u64) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

macro_rules! messages {
    ($($number:literal $name:ident: $request:ty => $reply:ty,)*) => {
        /// What one member asks another.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Request { $($name($request),)* }

        /// What the other answers: the variant of the same name, or `Failed`.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Reply { $($name($reply),)* Failed(String) }

        impl Request {
            /// Encodes the request: a kind byte, then the message.
            pub fn encode(&self) -> Bytes {
                match self { $(Request::$name(message) => encode($number, message),)* }
            }

            /// Decodes what [`Request::encode`] wrote.
            pub fn decode(mut bytes: Bytes) -> Result<Request, BadMessage> {
                match kind(&mut bytes) {
                    $($number => Ok(Request::$name(Message::decode(bytes)?)),)*
                    other => Err(BadMessage::Kind(other)),
                }
            }

            /// The request's name, for logs.
            pub fn name(&self) -> &'static str {
                match self { $(Request::$name(_) => stringify!($name),)* }
            }
        }

        impl Reply {
            /// Encodes the reply: a kind byte, then the message.
            pub fn encode(&self) -> Bytes {
                match self {
                    $(Reply::$name(message) => encode($number, message),)*
                    Reply::Failed(why) => encode(0, why),
                }
            }

            /// Decodes what [`Reply::encode`] wrote.
            pub fn decode(mut bytes: Bytes) -> Result<Reply, BadMessage> {
                match kind(&mut bytes) {
                    $($number => Ok(Reply::$name(Message::decode(bytes)?)),)*
                    0 => Ok(Reply::Failed(Message::decode(bytes)?)),
                    other => Err(BadMessage::Kind(other)),
                }
            }
        }
    };
}

messages! {
    1 Append: peerpb::Append => peerpb::AppendReply,
    2 Vote: peerpb::VoteAsk => peerpb::VoteReply,
    3 TransferLeader: peerpb::TransferLeader => peerpb::TransferLeaderReply,
    4 SnapshotBegin: peerpb::SnapshotBegin => peerpb::SnapshotBeginReply,
    5 SnapshotChunk: peerpb::SnapshotChunk => peerpb::SnapshotChunkReply,
    6 SnapshotEnd: peerpb::SnapshotEnd => peerpb::SnapshotEndReply,
    7 Propose: peerpb::Propose => peerpb::ProposeReply,
    8 ReadIndex: peerpb::ReadIndex => peerpb::ReadIndexReply,
    9 LeaseRenew: peerpb::LeaseRenew => peerpb::LeaseRenewReply,
    10 LeaseRemaining: peerpb::LeaseRemaining => peerpb::LeaseRemainingReply,
    11 MemberChange: peerpb::MemberChange => peerpb::MemberChangeReply,
    12 ClusterProbe: peerpb::ClusterProbe => peerpb::ClusterProbeReply,
}

fn encode(kind: u8, message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + message.encoded_len());
    bytes.put_u8(kind);
    message
        .encode(&mut bytes)
        .expect("BytesMut grows as needed");
    bytes.freeze()
}

fn kind(bytes: &mut Bytes) -> u8 {
    if bytes.is_empty() {
        u8::MAX
    } else {
        bytes.get_u8()
    }
}
