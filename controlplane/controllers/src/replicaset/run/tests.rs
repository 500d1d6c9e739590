//! What the loop sees, whom it looks at because of that, and what it does when the API server fails.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use serde_json::json;

use super::super::testing::{Server, context, replica_set};
use super::super::{BURST_MAX, pod_from_template};
use super::*;
use crate::testing::queued;

fn controller(server: &Arc<Mutex<Server>>) -> ReplicaSets {
    ReplicaSets::new(context(server), &mut Informers::default())
}

fn owned(name: &str, owner: &ReplicaSet) -> Pod {
    let mut pod = pod_from_template(owner);
    pod.metadata.name = Some(name.into());
    pod.metadata.uid = Some(format!("{name}-uid"));
    pod
}

fn named(name: &str, label: &str) -> ReplicaSet {
    let mut set = replica_set();
    set.metadata.name = Some(name.into());
    set.metadata.uid = Some(format!("{name}-uid"));
    set.spec.selector.match_labels = Some([("app".into(), label.into())].into());
    set
}

fn web_owner() -> Owner {
    Owner::of(&named("web", "web"))
}

fn idle() -> ReplicaSets {
    controller(&Arc::default())
}

#[tokio::test]
async fn a_pod_that_appears_or_goes_is_seen_by_its_replica_set() {
    let (controller, web) = (idle(), named("web", "web"));
    let pod = Arc::new(owned("a", &web));
    let mut expectations = controller.expectations.lock();
    expectations.expect_creations(&web_owner(), 1, elapsed());
    expectations.expect_deletions(&web_owner(), ["a-uid".to_owned()], elapsed());
    drop(expectations);
    controller.pod_changed(&Change::Applied {
        old: None,
        new: &pod,
    });
    assert_eq!(queued(&controller.queue), ["web"]);
    assert_eq!(controller.expectations.lock().creating(&web_owner()), 0);
    // A deletion timestamp is as good as the end.
    let mut going = (*pod).clone();
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let going = Arc::new(going);
    controller.pod_changed(&Change::Applied {
        old: Some(&pod),
        new: &going,
    });
    assert!(
        controller
            .expectations
            .lock()
            .are_met(&web_owner(), elapsed())
    );
}

#[tokio::test]
async fn a_pod_that_was_going_when_it_was_first_seen_is_a_deletion_and_no_creation() {
    let (controller, web) = (idle(), named("web", "web"));
    controller
        .expectations
        .lock()
        .expect_creations(&web_owner(), 1, elapsed());
    let mut going = owned("a", &web);
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    controller.pod_changed(&Change::Applied {
        old: None,
        new: &Arc::new(going),
    });
    let mut expectations = controller.expectations.lock();
    assert_eq!(expectations.creating(&web_owner()), 1);
    assert!(!expectations.is_going(&web_owner(), "a-uid"));
    assert!(!expectations.are_met(&web_owner(), elapsed()));
}

#[tokio::test]
async fn an_orphan_is_shown_to_all_that_select_it_when_it_appears_or_is_relabelled() {
    let controller = idle();
    for set in [
        named("one", "web"),
        named("two", "web"),
        named("three", "db"),
    ] {
        controller.replica_sets.apply(Arc::new(set), |_| ());
    }
    let mut elsewhere = named("four", "web");
    elsewhere.metadata.namespace = Some("other".into());
    controller.replica_sets.apply(Arc::new(elsewhere), |_| ());
    let orphan = |label: &str| {
        let mut pod = owned("a", &named("web", "web"));
        pod.metadata.owner_references = None;
        pod.metadata.labels = Some([("app".into(), label.into())].into());
        Arc::new(pod)
    };
    let (web, db) = (orphan("web"), orphan("db"));
    controller.pod_changed(&Change::Applied {
        old: None,
        new: &web,
    });
    assert_eq!(queued(&controller.queue), ["one", "two"]);
    controller.pod_changed(&Change::Applied {
        old: Some(&web),
        new: &db,
    });
    assert_eq!(queued(&controller.queue), ["three"]);
    controller.pod_changed(&Change::Applied {
        old: Some(&db),
        new: &db,
    });
    assert_eq!(queued(&controller.queue), [""; 0]);
    let mut bare = (*db).clone();
    bare.metadata.labels = None;
    controller.pod_changed(&Change::Applied {
        old: None,
        new: &Arc::new(bare),
    });
    assert_eq!(queued(&controller.queue), [""; 0]);
}

