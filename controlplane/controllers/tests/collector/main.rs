//! The garbage collector in a model of the world: whatever is deleted how, what has lost its last owner goes, and nothing
//! else does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use keelson_controllers::gc::decide::{Action, OwnerState, Policy, decide};
use keelson_controllers::gc::graph::{Graph, Node, Work};
use keelson_controllers::gc::{FOREGROUND, ORPHAN};
use kube::api::ObjectMeta;
use proptest::prelude::*;

/// What there is, how the graph sees it, and what is to be looked at.
#[derive(Default)]
struct World {
    live: BTreeMap<String, ObjectMeta>,
    graph: Graph,
    /// Changes that the graph has not seen.
    unseen: VecDeque<Result<ObjectMeta, String>>,
    work: BTreeSet<Work>,
    /// Who went, in order.
    gone: Vec<String>,
    /// The last version that was given to anything.
    version: u64,
}

fn reference(uid: &str, blocking: bool) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Thing".into(),
        name: uid.into(),
        uid: uid.into(),
        block_owner_deletion: Some(blocking),
        controller: None,
    }
}

fn owners(meta: &ObjectMeta) -> &[OwnerReference] {
    meta.owner_references.as_deref().unwrap_or_default()
}

impl World {
    fn create(&mut self, uid: &str, owners: &[(String, bool)]) {
        let references = owners.iter();
        let references = references.map(|(uid, blocks)| reference(uid, *blocks));
        self.create_held(uid, references.collect(), &[]);
    }

    /// An object that these finalizers hold when it is deleted.
    fn create_held(&mut self, uid: &str, owners: Vec<OwnerReference>, finalizers: &[&str]) {
        let finalizers = finalizers.iter().map(|name| (*name).into());
        self.put(ObjectMeta {
            name: Some(uid.into()),
            uid: Some(uid.into()),
            namespace: Some("default".into()),
            owner_references: (!owners.is_empty()).then_some(owners),
            finalizers: Some(finalizers.collect()),
            ..ObjectMeta::default()
        });
    }

    /// Whoever put this finalizer on an object takes it away.
    fn let_go(&mut self, uid: &str, finalizer: &str) {
        let mut meta = self.live[uid].clone();
        let finalizers = meta.finalizers.get_or_insert_default();
        finalizers.retain(|name| name != finalizer);
        self.put(meta);
    }

    fn finalizers(&self, uid: &str) -> &[String] {
        self.live[uid].finalizers.as_deref().unwrap_or_default()
    }

    fn is_going(&self, uid: &str) -> bool {
        self.live[uid].deletion_timestamp.is_some()
    }

    fn put(&mut self, mut meta: ObjectMeta) {
        self.version += 1;
        meta.resource_version = Some(self.version.to_string());
        let uid = meta.uid.clone().unwrap();
        let finalizers = meta.finalizers.as_ref().is_some_and(|all| !all.is_empty());
        if meta.deletion_timestamp.is_some() && !finalizers {
            self.live.remove(&uid);
            self.gone.push(uid.clone());
            self.unseen.push_back(Err(uid));
            return;
        }
        self.live.insert(uid, meta.clone());
        self.unseen.push_back(Ok(meta));
    }

    /// As the API server deletes.
    fn delete(&mut self, uid: &str, policy: Policy) {
        let Some(mut meta) = self.live.get(uid).cloned() else {
            return;
        };
        meta.deletion_timestamp
            .get_or_insert(Time(Timestamp::UNIX_EPOCH));
        let finalizers = meta.finalizers.get_or_insert_default();
        finalizers.retain(|name| name != FOREGROUND && name != ORPHAN);
        match policy {
            Policy::Background => (),
            Policy::Foreground => finalizers.push(FOREGROUND.into()),
            Policy::Orphan => finalizers.push(ORPHAN.into()),
        }
        self.put(meta);
    }

    fn learn(&mut self) -> bool {
        let work = match self.unseen.pop_front() {
            None => return false,
            Some(Ok(meta)) => self.graph.observe(Node::of("v1", "Thing", &meta).unwrap()),
            Some(Err(uid)) => self.graph.remove(&uid),
        };
        self.work.extend(work);
        true
    }

