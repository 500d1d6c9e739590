//! One object's life: made, changed, refused, deleted.

use serde_json::{Value, json};

use crate::support::{Place, RunningStore, Server, StoreKind, on_each_store, on_shared_servers};

const DEFAULT: &str = "/api/v1/namespaces/default";

on_shared_servers!(
    an_update_that_changes_nothing_writes_nothing,
    what_is_there_is_not_made_again,
    a_dry_run_stores_nothing,
    unknown_fields_are_refused_told_or_dropped_as_asked,
    bad_objects_are_refused_with_all_that_is_wrong,
    immutable_fields_stay,
    generation_counts_what_is_desired_and_status_has_its_own_path,
    scale_is_read_and_written,
    a_running_pod_is_deleted_when_its_node_says_so,
    an_eviction_deletes,
    finalizers_hold_an_object_until_the_last_is_gone,
    a_namespace_goes_when_it_is_finalized,
    deleting_a_collection_deletes_what_is_selected,
    endpoints_are_deprecated_and_say_so,
    an_update_makes_a_lease_that_is_not_there_unless_it_means_an_older_one,
    events_are_the_same_in_both_groups,
    strangers_see_health_only_and_each_component_what_it_may,
    what_is_not_there_is_answered_properly,
);

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "b"}})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

on_each_store!(
    an_object_is_made_read_changed_and_deleted,
    async |running| {
        let server = Server::start(running).await;
        let client = server.client(Some("admin"));
        let maps = format!("{DEFAULT}/configmaps");
        let made = client.post(&maps, &map("a")).await;
        assert_eq!(made.code, 201);
        let made = made.ok();
        assert_eq!(made["kind"], "ConfigMap");
        assert!(!made["metadata"]["uid"].as_str().unwrap().is_empty());
        assert_eq!(client.get(&format!("{maps}/a")).await.ok(), made);
        let mut changed = made.clone();
        changed["data"]["a"] = "c".into();
        let changed = client.put(&format!("{maps}/a"), &changed).await.ok();
        assert_ne!(
            changed["metadata"]["resourceVersion"],
            made["metadata"]["resourceVersion"]
        );
        // What it was made from is old now.
        let stale = client.put(&format!("{maps}/a"), &made).await;
        assert_eq!(
            (stale.code, stale.json["reason"].as_str()),
            (409, Some("Conflict"))
        );
        let deleted = client.delete(&format!("{maps}/a")).await.ok();
        assert_eq!(
            (&deleted["status"], &deleted["details"]["uid"]),
            (&json!("Success"), &made["metadata"]["uid"])
        );
        let gone = client.get(&format!("{maps}/a")).await;
        assert_eq!(gone.message(), "configmaps \"a\" not found");
    }
);

async fn an_update_that_changes_nothing_writes_nothing(at: Place) {
    let client = &at.client;
    let path = at.core("configmaps/a");
    let made = client.post(&at.core("configmaps"), &map("a")).await.ok();
    assert_eq!(client.put(&path, &made).await.ok(), made);
    let patched = client
        .patch(&path, "merge", &json!({"data": {"a": "b"}}))
        .await
        .ok();
    assert_eq!(patched, made);
    assert_eq!(client.get(&path).await.ok(), made);
}

