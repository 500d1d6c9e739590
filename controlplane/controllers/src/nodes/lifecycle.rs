//! One look at all nodes: what to write about them. Pure but for what it remembers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::health::{Heard, readiness, unknown};
use super::taints::{self, NO_EXECUTE, NOT_READY, UNREACHABLE};
use super::zones::{Limiter, Rates, Zone, counts, rate, state, zone_of};

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
    nodes: HashMap<String, Known>,
}

/// What is remembered of a node.
#[derive(Debug)]
struct Known {
    /// As it was last seen.
    node: Arc<Node>,
    /// Since when it is not ready.
    down: Option<Duration>,
    /// Its pods were marked since it last spoke. A node that comes back speaks for its pods itself.
    marked: bool,
}

impl Known {
    fn new(node: Arc<Node>) -> Known {
        Known {
            node,
            down: None,
            marked: false,
        }
    }
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
    /// Tell that a node is looked after from now on.
    TellRegistered(Arc<Node>),
    /// Tell that a node has gone.
    TellRemoved(Arc<Node>),
}

/// A node, as it is judged.
struct Judged<'a> {
    node: &'a Arc<Node>,
    ready: &'a str,
    /// It, or we, have said whether it is ready. One that has just been created need not have.
    told: bool,
    /// Nothing is known of it any more, so that nobody speaks for its pods.
    lost: bool,
    /// Since when it is not ready, if it is told not to be.
    down: Option<Duration>,
    zone: String,
}

impl Judged<'_> {
    fn is_ready(&self) -> bool {
        self.ready == "True"
    }
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
        let mut actions = self.forget(nodes);
        let mut judged = Vec::new();
        for node in nodes {
            let name = node.name_any();
            let lease = leases.get(&name);
            let silence = self.heard.silence(node, lease.map(|lease| &**lease), now);
            let told = taints::condition(node, "Ready").is_some();
            let grace = if told {
                settings.grace
            } else {
                settings.startup_grace
            };
            let silent = silence > grace;
            if silent && let Some(status) = unknown(node, wall) {
                actions.push(Action::SetStatus(node.clone(), Box::new(status)));
            }
            let ready = if silent { "Unknown" } else { readiness(node) };
            let told = told || silent;
            let known = self.nodes.entry(name).or_insert_with(|| {
                actions.push(Action::TellRegistered(node.clone()));
                Known::new(node.clone())
            });
            known.node = node.clone();
            known.down = (told && ready != "True").then(|| known.down.unwrap_or(now));
            judged.push(Judged {
                node,
                ready,
                told,
                lost: told && ready == "Unknown",
                down: known.down,
                zone: zone_of(node),
            });
        }
        // Who has waited for longest is given first what there is too little of.
        judged.sort_by_key(|judged| judged.down);
        self.taint(&judged, settings, now, wall, &mut actions);
        actions
    }

    /// Marking a node's pods has failed: the next look asks for it again.
    pub fn not_marked(&mut self, node: &str) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.marked = false;
        }
    }

    /// Forgets nodes that are gone, or that others of their name have replaced.
    fn forget(&mut self, nodes: &[Arc<Node>]) -> Vec<Action> {
        let there: HashMap<_, _> = nodes
            .iter()
            .map(|node| (node.name_any(), node.uid()))
            .collect();
        self.heard.retain(|name| there.contains_key(name));
        let gone = self
            .nodes
            .extract_if(|name, known| there.get(name) != Some(&known.node.uid()));
        gone.map(|(_, known)| Action::TellRemoved(known.node))
            .collect()
    }

    fn taint(
        &mut self,
        judged: &[Judged<'_>],
        settings: &Settings,
        now: Duration,
        wall: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let zones = self.zones(judged, settings, now);
        let in_grace = self
            .pardoned
            .is_some_and(|at| now.saturating_sub(at) <= settings.grace);
        let may_leave = !self.all_down && !in_grace;
        for judged in judged {
            let (node, zone) = (judged.node, judged.zone.as_str());
            let tainted = taints::has(node, NOT_READY, NO_EXECUTE)
                || taints::has(node, UNREACHABLE, NO_EXECUTE);
            // In a zone of which no node counts, pods leave as usual.
            let rate = zones.get(zone).copied().unwrap_or(settings.rates.normal);
            let evicting = !judged.is_ready()
                && may_leave
                && (tainted || (judged.told && self.limiter.take(zone, rate, now)));
            let desired = taints::desired(node, judged.ready, evicting, wall);
            if desired != taints::taints(node) {
                actions.push(Action::SetTaints(node.clone(), desired));
            }
            let Some(known) = self.nodes.get_mut(&node.name_any()) else {
                continue;
            };
            if !judged.lost {
                known.marked = false;
            } else if may_leave && !known.marked {
                known.marked = true;
                actions.push(Action::MarkPodsNotReady(node.clone()));
            }
        }
    }

    /// How fast pods may leave in each zone of which a node counts.
    fn zones<'a>(
        &mut self,
        judged: &'a [Judged<'_>],
        settings: &Settings,
        now: Duration,
    ) -> HashMap<&'a str, f64> {
        let mut numbers: HashMap<&str, (usize, usize)> = HashMap::new();
        for judged in judged.iter().filter(|judged| counts(judged.node)) {
            let (ready, not_ready) = numbers.entry(&judged.zone).or_default();
            *(if judged.is_ready() { ready } else { not_ready }) += 1;
        }
        let rates = &settings.rates;
        let states: Vec<_> = numbers
            .into_iter()
            .map(|(zone, (ready, not_ready))| {
                let total = ready + not_ready;
                (zone, state(ready, not_ready, rates), total)
            })
            .collect();
        // Nobody is heard of any more: most likely it is we who are cut off, and nothing may be concluded.
        let mut zones = states.iter();
        let all_down = !states.is_empty() && zones.all(|(_, state, _)| *state == Zone::Full);
        if self.all_down && !all_down {
            self.heard.pardon(now);
            self.pardoned = Some(now);
        }
        self.all_down = all_down;
        let rates = states
            .into_iter()
            .map(|(zone, state, total)| (zone, rate(state, total, rates)));
        rates.collect()
    }
}
