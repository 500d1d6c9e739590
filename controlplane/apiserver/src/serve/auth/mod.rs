//! Who calls, and what he may do.
//!
//! Until there are roles, rights are few: administrators may do everything, the cluster's own components all that
//! concerns resources, a node what it needs for itself and its pods, whoever is known may look around and ask about
//! himself, and strangers may see that the server lives.

mod caller;
mod cluster;
mod node;
mod rights;

pub use caller::{Caller, authenticate};
pub use node::{NodeRule, rules_of_node};
pub use rights::{Attempt, Bound, Cluster, ObjectName, authorize, is_allowed, is_component};

/// Members may do everything.
pub const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