#[tokio::test]
async fn a_pod_that_changes_hands_is_shown_to_both() {
    let controller = idle();
    let (one, two) = (named("one", "web"), named("two", "web"));
    let (before, after) = (Arc::new(owned("a", &one)), Arc::new(owned("a", &two)));
    controller.pod_changed(&Change::Applied {
        old: Some(&before),
        new: &after,
    });
    assert_eq!(queued(&controller.queue), ["one", "two"]);
}

fn with_store(server: &Arc<Mutex<Server>>, set: ReplicaSet, pods: &[Arc<Pod>]) -> ReplicaSets {
    let controller = controller(server);
    controller.replica_sets.apply(Arc::new(set), |_| ());
    for pod in pods {
        controller.pods.apply(pod.clone(), |_| ());
    }
    controller
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_did_not_happen_is_made_good_when_the_server_is_back() {
    let server = Arc::new(Mutex::new(Server {
        cut: true,
        ..Server::default()
    }));
    let controller = with_store(&server, replica_set(), &[]);
    let key = Key::new("default", "web");
    for _ in 0..3 {
        controller.sync(key.clone()).await.unwrap_err();
    }
    assert_eq!(controller.expectations.lock().creating(&web_owner()), 1);
    server.lock().cut = false;
    let outcome = controller.sync(key.clone()).await.unwrap();
    assert_eq!(server.lock().pods.len(), 1);
    // Should the watch never tell of it, the expectation's end does.
    assert!(matches!(outcome, Outcome::After(_)));
    let outcome = controller.sync(key).await.unwrap();
    assert_eq!(server.lock().pods.len(), 1);
    assert!(matches!(outcome, Outcome::After(_)));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_could_not_be_deleted_still_counts_and_is_no_reason_to_delete_another() {
    let server = Arc::new(Mutex::new(Server {
        cut: true,
        ..Server::default()
    }));
    let pods = ["a", "b"].map(|name| Arc::new(owned(name, &replica_set())));
    for pod in &pods {
        let value = serde_json::to_value(&**pod).unwrap();
        server.lock().pods.insert(pod.name_any(), value);
    }
    let controller = with_store(&server, replica_set(), &pods);
    let key = Key::new("default", "web");
    controller.sync(key.clone()).await.unwrap_err();
    assert_eq!(server.lock().status["replicas"], 2);
    // It is not known whether it is gone.
    controller.sync(key.clone()).await.unwrap_err();
    assert_eq!(controller.expectations.lock().doubts(&web_owner()).len(), 1);
    server.lock().cut = false;
    controller.sync(key.clone()).await.unwrap();
    controller.sync(key).await.unwrap();
    assert_eq!(server.lock().pods.len(), 1);
}

fn sized(replicas: i32) -> ReplicaSet {
    let mut set = named("web", "web");
    set.spec.replicas = Some(replicas);
    set.spec.template = Some(PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: set.spec.selector.match_labels.clone(),
            ..ObjectMeta::default()
        }),
        spec: None,
    });
    set
}

fn web() -> Key {
    Key::new("default", "web")
}

/// Somebody who may write in another namespace can write any UID there.
#[tokio::test]
async fn a_pod_of_another_namespace_is_none_of_ours_whatever_it_says() {
    for (wanted, creations) in [(0, 0), (1, 0), (2, 1)] {
        let server = Arc::<Mutex<Server>>::default();
        let set = sized(wanted);
        let mut pods = vec![Arc::new(owned("a", &set))];
        pods.truncate(wanted.unsigned_abs() as usize);
        let mut foreign = owned("b", &set);
        foreign.metadata.namespace = Some("other".into());
        let foreign = Arc::new(foreign);
        pods.push(foreign.clone());
        let controller = with_store(&server, set, &pods);
        controller.sync(web()).await.unwrap();
        {
            let server = server.lock();
            assert_eq!(server.creations(), creations, "{:?}", server.asked);
            assert_eq!(server.bodies("DELETE", "").len(), 0);
            assert_eq!(server.bodies("PATCH", "/pods/").len(), 0);
            assert_eq!(server.status["replicas"], wanted);
        }
        // Nor does it stand for one that was asked for, or for one that was asked to go.
        let mut expectations = controller.expectations.lock();
        expectations.forget(&web_owner());
        expectations.expect_creations(&web_owner(), 1, elapsed());
        expectations.expect_deletions(&web_owner(), ["b-uid".to_owned()], elapsed());
        drop(expectations);
        let (old, new) = (None, &foreign);
        controller.pod_changed(&Change::Applied { old, new });
        controller.pod_changed(&Change::Deleted { last: &foreign });
        let expectations = controller.expectations.lock();
        assert_eq!(expectations.creating(&web_owner()), 1);
        assert!(expectations.is_going(&web_owner(), "b-uid"));
    }
}

