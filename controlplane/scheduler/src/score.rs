//! Which of the nodes that will do is the best: Kubernetes' scores, 0 to 100 each, times their weights.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Taint;

use crate::affinity::term_matches;
use crate::cluster::{Cluster, NodeFacts, NodeInfo};
use crate::filter::{bears, existing};
use crate::pod::PodInfo;
use crate::resources::Resources;
use crate::spread::Constraint;

/// The best that a score can be.
const MAX: i64 = 100;

/// The weights of Kubernetes' default profile.
mod weight {
    pub const TAINTS: i64 = 3;
    pub const NODE_AFFINITY: i64 = 2;
    pub const SPREAD: i64 = 2;
    pub const POD_AFFINITY: i64 = 2;
    pub const FIT: i64 = 1;
    pub const BALANCE: i64 = 1;
}

/// A node that will do.
pub type Candidate<'a> = (&'a NodeInfo, &'a NodeFacts);

/// One total a candidate, in their order: higher is better.
pub fn score(pod: &PodInfo, cluster: &Cluster, candidates: &[Candidate]) -> Vec<i64> {
    let mut totals = vec![0; candidates.len()];
    let mut add = |weight: i64, scores: Vec<i64>| {
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += weight * score;
        }
    };
    let each = |score: &dyn Fn(&Candidate) -> i64| candidates.iter().map(score).collect::<Vec<_>>();
    add(
        weight::FIT,
        each(&|candidate| least_allocated(pod, candidate)),
    );
    add(weight::BALANCE, each(&|candidate| balance(pod, candidate)));
    add(
        weight::TAINTS,
        fewer_is_better(each(&|(_, facts)| unwelcome_taints(pod, facts))),
    );
    if !pod.preferences.is_empty() {
        add(
            weight::NODE_AFFINITY,
            more_is_better(each(&|candidate| preferred(pod, candidate))),
        );
    }
    add(weight::POD_AFFINITY, company(pod, cluster, candidates));
    add(weight::SPREAD, spread(pod, cluster, candidates));
    totals
}

/// The share of a node that would stay free, of processor and memory alike.
fn least_allocated(pod: &PodInfo, (node, facts): &Candidate) -> i64 {
    let (has, taken, asked) = (&facts.allocatable, &node.used, &pod.assumed_use);
    let free = |has: i64, taken: i64, asked: i64| {
        let wanted = taken.saturating_add(asked);
        match has > 0 && wanted <= has {
            true => (i128::from(has - wanted) * i128::from(MAX) / i128::from(has)) as i64,
            false => 0,
        }
    };
    let cpu = free(has.cpu_milli, taken.cpu_milli, asked.cpu_milli);
    let memory = free(has.memory, taken.memory, asked.memory);
    i64::midpoint(cpu, memory)
}

/// How alike the shares of processor and memory that would be taken are.
fn balance(pod: &PodInfo, (node, facts): &Candidate) -> i64 {
    // In thousandths, so that it is the same everywhere.
    let share = |of: fn(&Resources) -> i64| {
        let has = i128::from(of(&facts.allocatable).max(1));
        let wanted = i128::from(of(&node.requested).saturating_add(of(&pod.requests)));
        (wanted * 1000 / has).clamp(0, 1000) as i64
    };
    let apart = (share(|amounts| amounts.cpu_milli) - share(|amounts| amounts.memory)).abs();
    // Of two numbers, the standard deviation is half their distance.
    MAX - apart * MAX / 2000
}

