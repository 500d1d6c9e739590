//! What the collector asks of the API server, and when it does not.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use keelson_component::{Connect, Recorder};
use tokio::sync::Semaphore;

use super::*;

type Requests = Arc<Mutex<Vec<(String, String, Value)>>>;

/// A collector whose API server has nothing, does what it is asked, and notes it.
fn collector(requests: &Requests) -> Collector {
    let requests = requests.clone();
    let answer = move |request: http::Request<kube::client::Body>| {
        let requests = requests.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let code = if head.method == "GET" { 404 } else { 200 };
            requests.lock().push((
                head.method.to_string(),
                head.uri.path().to_owned(),
                serde_json::from_slice(&body).unwrap_or_default(),
            ));
            let answer = match code {
                404 => json!({"kind": "Status", "code": 404, "reason": "NotFound"}),
                _ => {
                    json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "metadata": {}})
                }
            };
            let body = http_body_util::Full::from(answer.to_string());
            let response = http::Response::builder().status(code).body(body);
            response.map_err(kube::Error::HttpError)
        }
    };
    collector_of(kube::Client::new(tower::service_fn(answer), "default"))
}

fn collector_of(client: kube::Client) -> Collector {
    let connect = Connect {
        client,
        name: "tester".into(),
        ca_pem: None,
    };
    let recorder = Recorder::silent();
    let collector = Collector::new(Context { connect, recorder }, &mut Informers::default());
    collector.discovered_all.store(true, Ordering::Relaxed);
    collector
}

fn serve<K: kube::Resource<DynamicType = ()>>(collector: &Collector) {
    let waited = collector.kinds.lock().serve(Resource {
        api: kube::api::ApiResource::erase::<K>(&()),
        namespaced: true,
        verbs: Vec::new(),
    });
    waited
        .into_iter()
        .map(Work::Consider)
        .for_each(|work| collector.queue.add(work));
}

fn going(finalizer: &str) -> Node {
    let meta = json!({
        "name": "owner", "namespace": "default", "uid": "owner", "finalizers": [finalizer],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    });
    let meta = serde_json::from_value(meta).unwrap();
    Node::of("apps/v1", "Deployment", &meta).unwrap()
}

/// A replica set that a deployment owns.
fn owned() -> Node {
    let meta = json!({
        "name": "owned", "namespace": "default", "uid": "owned", "resourceVersion": "7",
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "owner", "uid": "owner"},
        ],
    });
    let meta = serde_json::from_value(meta).unwrap();
    Node::of("apps/v1", "ReplicaSet", &meta).unwrap()
}

#[tokio::test]
async fn no_owner_goes_before_all_its_dependents_can_be_known() {
    let kinds = [
        (ORPHAN, Work::Orphan as fn(String) -> Work),
        (FOREGROUND, Work::Consider),
    ];
    for (finalizer, work) in kinds {
        let requests = Requests::default();
        let collector = collector(&requests);
        serve::<Deployment>(&collector);
        let synced = CancellationToken::new();
        collector.begun.lock().push(synced.clone());
        collector.discovered_all.store(false, Ordering::Relaxed);
        collector.graph.lock().observe(going(finalizer));
        let waits = Outcome::After(LOOK_AGAIN);
        let sync = async || collector.sync(work("owner".into())).await.unwrap();
        assert_eq!(sync().await, waits);
        collector.discovered_all.store(true, Ordering::Relaxed);
        assert_eq!(sync().await, waits);
        assert!(requests.lock().is_empty());
        synced.cancel();
        assert_eq!(sync().await, Outcome::Done);
        assert_eq!(requests.lock()[0].0, "PATCH");
    }
}

#[tokio::test]
async fn what_has_lost_its_owner_is_deleted_as_it_was_seen_once_the_owner_was_looked_for() {
    let requests = Requests::default();
    let collector = collector(&requests);
    serve::<Deployment>(&collector);
    serve::<ReplicaSet>(&collector);
    collector.graph.lock().observe(owned());
    collector
        .sync(Work::Consider("owned".into()))
        .await
        .unwrap();
    let requests = requests.lock();
    let path = "/apis/apps/v1/namespaces/default";
    let [(get, owner, _), (delete, owned, how)] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(
        (get.as_str(), owner),
        ("GET", &format!("{path}/deployments/owner"))
    );
    assert_eq!(
        (delete.as_str(), owned),
        ("DELETE", &format!("{path}/replicasets/owned"))
    );
    let expected = json!({"uid": "owned", "resourceVersion": "7"});
    assert_eq!(how["preconditions"], expected);
}

