//! What the loop sees, whom it looks at because of that, and what it asks of the API server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::api::ObjectMeta;
use serde_json::Value;

use super::*;
use crate::common::owner::controller_reference;
use crate::testing::{self, queued};

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

fn controller(asked: &Asked) -> Deployments {
    controller_with(asked, None)
}

/// A controller whose API server has this deployment, does whatever it is asked, and notes it.
fn controller_with(asked: &Asked, truth: Option<Value>) -> Deployments {
    let asked = asked.clone();
    let some = || json!({"metadata": {"name": "some"}, "spec": {"selector": {}, "template": {}}});
    let truth = truth.unwrap_or_else(some);
    let client = testing::client(move |method, path, body| {
        asked.lock().push((format!("{method} {path}"), body));
        (200, truth.clone())
    });
    Deployments::new(testing::context(client), &mut Informers::default())
}

fn meta(name: &str, labels: &[(&str, &str)]) -> ObjectMeta {
    let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some("default".into()),
        uid: Some(format!("{name}-uid")),
        labels: Some(labels.collect()),
        ..ObjectMeta::default()
    }
}

/// A deployment of this name that selects this `app`.
fn deployment(name: &str, app: &str) -> Deployment {
    let mut deployment = Deployment {
        metadata: meta(name, &[]),
        ..Deployment::default()
    };
    deployment.spec.selector = LabelSelector {
        match_labels: Some([("app".into(), app.into())].into()),
        ..LabelSelector::default()
    };
    deployment
}

fn replica_set(name: &str, app: &str, owner: Option<&Deployment>) -> ReplicaSet {
    let mut set = ReplicaSet {
        metadata: meta(name, &[("app", app)]),
        ..ReplicaSet::default()
    };
    set.metadata.owner_references = owner.map(|owner| vec![controller_reference(owner)]);
    set
}

fn elsewhere(mut set: ReplicaSet) -> ReplicaSet {
    set.metadata.namespace = Some("other".into());
    set
}

#[tokio::test]
async fn a_replica_set_of_another_namespace_is_none_of_ours_whatever_it_says() {
    let asked = Asked::default();
    let controller = controller(&asked);
    let mut web = deployment("web", "web");
    web.spec.replicas = Some(2);
    let mut foreign = elsewhere(replica_set("foreign", "web", Some(&web)));
    foreign.spec.replicas = Some(7);
    let orphan = elsewhere(replica_set("orphan", "web", None));
    for set in [foreign.clone(), orphan] {
        controller.replica_sets.apply(Arc::new(set), |_| ());
    }
    controller.deployments.apply(Arc::new(web.clone()), |_| ());
    controller.wrote(&web, &foreign);
    let last = &Arc::new(foreign);
    controller.replica_set_changed(&Change::Deleted { last });
    // Its end is not that of the one which was written, whose UID it took.
    let outcome = controller.sync(Key::new("default", "web")).await.unwrap();
    assert_eq!(outcome, Outcome::After(CATCH_UP));
    controller.writes.lock().forget(&Owner::of(&web));
    controller.sync(Key::new("default", "web")).await.unwrap();
    let asked = asked.lock();
    // It creates its own, of its own size, and writes to nothing in the other namespace.
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    assert_eq!(asked[0].0, format!("POST {sets}"));
    assert_eq!(asked[0].1["spec"]["replicas"], 2);
    assert!(
        asked
            .iter()
            .all(|(request, _)| !request.contains("/other/")),
        "{asked:?}"
    );
    let status = asked
        .iter()
        .find(|(request, _)| request.ends_with("/web/status"));
    assert_eq!(status.unwrap().1["status"]["replicas"], Value::Null);
}

/// Deployments `one` and `two` that select the same, and `three` that does not; another that does in another namespace.
fn three() -> (Deployments, [Deployment; 3]) {
    let controller = controller(&Asked::default());
    let all = [("one", "web"), ("two", "web"), ("three", "db")].map(|(n, app)| deployment(n, app));
    let mut far = deployment("far", "web");
    far.metadata.namespace = Some("other".into());
    for deployment in all.iter().chain([&far]) {
        controller
            .deployments
            .apply(Arc::new(deployment.clone()), |_| ());
    }
    (controller, all)
}