/// Taints that would rather keep the pod away.
fn unwelcome_taints(pod: &PodInfo, facts: &NodeFacts) -> i64 {
    let prefers_not = |taint: &&Taint| taint.effect == "PreferNoSchedule";
    let count = facts
        .taints
        .iter()
        .filter(prefers_not)
        .filter(|taint| !bears(&pod.tolerations, taint))
        .count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The weights of the pod's preferences that a node meets.
fn preferred(pod: &PodInfo, (node, facts): &Candidate) -> i64 {
    pod.preferences
        .iter()
        .filter(|preference| term_matches(&preference.term, &node.name, &facts.labels))
        .map(|preference| preference.weight)
        .sum()
}

/// How much the pod likes who is in a node's domains, and they it.
fn company(pod: &PodInfo, cluster: &Cluster, candidates: &[Candidate]) -> Vec<i64> {
    // By the domains' labels, and then by their values.
    let mut worth: HashMap<&str, HashMap<&str, i64>> = HashMap::new();
    for (weight, term) in &pod.pod_terms.preferred {
        let liked = cluster
            .pick(|crowd| term.matches(&crowd.namespace, &crowd.labels, cluster.namespaces()));
        for (node, facts) in existing(cluster) {
            if let Some(domain) = facts.labels.get(&term.topology_key) {
                let domains = worth.entry(&term.topology_key).or_default();
                *domains.entry(domain).or_default() += weight * node.crowds.count(&liked);
            }
        }
    }
    for (term, nodes) in cluster.drawn() {
        if !term.matches(&pod.key.namespace, &pod.labels, cluster.namespaces()) {
            continue;
        }
        for (node, weight) in nodes {
            let labels = node.facts.as_ref().map(|facts| &facts.labels);
            if let Some(domain) = labels.and_then(|labels| labels.get(&term.topology_key)) {
                let domains = worth.entry(&term.topology_key).or_default();
                *domains.entry(domain).or_default() += weight;
            }
        }
    }
    let of = |(_, facts): &Candidate| {
        let in_domain = |(key, domains): (&&str, &HashMap<&str, i64>)| {
            let domain = facts.labels.get(*key)?;
            domains.get(domain.as_str()).copied()
        };
        worth.iter().filter_map(in_domain).sum::<i64>()
    };
    let scores: Vec<i64> = candidates.iter().map(of).collect();
    between_extremes(scores)
}

/// How few of the pod's siblings, or of the pods that it is to be spread among, are in a node's domains.
fn spread(pod: &PodInfo, cluster: &Cluster, candidates: &[Candidate]) -> Vec<i64> {
    let defaults = match (&pod.controller, pod.spread.is_empty()) {
        (Some(controller), true) => Constraint::defaults(controller).to_vec(),
        _ => Vec::new(),
    };
    let asked = pod.spread.iter().filter(|constraint| !constraint.required);
    let constraints: Vec<&Constraint> = asked.chain(&defaults).collect();
    if constraints.is_empty() {
        return vec![0; candidates.len()];
    }
    let mut crowd: Vec<i64> = vec![0; candidates.len()];
    for constraint in constraints {
        let counter = constraint.counter(cluster, &pod.key.namespace);
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for (node, facts) in existing(cluster) {
            if let Some(domain) = facts.labels.get(&constraint.topology_key) {
                *counts.entry(domain).or_default() += counter.on(node);
            }
        }
        // A domain among few weighs less than one among many, as in Kubernetes: ln(domains + 2), in thousandths.
        let domains = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        let importance = (f64::from(domains.saturating_add(2)).ln() * 1000.0) as i64;
        for (crowd, (_, facts)) in crowd.iter_mut().zip(candidates) {
            let domain = facts.labels.get(&constraint.topology_key);
            let count = domain.and_then(|domain| counts.get(domain.as_str()));
            let count = count.copied().unwrap_or(0);
            *crowd += count * importance + (constraint.max_skew - 1) * 1000;
        }
    }
    let (fewest, most) = extremes(&crowd);
    crowd
        .into_iter()
        .map(|crowd| match most {
            0 => MAX,
            most => MAX * (most + fewest - crowd) / most,
        })
        .collect()
}

fn extremes(scores: &[i64]) -> (i64, i64) {
    let least = scores.iter().copied().min().unwrap_or(0);
    let most = scores.iter().copied().max().unwrap_or(0);
    (least, most)
}

/// The highest becomes 100, nothing 0.
fn more_is_better(scores: Vec<i64>) -> Vec<i64> {
    let (_, most) = extremes(&scores);
    let scale = |score: i64| if most > 0 { score * MAX / most } else { 0 };
    scores.into_iter().map(scale).collect()
}

/// Nothing becomes 100, the highest 0.
fn fewer_is_better(scores: Vec<i64>) -> Vec<i64> {
    more_is_better(scores)
        .into_iter()
        .map(|score| MAX - score)
        .collect()
}

/// The lowest becomes 0, the highest 100; all alike are 0.
fn between_extremes(scores: Vec<i64>) -> Vec<i64> {
    let (least, most) = extremes(&scores);
    let scale = |score: i64| match most - least {
        0 => 0,
        range => MAX * (score - least) / range,
    };
    scores.into_iter().map(scale).collect()
}

#[cfg(test)]
mod tests;