#[tokio::test]
async fn what_has_an_owner_of_a_kind_that_is_not_served_waits_until_it_is() {
    let requests = Requests::default();
    let collector = collector(&requests);
    serve::<ReplicaSet>(&collector);
    collector.graph.lock().observe(owned());
    let work = Work::Consider("owned".into());
    let outcome = collector.sync(work.clone()).await.unwrap();
    assert_eq!(outcome, Outcome::Done);
    assert!(requests.lock().is_empty() && collector.queue.is_empty());
    serve::<Deployment>(&collector);
    assert_eq!(collector.queue.next().await, work);
}

#[tokio::test]
async fn an_owner_in_no_namespace_that_could_be_is_no_reason_to_delete() {
    let collector = collector(&Requests::default());
    serve::<Deployment>(&collector);
    let dependent = Identity {
        api_version: "rbac.authorization.k8s.io/v1".into(),
        kind: "ClusterRole".into(),
        namespace: String::new(),
        name: "role".into(),
        uid: "role".into(),
    };
    let owner = &owned().owners[0];
    let state = collector.owner_state(&dependent, owner).await;
    assert_eq!(state.unwrap(), Some(OwnerState::Solid));
}

#[tokio::test]
async fn dependents_that_hold_up_their_owner_go_together_as_many_as_there_are_workers() {
    const WORKERS: usize = 4;
    const DEPENDENTS: usize = 3 * WORKERS;
    // No deletion is answered before as many are asked for as there are workers.
    let gate = Arc::new(Semaphore::new(0));
    let asked = Arc::new(Mutex::new((0, 0, HashSet::new())));
    let stop = CancellationToken::new();
    let answer = {
        let (gate, asked, stop) = (gate.clone(), asked.clone(), stop.clone());
        move |request: http::Request<kube::client::Body>| {
            let (gate, asked, stop) = (gate.clone(), asked.clone(), stop.clone());
            async move {
                assert_eq!(request.method(), "DELETE");
                {
                    let (now, most, all) = &mut *asked.lock();
                    *now += 1;
                    *most = (*most).max(*now);
                    all.insert(request.uri().path().to_owned());
                    if *now == WORKERS {
                        gate.add_permits(Semaphore::MAX_PERMITS / 2);
                    }
                    if all.len() == DEPENDENTS {
                        stop.cancel();
                    }
                }
                gate.acquire().await.expect("it is never closed").forget();
                asked.lock().0 -= 1;
                let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "metadata": {}});
                let body = http_body_util::Full::from(status.to_string());
                Ok::<_, kube::Error>(http::Response::new(body))
            }
        }
    };
    let collector = collector_of(kube::Client::new(tower::service_fn(answer), "default"));
    serve::<Deployment>(&collector);
    serve::<ReplicaSet>(&collector);
    let queue = collector.queue.clone();
    let observe = |node| {
        let work = collector.graph.lock().observe(node);
        work.into_iter().for_each(|work| queue.add(work));
    };
    observe(going(FOREGROUND));
    for number in 0..DEPENDENTS {
        let mut dependent = owned();
        dependent.identity.name = format!("owned-{number}");
        dependent.identity.uid = format!("owned-{number}");
        dependent.owners[0].block_owner_deletion = Some(true);
        observe(dependent);
    }
    let sync = |item: Work| collector.sync(item);
    let working = work(queue.clone(), WORKERS, stop, sync);
    let ended = tokio::time::timeout(Duration::from_secs(30), working).await;
    assert!(ended.is_ok(), "they are taken one after the other");
    let (_, most, all) = &*asked.lock();
    assert_eq!((*most, all.len()), (WORKERS, DEPENDENTS));
}