    fn owner_state(&self, dependent: &Node, reference: &OwnerReference) -> OwnerState {
        let waits = |foreground| {
            if foreground {
                OwnerState::Waiting
            } else {
                OwnerState::Solid
            }
        };
        if let Some(owner) = self.graph.owner(&dependent.identity, reference) {
            return waits(owner.foreground);
        }
        match self.live.get(&reference.uid) {
            None => OwnerState::Absent,
            Some(meta) => waits(Node::of("v1", "Thing", meta).unwrap().foreground),
        }
    }

    /// Does one thing that is to be done, as the loop does it.
    fn act(&mut self, choice: usize) -> bool {
        let Some(work) = self
            .work
            .iter()
            .nth(choice % self.work.len().max(1))
            .cloned()
        else {
            return false;
        };
        self.work.remove(&work);
        match work {
            Work::Consider(uid) => self.consider(&uid),
            Work::Orphan(uid) => self.orphan(&uid),
        }
        true
    }

    /// An object that is to be written, if it is as the graph has it. If it has changed, the work comes again; if it is
    /// gone, the graph is told.
    fn current(&mut self, node: &Node, work: Work) -> Option<ObjectMeta> {
        let uid = &node.identity.uid;
        let Some(live) = self.live.get(uid).cloned() else {
            let considered = self.graph.remove(uid);
            self.work.extend(considered);
            return None;
        };
        if live.resource_version != node.version {
            self.work.insert(work);
            return None;
        }
        Some(live)
    }

    fn consider(&mut self, uid: &str) {
        let Some(node) = self.graph.get(uid).cloned() else {
            return;
        };
        if node.deleted && !node.foreground {
            return;
        }
        let again = Work::Consider(uid.into());
        if node.foreground {
            let blocking: Vec<Node> = self
                .graph
                .owned_by(uid)
                .filter(|node| node.blocks(uid))
                .cloned()
                .collect();
            if blocking.is_empty() {
                return self.drop_finalizer(&node, FOREGROUND, again);
            }
            let going = blocking.into_iter().filter(|node| !node.deleted);
            self.work
                .extend(going.map(|node| Work::Consider(node.identity.uid)));
            return;
        }
        let states: Vec<_> = node
            .owners
            .iter()
            .map(|reference| (reference.clone(), self.owner_state(&node, reference)))
            .collect();
        let has_dependents = self.graph.owned_by(uid).next().is_some();
        let has_waiting = self.graph.owned_by(uid).any(|node| node.foreground);
        match decide(&node.finalizers, &states, has_dependents, has_waiting) {
            Action::Keep => (),
            Action::DropOwners(uids) => {
                let Some(mut live) = self.current(&node, again) else {
                    return;
                };
                live.owner_references
                    .as_mut()
                    .unwrap()
                    .retain(|owner| !uids.contains(&owner.uid));
                self.put(live);
            }
            Action::Delete { policy, unblock } => {
                let Some(mut live) = self.current(&node, again) else {
                    return;
                };
                for (reference, _) in &states {
                    assert!(
                        self.live
                            .get(&reference.uid)
                            .is_none_or(|owner| owner.deletion_timestamp.is_some()),
                        "{uid} goes, but its owner {} is there",
                        reference.uid,
                    );
                }
                if unblock {
                    let all = live.owner_references.as_mut().unwrap();
                    all.iter_mut().for_each(|owner| {
                        let blocks = &mut owner.block_owner_deletion;
                        *blocks = blocks.map(|_| false);
                    });
                    self.put(live);
                }
                self.delete(uid, policy);
            }
        }
    }

