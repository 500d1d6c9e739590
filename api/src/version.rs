//! The versions that a client is told.

/// The etcd version whose API and semantics this server speaks. kube-apiserver wants at least 3.5.13 before it
/// trusts progress requests; etcd's own tools only parse it.
pub const ETCD_VERSION: &str = "3.6.0";

/// The version of the cluster's protocol, in the form that etcd agrees on among its members: major.minor.0.
pub const CLUSTER_VERSION: &str = "3.6.0";

/// The version of the storage schema, as `Status` and `/version` call it.
pub const STORAGE_VERSION: &str = "3.6.0";
