//! The story of an object, from changes to lines. Pure: no clock, no socket.
//!
//! Nobody records why something was written, but a controller can only follow from what it saw, and what it looks at
//! is known: what is wanted flows from owners down to what they own, how it goes flows back up. So a write follows from
//! the latest of these before it:
//!
//! - a write to the same object by somebody else;
//! - if it changed what is wanted, or made the object: a write to what is wanted of an owner;
//! - if it made the object: the end of another one of the same owner;
//! - if it changed the status: any write to one that it owns;
//! - for endpoints: a write to their service, or to a pod that it selects.
//!
//! What a person does follows from nothing that can be seen, and who deletes leaves no name. So of a deletion a cause is
//! named only where no person can be it:
//!
//! - the end of what was asked to end follows from what was written to it last;
//! - what an owner leaves behind is deleted because the owner ended;
//! - a pod of which an owner has too many, by its `spec.replicas`, because of the write that wants fewer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::diff::{Difference, Step, differences};
use super::object::Object;
use super::writer::writer;

/// How many writes to an object are remembered, and how many objects that are gone.
const WRITES_MAX: usize = 16;
const GONE_MAX: usize = 1_000;
/// How many differences a line tells of.
const TOLD_MAX: usize = 4;

/// Field managers behind which a person sits: what they do follows from nothing that the API knows of.
const PERSONS: [&str; 2] = ["kubectl", "helm"];

/// What a watch stream says, in the order of revisions.
#[derive(Debug)]
pub struct Change {
    /// When it was seen, on any clock; none if it had happened before anybody looked.
    pub at: Option<Duration>,
    pub object: Object,
    pub is_gone: bool,
}

/// A line of the story.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Since the first line that was seen as it happened.
    at: Option<Duration>,
    revision: u64,
    who: Option<String>,
    what: String,
    /// The revision that it follows from, and of which object that is.
    because: Option<(u64, String)>,
}

/// What is known so far.
#[derive(Debug)]
pub struct Story {
    root_kind: String,
    root_name: String,
    /// By uid: all objects that were seen, whether they belong to the story or not.
    known: HashMap<String, Known>,
    /// The uids of those that belong to it.
    members: HashSet<String>,
    gone: VecDeque<String>,
    /// When the first line happened that was seen.
    begun: Option<Duration>,
}

#[derive(Debug)]
struct Known {
    object: Object,
    /// The latest last.
    writes: VecDeque<Write>,
    /// It is gone, and nobody saw by which write.
    is_lost: bool,
}

#[derive(Debug, Clone)]
struct Write {
    revision: u64,
    /// Not known of a deletion.
    who: Option<String>,
    touched: Touched,
    /// It asked for the end of the object, or was it.
    ends: bool,
}

/// Which parts of an object a write changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Touched {
    wanted: bool,
    status: bool,
}

impl Story {
    /// The story of an object of this kind (in lower case) and name.
    pub fn of(kind: &str, name: &str) -> Story {
        Story {
            root_kind: kind.to_owned(),
            root_name: name.to_owned(),
            known: HashMap::new(),
            members: HashSet::new(),
            gone: VecDeque::new(),
            begun: None,
        }
    }

    /// Whose story this is, as `deployment/web`.
    pub fn root(&self) -> String {
        format!("{}/{}", self.root_kind, self.root_name)
    }

    /// Takes note of a change, and tells of it if it belongs to the story.
    pub fn take(&mut self, change: Change) -> Option<Line> {
        let Change {
            at,
            object,
            is_gone,
        } = change;
        let uid = object.uid().to_owned();
        let before = self.known.get(&uid);
        if before.is_some_and(|before| before.object.revision() >= object.revision()) {
            // Seen already: a stream that broke begins again with all that there is.
            return None;
        }
        let nothing = Value::Object(serde_json::Map::new());
        let was = before.map(|before| &before.object);
        let changed = differences(was.map_or(&nothing, Object::value), object.value());
        let touched = touched(was, &changed, is_gone);
        // The managers named by what was deleted are those of the last write before.
        let ends = is_gone || (object.is_deleting() && !was.is_some_and(Object::is_deleting));
        let who = match ends {
            true => None,
            false => writer(was, &object, &changed),
        };
        let write = Write {
            revision: object.revision(),
            who,
            touched,
            ends,
        };
        let belongs = self.belongs(&object);
        if belongs && self.begun.is_none() {
            self.begun = at;
        }
        let begun = self.begun.unwrap_or_default();
        let line = belongs.then(|| Line {
            at: at.map(|at| at.saturating_sub(begun)),
            revision: write.revision,
            who: author(&object, &write),
            what: what(was, &object, is_gone, &changed, at.is_none()),
            because: self.cause(&object, &write),
        });
        if belongs && !matches!(object.kind(), "event" | "node") {
            self.members.insert(uid.clone());
        }
        self.remember(uid, object, write, is_gone);
        line
    }