#[tokio::test]
async fn a_deletion_that_only_the_store_noticed_counts() {
    let (controller, web) = (idle(), named("web", "web"));
    let mut expectations = controller.expectations.lock();
    expectations.expect_deletions(
        &web_owner(),
        ["a-uid", "b-uid"].map(str::to_owned),
        elapsed(),
    );
    drop(expectations);
    let is_met = || {
        controller
            .expectations
            .lock()
            .are_met(&web_owner(), elapsed())
    };
    for (name, met) in [("a", false), ("a", false), ("b", true)] {
        let last = &Arc::new(owned(name, &web));
        controller.pod_changed(&Change::Deleted { last });
        assert_eq!(queued(&controller.queue), ["web"]);
        assert_eq!(is_met(), met);
    }
}

/// Sets `one` and `two`, of which `two` selects databases, and the pod `a`.
fn two_sets() -> (ReplicaSets, [ReplicaSet; 2]) {
    let controller = idle();
    let sets = [named("one", "web"), named("two", "db")];
    for set in &sets {
        controller.replica_sets.apply(Arc::new(set.clone()), |_| ());
    }
    (controller, sets)
}

fn labelled(mut pod: Pod, app: &str) -> Arc<Pod> {
    pod.metadata.labels = Some([("app".into(), app.into())].into());
    Arc::new(pod)
}

#[tokio::test]
async fn a_pod_that_is_let_go_is_shown_to_its_former_owner_and_to_whoever_selects_it() {
    let (controller, [one, two]) = two_sets();
    for (owner, expected) in [(one, vec!["one", "two"]), (two, vec!["two"])] {
        let old = labelled(owned("a", &owner), "db");
        let mut free = (*old).clone();
        free.metadata.owner_references = None;
        controller.pod_changed(&Change::Applied {
            old: Some(&old),
            new: &Arc::new(free),
        });
        assert_eq!(queued(&controller.queue), expected);
    }
}

#[tokio::test]
async fn a_pod_that_has_an_owner_is_shown_to_nobody_else() {
    let (controller, [one, _]) = two_sets();
    let [web, db] = ["web", "db"].map(|app| labelled(owned("a", &one), app));
    for (old, new) in [(None, &web), (Some(&web), &db), (Some(&db), &db)] {
        controller.pod_changed(&Change::Applied { old, new });
        assert_eq!(queued(&controller.queue), ["one"]);
    }
}

fn orphan(name: &str) -> Arc<Pod> {
    let mut pod = owned(name, &sized(0));
    pod.metadata.owner_references = None;
    Arc::new(pod)
}

/// A server on which the replica set is as it seems.
fn server_with(set: &ReplicaSet) -> Arc<Mutex<Server>> {
    Arc::new(Mutex::new(Server {
        set: Some(set.clone()),
        ..Server::default()
    }))
}

#[tokio::test]
async fn one_that_cannot_be_adopted_keeps_nobody_from_the_rest_but_nothing_is_created_then() {
    for refused in [vec!["a"], vec!["a", "b"]] {
        let server = server_with(&sized(3));
        for name in &refused {
            server.lock().refused.insert((*name).into(), 500);
        }
        let pods = ["a", "b"].map(orphan);
        let controller = with_store(&server, sized(3), &pods);
        let error = controller.sync(web()).await.unwrap_err();
        assert!(format!("{error:#}").contains("adopting pod a"), "{error:#}");
        let server = server.lock();
        for name in ["/pods/a", "/pods/b"] {
            assert_eq!(server.bodies("PATCH", name).len(), 1, "{name}");
        }
        assert_eq!(server.creations(), 0);
        assert_eq!(server.bodies("DELETE", "").len(), 0);
    }
}

#[tokio::test]
async fn an_orphan_that_is_gone_is_missing() {
    let server = server_with(&sized(2));
    server.lock().refused.insert("a".into(), 404);
    let controller = with_store(&server, sized(2), &["a", "b"].map(orphan));
    controller.sync(web()).await.unwrap();
    let server = server.lock();
    assert_eq!(server.creations(), 1);
    assert_eq!(server.bodies("PATCH", "/pods/").len(), 2);
    assert_eq!(server.status["replicas"], 2);
}

