//! Nothing twice, and nothing undone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use super::Rule;
use super::world::{
    Changed, Step, World, address, controller, has_ended, name, node_of, phase, uid,
};

const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH_LABEL: &str = "pod-template-hash";
/// What an event's message begins with that stands for several.
const COMBINED: &str = "(combined from similar events)";

/// What has been done, to compare with what is told of it.
#[derive(Debug, Default)]
pub struct Once {
    /// The UIDs of pods that were there.
    created: BTreeSet<String>,
    /// The nodes of pods, by UID.
    bound: BTreeMap<String, String>,
    /// How often a replica set of this name went from this size to that.
    resized: BTreeMap<(String, i32, i32), i32>,
    /// The latest version of each event, by UID.
    events: BTreeMap<String, Arc<Event>>,
    replica_sets: usize,
}

type Say<'a> = &'a mut dyn FnMut(Rule, String);

impl Once {
    /// How many replica sets were made.
    pub fn replica_sets_made(&self) -> usize {
        self.replica_sets
    }

    /// Notes a change, and judges it.
    pub fn see(&mut self, world: &World, changed: &Changed, say: Say<'_>) {
        match changed {
            Changed::Pod(step) => self.pod(world, step, say),
            Changed::ReplicaSet(step) => self.replica_set(world, step, say),
            Changed::Event(step) => {
                if let Some(new) = &step.new {
                    self.events
                        .insert(uid(&new.metadata).to_owned(), new.clone());
                }
            }
            _ => {}
        }
    }

    fn pod(&mut self, world: &World, step: &Step<Pod>, say: Say<'_>) {
        let Some(new) = &step.new else { return };
        let (name, id) = (name(&new.metadata), uid(&new.metadata));
        if step.old.is_none() && !self.created.insert(id.to_owned()) {
            say(Rule::Twice, format!("pod {name} was created a second time"));
        }
        if let Some(node) = node_of(new) {
            let before = self
                .bound
                .entry(id.to_owned())
                .or_insert_with(|| node.to_owned());
            if before != node {
                say(
                    Rule::Twice,
                    format!("pod {name} was bound to {before}, and then to {node}"),
                );
            }
        }
        if let Some(old) = &step.old {
            undone(old, new, say);
        }
        let had = step.old.as_deref().and_then(address);
        if let Some(address) = address(new)
            && had != Some(address)
        {
            let holds = |other: &&Arc<Pod>| {
                uid(&other.metadata) != id
                    && super::world::address(other) == Some(address)
                    && !has_ended(other)
            };
            if let Some(other) = world.pods.values().find(holds) {
                let other = super::world::name(&other.metadata);
                say(
                    Rule::Twice,
                    format!("pod {name} was given {address}, which {other} has"),
                );
            }
        }
    }

    fn replica_set(&mut self, world: &World, step: &Step<ReplicaSet>, say: Say<'_>) {
        let Some(new) = &step.new else { return };
        let name = name(&new.metadata);
        let size = |set: &ReplicaSet| set.spec.replicas.unwrap_or(1);
        let before = step.old.as_deref().map_or(0, size);
        if before != size(new) {
            let resized = (name.to_owned(), before, size(new));
            *self.resized.entry(resized).or_default() += 1;
        }
        self.replica_sets += usize::from(step.old.is_none());
        let Some(owner) = controller(&new.metadata) else {
            return;
        };
        let twins = world
            .sets_of(owner)
            .filter(|other| uid(&other.metadata) != uid(&new.metadata));
        for other in twins {
            let other_name = super::world::name(&other.metadata);
            if step.old.is_none() && template(other) == template(new) {
                say(
                    Rule::Twice,
                    format!("{name} was created though {other_name} has the same template"),
                );
            }
            if revision(new).is_some() && revision(other) == revision(new) {
                let revision = revision(new).unwrap_or_default();
                say(
                    Rule::Twice,
                    format!("{name} and {other_name} are both revision {revision}"),
                );
            }
        }
    }

    /// Judges what events tell in the end.
    pub fn events(&self, say: &mut dyn FnMut(String)) {
        let mut told: BTreeMap<(&str, &str, &str), i32> = BTreeMap::new();
        for event in self.events.values() {
            let message = event.message.as_deref().unwrap_or_default();
            if message.starts_with(COMBINED) {
                continue;
            }
            let about = event.involved_object.uid.as_deref().unwrap_or_default();
            let reason = event.reason.as_deref().unwrap_or_default();
            *told.entry((about, reason, message)).or_default() += event.count.unwrap_or(1);
        }
        for ((about, reason, message), count) in told {
            let allowed = match reason {
                "SuccessfulCreate" | "SuccessfulDelete" => 1,
                "Scheduled" => {
                    let node = message.rsplit(' ').next();
                    i32::from(self.bound.get(about).map(String::as_str) == node)
                }
                "ScalingReplicaSet" => match resize_told(message) {
                    Some(resize) => self.resized.get(&resize).copied().unwrap_or_default(),
                    None => 0,
                },
                _ => continue,
            };
            if count > allowed {
                say(format!(
                    "{reason} tells {count} times of what happened {allowed} times: {message}"
                ));
            }
        }
    }
}

/// Of `Scaled up replica set NAME from A to B`: the three.
fn resize_told(message: &str) -> Option<(String, i32, i32)> {
    let (_, rest) = message.split_once(" replica set ")?;
    let (name, rest) = rest.split_once(" from ")?;
    let (from, to) = rest.split_once(" to ")?;
    Some((name.to_owned(), from.parse().ok()?, to.parse().ok()?))
}

/// What a pod may not take back.
fn undone(old: &Pod, new: &Pod, say: Say<'_>) {
    let name = name(&new.metadata);
    if old.metadata.deletion_timestamp.is_some() && new.metadata.deletion_timestamp.is_none() {
        say(
            Rule::Twice,
            format!("pod {name} was deleted, and then it was not"),
        );
    }
    if let (Some(had), Some(has)) = (address(old), address(new))
        && had != has
    {
        say(
            Rule::Twice,
            format!("pod {name} had the address {had}, and then {has}"),
        );
    }
    if node_of(old).is_some() && node_of(new).is_none() {
        say(Rule::Twice, format!("pod {name} was taken off its node"));
    }
    let (was, is) = (phase(old), phase(new));
    if (has_ended(old) && was != is) || (was == "Running" && is == "Pending") {
        say(Rule::Twice, format!("pod {name} was {was}, and then {is}"));
    }
    for now in containers(new) {
        let before = containers(old).find(|before| before.name == now.name);
        let Some(before) = before.filter(|before| before.container_id.is_some()) else {
            continue;
        };
        let same_run = before.restart_count == now.restart_count;
        if same_run && before.container_id != now.container_id {
            say(
                Rule::Twice,
                format!("container {} of pod {name} was started twice", now.name),
            );
        }
    }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let lists = [&status.init_container_statuses, &status.container_statuses];
        lists.into_iter().flatten().flatten()
    })
}

fn revision(set: &ReplicaSet) -> Option<&str> {
    let annotations = set.metadata.annotations.as_ref()?;
    annotations.get(REVISION).map(String::as_str)
}

/// A replica set's template, without the label that tells it from others.
fn template(set: &ReplicaSet) -> serde_json::Value {
    let mut template = set.spec.template.clone().unwrap_or_default();
    if let Some(labels) = template
        .metadata
        .as_mut()
        .and_then(|meta| meta.labels.as_mut())
    {
        labels.remove(HASH_LABEL);
    }
    serde_json::to_value(template).expect("a template can be written")
}
