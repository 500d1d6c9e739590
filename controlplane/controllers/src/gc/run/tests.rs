//! What the collector asks of the API server, and when it does not.

use std::collections::HashMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Node as ClusterNode, Secret};
use keelson_component::Recorder;
use kube::api::ApiResource;
use tokio::sync::Semaphore;

use super::*;
use crate::testing;

/// An API server that has what it is told, does what it is asked, and notes it.
#[derive(Default)]
struct Server {
    /// By path. Whatever else is asked for is not there.
    there: HashMap<String, Value>,
    /// How writes to these paths are answered, if not well.
    refused: HashMap<String, u16>,
    /// Methods, paths and bodies.
    asked: Vec<(String, String, Value)>,
}

type Requests = Arc<Mutex<Server>>;

impl Server {
    fn answer(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.asked.push((method.into(), path.into(), body.clone()));
        let refusal = |code| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            (
                code,
                json!({"kind": "Status", "code": code, "reason": reason}),
            )
        };
        match (method, self.there.get(path), self.refused.get(path)) {
            ("GET", Some(object), _) => (200, object.clone()),
            ("GET", None, _) => refusal(404),
            (_, _, Some(code)) => refusal(*code),
            ("POST", ..) => (201, body),
            ("PATCH", ..) => (200, json!({"metadata": {"resourceVersion": "after"}})),
            _ => (
                200,
                json!({"kind": "Status", "status": "Success", "metadata": {}}),
            ),
        }
    }

    /// What was asked for, in order: the methods, and the paths from the namespace or the plural on.
    fn requests(&self) -> Vec<String> {
        let short = |path: &str| {
            let after = path.split("/v1/").last().unwrap_or_default();
            after.trim_start_matches("namespaces/").to_owned()
        };
        let asked = self.asked.iter();
        asked
            .map(|(method, path, _)| format!("{method} {}", short(path)))
            .collect()
    }

    /// The body of the one request of this method.
    fn body(&self, method: &str) -> &Value {
        let mut bodies = self.asked.iter().filter(|(known, ..)| known == method);
        let body = bodies.next().expect("it was asked");
        assert!(bodies.next().is_none(), "{:?}", self.asked);
        &body.2
    }
}

fn client(requests: &Requests) -> kube::Client {
    let requests = requests.clone();
    testing::client(move |method, path, body| requests.lock().answer(method, path, body))
}

/// A collector whose API server that is.
fn collector(requests: &Requests) -> Collector {
    collector_of(client(requests))
}

fn collector_of(client: kube::Client) -> Collector {
    collector_in(testing::context(client))
}

fn collector_in(context: Context) -> Collector {
    let collector = Collector::new(context, &mut Informers::default());
    collector.discovered_all.store(true, Ordering::Relaxed);
    collector
}

fn serve<K: kube::Resource<DynamicType = ()>>(collector: &Collector) {
    serve_in(collector, ApiResource::erase::<K>(&()), true);
}

fn serve_in(collector: &Collector, api: ApiResource, namespaced: bool) {
    collector.serve(&Resource {
        api,
        namespaced,
        verbs: vec!["get".into()],
    });
}

/// An object as the graph has it; its UID is its name. Owners are kinds and names.
fn node(api_version: &str, kind: &str, namespace: &str, name: &str, owners: Value) -> Node {
    let meta = json!({
        "name": name, "uid": name, "resourceVersion": "7", "ownerReferences": owners,
    });
    let mut meta: kube::api::ObjectMeta = serde_json::from_value(meta).unwrap();
    meta.namespace = Some(namespace.into()).filter(|namespace: &String| !namespace.is_empty());
    Node::of(api_version, kind, &meta).unwrap()
}

fn set(namespace: &str, name: &str, owners: Value) -> Node {
    node("apps/v1", "ReplicaSet", namespace, name, owners)
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    let version = match kind {
        "Deployment" | "ReplicaSet" => "apps/v1",
        _ => "v1",
    };
    json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid})
}