#[tokio::test]
async fn nothing_is_adopted_by_who_is_gone_in_truth() {
    let mut deleted = sized(2);
    deleted.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let mut replaced = sized(2);
    replaced.metadata.uid = Some("another".into());
    for truth in [Some(deleted), Some(replaced), None] {
        let server = Arc::<Mutex<Server>>::default();
        server.lock().set = truth;
        let controller = with_store(&server, sized(2), &[orphan("a")]);
        controller.sync(web()).await.unwrap_err();
        let server = server.lock();
        assert_eq!(server.bodies("PATCH", "/pods/").len(), 0);
        assert_eq!(server.creations(), 0);
    }
}

#[tokio::test]
async fn who_adopts_names_itself_once_on_the_pod_as_it_was_seen() {
    let server = server_with(&sized(1));
    let mut pod = (*orphan("a")).clone();
    pod.metadata.resource_version = Some("7".into());
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c"});
    let named =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web-uid"});
    let owners = json!([named, other]);
    pod.metadata.owner_references = serde_json::from_value(owners).unwrap();
    let controller = with_store(&server, sized(1), &[Arc::new(pod)]);
    controller.sync(web()).await.unwrap();
    let server = server.lock();
    let patches = server.bodies("PATCH", "/pods/a");
    let mut now = named;
    now["controller"] = json!(true);
    now["blockOwnerDeletion"] = json!(true);
    let expected = json!({"metadata": {
        "uid": "a-uid", "resourceVersion": "7", "ownerReferences": [other, now],
    }});
    assert_eq!(patches, [&expected]);
}

#[tokio::test]
async fn anothers_pod_is_left_alone_though_it_matches() {
    let server = server_with(&sized(2));
    let pod = Arc::new(owned("a", &named("other", "web")));
    let controller = with_store(&server, sized(2), &[pod]);
    controller.sync(web()).await.unwrap();
    let server = server.lock();
    assert_eq!(server.creations(), 2);
    assert_eq!(server.bodies("PATCH", "/pods/").len(), 0);
}

/// Tells of the pods that the server has and the store has not, but for the last few.
fn tell(controller: &ReplicaSets, server: &Arc<Mutex<Server>>, but_for: usize) {
    let pods: Vec<_> = server.lock().pods.values().cloned().collect();
    let count = pods.len() - but_for;
    for pod in pods.into_iter().take(count) {
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        pod.metadata.uid = pod.metadata.name.clone();
        controller
            .pods
            .apply(Arc::new(pod), |change| controller.pod_changed(&change));
    }
}

#[tokio::test]
async fn a_status_that_cannot_be_written_is_tried_again_and_creates_nothing_twice() {
    let server = server_with(&sized(2));
    server.lock().refused.insert("web".into(), 500);
    let controller = with_store(&server, sized(2), &[]);
    controller.sync(web()).await.unwrap_err();
    controller.sync(web()).await.unwrap_err();
    server.lock().refused.clear();
    controller.sync(web()).await.unwrap();
    let server = server.lock();
    assert_eq!(server.creations(), 2);
    assert_eq!(server.status["replicas"], 2);
}

#[tokio::test]
async fn the_next_burst_waits_for_the_last_of_this_one() {
    const REST: usize = 12;
    let total = i32::try_from(BURST_MAX + REST).unwrap();
    let server = server_with(&sized(total));
    let controller = with_store(&server, sized(total), &[]);
    controller.sync(web()).await.unwrap();
    assert_eq!(server.lock().creations(), BURST_MAX);
    tell(&controller, &server, 1);
    controller.sync(web()).await.unwrap();
    assert_eq!(server.lock().creations(), BURST_MAX);
    tell(&controller, &server, 0);
    controller.sync(web()).await.unwrap();
    assert_eq!(server.lock().creations(), BURST_MAX + REST);
    tell(&controller, &server, 0);

    // And so do those that are to go.
    let set = Arc::new(sized(0));
    controller.replica_sets.apply(set, |_| ());
    let deletions = || server.lock().bodies("DELETE", "/pods/").len();
    controller.sync(web()).await.unwrap();
    assert_eq!(deletions(), BURST_MAX);
    let gone = |pod: &Arc<Pod>| !server.lock().pods.contains_key(&pod.name_any());
    let mut all_gone: Vec<_> = controller.pods.all().into_iter().filter(gone).collect();
    let last = all_gone.pop().unwrap();
    let forget = |pod: &Pod| {
        controller
            .pods
            .remove(pod, |change| controller.pod_changed(&change));
    };
    all_gone.iter().for_each(|pod| forget(pod));
    controller.sync(web()).await.unwrap();
    assert_eq!(deletions(), BURST_MAX);
    forget(&last);
    controller.sync(web()).await.unwrap();
    assert_eq!(deletions(), BURST_MAX + REST);
    assert_eq!(server.lock().pods.len(), 0);
}

