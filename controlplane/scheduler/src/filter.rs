//! Which nodes a pod can be on at all, and why not on the others, in the words that kubectl's users know.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{Taint, Toleration};
use keelson_component::tolerates;

use crate::affinity::{Labels, PodTerm, PodTerms};
use crate::cluster::{Cluster, NodeFacts, NodeInfo};
use crate::crowds::Picked;
use crate::pod::PodInfo;
use crate::resources::Resources;

/// What looks at a node, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Filter {
    /// The node was cordoned.
    Unschedulable,
    /// Taints that the pod does not bear.
    Taints,
    /// Labels that the pod wants.
    NodeAffinity,
    /// Ports of the node.
    Ports,
    /// Room.
    Resources,
    /// Even spreading.
    Spread,
    /// Other pods.
    PodAffinity,
}

/// Why a node will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Who says so.
    pub by: Filter,
    /// Its reasons. Only room has more than one.
    pub reasons: Vec<String>,
}

/// What does not depend on the single node, worked out once for a pod.
pub struct Filters<'a> {
    pod: &'a PodInfo,
    spread: Vec<Domains<'a>>,
    /// Domains, by label, into which pods that are there let this one not.
    closed: HashMap<&'a str, HashSet<&'a str>>,
    /// For each set of pods that it must be with, the domains that have a pod of all the sets.
    wanted: Vec<HashSet<&'a str>>,
    /// Whether it is the first of its own kind: a set that it belongs to itself must begin somewhere.
    first_of_its_kind: bool,
    /// For each set of pods that it must not be with, the domains that have one.
    unwanted: Vec<HashSet<&'a str>>,
}

/// How many pods of a set each domain has.
struct Domains<'a> {
    key: &'a str,
    max_skew: i64,
    counts: HashMap<&'a str, i64>,
    fewest: i64,
    counts_itself: i64,
}

impl<'a> Filters<'a> {
    /// Looks at all pods once, where the pod says anything about others, or others about it.
    pub fn new(pod: &'a PodInfo, cluster: &'a Cluster) -> Filters<'a> {
        let PodTerms {
            required,
            forbidden,
            ..
        } = &pod.pod_terms;
        let namespaces = cluster.namespaces();
        // One pod must be in all the sets: of two terms, each met by another pod, neither is.
        let in_all = |namespace: &str, labels: &Labels| {
            let mut required = required.iter();
            required.all(|term| term.matches(namespace, labels, namespaces))
        };
        let wanted: Vec<HashSet<&str>> = if required.is_empty() {
            Vec::new()
        } else {
            let such = cluster.pick(|crowd| in_all(&crowd.namespace, &crowd.labels));
            let domains = |term: &'a PodTerm| domains_with(cluster, &term.topology_key, &such);
            required.iter().map(domains).collect()
        };
        let unwanted = forbidden.iter().map(|term| {
            let such =
                cluster.pick(|crowd| term.matches(&crowd.namespace, &crowd.labels, namespaces));
            domains_with(cluster, &term.topology_key, &such)
        });
        Filters {
            pod,
            spread: spread_domains(pod, cluster),
            closed: closed_domains(pod, cluster),
            first_of_its_kind: in_all(&pod.key.namespace, &pod.labels)
                && wanted.iter().all(HashSet::is_empty),
            wanted,
            unwanted: unwanted.collect(),
        }
    }

    /// Whether the pod can be on a node.
    pub fn check(&self, node: &NodeInfo, facts: &NodeFacts) -> Result<(), Rejection> {
        let pod = self.pod;
        let reject = |by, reason: &str| {
            Err(Rejection {
                by,
                reasons: vec![reason.to_owned()],
            })
        };
        if facts.unschedulable && !bears(&pod.tolerations, &NodeFacts::cordon()) {
            return reject(Filter::Unschedulable, "node(s) were unschedulable");
        }
        let keeps_away =
            |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        if facts
            .taints
            .iter()
            .filter(keeps_away)
            .any(|taint| !bears(&pod.tolerations, taint))
        {
            return reject(Filter::Taints, "node(s) had untolerated taint(s)");
        }
        if !wants_labels(pod, node, facts) {
            let reason = "node(s) didn't match Pod's node affinity/selector";
            return reject(Filter::NodeAffinity, reason);
        }
        let is_taken =
            |port: &crate::ports::HostPort| node.ports.iter().any(|taken| taken.conflicts(port));
        if pod.ports.iter().any(is_taken) {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return reject(Filter::Ports, reason);
        }
        let lacking = lacking(pod, node, facts);
        if !lacking.is_empty() {
            return Err(Rejection {
                by: Filter::Resources,
                reasons: lacking,
            });
        }
        if let Some(reason) = self.breaks_spread(facts) {
            return reject(Filter::Spread, reason);
        }
        if let Some(reason) = self.breaks_pod_affinity(facts) {
            return reject(Filter::PodAffinity, reason);
        }
        Ok(())
    }

    fn breaks_spread(&self, facts: &NodeFacts) -> Option<&'static str> {
        for domains in &self.spread {
            let Some(domain) = facts.labels.get(domains.key) else {
                return Some(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                );
            };
            let has = domains.counts.get(domain.as_str()).copied().unwrap_or(0);
            if has + domains.counts_itself - domains.fewest > domains.max_skew {
                return Some("node(s) didn't match pod topology spread constraints");
            }
        }
        None
    }

    fn breaks_pod_affinity(&self, facts: &NodeFacts) -> Option<&'static str> {
        let domain = |key: &str| facts.labels.get(key).map(String::as_str);
        let required = &self.pod.pod_terms.required;
        let is_met = |(term, domains): (&PodTerm, &HashSet<&str>)| {
            domain(&term.topology_key)
                .is_some_and(|domain| self.first_of_its_kind || domains.contains(domain))
        };
        if !required.iter().zip(&self.wanted).all(is_met) {
            return Some("node(s) didn't match pod affinity rules");
        }
        let forbidden = &self.pod.pod_terms.forbidden;
        let is_broken = |(term, domains): (&PodTerm, &HashSet<&str>)| {
            domain(&term.topology_key).is_some_and(|domain| domains.contains(domain))
        };
        if forbidden.iter().zip(&self.unwanted).any(is_broken) {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
        let is_closed = |(key, domains): (&&str, &HashSet<&str>)| {
            domain(key).is_some_and(|domain| domains.contains(domain))
        };
        if self.closed.iter().any(is_closed) {
            return Some("node(s) didn't satisfy existing pods anti-affinity rules");
        }
        None
    }
}