    /// Of this kind there are only these, by uid: whatever else was known of it has gone while nobody looked.
    pub fn are_all(&mut self, kind: &str, uids: &HashSet<String>) {
        for (uid, known) in &mut self.known {
            known.is_lost |= known.object.kind() == kind && !uids.contains(uid);
        }
    }

    /// Whether the object whose story this is was seen.
    pub fn has_begun(&self) -> bool {
        !self.members.is_empty()
    }

    fn remember(&mut self, uid: String, object: Object, write: Write, is_gone: bool) {
        // Events are no causes: they tell of them.
        if object.kind() == "event" && is_gone {
            self.known.remove(&uid);
            return;
        }
        if is_gone {
            self.gone.push_back(uid.clone());
            if self.gone.len() > GONE_MAX
                && let Some(oldest) = self.gone.pop_front()
            {
                self.known.remove(&oldest);
                self.members.remove(&oldest);
            }
        }
        match self.known.get_mut(&uid) {
            Some(known) => {
                known.object = object;
                known.is_lost = false;
                known.writes.push_back(write);
                if known.writes.len() > WRITES_MAX {
                    known.writes.pop_front();
                }
            }
            None => {
                let writes = VecDeque::from([write]);
                let known = Known {
                    object,
                    writes,
                    is_lost: false,
                };
                self.known.insert(uid, known);
            }
        }
    }

    /// Whether an object belongs to the story: the root, what it owns, and what is there for these.
    fn belongs(&self, object: &Object) -> bool {
        let is_root = object.kind() == self.root_kind && object.name() == self.root_name;
        let is_owned = || {
            let mut owners = self.owners_of(object);
            owners.any(|owner| self.members.contains(owner.object.uid()))
        };
        is_root
            || is_owned()
            || match object.kind() {
                "event" => self.is_about_member(object),
                "service" => self.pods().any(|pod| object.selects(pod)),
                "endpoints" | "endpointslice" => self
                    .service_of(object)
                    .is_some_and(|service| self.members.contains(service.object.uid())),
                "node" => self
                    .pods()
                    .any(|pod| pod.text("/spec/nodeName") == object.name()),
                "pod" => match self.root_kind.as_str() {
                    "node" => object.text("/spec/nodeName") == self.root_name,
                    "service" => self
                        .root_object()
                        .is_some_and(|root| root.object.selects(object)),
                    _ => false,
                },
                _ => false,
            }
            || (self.root_kind == "namespace" && object.namespace() == self.root_name)
    }

    /// Those who own it, as far as they are known.
    fn owners_of<'a>(&'a self, object: &'a Object) -> impl Iterator<Item = &'a Known> {
        let named = object.owners();
        let known = named.filter_map(|owner| self.known.get(owner.uid));
        known.filter(|owner| owner.object.owns(object))
    }

    fn is_about_member(&self, event: &Object) -> bool {
        event.regarding().is_some_and(|about| {
            let is_root = about.kind == self.root_kind && about.name == self.root_name;
            is_root || self.members.contains(about.uid)
        })
    }

    fn root_object(&self) -> Option<&Known> {
        let is_root = |known: &&Known| {
            known.object.kind() == self.root_kind && known.object.name() == self.root_name
        };
        self.known.values().find(is_root)
    }

    /// The pods that belong to the story.
    fn pods(&self) -> impl Iterator<Item = &Object> {
        let members = self.members.iter().filter_map(|uid| self.known.get(uid));
        members
            .map(|known| &known.object)
            .filter(|object| object.kind() == "pod")
    }

    fn service_of(&self, endpoints: &Object) -> Option<&Known> {
        let name = endpoints.service()?;
        self.known.values().find(|known| {
            let service = &known.object;
            service.kind() == "service"
                && service.name() == name
                && service.namespace() == endpoints.namespace()
        })
    }

    /// The latest write that this one can have followed from.
    fn cause(&self, object: &Object, write: &Write) -> Option<(u64, String)> {
        if object.kind() == "event" || write.is_by_person() {
            return None;
        }
        if write.ends {
            return self.cause_of_end(object, write);
        }
        let itself = self.known.get(object.uid());
        let by_others = itself.and_then(|known| known.latest(|other| other.who != write.who));
        let mut causes = vec![by_others];
        if write.touched.wanted {
            let owners = self.owners_of(object);
            causes.extend(owners.map(|owner| owner.latest(|other| other.touched.wanted)));
        }
        if itself.is_none() {
            let is_sibling = |known: &&Known| {
                let mut owners = known.object.owners();
                known.object.namespace() == object.namespace()
                    && owners.any(|one| object.owners().any(|own| own.uid == one.uid))
            };
            let siblings = self.known.values().filter(is_sibling);
            causes.extend(siblings.map(|sibling| sibling.latest(|other| other.ends)));
        }
        if write.touched.status {
            let dependents = self.known.values();
            let dependents = dependents
                .filter(|known| known.object.kind() != "event" && object.owns(&known.object));
            causes.extend(dependents.map(|dependent| dependent.latest(|_| true)));
        }
        if let Some(service) = self.service_of(object) {
            causes.push(service.latest(|_| true));
            let pods = self.known.values();
            let selected = pods.filter(|known| service.object.selects(&known.object));
            causes.extend(selected.map(|pod| pod.latest(|_| true)));
        }
        latest(causes, write)
    }

