//! Pods that nobody will take away any more: pure but for what it remembers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::common::meta::{created_at, is_deleted};
use crate::common::pods::{is_terminal, node_name};

/// When to take pods away.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For how long a node must be gone before its pods are.
    pub quarantine: Duration,
    /// How many pods that have ended are kept; zero keeps all.
    pub ended_max: usize,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Its node has been gone for long enough: if it is, mark the pod as failed, and delete it at once.
    DeleteOrphan(Arc<Pod>),
    /// It was to be deleted before it had a node: delete it at once.
    DeleteUnscheduled(Arc<Pod>),
    /// Too many pods have ended: delete this one.
    DeleteEnded(Arc<Pod>),
}

/// Since when nodes are gone that pods name.
#[derive(Debug, Default)]
pub struct Quarantine {
    gone: HashMap<String, Duration>,
}

impl Quarantine {
    /// Looks at all pods.
    pub fn look(
        &mut self,
        pods: &[Arc<Pod>],
        nodes: &HashSet<String>,
        settings: &Settings,
        now: Duration,
    ) -> Vec<Action> {
        let named: HashSet<&str> = pods.iter().filter_map(|pod| node_name(pod)).collect();
        let missing: HashSet<&str> = named
            .into_iter()
            .filter(|name| !nodes.contains(*name))
            .collect();
        self.gone.retain(|name, _| missing.contains(name.as_str()));
        for name in missing {
            self.gone.entry(name.to_owned()).or_insert(now);
        }
        let mut actions = Vec::new();
        let mut ended: Vec<&Arc<Pod>> = Vec::new();
        for pod in pods {
            let gone = node_name(pod).and_then(|name| self.gone.get(name));
            if let Some(since) = gone {
                if now.saturating_sub(*since) >= settings.quarantine {
                    actions.push(Action::DeleteOrphan(pod.clone()));
                }
            } else if node_name(pod).is_none() && is_deleted(&pod.metadata) {
                actions.push(Action::DeleteUnscheduled(pod.clone()));
            } else if is_terminal(pod) && !is_deleted(&pod.metadata) {
                ended.push(pod);
            }
        }
        if settings.ended_max > 0 && ended.len() > settings.ended_max {
            ended.sort_by_cached_key(|pod| (created_at(&pod.metadata), pod.name_any()));
            let excess = ended.len() - settings.ended_max;
            let oldest = ended.into_iter().take(excess);
            actions.extend(oldest.map(|pod| Action::DeleteEnded(pod.clone())));
        }
        actions
    }
}
