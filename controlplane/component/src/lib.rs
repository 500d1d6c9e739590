//! What every client of the API server shares: a client from a kubeconfig, leader election by a Lease, work queues over
//! informers, events, health.
//!
//! **Guarantees**: of all processes that share a Lease's name, one at a time works, and stops before another begins.
//!
//! **Leaves to others**: what the work is.