async fn what_is_there_is_not_made_again(at: Place) {
    let client = &at.client;
    let maps = at.core("configmaps");
    client.post(&maps, &map("a")).await.ok();
    let again = client.post(&maps, &map("a")).await;
    assert_eq!(
        (again.code, again.message()),
        (409, "configmaps \"a\" already exists")
    );
    let mut versioned = map("b");
    versioned["metadata"]["resourceVersion"] = "1".into();
    let versioned = client.post(&maps, &versioned).await;
    assert_eq!(
        (versioned.code, versioned.message()),
        (
            400,
            "resourceVersion should not be set on objects to be created"
        )
    );
    let named = client
        .post(&maps, &json!({"metadata": {"generateName": "b-"}}))
        .await
        .ok();
    let name = named["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("b-") && name.len() == 7, "{name}");
}

async fn a_dry_run_stores_nothing(at: Place) {
    let client = &at.client;
    let maps = at.core("configmaps");
    let tried = client
        .post(&format!("{maps}?dryRun=All"), &map("a"))
        .await
        .ok();
    assert_eq!(tried["metadata"]["name"], "a");
    assert_eq!(client.get(&format!("{maps}/a")).await.code, 404);
    client.post(&maps, &map("a")).await.ok();
    let again = client.post(&format!("{maps}?dryRun=All"), &map("a")).await;
    assert_eq!(again.code, 409);
    client.delete(&format!("{maps}/a?dryRun=All")).await.ok();
    assert_eq!(client.get(&format!("{maps}/a")).await.code, 200);
}

async fn unknown_fields_are_refused_told_or_dropped_as_asked(at: Place) {
    let client = &at.client;
    let odd = json!({"metadata": {"name": "a"}, "datum": {"a": "b"}});
    let maps = at.core("configmaps");
    let strict = client
        .post(&format!("{maps}?fieldValidation=Strict"), &odd)
        .await;
    assert_eq!(strict.code, 400);
    assert!(
        strict
            .message()
            .ends_with("strict decoding error: unknown field \"datum\""),
        "{}",
        strict.text
    );
    assert_eq!(client.get(&format!("{maps}/a")).await.code, 404);
    let warned = client.post(&maps, &odd).await;
    assert_eq!(
        warned.headers["warning"],
        "299 - \"unknown field \\\"datum\\\"\""
    );
    assert_eq!(warned.ok().get("datum"), None);
    client.delete(&format!("{maps}/a")).await.ok();
    let ignored = client
        .post(&format!("{maps}?fieldValidation=Ignore"), &odd)
        .await;
    assert!(ignored.headers.get("warning").is_none());
}

async fn bad_objects_are_refused_with_all_that_is_wrong(at: Place) {
    let client = &at.client;
    let deployments = at.grouped("apps/v1", "deployments");
    let wrong_type = client
        .post(
            &deployments,
            &json!({"metadata": {"name": "a"}, "spec": {"replicas": "x"}}),
        )
        .await;
    assert_eq!(wrong_type.code, 400);
    let mut bad = deployment("A_b");
    bad["spec"]["replicas"] = (-1).into();
    let bad = client.post(&deployments, &bad).await;
    assert_eq!(
        (bad.code, bad.json["reason"].as_str()),
        (422, Some("Invalid"))
    );
    assert!(
        bad.message().starts_with(
            "Deployment.apps \"A_b\" is invalid: [metadata.name: Invalid value: \"A_b\""
        ),
        "{}",
        bad.text
    );
    let fields: Vec<&str> = bad.json["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    assert!(
        fields.contains(&"metadata.name") && fields.contains(&"spec.replicas"),
        "{fields:?}"
    );
    let elsewhere = client
        .post(
            &at.core("configmaps"),
            &json!({"metadata": {"name": "a", "namespace": "other"}}),
        )
        .await;
    assert_eq!(elsewhere.code, 400);
}

async fn immutable_fields_stay(at: Place) {
    let client = &at.client;
    let deployments = at.grouped("apps/v1", "deployments");
    client.post(&deployments, &deployment("a")).await.ok();
    let patch = json!({"spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}});
    let refused = client
        .patch(&format!("{deployments}/a"), "merge", &patch)
        .await;
    assert_eq!(refused.code, 422);
    assert!(
        refused.message().ends_with("field is immutable"),
        "{}",
        refused.text
    );
}

async fn generation_counts_what_is_desired_and_status_has_its_own_path(at: Place) {
    let client = &at.client;
    let deployments = at.grouped("apps/v1", "deployments");
    let path = format!("{deployments}/a");
    let made = client.post(&deployments, &deployment("a")).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    let both = json!({"spec": {"replicas": 5}, "status": {"replicas": 9}});
    let main = client.patch(&path, "merge", &both).await.ok();
    assert_eq!(main["metadata"]["generation"], 2);
    assert_eq!(main["status"].get("replicas"), None);
    let both = json!({"spec": {"replicas": 7}, "status": {"replicas": 3}});
    let status = client
        .patch(&format!("{path}/status"), "merge", &both)
        .await
        .ok();
    assert_eq!(status["metadata"]["generation"], 2);
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"]),
        (&json!(5), &json!(3))
    );
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = client.patch(&path, "merge", &labels).await.ok();
    assert_eq!(labelled["metadata"]["generation"], 2);
}

async fn scale_is_read_and_written(at: Place) {
    let client = &at.client;
    let deployments = at.grouped("apps/v1", "deployments");
    let path = format!("{deployments}/a/scale");
    client.post(&deployments, &deployment("a")).await.ok();
    let mut scale = client.get(&path).await.ok();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(2), &json!("app=a"))
    );
    scale["spec"]["replicas"] = 4.into();
    let scaled = client.put(&path, &scale).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 4);
    assert_eq!(client.put(&path, &scale).await.code, 409);
    assert_eq!(
        client.get(&format!("{deployments}/a")).await.ok()["metadata"]["generation"],
        2
    );
}

