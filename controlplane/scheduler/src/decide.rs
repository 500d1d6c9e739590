//! The decision: a pod and a cluster in, a node or the reasons why there is none out.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;

use crate::cluster::Cluster;
use crate::filter::{Filter, Filters, existing};
use crate::pod::PodInfo;
use crate::score::{Candidate, score};

/// Up to so many nodes, all are looked at.
const LOOKED_AT_MIN: usize = 100;

/// Why a pod can be on no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoFit {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes gave each reason.
    pub reasons: BTreeMap<String, usize>,
    /// Who said no: only when something changes that one of them looks at can the pod fit.
    pub rejected_by: BTreeSet<Filter>,
}

impl std::fmt::Display for NoFit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        reasons.sort_unstable();
        write!(
            f,
            "0/{} nodes are available: {}.",
            self.nodes,
            reasons.join(", ")
        )
    }
}

/// Chooses nodes for pods. Remembers where it stopped looking, so that in a large cluster every node gets its turn.
#[derive(Debug, Default)]
pub struct Decider {
    start: usize,
}

impl Decider {
    /// The name of the best node for a pod; chance decides between equally good ones.
    pub fn decide(
        &mut self,
        pod: &PodInfo,
        cluster: &Cluster,
        chance: &mut impl Rng,
    ) -> Result<String, NoFit> {
        let nodes: Vec<Candidate> = existing(cluster).collect();
        let filters = Filters::new(pod, cluster);
        let enough = enough_of(nodes.len());
        let mut fitting: Vec<Candidate> = Vec::new();
        let mut no_fit = NoFit {
            nodes: nodes.len(),
            reasons: BTreeMap::new(),
            rejected_by: BTreeSet::new(),
        };
        let start = self.start.checked_rem(nodes.len()).unwrap_or(0);
        let mut looked_at = 0;
        let (behind, ahead) = nodes.split_at(start);
        for candidate in ahead.iter().chain(behind) {
            if fitting.len() == enough {
                break;
            }
            looked_at += 1;
            match filters.check(candidate.0, candidate.1) {
                Ok(()) => fitting.push(*candidate),
                Err(rejection) => {
                    no_fit.rejected_by.insert(rejection.by);
                    for reason in rejection.reasons {
                        *no_fit.reasons.entry(reason).or_default() += 1;
                    }
                }
            }
        }
        self.start = start + looked_at;
        let scores = match fitting.as_slice() {
            [] => return Err(no_fit),
            [only] => return Ok(only.0.name.clone()),
            several => score(pod, cluster, several),
        };
        let best = scores.iter().copied().max();
        let equals: Vec<&Candidate> = fitting
            .iter()
            .zip(&scores)
            .filter(|(_, score)| Some(**score) == best)
            .map(|(candidate, _)| candidate)
            .collect();
        match equals.get(chance.random_range(0..equals.len().max(1))) {
            Some((node, _)) => Ok(node.name.clone()),
            None => Err(no_fit),
        }
    }
}

/// How many fitting nodes are enough to choose from: all of few, a share of many that shrinks from a half to a
/// twentieth, as in Kubernetes.
fn enough_of(nodes: usize) -> usize {
    if nodes < LOOKED_AT_MIN {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(LOOKED_AT_MIN)
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::testing::{NodeMaker, node, pod};

    fn cluster(nodes: impl IntoIterator<Item = NodeMaker>) -> Cluster {
        let mut cluster = Cluster::default();
        for node in nodes {
            cluster.set_node(&node.name, node.facts());
        }
        cluster
    }

    fn decide(pod: &PodInfo, cluster: &Cluster) -> Result<String, NoFit> {
        Decider::default().decide(pod, cluster, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_pod_goes_where_most_is_free() {
        let mut cluster = cluster([node("busy"), node("idle")]);
        cluster.set_pod("busy", pod("other").asks("2", "2Gi").info());
        assert_eq!(
            decide(&pod("p").asks("1", "1Gi").info(), &cluster).unwrap(),
            "idle"
        );
    }

    #[test]
    fn siblings_go_to_different_nodes() {
        let mut cluster = cluster((0..10).map(|i| node(&format!("n{i}"))));
        let mut decider = Decider::default();
        let mut chance = StdRng::seed_from_u64(7);
        for i in 0..10 {
            let pod = pod(&format!("p{i}")).of("web").asks("100m", "64Mi").info();
            let node = decider.decide(&pod, &cluster, &mut chance).unwrap();
            cluster.assume(&node, pod);
        }
        assert!(cluster.nodes().iter().all(|node| node.pods.len() == 1));
    }

    #[test]
    fn who_fits_nowhere_is_told_why_in_kubernetes_words() {
        let cluster = cluster([
            node("a").has("1", "1Gi"),
            node("b").has("1", "1Gi"),
            node("c").cordoned(),
            node("d").tainted("gpu", "yes", "NoSchedule"),
        ]);
        let no_fit = decide(&pod("p").asks("2", "2Gi").info(), &cluster).unwrap_err();
        assert_eq!(
            no_fit.to_string(),
            "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, \
             2 Insufficient cpu, 2 Insufficient memory."
        );
        let by = [Filter::Unschedulable, Filter::Taints, Filter::Resources];
        assert_eq!(no_fit.rejected_by, BTreeSet::from(by));
    }

    #[test]
    fn without_nodes_the_message_says_so() {
        let no_fit = decide(&pod("p").info(), &Cluster::default()).unwrap_err();
        assert_eq!(no_fit.to_string(), "no nodes available to schedule pods");
    }

    #[test]
    fn of_many_nodes_some_are_looked_at_and_all_have_their_turn() {
        assert_eq!(
            [0, 50, 99, 100, 1000, 5000, 20000].map(enough_of),
            [0, 50, 99, 100, 420, 500, 1000]
        );
        let mut cluster = cluster((0..300).map(|i| node(&format!("n{i}"))));
        let mut decider = Decider::default();
        let mut chance = StdRng::seed_from_u64(3);
        for i in 0..300 {
            let pod = pod(&format!("p{i}")).asks("3", "1Gi").info();
            let node = decider.decide(&pod, &cluster, &mut chance).unwrap();
            cluster.assume(&node, pod);
        }
        assert!(cluster.nodes().iter().all(|node| node.pods.len() == 1));
    }
}