/// Shows the collector these, one by one, and has it do what there is to be done after each.
async fn show(collector: &Collector, nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        let work = collector.graph.lock().observe(node);
        for item in work {
            collector.sync(item).await.unwrap();
        }
    }
    assert!(collector.queue.is_empty(), "nothing is to be tried again");
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
        assert_eq!(requests.lock().requests(), [""; 0]);
        synced.cancel();
        assert_eq!(sync().await, Outcome::Done);
        assert_eq!(
            requests.lock().requests(),
            ["PATCH default/deployments/owner"]
        );
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
    let expected = [
        "GET default/deployments/owner",
        "DELETE default/replicasets/owned",
    ];
    assert_eq!(requests.requests(), expected);
    let expected = json!({"uid": "owned", "resourceVersion": "7"});
    assert_eq!(requests.body("DELETE")["preconditions"], expected);
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
    assert!(requests.lock().asked.is_empty() && collector.queue.is_empty());
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

#[tokio::test]
async fn an_owner_in_another_namespace_is_none_and_that_is_told() {
    let child = || {
        set(
            "ns1",
            "child",
            json!([owner("Deployment", "owner", "owner")]),
        )
    };
    let far = || node("apps/v1", "Deployment", "ns2", "owner", json!([]));
    for (nodes, told) in [([child(), far()], 0), ([far(), child()], 1)] {
        let requests = Requests::default();
        let mut context = testing::context(client(&requests));
        let stop = CancellationToken::new();
        let (recorder, write) = Recorder::new(context.connect.clone(), "tester", stop);
        context.recorder = recorder;
        let collector = collector_in(context);
        serve::<Deployment>(&collector);
        serve::<ReplicaSet>(&collector);
        show(&collector, nodes).await;
        {
            let requests = requests.lock();
            let expected = ["GET ns1/deployments/owner", "DELETE ns1/replicasets/child"];
            assert_eq!(requests.requests(), expected);
            let seen = json!({"uid": "child", "resourceVersion": "7"});
            assert_eq!(requests.body("DELETE")["preconditions"], seen);
        }
        // With the last recorder, its writer ends.
        drop(collector);
        write.await;
        let requests = requests.lock();
        let posts = requests
            .asked
            .iter()
            .filter(|(method, ..)| method == "POST");
        let events: Vec<_> = posts.map(|(_, path, event)| (path, event)).collect();
        assert_eq!(events.len(), told, "{events:?}");
        for (path, event) in events {
            assert!(path.contains("/namespaces/ns1/"), "{path}");
            assert_eq!(event["reason"], "OwnerRefInvalidNamespace");
        }
    }
}

