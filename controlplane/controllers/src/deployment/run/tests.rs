//! What the loop sees, whom it looks at because of that, and what it asks of the API server.

use futures::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use keelson_component::{Connect, Recorder};
use kube::api::ObjectMeta;
use serde_json::Value;

use super::*;
use crate::common::owner::controller_reference;

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A controller whose API server does whatever it is asked, and notes it.
fn controller(asked: &Asked) -> Deployments {
    let asked = asked.clone();
    let answer = move |request: http::Request<kube::client::Body>| {
        let asked = asked.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let request = format!("{} {}", head.method, head.uri.path());
            asked.lock().push((request, body));
            let answer =
                json!({"metadata": {"name": "answer"}, "spec": {"selector": {}, "template": {}}});
            let body = http_body_util::Full::from(answer.to_string());
            Ok::<_, kube::Error>(http::Response::new(body))
        }
    };
    let connect = Connect {
        client: kube::Client::new(tower::service_fn(answer), "default"),
        name: "tester".into(),
        ca_pem: None,
    };
    let recorder = Recorder::silent();
    Deployments::new(Context { connect, recorder }, &mut Informers::default())
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
