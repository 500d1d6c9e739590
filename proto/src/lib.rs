//! The wire contract: etcd v3's client API (its names and numbers), and Keelson's own messages
//! (what the log carries, what members say to each other).
//!
//! Every `bytes` field is a [`bytes::Bytes`], so that a value travels from the socket to the disk without a copy.
//! The gRPC clients and servers are behind the feature `grpc`: the state machine uses the types and stays free of async.

/// etcd's client API: package `etcdserverpb`.
#[allow(missing_docs, clippy::all)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// etcd's key-value record and event: package `mvccpb`.
#[allow(missing_docs, clippy::all)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Keelson's commands, outcomes and state.
#[allow(missing_docs, clippy::all)]
pub mod commandpb {
    include!(concat!(env!("OUT_DIR"), "/commandpb.rs"));
}

/// Keelson's peer protocol.
#[allow(missing_docs, clippy::all)]
pub mod peerpb {
    include!(concat!(env!("OUT_DIR"), "/peerpb.rs"));
}
