//! What can be asked of both servers.

use keelson_proto::etcdserverpb as pb;

/// One request, or a few that belong together because only their sum is the same on two servers.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// KV.Range
    Range(pb::RangeRequest),
    /// KV.Put
    Put(pb::PutRequest),
    /// KV.DeleteRange
    DeleteRange(pb::DeleteRangeRequest),
    /// KV.Txn
    Txn(pb::TxnRequest),
    /// KV.Compact
    Compact(pb::CompactionRequest),
    /// Lease.LeaseGrant with an id of ours, and a TTL that no test outlives.
    Grant(pb::LeaseGrantRequest),
    /// Lease.LeaseGrant and at once LeaseRevoke: for ids that the server chooses, and TTLs so short that the
    /// lease would expire at a moment of its own.
    GrantAndRevoke(pb::LeaseGrantRequest),
    /// Lease.LeaseRevoke
    Revoke(pb::LeaseRevokeRequest),
    /// Lease.LeaseKeepAlive, one request on a stream of its own.
    KeepAlive(pb::LeaseKeepAliveRequest),
    /// Lease.LeaseTimeToLive
    TimeToLive(pb::LeaseTimeToLiveRequest),
    /// Lease.LeaseLeases
    Leases,
}
