//! The node agent: it registers nodes, keeps their leases, and runs the pods that were bound to them.
//!
//! **Guarantees**: what a pod's status says has happened in the runtime; a pod that is being deleted is gone from the
//! runtime before it is gone from the API.
//!
//! **Leaves to others**: what running means: a `Runtime`, of which the hollow one is here.