    fn orphan(&mut self, uid: &str) {
        let again = Work::Orphan(uid.into());
        let Some(node) = self.graph.get(uid).filter(|node| node.orphaning).cloned() else {
            return;
        };
        let dependents: Vec<_> = self.graph.owned_by(uid).cloned().collect();
        for dependent in dependents {
            match self.current(&dependent, again.clone()) {
                Some(mut live) => {
                    live.owner_references
                        .get_or_insert_default()
                        .retain(|owner| owner.uid != uid);
                    self.put(live);
                }
                None if self.live.contains_key(&dependent.identity.uid) => return,
                None => (),
            }
        }
        self.drop_finalizer(&node, ORPHAN, again);
    }

    fn drop_finalizer(&mut self, node: &Node, name: &str, again: Work) {
        if let Some(mut live) = self.current(node, again) {
            live.finalizers
                .get_or_insert_default()
                .retain(|known| known != name);
            self.put(live);
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            while self.learn() {}
            if !self.act(0) {
                return;
            }
        }
        panic!("it never settles");
    }
}

/// Objects that name some of those before them, or somebody who never was, as their owners.
fn objects() -> impl Strategy<Value = Vec<Vec<(usize, bool)>>> {
    prop::collection::vec(
        prop::collection::vec((0..14_usize, any::<bool>()), 0..3),
        1..12,
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Background), Just(Policy::Foreground)]
}

fn build(objects: &[Vec<(usize, bool)>]) -> World {
    let mut world = World::default();
    for (n, owners) in objects.iter().enumerate() {
        let mut named = BTreeMap::new();
        for (owner, blocks) in owners {
            // Those from twelve on never were.
            let uid = if *owner >= 12 {
                format!("never-{owner}")
            } else {
                format!("o{}", owner % (n + 1))
            };
            if uid != format!("o{n}") {
                named.insert(uid, *blocks);
            }
        }
        world.create(&format!("o{n}"), &named.into_iter().collect::<Vec<_>>());
    }
    world
}