#[tokio::test]
async fn whose_reference_has_the_right_uid_but_another_kind_or_name_has_lost_its_owner() {
    let nodes = || {
        let owner_of = |name: &str, kind: &str, of: &str| {
            set("default", name, json!([owner(kind, of, "owner")]))
        };
        [
            node("apps/v1", "Deployment", "default", "owner", json!([])),
            owner_of("good", "Deployment", "owner"),
            owner_of("bad-kind", "Secret", "owner"),
            owner_of("bad-name", "Deployment", "other"),
        ]
    };
    for first in 0..4 {
        let mut nodes = nodes();
        nodes.rotate_left(first);
        let requests = Requests::default();
        requests.lock().there.insert(
            "/apis/apps/v1/namespaces/default/deployments/owner".into(),
            json!({"metadata": {"name": "owner", "uid": "owner"}}),
        );
        let collector = collector(&requests);
        serve::<Deployment>(&collector);
        serve::<ReplicaSet>(&collector);
        serve::<Secret>(&collector);
        show(&collector, nodes).await;
        let requests = requests.lock().requests();
        let mut writes: Vec<_> = requests
            .iter()
            .filter(|one| !one.starts_with("GET"))
            .collect();
        writes.sort();
        let bad = ["bad-kind", "bad-name"].map(|name| format!("DELETE default/replicasets/{name}"));
        assert_eq!(writes, bad.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn who_is_in_a_circle_is_unblocked_where_it_blocks_and_deleted_as_it_is_then() {
    let requests = Requests::default();
    let collector = collector(&requests);
    serve::<Deployment>(&collector);
    serve::<ReplicaSet>(&collector);
    let names = |name: &str, blocks: Option<bool>| {
        let mut reference = owner("Deployment", name, name);
        reference["blockOwnerDeletion"] = json!(blocks);
        reference
    };
    let references = |blocks: [Option<bool>; 3]| {
        [("a", 0), ("b", 1), ("c", 2)].map(|(n, at)| names(n, blocks[at]))
    };
    let waiting = |name: &str, owners: Value| {
        let mut node = node("apps/v1", "Deployment", "default", name, owners);
        (node.deleted, node.foreground) = (true, true);
        node
    };
    let before = references([Some(true), Some(false), None]);
    {
        let mut graph = collector.graph.lock();
        let of_it = json!([owner("ReplicaSet", "in-it", "in-it")]);
        graph.observe(waiting("a", of_it));
        graph.observe(waiting("b", json!([])));
        graph.observe(waiting("c", json!([])));
        graph.observe(set("default", "in-it", json!(before)));
    }
    collector
        .sync(Work::Consider("in-it".into()))
        .await
        .unwrap();
    let requests = requests.lock();
    let place = "default/replicasets/in-it";
    assert_eq!(
        requests.requests(),
        [format!("PATCH {place}"), format!("DELETE {place}")]
    );
    let metadata = &requests.body("PATCH")["metadata"];
    // What was not said is not said now.
    let after = references([Some(false), Some(false), None]).map(|mut reference| {
        value_without_nulls(&mut reference);
        reference
    });
    assert_eq!(metadata["ownerReferences"], json!(after));
    assert_eq!(metadata["uid"], "in-it");
    assert_eq!(metadata["resourceVersion"], "7");
    let deletion = requests.body("DELETE");
    assert_eq!(deletion["propagationPolicy"], "Foreground");
    assert_eq!(deletion["preconditions"]["resourceVersion"], "after");
}

fn value_without_nulls(value: &mut Value) {
    let map = value.as_object_mut().expect("it is an object");
    map.retain(|_, field| !field.is_null());
}

#[tokio::test]
async fn an_owner_in_no_namespace_is_looked_for_where_it_is() {
    for (uid, deleted) in [(Some("n"), false), (Some("another"), true), (None, true)] {
        let requests = Requests::default();
        if let Some(uid) = uid {
            let there = json!({"metadata": {"name": "n", "uid": uid}});
            requests
                .lock()
                .there
                .insert("/api/v1/nodes/n".into(), there);
        }
        let collector = collector(&requests);
        serve_in(&collector, ApiResource::erase::<ClusterNode>(&()), false);
        serve::<ConfigMap>(&collector);
        let owners = json!([owner("Node", "n", "n")]);
        show(
            &collector,
            [node("v1", "ConfigMap", "default", "of-it", owners)],
        )
        .await;
        let mut expected = vec!["GET nodes/n"];
        expected.extend(deleted.then_some("DELETE default/configmaps/of-it"));
        assert_eq!(requests.lock().requests(), expected, "{uid:?}");
    }
}

#[tokio::test]
async fn an_absent_owner_is_looked_for_once_in_each_place_where_it_could_be() {
    let requests = Requests::default();
    let collector = collector(&requests);
    serve::<Deployment>(&collector);
    serve::<ReplicaSet>(&collector);
    let of = |namespace: &str, name: &str, owner_name: &str| {
        set(
            namespace,
            name,
            json!([owner("Deployment", owner_name, "gone")]),
        )
    };
    let mut managed = of("ns1", "b", "gone");
    managed.owners[0].controller = Some(true);
    let nodes = [
        of("ns1", "a", "gone"),
        managed,
        of("ns2", "c", "gone"),
        of("ns1", "d", "other"),
    ];
    show(&collector, nodes).await;
    let requests = requests.lock();
    let (gets, deletions): (Vec<_>, Vec<_>) = requests
        .requests()
        .into_iter()
        .partition(|one| one.starts_with("GET"));
    let places = [
        "ns1/deployments/gone",
        "ns2/deployments/gone",
        "ns1/deployments/other",
    ];
    assert_eq!(gets, places.map(|place| format!("GET {place}")));
    assert_eq!(deletions.len(), 4);
}

#[tokio::test]
async fn more_absent_owners_than_are_remembered_are_absent_all_the_same() {
    let requests = Requests::default();
    let collector = collector(&requests);
    serve::<Deployment>(&collector);
    serve::<ReplicaSet>(&collector);
    let count = ABSENT_MAX + 10;
    let nodes = (0..count).map(|n| {
        let gone = format!("gone-{n}");
        set(
            "default",
            &format!("set-{n}"),
            json!([owner("Deployment", &gone, &gone)]),
        )
    });
    show(&collector, nodes).await;
    assert_eq!(requests.lock().asked.len(), 2 * count);
    assert!(collector.absent.lock().len() <= ABSENT_MAX);
}

#[tokio::test]
async fn a_reference_that_is_a_mistake_does_not_hold_up_one_that_is_not() {
    // One that is in no namespace can have no owner in one; it is kept. Whoever names the same owner from a namespace is
    // judged by that.
    let bad = || {
        let owners = json!([owner("Deployment", "o", "o")]);
        node("v1", "Node", "", "bad", owners)
    };
    let good = || set("ns1", "good", json!([owner("Deployment", "o", "o")]));
    for nodes in [[bad(), good()], [good(), bad()]] {
        let requests = Requests::default();
        let collector = collector(&requests);
        serve::<Deployment>(&collector);
        serve::<ReplicaSet>(&collector);
        serve_in(&collector, ApiResource::erase::<ClusterNode>(&()), false);
        show(&collector, nodes).await;
        let expected = ["GET ns1/deployments/o", "DELETE ns1/replicasets/good"];
        assert_eq!(requests.lock().requests(), expected);
    }
    // The owner is there after all: both stay, whoever is seen first.
    let requests = Requests::default();
    let path = "/apis/apps/v1/namespaces/ns1/deployments/o";
    let there = json!({"metadata": {"name": "o", "uid": "o"}});
    requests.lock().there.insert(path.into(), there);
    let collector = collector(&requests);
    serve::<Deployment>(&collector);
    serve::<ReplicaSet>(&collector);
    serve_in(&collector, ApiResource::erase::<ClusterNode>(&()), false);
    let late = node("apps/v1", "Deployment", "ns1", "o", json!([]));
    show(&collector, [bad(), good(), late]).await;
    assert_eq!(requests.lock().requests(), ["GET ns1/deployments/o"]);
}

#[tokio::test]
async fn an_owner_of_a_kind_that_can_only_be_read_is_looked_for() {
    let requests = Requests::default();
    let collector = collector(&requests);
    serve::<ReplicaSet>(&collector);
    show(&collector, [owned()]).await;
    collector.serve(&Resource {
        api: ApiResource::erase::<Deployment>(&()),
        namespaced: true,
        verbs: vec!["create".into()],
    });
    assert!(collector.queue.is_empty(), "it cannot be looked for");
    serve::<Deployment>(&collector);
    let work = collector.queue.next().await;
    collector.sync(work).await.unwrap();
    let expected = [
        "GET default/deployments/owner",
        "DELETE default/replicasets/owned",
    ];
    assert_eq!(requests.lock().requests(), expected);
}

#[tokio::test]
async fn an_owner_keeps_its_finalizer_until_every_dependent_has_been_let_go() {
    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "x"});
    let dependent = |name: &str| {
        set(
            "default",
            name,
            json!([owner("Deployment", "owner", "owner"), other]),
        )
    };
    // Another write came in between, then there is none, then the object is gone.
    for (code, goes) in [(Some(409), false), (None, true), (Some(404), true)] {
        let requests = Requests::default();
        if let Some(code) = code {
            let path = "/apis/apps/v1/namespaces/default/replicasets/b";
            requests.lock().refused.insert(path.into(), code);
        }
        let collector = collector(&requests);
        serve::<Deployment>(&collector);
        serve::<ReplicaSet>(&collector);
        {
            let mut graph = collector.graph.lock();
            let mut owner = going(ORPHAN);
            owner.finalizers = vec!["x/y".into(), ORPHAN.into(), "z/z".into()];
            graph.observe(owner);
            graph.observe(dependent("a"));
            graph.observe(dependent("b"));
        }
        let done = collector.sync(Work::Orphan("owner".into())).await;
        assert_eq!(done.is_ok(), goes);
        let requests = requests.lock();
        let patch = |name: &str| {
            let ends_so = |(_, path, _): &&(String, String, Value)| path.ends_with(name);
            requests
                .asked
                .iter()
                .find(ends_so)
                .map(|(.., body)| &body["metadata"])
        };
        assert_eq!(patch("/a").unwrap()["ownerReferences"], json!([other]));
        let finalizers = patch("/owner").map(|metadata| &metadata["finalizers"]);
        assert_eq!(finalizers, goes.then_some(&json!(["x/y", "z/z"])));
    }
}

#[tokio::test]
async fn what_can_be_listed_watched_and_deleted_is_watched_and_stays_so() {
    let requests = Requests::default();
    let collector = collector(&requests);
    let all = ["get", "list", "watch", "delete"];
    let resource = |name: &str, kind: &str, verbs: &[&str]| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": verbs});
    let list = json!({"groupVersion": "v1", "resources": [
        resource("configmaps", "ConfigMap", &all),
        resource("secrets", "Secret", &all[..3]),
        resource("bindings", "Binding", &["create"]),
        resource("events", "Event", &all),
        resource("configmaps/status", "ConfigMap", &all),
        // The process watches these anyhow.
        resource("pods", "Pod", &all),
    ]});
    let versions = json!({"versions": ["v1"], "serverAddressByClientCIDRs": []});
    {
        let there = &mut requests.lock().there;
        there.insert("/api".into(), versions);
        there.insert("/apis".into(), json!({"groups": []}));
        there.insert("/api/v1".into(), list);
    }
    let (mut watches, mut watched) = (JoinSet::new(), Vec::new());
    let stop = CancellationToken::new();
    let found = collector.watch_new(&mut watches, &mut watched, &stop).await;
    found.unwrap();
    assert_eq!(watched, ["configmaps"]);
    let reach = |kind: &str| collector.kinds.lock().get("v1", kind).is_some();
    // Those that are not watched can still be looked for.
    let kinds = ["ConfigMap", "Secret", "Event", "Pod", "Binding"].map(reach);
    assert_eq!(kinds, [true, true, true, true, false]);
    // What cannot be read for a while has not gone, and what is watched is not watched twice.
    for missing in ["/api/v1", "/apis"] {
        requests.lock().there.remove(missing);
        let found = collector.watch_new(&mut watches, &mut watched, &stop).await;
        assert_eq!(found.is_ok(), missing == "/api/v1");
        assert_eq!(
            (watched.as_slice(), watches.len()),
            (["configmaps".to_owned()].as_slice(), 1)
        );
        assert!(reach("ConfigMap"));
    }
}

#[tokio::test]
async fn nobody_in_another_namespace_holds_up_an_owner_or_is_changed_by_its_end() {
    let kinds = [
        (FOREGROUND, Work::Consider as fn(String) -> Work),
        (ORPHAN, Work::Orphan),
    ];
    for (finalizer, work) in kinds {
        let requests = Requests::default();
        let collector = collector(&requests);
        serve::<Deployment>(&collector);
        serve::<ReplicaSet>(&collector);
        // A finalizer may hold it for as long as somebody there likes.
        let mut foreign = set(
            "other",
            "foreign",
            json!([owner("Deployment", "owner", "owner")]),
        );
        foreign.owners[0].block_owner_deletion = Some(true);
        foreign.deleted = true;
        for node in [going(finalizer), foreign] {
            collector.graph.lock().observe(node);
        }
        collector.sync(work("owner".into())).await.unwrap();
        let requests = requests.lock().requests();
        assert_eq!(requests, ["PATCH default/deployments/owner"]);
    }
}
