//! Pods that no selector tells apart, counted together.
//!
//! The pods of one deployment have the same labels. So a selector is held against a few sets of labels, and not against
//! every pod of the cluster, for every pod that is to be placed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::affinity::Labels;
use crate::pod::PodInfo;

/// Stands for a crowd while it has anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrowdId(usize);

/// What the pods of a crowd have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Crowd {
    /// Their namespace.
    pub namespace: Arc<str>,
    /// All of their labels.
    pub labels: Labels,
    /// They are on their way out.
    pub terminating: bool,
}

/// All crowds.
#[derive(Debug, Default)]
pub struct Crowds {
    /// By their numbers, with how many pods there are. Numbers of crowds that have dispersed are given again.
    crowds: Vec<(Arc<Crowd>, usize)>,
    numbers: HashMap<Arc<Crowd>, usize>,
    free: Vec<usize>,
}

/// Some of the crowds.
#[derive(Debug)]
pub struct Picked(Vec<bool>);

/// How many of each crowd are in one place.
#[derive(Debug, Default)]
pub struct Present(Vec<(CrowdId, i64)>);

impl Crowds {
    /// There is one more pod.
    pub fn join(&mut self, pod: &PodInfo) -> CrowdId {
        let crowd = Crowd {
            namespace: pod.key.namespace.clone(),
            labels: pod.labels.clone(),
            terminating: pod.terminating,
        };
        let number = match self.numbers.get(&crowd) {
            Some(number) => *number,
            None => self.begin(Arc::new(crowd)),
        };
        self.crowds[number].1 += 1;
        CrowdId(number)
    }

    fn begin(&mut self, crowd: Arc<Crowd>) -> usize {
        let number = match self.free.pop() {
            Some(number) => {
                self.crowds[number] = (crowd.clone(), 0);
                number
            }
            None => {
                self.crowds.push((crowd.clone(), 0));
                self.crowds.len() - 1
            }
        };
        self.numbers.insert(crowd, number);
        number
    }

    /// A pod that has joined is gone.
    pub fn leave(&mut self, CrowdId(number): CrowdId) {
        let (crowd, pods) = &mut self.crowds[number];
        *pods -= 1;
        if *pods == 0 {
            self.numbers.remove(crowd);
            self.free.push(number);
        }
    }

    /// The crowds that something holds for.
    pub fn pick(&self, holds: impl Fn(&Crowd) -> bool) -> Picked {
        let crowds = self.crowds.iter();
        Picked(
            crowds
                .map(|(crowd, pods)| *pods > 0 && holds(crowd))
                .collect(),
        )
    }
}

impl Present {
    /// One more of a crowd has come.
    pub fn come(&mut self, crowd: CrowdId) {
        match self.0.iter_mut().find(|(known, _)| *known == crowd) {
            Some((_, count)) => *count += 1,
            None => self.0.push((crowd, 1)),
        }
    }

    /// One of a crowd has gone.
    pub fn go(&mut self, crowd: CrowdId) {
        if let Some(at) = self.0.iter().position(|(known, _)| *known == crowd) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.swap_remove(at);
            }
        }
    }

    /// How many of these are here.
    pub fn count(&self, of: &Picked) -> i64 {
        let here = self.0.iter().filter(|(CrowdId(number), _)| of.0[*number]);
        here.map(|(_, count)| count).sum()
    }

    /// Whether any of these is here.
    pub fn has(&self, any_of: &Picked) -> bool {
        self.0.iter().any(|(CrowdId(number), _)| any_of.0[*number])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::pod;

    proptest! {
        #[test]
        fn counting_crowds_counts_pods(
            steps in prop::collection::vec((0..6_usize, 0..3_usize, 0..3_usize), 1..60),
        ) {
            let mut crowds = Crowds::default();
            let mut here = [Present::default(), Present::default(), Present::default()];
            let mut pods: HashMap<usize, (usize, usize, CrowdId)> = HashMap::new();
            for (name, app, place) in steps {
                match pods.remove(&name) {
                    Some((_, place, crowd)) => {
                        here[place].go(crowd);
                        crowds.leave(crowd);
                    }
                    None => {
                        let crowd = crowds.join(&pod("p").label("app", &app.to_string()).info());
                        here[place].come(crowd);
                        pods.insert(name, (app, place, crowd));
                    }
                }
                for app in 0..3 {
                    let picked = crowds.pick(|crowd| crowd.labels["app"] == app.to_string());
                    for (place, here) in here.iter().enumerate() {
                        let counted = pods.values().filter(|pod| (pod.0, pod.1) == (app, place)).count();
                        prop_assert_eq!(here.count(&picked), counted as i64);
                        prop_assert_eq!(here.has(&picked), counted > 0);
                    }
                }
            }
        }
    }
}
