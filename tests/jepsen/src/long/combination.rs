//! Which runs there are to make: every workload under every nemesis, on members of every number.

use std::collections::HashMap;
use std::fmt;

use keelson_jepsen::history::Workload;
use rand::Rng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

use crate::nemesis::{Needs, Nemesis};
use crate::run::Target;
use crate::workload;

/// All nemeses in one run.
pub const MIXED: &str = "all";
/// The nemeses of members come together if clients do what only they make interesting.
const MEMBERS: &str = "member";

/// What a run is made of, but for its seed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Combination {
    pub workload: String,
    pub nemesis: String,
    pub members: u32,
    /// As `--target` has it.
    pub target: String,
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Combination {
            workload,
            nemesis,
            members,
            target,
        } = self;
        write!(f, "{workload} × {nemesis}, {members} members of {target}")
    }
}

/// The servers under test.
pub struct Targets {
    /// What was asked for.
    pub asked: Target,
    /// What has failpoints, where they are needed and the other one has none.
    pub with_failpoints: Option<Target>,
}

impl Targets {
    fn for_nemesis(&self, nemesis: &Nemesis) -> Option<&Target> {
        let candidates = [Some(&self.asked), self.with_failpoints.as_ref()];
        candidates
            .into_iter()
            .flatten()
            .find(|target| nemesis.needs.missing(target).is_none())
    }

    fn for_all(&self) -> &Target {
        self.with_failpoints.as_ref().unwrap_or(&self.asked)
    }
}

/// All combinations that make sense. `mixed`: for each workload also one with all nemeses.
pub fn all(
    workloads: &[Workload],
    nemeses: &[Nemesis],
    mixed: bool,
    members: &[u32],
    targets: &Targets,
) -> Vec<Combination> {
    let mut all: Vec<Combination> = Vec::new();
    for workload in workloads {
        let singles = nemeses.iter().filter_map(|nemesis| {
            let target = targets.for_nemesis(nemesis)?;
            let of_members = nemesis.group() == MEMBERS;
            // The workload brings all of them with it whichever is named.
            let together = of_members && *workload == Workload::Membership;
            let name = if together { MEMBERS } else { nemesis.name };
            Some((name, &target.name))
        });
        let mix = mixed.then(|| (MIXED, &targets.for_all().name));
        for (nemesis, target) in singles.chain(mix) {
            let combinations = members.iter().map(|members| Combination {
                workload: workload::name(*workload).to_owned(),
                nemesis: nemesis.to_owned(),
                members: *members,
                target: target.clone(),
            });
            for combination in combinations {
                if !all.contains(&combination) {
                    all.push(combination);
                }
            }
        }
    }
    all
}

/// Whether any nemesis wants failpoints.
pub fn want_failpoints(nemeses: &[Nemesis]) -> bool {
    nemeses
        .iter()
        .any(|nemesis| nemesis.needs == Needs::Failpoints)
}

/// Any of those that were run least; none if all were run `rounds` times. `runs` counts those under way as well.
pub fn next<'a>(
    all: &'a [Combination],
    runs: &HashMap<Combination, u64>,
    rounds: u64,
    random: &mut impl Rng,
) -> Option<&'a Combination> {
    let count = |combination: &Combination| runs.get(combination).copied().unwrap_or_default();
    let least = all
        .iter()
        .map(count)
        .min()
        .filter(|least| *least < rounds)?;
    let candidates: Vec<&Combination> = all
        .iter()
        .filter(|combination| count(combination) == least)
        .collect();
    candidates.choose(random).copied()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::nemesis;

    fn target(name: &str, kvd: bool, failpoints: bool) -> Target {
        Target {
            name: name.to_owned(),
            program: PathBuf::new(),
            kvd,
            failpoints,
            answers_progress: kvd,
            flags: Vec::new(),
            environment: Vec::new(),
        }
    }

    fn everything(targets: &Targets) -> Vec<Combination> {
        let workloads = workload::ALL.map(|(workload, ..)| workload);
        all(&workloads, &nemesis::ALL, true, &[3], targets)
    }

    #[test]
    fn every_workload_meets_every_nemesis_and_all_of_them_at_once() {
        let targets = Targets {
            asked: target("kvd", true, false),
            with_failpoints: Some(target("kvd-faulty", true, true)),
        };
        let all = everything(&targets);
        // For the workload `membership`, the four nemeses of members are one.
        assert_eq!(all.len(), 8 * 29 - 3);
        let target_of = |nemesis: &str| {
            let found = all
                .iter()
                .find(|combination| combination.nemesis == nemesis);
            found.map(|combination| combination.target.as_str())
        };
        assert_eq!(target_of("kill-one"), Some("kvd"));
        assert_eq!(target_of("disk-full"), Some("kvd-faulty"));
        assert_eq!(target_of(MIXED), Some("kvd-faulty"));
    }

    #[test]
    fn what_a_target_cannot_have_is_left_out() {
        let targets = Targets {
            asked: target("etcd", false, false),
            with_failpoints: None,
        };
        let all = everything(&targets);
        let needs_nothing = nemesis::ALL
            .iter()
            .filter(|nemesis| nemesis.needs == Needs::Nothing);
        assert_eq!(all.len(), 8 * (needs_nothing.count() + 1) - 3);
    }

    #[test]
    fn each_has_its_turn_before_any_comes_again_and_none_comes_too_often() {
        let targets = Targets {
            asked: target("etcd", false, false),
            with_failpoints: None,
        };
        let all = everything(&targets);
        let mut runs = HashMap::new();
        let mut random = rand::rng();
        for turn in 0..2 * all.len() {
            let next = next(&all, &runs, 2, &mut random).expect("not all were run twice");
            let count: &mut u64 = runs.entry(next.clone()).or_default();
            assert_eq!(*count, (turn / all.len()) as u64);
            *count += 1;
        }
        assert_eq!(next(&all, &runs, 2, &mut random), None);
    }
}