/// Whether a node has the labels that a pod must have.
fn wants_labels(pod: &PodInfo, node: &NodeInfo, facts: &NodeFacts) -> bool {
    let has = |(key, value): (&String, &String)| facts.labels.get(key) == Some(value);
    pod.node_selector.iter().all(has)
        && pod
            .node_terms
            .as_ref()
            .is_none_or(|terms| terms.match_node(&node.name, &facts.labels))
}

/// What a node has too little of for a pod.
fn lacking(pod: &PodInfo, node: &NodeInfo, facts: &NodeFacts) -> Vec<String> {
    let mut lacking = Vec::new();
    if node.pods.len() >= facts.pods_max {
        lacking.push("Too many pods".to_owned());
    }
    let Resources {
        cpu_milli,
        memory,
        ephemeral,
        extended,
    } = &pod.requests;
    let (has, taken) = (&facts.allocatable, &node.requested);
    let mut compare = |name: &str, asked: i64, has: i64, taken: i64| {
        // Who asks for nothing goes anywhere, even where more was promised than there is.
        if asked > 0 && asked > has.saturating_sub(taken) {
            lacking.push(format!("Insufficient {name}"));
        }
    };
    compare("cpu", *cpu_milli, has.cpu_milli, taken.cpu_milli);
    compare("memory", *memory, has.memory, taken.memory);
    compare(
        "ephemeral-storage",
        *ephemeral,
        has.ephemeral,
        taken.ephemeral,
    );
    for (name, asked) in extended {
        let of = |amounts: &Resources| amounts.extended.get(name).copied().unwrap_or(0);
        compare(name, *asked, of(has), of(taken));
    }
    lacking
}

/// Whether a pod bears a taint.
pub fn bears(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations
        .iter()
        .any(|toleration| tolerates(toleration, taint))
}

/// The domains that have a pod of these.
fn domains_with<'a>(cluster: &'a Cluster, topology_key: &str, such: &Picked) -> HashSet<&'a str> {
    let with = existing(cluster).filter(|(node, _)| node.crowds.has(such));
    let domains = with.filter_map(|(_, facts)| facts.labels.get(topology_key));
    domains.map(String::as_str).collect()
}

fn closed_domains<'a>(pod: &PodInfo, cluster: &'a Cluster) -> HashMap<&'a str, HashSet<&'a str>> {
    let mut closed: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (term, nodes) in cluster.forbidden() {
        if !term.matches(&pod.key.namespace, &pod.labels, cluster.namespaces()) {
            continue;
        }
        let facts = nodes.filter_map(|node| node.facts.as_ref());
        let domains = facts.filter_map(|facts| facts.labels.get(&term.topology_key));
        let of_key = closed.entry(&term.topology_key).or_default();
        of_key.extend(domains.map(String::as_str));
    }
    closed
}

fn spread_domains<'a>(pod: &'a PodInfo, cluster: &'a Cluster) -> Vec<Domains<'a>> {
    let required: Vec<_> = pod.spread.iter().filter(|each| each.required).collect();
    let domains = required.iter().map(|constraint| {
        let counter = constraint.counter(cluster, &pod.key.namespace);
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for (node, facts) in existing(cluster) {
            // Only nodes that the pod could be on, and that are in a domain of every constraint, count.
            let in_all =
                |each: &&crate::spread::Constraint| facts.labels.contains_key(&each.topology_key);
            if !required.iter().all(in_all) || !wants_labels(pod, node, facts) {
                continue;
            }
            let Some(domain) = facts.labels.get(&constraint.topology_key) else {
                continue;
            };
            *counts.entry(domain).or_default() += counter.on(node);
        }
        let fewest = match counts.len() < constraint.min_domains {
            true => 0,
            false => counts.values().copied().min().unwrap_or(0),
        };
        Domains {
            key: &constraint.topology_key,
            max_skew: constraint.max_skew,
            counts,
            fewest,
            counts_itself: i64::from(constraint.counts(&pod.labels, pod.controller.as_deref())),
        }
    });
    domains.collect()
}

/// The nodes that exist.
pub fn existing(cluster: &Cluster) -> impl Iterator<Item = (&NodeInfo, &NodeFacts)> {
    cluster
        .nodes()
        .iter()
        .filter_map(|node| Some((node, node.facts.as_ref()?)))
}

#[cfg(test)]
mod tests;