#[tokio::test]
async fn a_replica_set_is_shown_to_its_owner_or_to_all_that_select_it() {
    let (controller, [one, two, _]) = three();
    let set = |owner: Option<&Deployment>| Arc::new(replica_set("set", "web", owner));
    let (orphan, of_one, of_two) = (set(None), set(Some(&one)), set(Some(&two)));
    let mut by_another_kind = (*of_one).clone();
    by_another_kind.owner_references_mut()[0].kind = "Job".into();
    let by_another_kind = Arc::new(by_another_kind);
    let mut unlike = (*orphan).clone();
    unlike.labels_mut().insert("app".into(), "cache".into());
    let unlike = Arc::new(unlike);
    let none: Vec<&str> = vec![];
    let cases = [
        ("owned", None, &of_one, vec!["one"]),
        (
            "owned by no deployment",
            None,
            &by_another_kind,
            none.clone(),
        ),
        ("nobody's", None, &orphan, vec!["one", "two"]),
        (
            "nobody's, and selected by nobody",
            None,
            &unlike,
            none.clone(),
        ),
        (
            "with another owner",
            Some(&of_one),
            &of_two,
            vec!["one", "two"],
        ),
        ("released", Some(&of_two), &orphan, vec!["one", "two"]),
        (
            "released, and selected by nobody",
            Some(&of_two),
            &unlike,
            vec!["two"],
        ),
        ("changed", Some(&of_two), &of_two, vec!["two"]),
    ];
    for (name, old, new, expected) in cases {
        controller.replica_set_changed(&Change::Applied { old, new });
        assert_eq!(queued(&controller.queue), expected, "{name}");
    }
    for (last, expected) in [(&of_two, vec!["two"]), (&orphan, none)] {
        controller.replica_set_changed(&Change::Deleted { last });
        assert_eq!(queued(&controller.queue), expected);
    }
}

fn pod(name: &str, owner: &ReplicaSet, phase: &str) -> Pod {
    let mut pod = Pod {
        metadata: meta(name, &[]),
        ..Pod::default()
    };
    pod.metadata.owner_references = Some(vec![controller_reference(owner)]);
    pod.status.get_or_insert_default().phase = Some(phase.into());
    pod
}

#[tokio::test]
async fn a_pod_that_goes_is_shown_to_the_deployment_above_its_replica_set_if_that_is_known() {
    let (controller, [one, ..]) = three();
    let set = replica_set("set", "web", Some(&one));
    controller.pod_gone(&pod("a", &set, "Running"));
    assert_eq!(queued(&controller.queue), [""; 0]);
    controller.replica_sets.apply(Arc::new(set.clone()), |_| ());
    controller.pod_gone(&pod("a", &set, "Running"));
    assert_eq!(queued(&controller.queue), ["one"]);
    let mut orphan = pod("a", &set, "Running");
    orphan.metadata.owner_references = None;
    controller.pod_gone(&orphan);
    assert_eq!(queued(&controller.queue), [""; 0]);
}

#[tokio::test]
async fn a_replica_set_has_pods_until_the_last_has_ended_or_gone() {
    let (controller, [one, ..]) = three();
    let sets = ["a", "b", "c", "d"].map(|name| Arc::new(replica_set(name, "web", Some(&one))));
    let mut orphan = pod("orphan", &sets[0], "Running");
    orphan.metadata.owner_references = None;
    let mut far = pod("far", &sets[0], "Running");
    far.metadata.namespace = Some("other".into());
    let mut going = pod("going", &sets[2], "Running");
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let pods = [
        orphan,
        far,
        pod("failed", &sets[1], "Failed"),
        going,
        pod("new", &sets[3], "Pending"),
    ];
    for pod in pods {
        controller.pods.apply(Arc::new(pod), |_| ());
    }
    assert_eq!(controller.with_pods(&sets), ["c-uid", "d-uid"]);
}

#[tokio::test]
async fn nothing_is_adopted_by_who_is_gone_in_truth() {
    let deployment_of = |uid: &str, deleted: Option<&str>| {
        json!({
            "metadata": {"name": "web", "uid": uid, "deletionTimestamp": deleted},
            "spec": {"selector": {}, "template": {}},
        })
    };
    let going = deployment_of("web-uid", Some("2026-01-01T00:00:00Z"));
    let another = deployment_of("another", None);
    let alive = deployment_of("web-uid", None);
    for (truth, adopts) in [(going, false), (another, false), (alive, true)] {
        let asked = Asked::default();
        let controller = controller_with(&asked, Some(truth));
        let web = deployment("web", "web");
        controller.deployments.apply(Arc::new(web), |_| ());
        let orphan = replica_set("orphan", "web", None);
        controller.replica_sets.apply(Arc::new(orphan), |_| ());
        let done = controller.sync(Key::new("default", "web")).await;
        assert_eq!(done.is_ok(), adopts, "{done:?}");
        let asked = asked.lock();
        let writes = asked
            .iter()
            .filter(|(request, _)| !request.starts_with("GET"));
        let expected = "PATCH /apis/apps/v1/namespaces/default/replicasets/orphan";
        let writes: Vec<_> = writes.map(|(request, _)| request.as_str()).collect();
        assert_eq!(writes, vec![expected; usize::from(adopts)]);
    }
}