async fn a_running_pod_is_deleted_when_its_node_says_so(at: Place) {
    let client = &at.client;
    let pods = at.core("pods");
    client.post(&pods, &pod("a")).await.ok();
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    let bound = client.post(&format!("{pods}/a/binding"), &binding).await;
    assert_eq!(bound.code, 201);
    let twice = client.post(&format!("{pods}/a/binding"), &binding).await;
    assert_eq!(
        twice.message(),
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n\""
    );
    let marked = client.delete(&format!("{pods}/a")).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let uid = marked["metadata"]["uid"].as_str().unwrap();
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}});
    assert_eq!(
        client
            .json("DELETE", &format!("{pods}/a"), &wrong)
            .await
            .code,
        409
    );
    let right = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
    client
        .json("DELETE", &format!("{pods}/a"), &right)
        .await
        .ok();
    assert_eq!(client.get(&format!("{pods}/a")).await.code, 404);
}

async fn an_eviction_deletes(at: Place) {
    let client = &at.client;
    let pods = at.core("pods");
    client.post(&pods, &pod("a")).await.ok();
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let evicted = client.post(&format!("{pods}/a/eviction"), &eviction).await;
    assert_eq!(evicted.code, 201);
    assert_eq!(client.get(&format!("{pods}/a")).await.code, 404);
}

async fn finalizers_hold_an_object_until_the_last_is_gone(at: Place) {
    let client = &at.client;
    let deployments = at.grouped("apps/v1", "deployments");
    let path = format!("{deployments}/a");
    client.post(&deployments, &deployment("a")).await.ok();
    let options = json!({"propagationPolicy": "Foreground"});
    let marked = client.json("DELETE", &path, &options).await.ok();
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let added = client
        .patch(
            &path,
            "merge",
            &json!({"metadata": {"finalizers": ["foregroundDeletion", "example.com/x"]}}),
        )
        .await;
    assert_eq!(added.code, 422);
    let released = client
        .patch(&path, "merge", &json!({"metadata": {"finalizers": null}}))
        .await;
    assert_eq!(released.code, 200);
    assert_eq!(client.get(&path).await.code, 404);
}

