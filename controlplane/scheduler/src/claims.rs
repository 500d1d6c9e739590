//! What pods on nodes say about other pods, kept by what they say.
//!
//! All pods of one deployment say the same. So a pod that is to be placed is held against a few terms, and not against
//! every pod that has any.

use std::collections::HashMap;

use crate::affinity::PodTerm;

/// One term, and who holds it.
#[derive(Debug)]
struct Claim {
    term: PodTerm,
    by_node: HashMap<String, Tally>,
}

/// What the pods of one node put into one term.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// How many they are. The weight does not tell: those who are drawn and those who are repelled may make up for each
    /// other.
    pods: usize,
    weight: i64,
}

/// All terms, by their identities.
#[derive(Debug, Default)]
pub struct Claims(HashMap<String, Claim>);

impl Claims {
    /// One more pod on this node holds a term.
    pub fn make(&mut self, term: &PodTerm, weight: i64, node: &str) {
        let claim = self
            .0
            .entry(term.identity.clone())
            .or_insert_with(|| Claim {
                term: term.clone(),
                by_node: HashMap::new(),
            });
        let tally = claim.by_node.entry(node.to_owned()).or_default();
        tally.pods += 1;
        tally.weight += weight;
    }

    /// One that held it is gone.
    pub fn withdraw(&mut self, term: &PodTerm, weight: i64, node: &str) {
        let Some(claim) = self.0.get_mut(&term.identity) else {
            return;
        };
        if let Some(tally) = claim.by_node.get_mut(node) {
            tally.pods -= 1;
            tally.weight -= weight;
            if tally.pods == 0 {
                claim.by_node.remove(node);
            }
        }
        if claim.by_node.is_empty() {
            self.0.remove(&term.identity);
        }
    }

    /// The terms, each with the names of the nodes where it is held and the weight that it has there.
    pub fn iter(&self) -> impl Iterator<Item = (&PodTerm, impl Iterator<Item = (&str, i64)>)> {
        self.0.values().map(|claim| {
            let weights = claim.by_node.iter();
            let weights = weights.map(|(node, tally)| (node.as_str(), tally.weight));
            (&claim.term, weights)
        })
    }
}
