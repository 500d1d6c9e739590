//! Never too many, never too few.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::force::{Bounds, InForce};
use super::unscaled::Unscaled;
use super::world::{
    Changed, Step, World, controller, is_active, is_available, is_evicted, name, uid,
};
use super::{Rule, Tally};

/// What is remembered of the sizes that were asked for, by UID.
#[derive(Debug, Default)]
pub struct Sizes {
    deployments: BTreeMap<String, Asked>,
    replica_sets: BTreeMap<String, Sized>,
    tally: Tally,
}

/// A deployment.
#[derive(Debug, Default)]
struct Asked {
    force: InForce,
    /// The last revision at which no replica set's status told of more available pods than it had.
    honest: i64,
}

/// A replica set.
#[derive(Debug, Default)]
struct Sized {
    force: InForce,
    /// The writes of its size, oldest first: the size, and since when lost pods may not have been known at that write.
    writes: Vec<(i32, i64)>,
    active: Unscaled,
    available: Unscaled,
}

impl Sized {
    /// Who shrank it last had seen all that was lost before this. If nobody ever did, nobody may have taken anything
    /// away, and who did has no excuse of what was lost before its size was written.
    fn known_until(&self) -> i64 {
        let shrunk = self.writes.windows(2).rposition(|two| two[1].0 < two[0].0);
        let before = shrunk.and_then(|position| self.writes.get(position));
        before.or(self.writes.last()).map_or(0, |(_, known)| *known)
    }
}

type Say<'a> = &'a mut dyn FnMut(Rule, String);

impl Sizes {
    /// How much there was to judge.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Notes a change, and judges it. The world has the whole revision already.
    pub fn see(&mut self, world: &World, changed: &Changed, revision: i64, say: Say<'_>) {
        match changed {
            Changed::Deployment(step) => self.deployment(step),
            Changed::ReplicaSet(step) => self.replica_set(world, step, say),
            Changed::Pod(step) => self.pod(world, step, revision, say),
            _ => {}
        }
    }

    fn deployment(&mut self, step: &Step<Deployment>) {
        if let Some(new) = &step.new {
            let asked = self
                .deployments
                .entry(uid(&new.metadata).to_owned())
                .or_default();
            asked.force.ask(bounds(new));
        }
    }

    fn replica_set(&mut self, world: &World, step: &Step<ReplicaSet>, say: Say<'_>) {
        let id = uid(&step.any().metadata).to_owned();
        let Some(new) = &step.new else {
            let left = world.active_of(&id).count();
            let owner = controller(&step.any().metadata);
            let wanted = world
                .deployments
                .values()
                .any(|deployment| Some(uid(&deployment.metadata)) == owner);
            if left > 0 && wanted {
                let name = name(&step.any().metadata);
                say(
                    Rule::Leak,
                    format!("replica set {name} was deleted while it had {left} pods"),
                );
            }
            return;
        };
        let owner = controller(&new.metadata).unwrap_or_default();
        let honest = self.deployments.get(owner).map_or(0, |asked| asked.honest);
        let sized = self.replica_sets.entry(id).or_default();
        let size = size(new);
        sized.force.ask(Bounds {
            generation: new.metadata.generation.unwrap_or_default(),
            most: size,
            least: size,
        });
        if sized.writes.last().is_none_or(|(last, _)| *last != size) {
            sized.writes.push((size, honest));
        }
    }

    fn pod(&mut self, world: &World, step: &Step<Pod>, revision: i64, say: Say<'_>) {
        let pod = step.any();
        let Some(set) = controller(&pod.metadata) else {
            return;
        };
        if step.old.is_none() {
            self.tally.pods += 1;
        }
        let Some(deployment) = world.deployment_of(set) else {
            return;
        };
        let is = |pod: &Option<std::sync::Arc<Pod>>, what: fn(&Pod) -> bool| {
            pod.as_deref().is_some_and(what)
        };
        let goes = step
            .new
            .as_deref()
            .is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        let by_fault = |old: &Pod| !goes || world.is_driven_away(old) || is_evicted(old);
        let by_fault = step.old.as_deref().is_some_and(by_fault);
        let sized = self.replica_sets.entry(set.to_owned()).or_default();
        for (count, what) in [
            (&mut sized.active, is_active as fn(&Pod) -> bool),
            (&mut sized.available, is_available),
        ] {
            match (is(&step.old, what), is(&step.new, what)) {
                (false, true) => count.one_came(revision),
                (true, false) if by_fault => count.one_was_lost(revision),
                (true, false) => count.one_was_scaled_down(),
                _ => {}
            }
        }
        if is(&step.new, is_active) && !is(&step.old, is_active) {
            self.one_more(world, pod, set, deployment, say);
        }
        if is(&step.old, is_available) && !is(&step.new, is_available) {
            if by_fault {
                self.tally.taken += 1;
            } else {
                self.one_fewer(world, pod, set, deployment, say);
            }
        }
    }