async fn a_namespace_goes_when_it_is_finalized(at: Place) {
    let client = &at.client;
    let namespaces = "/api/v1/namespaces";
    client
        .post(namespaces, &json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    let marked = client.delete(&format!("{namespaces}/a")).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = client
        .post(&format!("{namespaces}/a/configmaps"), &map("m"))
        .await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.json["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let mut empty = marked.clone();
    empty["spec"]["finalizers"] = json!([]);
    client
        .put(&format!("{namespaces}/a/finalize"), &empty)
        .await
        .ok();
    assert_eq!(client.get(&format!("{namespaces}/a")).await.code, 404);
    assert_eq!(
        client
            .post(&format!("{namespaces}/a/configmaps"), &map("m"))
            .await
            .code,
        404
    );
}

async fn deleting_a_collection_deletes_what_is_selected(at: Place) {
    let client = &at.client;
    let maps = at.core("configmaps");
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let object = json!({"metadata": {"name": name, "labels": {"kind": label}}});
        client.post(&maps, &object).await.ok();
    }
    client
        .delete(&format!("{maps}?labelSelector=kind%3Dx"))
        .await
        .ok();
    let left = client.get(&maps).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
}

on_each_store!(no_two_services_get_the_same_address, async |running| {
    let server = Server::start_with(running, &["--service-cluster-ip-range=10.0.0.0/27"]).await;
    let client = server.client(Some("admin"));
    let services = format!("{DEFAULT}/services");
    let service = |name: String| json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let made = futures::future::join_all((0..10).map(|number| {
        let (client, services) = (&client, &services);
        async move {
            client
                .post(services, &service(format!("s{number}")))
                .await
                .ok()
        }
    }))
    .await;
    let mut ips: Vec<&str> = made
        .iter()
        .map(|one| one["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    ips.sort_unstable();
    ips.dedup();
    assert_eq!(ips.len(), 10);
    let mut taken = service("taken".to_owned());
    taken["spec"]["clusterIP"] = ips[0].into();
    let refused = client.post(&services, &taken).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused
            .message()
            .ends_with("provided IP is already allocated"),
        "{}",
        refused.text
    );
    // An address is free again when its service is gone.
    let holder = made
        .iter()
        .find(|one| one["spec"]["clusterIP"] == ips[0])
        .unwrap();
    client
        .delete(&format!(
            "{services}/{}",
            holder["metadata"]["name"].as_str().unwrap()
        ))
        .await
        .ok();
    client.post(&services, &taken).await.ok();
});

#[tokio::test]
async fn a_range_is_used_up_to_its_last_address_and_port_and_then_full() {
    let running = RunningStore::start(StoreKind::Etcd).await;
    let flags = [
        "--service-cluster-ip-range=10.0.0.0/28",
        "--service-node-port-range=30000-30008",
    ];
    let server = Server::start_with(running, &flags).await;
    let client = server.client(Some("admin"));
    let services = format!("{DEFAULT}/services");
    let make = async |name: String, kind: &str| {
        let service =
            json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
        client.post(&services, &service).await
    };
    // Of 14 addresses the `kubernetes` service has the first.
    for number in 0..9 {
        make(format!("n{number}"), "NodePort").await.ok();
    }
    let full = make("n".to_owned(), "NodePort").await;
    assert_eq!(
        (full.code, full.message()),
        (
            500,
            "Internal error occurred: failed to allocate a nodePort: range is full"
        )
    );
    for number in 0..4 {
        make(format!("c{number}"), "ClusterIP").await.ok();
    }
    let full = make("c".to_owned(), "ClusterIP").await;
    assert_eq!(
        (full.code, full.message()),
        (
            500,
            "Internal error occurred: failed to allocate a serviceIP: range is full"
        )
    );
    // What is taken is told to who only tries, too, and by a change.
    let taken = client.get(&format!("{services}/n0")).await.ok();
    let (ip, port) = (
        &taken["spec"]["clusterIP"],
        &taken["spec"]["ports"][0]["nodePort"],
    );
    let mut asked =
        json!({"metadata": {"name": "c"}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}});
    let tried = client.post(&format!("{services}?dryRun=All"), &asked).await;
    assert_eq!(tried.code, 422, "{}", tried.text);
    asked = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}});
    for query in ["", "?dryRun=All"] {
        let path = format!("{services}/c0{query}");
        let tried = client.patch(&path, "merge", &asked).await;
        assert_eq!(tried.code, 422, "{}", tried.text);
        assert!(
            tried
                .message()
                .ends_with("provided port is already allocated"),
            "{}",
            tried.text
        );
    }
    // One that goes makes room for one.
    client.delete(&format!("{services}/n3")).await.ok();
    make("n".to_owned(), "NodePort").await.ok();
}

async fn endpoints_are_deprecated_and_say_so(at: Place) {
    let client = &at.client;
    let object = json!({"metadata": {"name": "a"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]});
    let made = client.post(&at.core("endpoints"), &object).await;
    assert!(
        made.headers["warning"]
            .to_str()
            .unwrap()
            .contains("v1 Endpoints is deprecated in v1.33+")
    );
}

async fn an_update_makes_a_lease_that_is_not_there_unless_it_means_an_older_one(at: Place) {
    let client = &at.client;
    let path = at.grouped("coordination.k8s.io/v1", "leases/a");
    let lease = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "x"}});
    let made = client.put(&path, &lease).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    client.delete(&path).await.ok();
    assert_eq!(client.put(&path, &made).await.code, 404);
    // Of most kinds, what is not there is not updated.
    let map = client.put(&at.core("configmaps/a"), &map("a")).await;
    assert_eq!(map.code, 404);
}

