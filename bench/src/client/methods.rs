//! The methods of etcd's API that are called.

use super::Method;

pub const RANGE: Method = Method("/etcdserverpb.KV/Range");
pub const RANGE_STREAM: Method = Method("/etcdserverpb.KV/RangeStream");
pub const PUT: Method = Method("/etcdserverpb.KV/Put");
pub const TXN: Method = Method("/etcdserverpb.KV/Txn");
pub const LEASE_GRANT: Method = Method("/etcdserverpb.Lease/LeaseGrant");
pub const LEASE_REVOKE: Method = Method("/etcdserverpb.Lease/LeaseRevoke");
pub const LEASE_KEEP_ALIVE: Method = Method("/etcdserverpb.Lease/LeaseKeepAlive");
pub const WATCH: Method = Method("/etcdserverpb.Watch/Watch");
pub const SNAPSHOT: Method = Method("/etcdserverpb.Maintenance/Snapshot");
