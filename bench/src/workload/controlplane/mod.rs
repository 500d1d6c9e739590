//! The control plane: what the API server, controllers, scheduler and nodes do in a cluster that `keelson up` runs, on
//! kvd or on etcd.
//!
//! The client here is kube-rs', a usual one: the API server speaks TLS and JSON, beside which it hardly matters.

mod api;
mod pods;
mod process;
mod rest;
mod whole;

use std::path::Path;
use std::time::Duration;

use self::process::Whole;
use super::run::Effort;
use crate::measure::Outcome;
use crate::system::System;

/// What is measured of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Config maps created a second, by so many clients.
    Writes { clients: usize },
    /// Lists of so many pods.
    Lists { pods: u64 },
    /// So many watchers of the same config maps.
    FanOut { watchers: usize },
    /// A deployment of so many replicas on so many hollow nodes, until all are ready.
    Deployment { replicas: u64, nodes: usize },
    /// So many pods bound to so many nodes.
    Scheduling { pods: u64, nodes: usize },
    /// Memory after a while of nothing.
    Idle { quiet: Duration },
    /// From `keelson up` to a running pod.
    Start,
}

impl Aspect {
    fn hollow_nodes(self) -> usize {
        match self {
            Aspect::Writes { .. } | Aspect::Lists { .. } | Aspect::FanOut { .. } => 0,
            Aspect::Deployment { nodes, .. } | Aspect::Scheduling { nodes, .. } => nodes,
            Aspect::Idle { .. } | Aspect::Start => 2,
        }
    }
}

/// Starts a whole cluster on one member of a system, and measures one aspect of it.
pub async fn measure(
    aspect: Aspect,
    keelson: &Path,
    system: &System,
    place: &Path,
    effort: Effort,
) -> anyhow::Result<Outcome> {
    let mut whole = Whole::start(keelson, system, aspect.hollow_nodes(), place).await?;
    let outcome = match aspect {
        Aspect::Start => pods::start(&whole).await,
        Aspect::Writes { clients } => api::writes(&whole, clients, effort).await,
        Aspect::Lists { pods } => api::lists(&whole, pods, effort).await,
        Aspect::FanOut { watchers } => api::fan_out(&whole, watchers, effort).await,
        Aspect::Deployment { replicas, nodes } => pods::deployment(&whole, replicas, nodes).await,
        Aspect::Scheduling { pods, nodes } => pods::scheduling(&whole, pods, nodes).await,
        Aspect::Idle { quiet } => whole::idle(&whole, quiet).await,
    }?;
    whole.stop().await?;
    Ok(outcome)
}