/// Who must be there: those that were made without owners, and those with an owner who must be there.
fn survivors(objects: &World, deleted: &BTreeSet<String>) -> BTreeSet<String> {
    let mut there: BTreeSet<String> = BTreeSet::new();
    for (uid, meta) in &objects.live {
        if owners(meta).is_empty() && !deleted.contains(uid) {
            there.insert(uid.clone());
        }
    }
    loop {
        let more: Vec<_> = objects
            .live
            .iter()
            .filter(|(uid, meta)| {
                let owned = owners(meta).iter().any(|owner| there.contains(&owner.uid));
                owned && !there.contains(*uid) && !deleted.contains(*uid)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        if more.is_empty() {
            return there;
        }
        there.extend(more);
    }
}

proptest! {
    #[test]
    fn what_has_lost_its_last_owner_goes_and_nothing_else_does(
        objects in objects(),
        deletions in prop::collection::vec((0..12_usize, policy()), 0..4),
        steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..60),
    ) {
        let mut world = build(&objects);
        let deleted: BTreeSet<String> = deletions
            .iter()
            .map(|(n, _)| format!("o{}", n % objects.len()))
            .collect();
        let expected = survivors(&world, &deleted);
        let mut deletions = deletions.into_iter();
        for (learn, choice) in steps {
            if learn { world.learn(); } else { world.act(choice); }
            if choice % 7 == 0 && let Some((n, policy)) = deletions.next() {
                world.delete(&format!("o{}", n % objects.len()), policy);
            }
        }
        for (n, policy) in deletions {
            world.delete(&format!("o{}", n % objects.len()), policy);
        }
        world.settle();
        let there: BTreeSet<_> = world.live.keys().cloned().collect();
        prop_assert_eq!(there, expected);
        // Nobody names an owner any more that is not there.
        for meta in world.live.values() {
            for owner in owners(meta) {
                prop_assert!(world.live.contains_key(&owner.uid));
            }
        }
    }
}

#[test]
fn background_deletion_takes_the_owner_first() {
    let mut world = World::default();
    world.create("owner", &[]);
    world.create("dependent", &[("owner".into(), true)]);
    world.create("grandchild", &[("dependent".into(), true)]);
    world.settle();
    world.delete("owner", Policy::Background);
    world.settle();
    assert_eq!(world.gone, ["owner", "dependent", "grandchild"]);
}

#[test]
fn foreground_deletion_takes_the_owner_last() {
    let mut world = World::default();
    world.create("owner", &[]);
    world.create("dependent", &[("owner".into(), true)]);
    world.create("grandchild", &[("dependent".into(), true)]);
    world.settle();
    world.delete("owner", Policy::Foreground);
    world.settle();
    assert_eq!(world.gone, ["grandchild", "dependent", "owner"]);
}

#[test]
fn foreground_deletion_does_not_wait_for_who_does_not_block_it() {
    let mut world = World::default();
    world.create("owner", &[]);
    let mut unsaid = reference("owner", false);
    unsaid.block_owner_deletion = None;
    world.create_held("said", vec![reference("owner", false)], &["x/y"]);
    world.create_held("unsaid", vec![unsaid], &["x/y"]);
    world.settle();
    world.delete("owner", Policy::Foreground);
    world.settle();
    // The owner is gone although both are there still.
    assert_eq!(world.gone, ["owner"]);
    for dependent in ["said", "unsaid"] {
        assert!(world.is_going(dependent));
        world.let_go(dependent, "x/y");
    }
    assert_eq!(world.live.len(), 0);
}

#[test]
fn foreground_deletion_waits_for_who_blocks_it_until_that_is_gone() {
    let mut world = World::default();
    world.create("owner", &[]);
    world.create_held("dependent", vec![reference("owner", true)], &["x/y"]);
    world.settle();
    world.delete("owner", Policy::Foreground);
    world.settle();
    assert!(world.is_going("owner") && world.is_going("dependent"));
    assert_eq!(world.gone, [""; 0]);
    world.let_go("dependent", "x/y");
    world.settle();
    assert_eq!(world.gone, ["dependent", "owner"]);
}

#[test]
fn who_is_deleted_twice_waits_for_whoever_holds_it_and_for_nobody_else() {
    let mut world = World::default();
    world.create_held("held", vec![], &["x/y"]);
    for _ in 0..2 {
        world.delete("held", Policy::Foreground);
        world.settle();
        assert_eq!(world.finalizers("held"), ["x/y"]);
    }
    world.let_go("held", "x/y");
    assert_eq!(world.gone, ["held"]);
}

#[test]
fn who_has_another_owner_stays_and_does_not_hold_up_the_one_that_goes() {
    let mut world = World::default();
    world.create("goes", &[]);
    world.create("stays", &[]);
    world.create(
        "dependent",
        &[("goes".into(), true), ("stays".into(), true)],
    );
    world.settle();
    world.delete("goes", Policy::Foreground);
    world.settle();
    assert_eq!(world.gone, ["goes"]);
    assert_eq!(owners(&world.live["dependent"]), [reference("stays", true)]);
}

#[test]
fn orphans_stay_and_name_their_owner_no_more() {
    let mut world = World::default();
    world.create("owner", &[]);
    world.create("other", &[]);
    world.create(
        "dependent",
        &[("owner".into(), true), ("other".into(), false)],
    );
    world.settle();
    world.delete("owner", Policy::Orphan);
    world.settle();
    assert_eq!(world.gone, ["owner"]);
    assert_eq!(
        owners(&world.live["dependent"]),
        [reference("other", false)]
    );
}

#[test]
fn a_circle_that_is_deleted_in_the_foreground_goes() {
    let mut world = World::default();
    world.create("a", &[("b".into(), true)]);
    world.create("b", &[("a".into(), true)]);
    world.settle();
    assert_eq!(world.live.len(), 2);
    world.delete("a", Policy::Foreground);
    world.settle();
    assert_eq!(world.live.len(), 0);
}

#[test]
fn an_owner_of_that_name_but_another_uid_is_no_owner() {
    let mut world = World::default();
    world.create("owner", &[]);
    let mut stale = reference("owner", true);
    stale.uid = "owner-before".into();
    world.create("dependent", &[]);
    let mut dependent = world.live["dependent"].clone();
    dependent.owner_references = Some(vec![stale]);
    world.put(dependent);
    world.settle();
    assert_eq!(world.gone, ["dependent"]);
}
