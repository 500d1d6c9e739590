//! Who owns whom: pure, fed by watches.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::{FOREGROUND, ORPHAN};
use crate::common::meta::{group_of, is_deleted};

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// As in `apps/v1`.
    pub api_version: String,
    /// As in `Deployment`.
    pub kind: String,
    /// Empty if its kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What tells it from others of its name.
    pub uid: String,
}

/// An object, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it is.
    pub identity: Identity,
    /// The version that this was seen at: whatever is done about it is done to this version only.
    pub version: Option<String>,
    /// Who owns it.
    pub owners: Vec<OwnerReference>,
    /// What holds up its end.
    pub finalizers: Vec<String>,
    /// It is being deleted.
    pub deleted: bool,
    /// It is being deleted, and waits for its dependents.
    pub foreground: bool,
    /// It is being deleted, and leaves its dependents behind.
    pub orphaning: bool,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Whether this object shall go.
    Consider(String),
    /// Whose dependents shall be orphaned.
    Orphan(String),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Work::Consider(uid) => write!(f, "consider {uid}"),
            Work::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

/// All objects, by UID.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    /// By the owner's UID, whether the owner is known or not.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Node {
    /// What matters of an object.
    pub fn of(api_version: &str, kind: &str, meta: &ObjectMeta) -> Option<Node> {
        let has = |name: &str| meta.finalizers.iter().flatten().any(|known| known == name);
        let deleted = is_deleted(meta);
        Some(Node {
            identity: Identity {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone()?,
                uid: meta.uid.clone()?,
            },
            version: meta.resource_version.clone(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleted,
            foreground: deleted && has(FOREGROUND),
            orphaning: deleted && has(ORPHAN),
        })
    }

    /// Whether it holds up the deletion of this owner.
    pub fn blocks(&self, owner: &str) -> bool {
        let reference = self.owners.iter().find(|reference| reference.uid == owner);
        reference.is_some_and(|reference| reference.block_owner_deletion == Some(true))
    }
}

impl Graph {
    /// One object.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name this owner.
    pub fn dependents(&self, owner: &str) -> impl Iterator<Item = &Node> {
        let uids = self.dependents.get(owner).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid))
    }

    /// The objects that a known one owns: they name it, from where they can. Whoever else has its UID in a reference neither
    /// holds it up nor is left behind by it.
    pub fn owned_by(&self, owner: &str) -> impl Iterator<Item = &Node> {
        let names_it = move |node: &&Node| {
            let mut owners = node.owners.iter().filter(|one| one.uid == owner);
            owners.any(|reference| self.owner(&node.identity, reference).is_some())
        };
        self.dependents(owner).filter(names_it)
    }

    /// An object is there, or has changed. What is to be looked at because of that.
    pub fn observe(&mut self, node: Node) -> Vec<Work> {
        let uid = node.identity.uid.clone();
        let mut work = Vec::new();
        let before = self.nodes.insert(uid.clone(), node.clone());
        let old_owners = before
            .as_ref()
            .map(|node| node.owners.clone())
            .unwrap_or_default();
        for owner in &old_owners {
            if !node
                .owners
                .iter()
                .any(|reference| reference.uid == owner.uid)
            {
                self.unlink(&owner.uid, &uid);
            }
            // An owner that waits for its dependents may have one less to wait for.
            let blocked = owner.block_owner_deletion == Some(true);
            let waits = self
                .nodes
                .get(&owner.uid)
                .is_some_and(|owner| owner.foreground);
            if blocked && waits && !node.blocks(&owner.uid) {
                work.push(Work::Consider(owner.uid.clone()));
            }
        }
        let mut consider = before.is_none() && !node.owners.is_empty();
        for owner in &node.owners {
            let all = self.dependents.entry(owner.uid.clone()).or_default();
            if all.insert(uid.clone()) {
                consider = true;
            }
        }
        let foreground_before = before.as_ref().is_some_and(|node| node.foreground);
        if node.foreground && !foreground_before {
            consider = true;
            let dependents = self.dependents(&uid).map(|node| node.identity.uid.clone());
            work.extend(dependents.map(Work::Consider));
        }
        if consider && (!node.deleted || node.foreground) {
            work.push(Work::Consider(uid.clone()));
        }
        if node.orphaning && !before.is_some_and(|node| node.orphaning) {
            work.push(Work::Orphan(uid));
        }
        work
    }

    /// An object is gone. What is to be looked at because of that.
    pub fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut work = Vec::new();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            if self
                .nodes
                .get(&owner.uid)
                .is_some_and(|owner| owner.foreground)
            {
                work.push(Work::Consider(owner.uid.clone()));
            }
        }
        let dependents = self.dependents.get(uid).into_iter().flatten();
        work.extend(dependents.cloned().map(Work::Consider));
        work
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(all) = self.dependents.get_mut(owner) {
            all.remove(dependent);
            if all.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// What the graph knows of an owner, as one of its dependents names it: `None` if it must be looked for.
    ///
    /// A reference whose kind, name or namespace is not that of the object of its UID names nobody.
    pub fn owner(&self, dependent: &Identity, reference: &OwnerReference) -> Option<&Node> {
        let owner = self.named(reference)?;
        let namespace = &owner.identity.namespace;
        let in_reach = namespace.is_empty() || *namespace == dependent.namespace;
        in_reach.then_some(owner)
    }

    /// Whether a reference means an object that is in another namespace than the dependent, where no owner can be.
    pub fn is_out_of_reach(&self, dependent: &Identity, reference: &OwnerReference) -> bool {
        self.named(reference).is_some() && self.owner(dependent, reference).is_none()
    }

    /// The object that a reference means by kind, name and UID.
    fn named(&self, reference: &OwnerReference) -> Option<&Node> {
        let node = self.nodes.get(&reference.uid)?;
        let identity = &node.identity;
        let same = identity.kind == reference.kind
            && identity.name == reference.name
            && group_of(&identity.api_version) == group_of(&reference.api_version);
        same.then_some(node)
    }
}

#[cfg(test)]
mod tests;
