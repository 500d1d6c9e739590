//! The error table: from the store's refusals and consensus' troubles to gRPC statuses.
//!
//! Clients match etcd's errors by their message text, so the texts live with the errors (`Refusal`, `Trouble`) and
//! only the codes are given here. Two of etcd's errors leave its server as code Unknown, since it never wraps them in
//! a status; clients have learnt to live with that, and so they do here.

use keelson_raft::Trouble;
use keelson_store::engine::EngineError;
use keelson_store::{ReadError, Refusal};
use thiserror::Error;
use tonic::{Code, Status};

/// Why a request got no reply.
#[derive(Debug, Error)]
pub enum Failure {
    /// The state machine, or the validation before it, refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Consensus could not carry it out.
    #[error("{0}")]
    Trouble(Trouble),
    /// A learner was asked for something that only voters answer.
    #[error("etcdserver: rpc not supported for learner")]
    LearnerUnsupported,
    /// A member's peer URLs cannot be used.
    #[error("etcdserver: given member URLs are invalid")]
    BadMemberUrls,
    /// This member's engine failed. The details are in its log.
    #[error("keelson: the storage engine failed: {0}")]
    Engine(#[source] EngineError),
    /// This member could not read or write a file outside its engine.
    #[error("keelson: {context}: {source}")]
    Io {
        /// What was being done.
        context: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Something that cannot happen did, in this member or in the one that answered it.
    #[error("keelson: internal error: {0}")]
    Internal(&'static str),
    /// RangeStream does not do everything that Range does.
    #[error("RangeStream does not support {0}")]
    StreamUnsupported(&'static str),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Failure::Trouble(trouble)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Refused(refusal) => Failure::Refused(refusal),
            ReadError::Engine(error) => Failure::Engine(error),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::Engine(error)
    }
}

impl Failure {
    /// The gRPC code under which etcd sends this error.
    pub fn code(&self) -> Code {
        match self {
            Failure::Refused(refusal) => refusal_code(*refusal),
            Failure::Trouble(trouble) => trouble_code(trouble),
            Failure::LearnerUnsupported => Code::FailedPrecondition,
            Failure::BadMemberUrls => Code::InvalidArgument,
            Failure::Engine(_) | Failure::Io { .. } | Failure::Internal(_) => Code::Internal,
            Failure::StreamUnsupported(_) => Code::Unimplemented,
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        if failure.code() == Code::Internal {
            tracing::error!(error = %failure, "a request failed inside this member");
        }
        Status::new(failure.code(), failure.to_string())
    }
}

fn refusal_code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::EmptyKey
        | Refusal::KeyNotFound
        | Refusal::ValueProvided
        | Refusal::LeaseProvided
        | Refusal::TooManyOps
        | Refusal::DuplicateKey
        | Refusal::InvalidSortOption
        | Refusal::RequestTooLarge => Code::InvalidArgument,
        Refusal::Compacted | Refusal::FutureRevision | Refusal::LeaseTtlTooLarge => {
            Code::OutOfRange
        }
        Refusal::NoSpace => Code::ResourceExhausted,
        Refusal::LeaseNotFound => Code::NotFound,
        Refusal::LeaseExists => Code::FailedPrecondition,
        Refusal::Corrupt => Code::DataLoss,
        Refusal::UnknownCommand => Code::Unknown,
    }
}

fn trouble_code(trouble: &Trouble) -> Code {
    match trouble {
        Trouble::NoLeader
        | Trouble::LeaderChanged
        | Trouble::Timeout
        | Trouble::TimeoutLeaderFail
        | Trouble::TimeoutConnectionLost
        | Trouble::Stopped
        | Trouble::Unhealthy => Code::Unavailable,
        Trouble::NotLeader
        | Trouble::MemberExists
        | Trouble::PeerUrlExists
        | Trouble::NotLearner
        | Trouble::LearnerNotReady
        | Trouble::TooManyLearners
        | Trouble::BadTransferee => Code::FailedPrecondition,
        Trouble::MemberNotFound => Code::NotFound,
        Trouble::RequestTooLarge => Code::InvalidArgument,
        Trouble::Corrupt => Code::DataLoss,
        // etcd returns these two unwrapped, and gRPC makes Unknown of them.
        Trouble::TooManyRequests | Trouble::NotEnoughStarted => Code::Unknown,
        Trouble::Unknown => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(failure: impl Into<Failure>) -> (Code, String) {
        let status = Status::from(failure.into());
        (status.code(), status.message().to_owned())
    }

    #[test]
    fn refusals_leave_with_etcds_codes_and_texts() {
        let table = [
            (
                Refusal::EmptyKey,
                Code::InvalidArgument,
                "key is not provided",
            ),
            (Refusal::KeyNotFound, Code::InvalidArgument, "key not found"),
            (
                Refusal::ValueProvided,
                Code::InvalidArgument,
                "value is provided",
            ),
            (
                Refusal::LeaseProvided,
                Code::InvalidArgument,
                "lease is provided",
            ),
            (
                Refusal::TooManyOps,
                Code::InvalidArgument,
                "too many operations in txn request",
            ),
            (
                Refusal::DuplicateKey,
                Code::InvalidArgument,
                "duplicate key given in txn request",
            ),
            (
                Refusal::InvalidSortOption,
                Code::InvalidArgument,
                "invalid sort option",
            ),
            (
                Refusal::Compacted,
                Code::OutOfRange,
                "mvcc: required revision has been compacted",
            ),
            (
                Refusal::FutureRevision,
                Code::OutOfRange,
                "mvcc: required revision is a future revision",
            ),
            (
                Refusal::NoSpace,
                Code::ResourceExhausted,
                "mvcc: database space exceeded",
            ),
            (
                Refusal::LeaseNotFound,
                Code::NotFound,
                "requested lease not found",
            ),
            (
                Refusal::LeaseExists,
                Code::FailedPrecondition,
                "lease already exists",
            ),
            (
                Refusal::LeaseTtlTooLarge,
                Code::OutOfRange,
                "too large lease TTL",
            ),
            (
                Refusal::RequestTooLarge,
                Code::InvalidArgument,
                "request is too large",
            ),
            (Refusal::Corrupt, Code::DataLoss, "corrupt cluster"),
        ];
        for (refusal, code, text) in table {
            assert_eq!(row(refusal), (code, format!("etcdserver: {text}")));
        }
    }

    #[test]
    fn troubles_leave_with_etcds_codes_and_texts() {
        let table = [
            (Trouble::NoLeader, Code::Unavailable, "no leader"),
            (Trouble::NotLeader, Code::FailedPrecondition, "not leader"),
            (Trouble::LeaderChanged, Code::Unavailable, "leader changed"),
            (Trouble::Timeout, Code::Unavailable, "request timed out"),
            (
                Trouble::TimeoutLeaderFail,
                Code::Unavailable,
                "request timed out, possibly due to previous leader failure",
            ),
            (
                Trouble::TimeoutConnectionLost,
                Code::Unavailable,
                "request timed out, possibly due to connection lost",
            ),
            (Trouble::Stopped, Code::Unavailable, "server stopped"),
            (Trouble::Unhealthy, Code::Unavailable, "unhealthy cluster"),
            (Trouble::MemberNotFound, Code::NotFound, "member not found"),
            (
                Trouble::MemberExists,
                Code::FailedPrecondition,
                "member ID already exist",
            ),
            (
                Trouble::PeerUrlExists,
                Code::FailedPrecondition,
                "Peer URLs already exists",
            ),
            (
                Trouble::NotLearner,
                Code::FailedPrecondition,
                "can only promote a learner member",
            ),
            (
                Trouble::LearnerNotReady,
                Code::FailedPrecondition,
                "can only promote a learner member which is in sync with leader",
            ),
            (
                Trouble::TooManyLearners,
                Code::FailedPrecondition,
                "too many learner members in cluster",
            ),
            (
                Trouble::BadTransferee,
                Code::FailedPrecondition,
                "bad leader transferee",
            ),
            (
                Trouble::RequestTooLarge,
                Code::InvalidArgument,
                "request is too large",
            ),
            (Trouble::Corrupt, Code::DataLoss, "corrupt cluster"),
        ];
        for (trouble, code, text) in table {
            assert_eq!(row(trouble), (code, format!("etcdserver: {text}")));
        }
    }

    #[test]
    fn the_two_errors_that_etcd_does_not_wrap_are_unknown() {
        assert_eq!(
            row(Trouble::TooManyRequests),
            (Code::Unknown, "etcdserver: too many requests".into())
        );
        assert_eq!(
            row(Trouble::NotEnoughStarted),
            (
                Code::Unknown,
                "etcdserver: re-configuration failed due to not enough started members".into()
            )
        );
    }

    #[test]
    fn a_learner_says_so() {
        assert_eq!(
            row(Failure::LearnerUnsupported),
            (
                Code::FailedPrecondition,
                "etcdserver: rpc not supported for learner".into()
            )
        );
    }
}