    fn one_more(&self, world: &World, pod: &Pod, set: &str, deployment: &str, say: Say<'_>) {
        let name = name(&pod.metadata);
        let of_set = count(world.active_of(set).count());
        let most = self
            .replica_sets
            .get(set)
            .map_or(0, |sized| sized.force.most());
        if of_set > most {
            say(
                Rule::TooMany,
                format!("with {name} its replica set has {of_set} pods of {most}"),
            );
        }
        let all = active(world, deployment);
        let most = self
            .deployments
            .get(deployment)
            .map_or(0, |asked| asked.force.most());
        if all > most {
            say(
                Rule::TooMany,
                format!("with {name} its deployment has {all} pods of at most {most}"),
            );
        }
    }

    fn one_fewer(&mut self, world: &World, pod: &Pod, set: &str, deployment: &str, say: Say<'_>) {
        let is_live = |known: &&std::sync::Arc<Deployment>| {
            uid(&known.metadata) == deployment && known.metadata.deletion_timestamp.is_none()
        };
        if !world.deployments.values().any(|known| is_live(&known)) {
            return;
        }
        self.tally.scaled_down += 1;
        let (Some(asked), Some(sized)) =
            (self.deployments.get(deployment), self.replica_sets.get(set))
        else {
            return;
        };
        let name = name(&pod.metadata);
        let known = sized.known_until();
        let sets = world.sets_of(deployment);
        let sets = sets.filter_map(|set| self.replica_sets.get(uid(&set.metadata)));
        let left: i32 = sets.map(|set| set.available.for_who_knows(known)).sum();
        let least = asked.force.least();
        if left < least {
            let really = available(world, deployment);
            say(
                Rule::TooFew,
                format!(
                    "{name} was taken away, and of at least {least} available pods {really} were left: \
                     {left} for who did not know better"
                ),
            );
            return;
        }
        let (left, least) = (sized.active.for_who_knows(known), sized.force.least());
        if left < least {
            say(
                Rule::TooFew,
                format!("{name} was taken away, and its replica set had {left} pods of {least}"),
            );
        }
    }

    /// Settles which sizes are in force after a revision.
    pub fn after(&mut self, world: &World, revision: i64) {
        for set in world.replica_sets.values() {
            let id = uid(&set.metadata);
            let active = count(world.active_of(id).count());
            if let Some(sized) = self.replica_sets.get_mut(id) {
                sized
                    .force
                    .retire(observed(set), |bounds| active <= bounds.most);
            }
        }
        for deployment in world.deployments.values() {
            let id = uid(&deployment.metadata);
            let Some(asked) = self.deployments.get_mut(id) else {
                continue;
            };
            let (mut honest, mut settled) = (true, true);
            let (mut sum, mut all) = (0, 0);
            for set in world.sets_of(id) {
                let pods: Vec<_> = world.active_of(uid(&set.metadata)).collect();
                let generation = set.metadata.generation.unwrap_or_default();
                settled &= observed(set) >= generation && count(pods.len()) <= size(set);
                sum += size(set);
                all += count(pods.len());
                let available = count(pods.iter().filter(|pod| is_available(pod)).count());
                let status = set.status.as_ref();
                let told = status.and_then(|status| status.available_replicas);
                honest &= told.unwrap_or_default() <= available;
            }
            if honest {
                asked.honest = revision;
            }
            let status = deployment.status.as_ref();
            let observed = status
                .and_then(|status| status.observed_generation)
                .unwrap_or_default();
            asked.force.retire(observed, |bounds| {
                settled && sum <= bounds.most && all <= bounds.most
            });
        }
    }
}

fn active(world: &World, deployment: &str) -> i32 {
    let sets = world.sets_of(deployment);
    sets.map(|set| count(world.active_of(uid(&set.metadata)).count()))
        .sum()
}

fn available(world: &World, deployment: &str) -> i32 {
    let sets = world.sets_of(deployment);
    let pods = sets.flat_map(|set| world.active_of(uid(&set.metadata)));
    count(pods.filter(|pod| is_available(pod)).count())
}

fn count(number: usize) -> i32 {
    i32::try_from(number).expect("there are not so many pods")
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn observed(set: &ReplicaSet) -> i64 {
    let status = set.status.as_ref();
    status
        .and_then(|status| status.observed_generation)
        .unwrap_or_default()
}

/// What a deployment asks for, as Kubernetes documents it: a surge is rounded up, what may be missing is rounded down,
/// and where that leaves neither, one may be missing.
fn bounds(deployment: &Deployment) -> Bounds {
    let spec = &deployment.spec;
    let replicas = spec.replicas.unwrap_or(1);
    let generation = deployment.metadata.generation.unwrap_or_default();
    let rolling = spec
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.rolling_update.as_ref());
    let Some(rolling) = rolling else {
        // It stops all before it starts any.
        return Bounds {
            generation,
            most: replicas,
            least: 0,
        };
    };
    let part = |value: Option<&IntOrString>, up: bool| match value {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i32 = text
                .trim_end_matches('%')
                .parse()
                .expect("it was validated");
            (percent * replicas + if up { 99 } else { 0 }) / 100
        }
        None => panic!("the API server gives every deployment its bounds"),
    };
    let surge = part(rolling.max_surge.as_ref(), true);
    let missing = part(rolling.max_unavailable.as_ref(), false);
    let missing = if surge == 0 && missing == 0 {
        1
    } else {
        missing
    };
    Bounds {
        generation,
        most: replicas + surge,
        least: replicas - missing.min(replicas),
    }
}