#[tokio::test]
async fn who_waits_for_a_pod_creates_none_and_who_was_refused_one_does_not_wait() {
    let server = server_with(&sized(2));
    let controller = with_store(&server, sized(2), &[Arc::new(owned("a", &sized(2)))]);
    controller.sync(web()).await.unwrap();
    controller.sync(web()).await.unwrap();
    assert_eq!(server.lock().creations(), 1);
    assert_eq!(server.lock().bodies("PATCH", "/status").len(), 2);
    tell(&controller, &server, 0);
    controller.sync(web()).await.unwrap();
    assert_eq!(server.lock().creations(), 1);
    // One more is wanted, and refused: it is asked for again at once when there is room.
    let set = Arc::new(sized(3));
    controller.replica_sets.apply(set, |_| ());
    server.lock().room = Some(0);
    controller.sync(web()).await.unwrap_err();
    assert!(
        controller
            .expectations
            .lock()
            .are_met(&web_owner(), elapsed())
    );
    server.lock().room = None;
    controller.sync(web()).await.unwrap();
    assert_eq!(server.lock().pods.len(), 2);
}

#[tokio::test]
async fn a_namesake_expects_nothing_of_the_old_one() {
    let server = server_with(&sized(1));
    let controller = with_store(&server, sized(1), &[]);
    controller.sync(web()).await.unwrap();
    assert_eq!(controller.expectations.lock().creating(&web_owner()), 1);
    let mut new = sized(1);
    new.metadata.uid = Some("new-uid".into());
    let (old, new) = (Arc::new(sized(1)), Arc::new(new));
    controller.replica_sets.apply(new.clone(), |change| {
        controller.replica_set_changed(&change)
    });
    assert_eq!(controller.expectations.lock().creating(&web_owner()), 0);
    controller.sync(web()).await.unwrap();
    {
        let server = server.lock();
        let pods = server.bodies("POST", "/pods");
        let uids = pods
            .iter()
            .map(|pod| &pod["metadata"]["ownerReferences"][0]["uid"]);
        assert_eq!(uids.collect::<Vec<_>>(), ["web-uid", "new-uid"]);
    }
    // Nor does one that is gone expect or ask for anything.
    controller
        .replica_sets
        .remove(&new, |change| controller.replica_set_changed(&change));
    let asked = server.lock().asked.len();
    assert_eq!(controller.sync(web()).await.unwrap(), Outcome::Done);
    assert_eq!(server.lock().asked.len(), asked);
    for set in [&*old, &*new] {
        assert_eq!(controller.expectations.lock().creating(&Owner::of(set)), 0);
    }
}

#[tokio::test]
async fn the_pods_of_all_sets_with_one_controller_are_related() {
    let controller = idle();
    let of = |name: &str, deployment: &str| {
        let mut set = named(name, "web");
        let owner = json!([{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": deployment, "controller": true,
        }]);
        set.metadata.owner_references = serde_json::from_value(owner).unwrap();
        set
    };
    let (bare, mut going) = (named("bare", "web"), of("going", "d1"));
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let mut far = of("far", "d1");
    far.metadata.namespace = Some("other".into());
    let sets = [
        of("one", "d1"),
        of("two", "d1"),
        going,
        of("three", "d2"),
        bare,
        far,
    ];
    for set in &sets {
        let pod = owned(&format!("pod-of-{}", set.name_any()), set);
        controller.pods.apply(Arc::new(pod), |_| ());
        controller.replica_sets.apply(Arc::new(set.clone()), |_| ());
    }
    let related = |set: &ReplicaSet| {
        let pods = controller.related(set);
        let mut names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
        names.sort();
        names
    };
    let of_d1 = ["pod-of-going", "pod-of-one", "pod-of-two"];
    assert_eq!(related(&sets[0]), of_d1);
    assert_eq!(related(&sets[2]), of_d1);
    assert_eq!(related(&sets[3]), ["pod-of-three"]);
    assert_eq!(related(&sets[4]), ["pod-of-bare"]);
}
