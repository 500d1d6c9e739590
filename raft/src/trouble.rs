//! Why a request could not be carried out by the cluster: etcd's own errors, with their texts.

use keelson_proto::peerpb;
use peerpb::trouble::Kind;
use thiserror::Error;

macro_rules! troubles {
    ($($(#[$doc:meta])* $name:ident = $kind:ident : $text:literal,)*) => {
        /// What stood in the way of a request. The texts are etcd's (`api/v3rpc/rpctypes/error.go`); clients match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
        pub enum Trouble {
            $($(#[$doc])* #[error($text)] $name,)*
        }

        impl Trouble {
            pub(crate) fn to_pb(self) -> peerpb::Trouble {
                let kind = match self { $(Trouble::$name => Kind::$kind,)* };
                peerpb::Trouble { kind: kind as i32 }
            }

            pub(crate) fn from_pb(trouble: &peerpb::Trouble) -> Trouble {
                match trouble.kind() { $(Kind::$kind => Trouble::$name,)* }
            }
        }
    };
}

troubles! {
    /// Nothing more is known; the outcome of a write may be either.
    Unknown = Unknown: "etcdserver: unknown error",
    /// No member leads.
    NoLeader = NoLeader: "etcdserver: no leader",
    /// The member asked does not lead. Nothing was appended.
    NotLeader = NotLeader: "etcdserver: not leader",
    /// The leader changed while the request was under way. The outcome of a write is not known.
    LeaderChanged = LeaderChanged: "etcdserver: leader changed",
    /// The request's time ran out. The outcome of a write is not known.
    Timeout = Timeout: "etcdserver: request timed out",
    /// Like [`Trouble::Timeout`], and the leader was lost meanwhile.
    TimeoutLeaderFail = TimeoutLeaderFail: "etcdserver: request timed out, possibly due to previous leader failure",
    /// The connection to the leader broke after the request was sent. The outcome of a write is not known.
    TimeoutConnectionLost = TimeoutConnectionLost: "etcdserver: request timed out, possibly due to connection lost",
    /// This member shuts down.
    Stopped = Stopped: "etcdserver: server stopped",
    /// Applying lags too far behind committing.
    TooManyRequests = TooManyRequests: "etcdserver: too many requests",
    /// No member has that id.
    MemberNotFound = MemberNotFound: "etcdserver: member not found",
    /// A member with that id is there, or was removed.
    MemberExists = MemberExists: "etcdserver: member ID already exist",
    /// Another member has that peer URL.
    PeerUrlExists = PeerUrlExists: "etcdserver: Peer URLs already exists",
    /// Only a learner can be promoted.
    NotLearner = NotLearner: "etcdserver: can only promote a learner member",
    /// The learner has not caught up.
    LearnerNotReady = LearnerNotReady: "etcdserver: can only promote a learner member which is in sync with leader",
    /// The cluster has as many learners as it may.
    TooManyLearners = TooManyLearners: "etcdserver: too many learner members in cluster",
    /// The change would leave too few members that answer.
    Unhealthy = Unhealthy: "etcdserver: unhealthy cluster",
    /// The change would leave too few started members.
    NotEnoughStarted = NotEnoughStarted: "etcdserver: re-configuration failed due to not enough started members",
    /// The transferee is no voter of the cluster.
    BadTransferee = BadTransferee: "etcdserver: bad leader transferee",
    /// Over the request limit.
    RequestTooLarge = RequestTooLarge: "etcdserver: request is too large",
    /// This member's data is damaged.
    Corrupt = Corrupt: "etcdserver: corrupt cluster",
}