#[tokio::test]
async fn events_go_away_by_themselves() {
    let running = RunningStore::start(StoreKind::Etcd).await;
    let server = Server::start_with(running, &["--event-ttl=30m"]).await;
    let client = server.client(Some("admin"));
    let event =
        json!({"metadata": {"name": "a"}, "involvedObject": {"name": "p", "namespace": "default"}});
    client.post(&format!("{DEFAULT}/events"), &event).await.ok();
    let mut store = server.store().client().await;
    let stored = store.get("/registry/events/default/a", None).await.unwrap();
    let lease = stored.kvs()[0].lease();
    assert_ne!(lease, 0);
    let left = store.lease_time_to_live(lease, None).await.unwrap();
    // Those of one minute share a lease, which lasts that minute longer.
    assert!(
        (1_800..=1_860).contains(&left.granted_ttl()),
        "{}",
        left.granted_ttl()
    );
    let map = client
        .post(&format!("{DEFAULT}/configmaps"), &map("a"))
        .await
        .ok();
    assert_eq!(map["metadata"]["name"], "a");
    let stored = store
        .get("/registry/configmaps/default/a", None)
        .await
        .unwrap();
    assert_eq!(stored.kvs()[0].lease(), 0);
}

on_each_store!(an_event_always_has_a_lease_that_is_there, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    let mut store = server.store().client().await;
    let path = format!("{DEFAULT}/events");
    let event = |name: &str| {
        json!({"metadata": {"name": name, "finalizers": ["example.com/x"]},
                "involvedObject": {"name": "p", "namespace": "default"}})
    };
    let mut lease_of = async |name: &str| {
        let key = format!("/registry/events/default/{name}");
        store.get(key, None).await.unwrap().kvs()[0].lease()
    };
    client.post(&path, &event("a")).await.ok();
    let first = lease_of("a").await;
    assert_ne!(first, 0);
    // It stays marked while it is held, but not for ever.
    client.delete(&format!("{path}/a")).await.ok();
    assert_eq!(lease_of("a").await, first);
    let patch = json!({"message": "changed"});
    client
        .patch(&format!("{path}/a"), "merge", &patch)
        .await
        .ok();
    assert_eq!(lease_of("a").await, first);
    // As after the store was restored from a backup, of before the lease.
    let mut leases = server.store().client().await;
    leases.lease_revoke(first).await.unwrap();
    client.post(&path, &event("b")).await.ok();
    assert!(![0, first].contains(&lease_of("b").await));
});

