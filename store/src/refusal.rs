//! Why a request is refused: etcd's own errors, with their exact texts, since clients match on them.

use thiserror::Error;

/// A refusal by the store, with etcd's text (etcd `api/v3rpc/rpctypes/error.go`). The gRPC code is the business of `api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("etcdserver: key is not provided")]
    EmptyKey = 1,
    #[error("etcdserver: key not found")]
    KeyNotFound = 2,
    #[error("etcdserver: value is provided")]
    ValueProvided = 3,
    #[error("etcdserver: lease is provided")]
    LeaseProvided = 4,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps = 5,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey = 6,
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption = 7,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted = 8,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision = 9,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace = 10,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound = 11,
    #[error("etcdserver: lease already exists")]
    LeaseExists = 12,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge = 13,
    #[error("etcdserver: request is too large")]
    RequestTooLarge = 14,
    #[error("etcdserver: corrupt cluster")]
    Corrupt = 15,
    /// The entry could not be decoded: written by a newer version, or damaged before it was proposed.
    #[error("etcdserver: the command is not known to this version")]
    UnknownCommand = 16,
}

impl Refusal {
    const ALL: [Refusal; 16] = [
        Refusal::EmptyKey,
        Refusal::KeyNotFound,
        Refusal::ValueProvided,
        Refusal::LeaseProvided,
        Refusal::TooManyOps,
        Refusal::DuplicateKey,
        Refusal::InvalidSortOption,
        Refusal::Compacted,
        Refusal::FutureRevision,
        Refusal::NoSpace,
        Refusal::LeaseNotFound,
        Refusal::LeaseExists,
        Refusal::LeaseTtlTooLarge,
        Refusal::RequestTooLarge,
        Refusal::Corrupt,
        Refusal::UnknownCommand,
    ];

    /// The number by which a refusal crosses the wire between members.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The refusal of that number, if this version knows it.
    pub fn from_code(code: u32) -> Option<Refusal> {
        Refusal::ALL
            .into_iter()
            .find(|refusal| refusal.code() == code)
    }
}
