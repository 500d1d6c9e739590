//! What the loop sees, whom it looks at because of that, and what it does when the API server fails.

use super::super::pod_from_template;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::ObjectMeta;

use super::super::testing::{Server, context, replica_set};
use super::*;

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

fn queued(controller: &ReplicaSets) -> Vec<String> {
    use futures::FutureExt;
    let next = || controller.queue.next().now_or_never();
    let mut names: Vec<_> = std::iter::from_fn(next).map(|key| key.name).collect();
    names.sort();
    names
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
    assert_eq!(queued(&controller), ["web"]);
    assert_eq!(controller.expectations.lock().creating(&web_owner()), 0);
    // A deletion timestamp is as good as the end.
    let mut going = (*pod).clone();
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        Timestamp::UNIX_EPOCH,
    ));
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
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        Timestamp::UNIX_EPOCH,
    ));
    controller.pod_changed(&Change::Applied {
        old: None,
        new: &Arc::new(going),
    });
    assert_eq!(controller.expectations.lock().creating(&web_owner()), 1);
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
    assert_eq!(queued(&controller), ["one", "two"]);
    controller.pod_changed(&Change::Applied {
        old: Some(&web),
        new: &db,
    });
    assert_eq!(queued(&controller), ["three"]);
    controller.pod_changed(&Change::Applied {
        old: Some(&db),
        new: &db,
    });
    assert_eq!(queued(&controller), [""; 0]);
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
    assert_eq!(queued(&controller), ["one", "two"]);
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