async fn events_are_the_same_in_both_groups(at: Place) {
    let client = &at.client;
    let core = json!({"metadata": {"name": "a"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": at.namespace},
        "reason": "Started", "message": "m", "type": "Normal"});
    client.post(&at.core("events"), &core).await.ok();
    let new = client
        .get(&at.grouped("events.k8s.io/v1", "events/a"))
        .await
        .ok();
    assert_eq!(
        (&new["regarding"]["name"], &new["note"]),
        (&json!("p"), &json!("m"))
    );
    let list = client
        .get(&at.grouped(
            "events.k8s.io/v1",
            "events?fieldSelector=involvedObject.name%3Dp",
        ))
        .await
        .ok();
    assert_eq!(list["kind"], "EventList");
    assert_eq!(list["items"][0]["regarding"]["kind"], "Pod");
}

async fn strangers_see_health_only_and_each_component_what_it_may(at: Place) {
    let (server, admin) = (&at.server, &at.client);
    let stranger = server.client(None);
    for path in ["/livez", "/readyz", "/version"] {
        assert_eq!(stranger.get(path).await.code, 200, "{path}");
    }
    let refused = stranger.get("/api/v1/namespaces/default/pods").await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    for component in ["controller-manager", "scheduler", "node"] {
        let client = server.client(Some(component));
        assert_eq!(client.get("/api/v1/pods").await.code, 200, "{component}");
    }
    let review = |user: &str| json!({"spec": {"user": user, "resourceAttributes": {"verb": "list", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (user, allowed) in [("jane", false), ("system:kube-scheduler", true)] {
        let answer = admin.post(path, &review(user)).await.ok();
        assert_eq!(answer["status"]["allowed"], allowed, "{user}");
    }
    let bearer = stranger
        .request("GET", "/api", &[("authorization", "Bearer x")], b"")
        .await;
    assert_eq!(bearer.code, 401);
}

async fn what_is_not_there_is_answered_properly(at: Place) {
    let client = &at.client;
    let nowhere = client.get("/nowhere").await;
    assert_eq!(
        (nowhere.code, nowhere.text.as_str()),
        (404, "404 page not found\n")
    );
    assert_eq!(
        client.get("/apis/batch/v1/jobs").await.text,
        "404 page not found\n"
    );
    let unknown = client.get("/api/v1/gizmos").await;
    assert_eq!(
        (unknown.code, unknown.message()),
        (404, "the server could not find the requested resource")
    );
    assert_eq!(unknown.json["details"], json!({}), "kubectl looks into it");
    let index = client.get("/").await.ok();
    for path in ["/api/v1", "/apis/apps/v1", "/openapi/v3", "/version"] {
        let paths = index["paths"].as_array().unwrap();
        assert!(paths.contains(&path.into()), "{path} is not in {index}");
    }
    let token = at.core("serviceaccounts/default/token");
    for (reply, why) in [
        (
            client.get(&at.core("pods/a/exec")).await,
            "nothing can be run in pod \"a\"",
        ),
        (
            client.get(&at.core("pods/a/portforward")).await,
            "no port of pod \"a\" can be reached",
        ),
        (
            client.post(&token, &json!({})).await,
            "service account \"default\" cannot be given a token",
        ),
    ] {
        assert_eq!(reply.code, 501);
        assert!(reply.message().starts_with(why), "{}", reply.message());
    }
    assert_eq!(client.post("/api/v1/pods", &pod("a")).await.code, 405);
    assert_eq!(client.delete("/api/v1/namespaces").await.code, 405);
    let accept = client
        .request("GET", "/api/v1/pods", &[("accept", "text/html")], b"")
        .await;
    assert_eq!(accept.code, 406);
    let body = client
        .request(
            "POST",
            &at.core("pods"),
            &[("content-type", "text/plain")],
            b"x",
        )
        .await;
    assert_eq!(body.code, 415);
    let apply = client
        .request(
            "PATCH",
            &at.core("pods/a?fieldManager=me"),
            &[("content-type", "application/apply-patch+yaml")],
            b"{}",
        )
        .await;
    assert_eq!(apply.code, 415);
    let large = vec![b' '; (3 << 20) + 1];
    let json = [("content-type", "application/json")];
    let large = client
        .request("POST", &at.core("pods"), &json, &large)
        .await;
    assert_eq!(large.code, 413);
}

#[tokio::test]
async fn a_service_keeps_what_it_has_when_ranges_change() {
    let ranges = |ips: &str, ports: &str| {
        [
            format!("--service-cluster-ip-range={ips}"),
            format!("--service-node-port-range={ports}"),
        ]
    };
    let store = RunningStore::start(StoreKind::Etcd).await;
    let before = ranges("10.96.0.0/24", "30000-30100");
    let server = Server::start_with(store, &before.each_ref().map(String::as_str)).await;
    let services = format!("{DEFAULT}/services");
    let service = json!({"metadata": {"name": "s", "finalizers": ["example.com/x"]},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let made = server.client(Some("admin")).post(&services, &service).await;
    let made = made.ok();
    let after = ranges("10.97.0.0/24", "31000-31100");
    let server = server
        .restart_with(&after.each_ref().map(String::as_str))
        .await;
    let client = server.client(Some("admin"));
    let path = format!("{services}/s");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let changed = client.patch(&path, "merge", &label).await.ok();
    assert_eq!(changed["spec"], made["spec"]);
    client.delete(&path).await.ok();
    let free = json!({"metadata": {"finalizers": null}});
    client.patch(&path, "merge", &free).await.ok();
    assert_eq!(client.get(&path).await.code, 404);
}
