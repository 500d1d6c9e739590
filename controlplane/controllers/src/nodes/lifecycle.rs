//! One look at all nodes: what to write about them. Pure but for what it remembers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::health::{Heard, readiness, unknown};
use super::taints::{self, NO_EXECUTE, NOT_READY, UNREACHABLE};
use super::zones::{Limiter, Rates, Zone, rate, state, zone_of};
use crate::common::meta::is_deleted;

/// How long a node may be silent, and how fast pods leave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For how long a node may be silent.
    pub grace: Duration,
    /// For how long a node that has just been created may be silent.
    pub startup_grace: Duration,
    /// How fast pods leave.
    pub rates: Rates,
}

/// What the looks so far have told.
#[derive(Debug, Default)]
pub struct Lifecycle {
    heard: Heard,
    limiter: Limiter,
    /// Nothing at all was heard of at the last look.
    all_down: bool,
    /// When anything was heard again after that: nodes that are down have their grace anew.
    pardoned: Option<Duration>,
    /// Nodes whose pods were marked since they were last ready. A node that comes back speaks for its pods itself.
    marked: HashSet<String>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write that nothing is known of this node.
    SetStatus(Arc<Node>, Box<NodeStatus>),
    /// Write a node's taints.
    SetTaints(Arc<Node>, Vec<Taint>),
    /// Write, once, that the pods of this node are not ready any more.
    MarkPodsNotReady(Arc<Node>),
}

/// A node, as it is judged.
struct Judged<'a> {
    node: &'a Arc<Node>,
    ready: String,
    zone: String,
}

impl Lifecycle {
    /// Looks at all nodes, at a time of our monotonic clock and of the world's.
    pub fn look(
        &mut self,
        nodes: &[Arc<Node>],
        leases: &HashMap<String, Arc<Lease>>,
        settings: &Settings,
        now: Duration,
        wall: Timestamp,
    ) -> Vec<Action> {
        let names: HashSet<String> = nodes.iter().map(|node| node.name_any()).collect();
        self.heard.retain(|name| names.contains(name));
        self.marked.retain(|name| names.contains(name));
        let mut actions = Vec::new();
        let mut judged = Vec::new();
        for node in nodes.iter().filter(|node| !is_deleted(&node.metadata)) {
            let lease = leases.get(&node.name_any());
            let silence = self.heard.silence(node, lease.map(|lease| &**lease), now);
            let new = taints::condition(node, "Ready").is_none();
            let grace = if new {
                settings.startup_grace
            } else {
                settings.grace
            };
            let mut ready = readiness(node).to_owned();
            if silence > grace {
                ready = "Unknown".into();
                actions.extend(
                    unknown(node, wall)
                        .map(|status| Action::SetStatus(node.clone(), Box::new(status))),
                );
            }
            let zone = zone_of(node);
            judged.push(Judged { node, ready, zone });
        }
        self.taint(&judged, settings, now, wall, &mut actions);
        actions
    }

    /// Marking a node's pods has failed: the next look asks for it again.
    pub fn not_marked(&mut self, node: &str) {
        self.marked.remove(node);
    }

    fn taint(
        &mut self,
        judged: &[Judged<'_>],
        settings: &Settings,
        now: Duration,
        wall: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
        for node in judged {
            let (ready, not_ready) = counts.entry(&node.zone).or_default();
            *(if node.ready == "True" {
                ready
            } else {
                not_ready
            }) += 1;
        }
        let states: HashMap<&str, (Zone, usize)> = counts
            .into_iter()
            .map(|(zone, (ready, not_ready))| {
                (
                    zone,
                    (state(ready, not_ready, &settings.rates), ready + not_ready),
                )
            })
            .collect();
        // Nobody is heard of any more: most likely it is we who are cut off, and nothing may be concluded.
        let all_down = !states.is_empty() && states.values().all(|(state, _)| *state == Zone::Full);
        if self.all_down && !all_down {
            self.heard.pardon(now);
            self.pardoned = Some(now);
        }
        self.all_down = all_down;
        let in_grace = self
            .pardoned
            .is_some_and(|at| now.saturating_sub(at) <= settings.grace);
        for Judged { node, ready, zone } in judged {
            let tainted = taints::has(node, NOT_READY, NO_EXECUTE)
                || taints::has(node, UNREACHABLE, NO_EXECUTE);
            let (state, total) = states[zone.as_str()];
            let down = ready != "True" && !all_down && !in_grace;
            let evicting = down
                && (tainted
                    || self
                        .limiter
                        .take(zone, rate(state, total, &settings.rates), now));
            let desired = taints::desired(node, ready, evicting, wall);
            if desired != taints::taints(node) {
                actions.push(Action::SetTaints((*node).clone(), desired));
            }
            if ready == "True" {
                self.marked.remove(&node.name_any());
            } else if !all_down && !in_grace && self.marked.insert(node.name_any()) {
                actions.push(Action::MarkPodsNotReady((*node).clone()));
            }
        }
    }
}