    /// The latest write that a deletion must have followed from.
    fn cause_of_end(&self, object: &Object, write: &Write) -> Option<(u64, String)> {
        let itself = self.known.get(object.uid());
        if let Some(asked) = itself.filter(|known| known.has_ended()) {
            return asked.latest(|_| true);
        }
        let owners = self.owners_of(object);
        let causes = owners.map(|owner| match owner.has_ended() {
            true => owner.latest(|other| other.ends),
            false if object.is_running_pod() && self.has_too_many_pods(owner) => {
                owner.latest(|other| other.touched.wanted)
            }
            false => None,
        });
        latest(causes.collect(), write)
    }

    /// Whether an owner has more pods than it wants. Those that have run to their end do not count.
    fn has_too_many_pods(&self, owner: &Known) -> bool {
        let wanted = owner.object.value().pointer("/spec/replicas");
        let Some(wanted) = wanted.and_then(Value::as_u64) else {
            return false;
        };
        let is_its_own = |known: &&Known| {
            known.object.is_running_pod() && !known.has_ended() && owner.object.owns(&known.object)
        };
        self.known.values().filter(is_its_own).count() as u64 > wanted
    }
}

/// The latest of these that was before a write.
fn latest(causes: Vec<Option<(u64, String)>>, write: &Write) -> Option<(u64, String)> {
    let causes = causes.into_iter().flatten();
    let before = causes.filter(|(revision, _)| *revision < write.revision);
    before.max_by_key(|(revision, _)| *revision)
}

impl Write {
    fn is_by_person(&self) -> bool {
        let who = self.who.as_deref().unwrap_or("");
        PERSONS.iter().any(|person| who.starts_with(person))
    }
}

impl Known {
    /// Whether it is gone, or was asked to go.
    fn has_ended(&self) -> bool {
        self.is_lost || self.object.is_deleting() || self.writes.iter().any(|write| write.ends)
    }

    /// The latest write that is such, and to what.
    fn latest(&self, is_such: impl Fn(&Write) -> bool) -> Option<(u64, String)> {
        let write = self.writes.iter().rev().find(|write| is_such(write))?;
        Some((write.revision, self.object.to_string()))
    }
}

fn touched(was: Option<&Object>, changed: &[Difference], is_gone: bool) -> Touched {
    let is_status = |difference: &Difference| {
        difference.path.first() == Some(&Step::Field("status".to_owned()))
    };
    Touched {
        wanted: was.is_none() || is_gone || !changed.iter().all(is_status),
        status: was.is_some() && changed.iter().any(is_status),
    }
}

/// Events name the component that they come from, which says more than its field manager.
fn author(object: &Object, write: &Write) -> Option<String> {
    if object.kind() != "event" {
        return write.who.clone();
    }
    let named = [
        "/source/component",
        "/reportingComponent",
        "/reportingController",
    ];
    let named = named.map(|at| object.text(at));
    let named = named.into_iter().find(|name| !name.is_empty());
    named.map(str::to_owned).or_else(|| write.who.clone())
}

/// What happened, in words.
fn what(
    was: Option<&Object>,
    object: &Object,
    is_gone: bool,
    changed: &[Difference],
    is_past: bool,
) -> String {
    if let Some(about) = object.regarding() {
        let message = object.text("/message");
        let message = if message.is_empty() {
            object.text("/note")
        } else {
            message
        };
        let reason = object.text("/reason");
        let again = if was.is_some() { " again" } else { "" };
        return format!("said{again} of {about}: {reason}: {message}");
    }
    let Some(was) = was else {
        let verb = if is_past { "last wrote" } else { "created" };
        let owners: Vec<String> = object.owners().map(|owner| owner.to_string()).collect();
        return match owners.as_slice() {
            [] => format!("{verb} {object}"),
            owners => format!("{verb} {object} (owner {})", owners.join(", ")),
        };
    };
    if is_gone {
        return format!("deleted {object}");
    }
    if object.is_deleting() && !was.is_deleting() {
        return format!("asked for the deletion of {object}");
    }
    let told = || changed.iter().filter(|difference| difference.is_told());
    let more = match told().count().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let told: Vec<String> = told().take(TOLD_MAX).map(Difference::to_string).collect();
    match told.as_slice() {
        [] => format!("updated {object}"),
        told => format!("changed {object}: {}{more}", told.join(", ")),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{:>9}", format!("+{:.3}s", at.as_secs_f64()))?,
            None => write!(f, "{:>9}", "before")?,
        }
        let who = self.who.as_deref().unwrap_or("(somebody)");
        write!(f, "  rev {:<5} {who:<24} {}", self.revision, self.what)?;
        match &self.because {
            Some((revision, object)) => write!(f, "  because it saw rev {revision} of {object}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
