//! Writes that begin with an object as the cache had it, when the store has it otherwise: the cache is only a guess.
//!
//! The caches here were filled once, and then cut off from the store.

use bytes::Bytes;
use keelson_apiserver::cache::Caches;
use keelson_apiserver::resources::{self, ClusterIps, Resource};
use keelson_apiserver::rest::{Api, ApiOptions, Query, Reply, Request, User};
use keelson_apiserver::status::ApiError;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Place, on_shared_servers, revision};

on_shared_servers!(
    what_has_changed_since_is_deleted_as_it_is,
    what_is_gone_is_not_deleted_again,
    preconditions_are_judged_by_what_is_there,
    what_took_a_name_since_is_another_object,
    what_has_changed_since_is_patched_as_it_is,
    a_patch_that_changed_nothing_then_may_change_something_now,
    an_update_of_an_old_version_is_refused_though_the_cache_has_it,
    what_is_gone_is_not_changed,
    a_dry_run_is_judged_by_what_is_there,
    nothing_is_made_in_a_namespace_whose_deletion_has_begun,
    a_namespace_that_has_changed_since_is_still_open,
    a_node_touches_no_pod_that_has_come_to_another,
    an_account_that_is_as_new_as_its_pod_is_found,
);

/// The API on caches that have what the store had.
struct Behind {
    api: Api,
    namespace: String,
}

impl Behind {
    async fn from_now_on(at: &Place) -> Behind {
        let store = at.store().await;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let caches = Caches::start(store.clone(), 1 << 20, stop.clone(), &mut tasks);
        caches.wait_for(1).await.expect("the caches are filled");
        stop.cancel();
        tasks.join_all().await;
        let options = ApiOptions {
            cluster_ips: ClusterIps::parse("10.96.0.0/24").expect("a range"),
            node_ports: 30_000..=30_100,
            event_ttl: Duration::from_secs(3_600),
            watch_at_least: Duration::from_secs(1),
            service_accounts: true,
        };
        Behind {
            api: Api::new(store, caches, options),
            namespace: at.namespace.clone(),
        }
    }

    fn request(&self, name: &str, query: &str, body: &Value) -> Request {
        let maps: &'static Resource = resources::find("", "v1", "configmaps").expect("a resource");
        Request {
            user: User::anonymous(),
            resource: maps,
            subresource: None,
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            query: Query::parse(query),
            content_type: "application/json".to_owned(),
            body: match body {
                Value::Null => Bytes::new(),
                body => body.to_string().into(),
            },
            user_agent: "test".to_owned(),
        }
    }

    async fn carry_out(&self, verb: &str, request: Request) -> Result<Value, ApiError> {
        Ok(match self.api.handle(verb, &request).await?.reply {
            Reply::Object { object, .. } => object,
            Reply::Value { value, .. } => value,
            _ => panic!("{verb} answers with one object"),
        })
    }

    async fn delete(&self, query: &str, preconditions: &Value) -> Result<Value, ApiError> {
        let body = json!({"preconditions": preconditions});
        self.carry_out("delete", self.request("a", query, &body))
            .await
    }

    async fn patch(&self, query: &str, patch: &Value) -> Result<Value, ApiError> {
        let request = Request {
            content_type: "application/merge-patch+json".to_owned(),
            ..self.request("a", query, patch)
        };
        self.carry_out("patch", request).await
    }

    async fn create(&self, name: &str) -> Result<Value, ApiError> {
        let object = json!({"metadata": {"name": name}});
        self.carry_out("create", self.request("", "", &object))
            .await
    }
}

/// A node that asks for something to be done to a pod.
fn of_node(node: &str, part: &str, request: Request) -> Request {
    let pods = resources::find("", "v1", "pods").expect("a resource");
    Request {
        user: User {
            name: format!("system:node:{node}"),
            groups: vec!["system:nodes".to_owned()],
        },
        resource: pods,
        subresource: pods.subresource(part),
        ..request
    }
}

fn labelled(label: &str) -> Value {
    json!({"metadata": {"labels": {"kind": label}}})
}

async fn there(at: &Place) -> Option<Value> {
    let reply = at.client.get(&format!("{}/a", at.maps())).await;
    (reply.code == 200).then_some(reply.json)
}

async fn what_has_changed_since_is_deleted_as_it_is(at: Place) {
    at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    at.relabel("a", "y").await;
    behind.delete("", &Value::Null).await.unwrap();
    assert_eq!(there(&at).await, None);
}

async fn what_is_gone_is_not_deleted_again(at: Place) {
    at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    at.delete("a").await;
    let error = behind.delete("", &Value::Null).await.unwrap_err();
    assert_eq!(error.message(), "configmaps \"a\" not found");
}

async fn preconditions_are_judged_by_what_is_there(at: Place) {
    let old = at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    let new = at.relabel("a", "y").await;
    let stale = json!({"resourceVersion": revision(&old)});
    let error = behind.delete("", &stale).await.unwrap_err();
    assert_eq!(error.code(), 409);
    assert_eq!(there(&at).await, Some(new.clone()));
    let fresh = json!({"resourceVersion": revision(&new), "uid": new["metadata"]["uid"]});
    behind.delete("", &fresh).await.unwrap();
    assert_eq!(there(&at).await, None);
}

async fn what_took_a_name_since_is_another_object(at: Place) {
    let old = at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    at.delete("a").await;
    let new = at.make("a", "x").await;
    let uid = |of: &Value| json!({"uid": of["metadata"]["uid"]});
    let error = behind.delete("", &uid(&old)).await.unwrap_err();
    assert_eq!(error.code(), 409);
    assert_eq!(there(&at).await, Some(new.clone()));
    behind.delete("", &uid(&new)).await.unwrap();
    assert_eq!(there(&at).await, None);
}

async fn what_has_changed_since_is_patched_as_it_is(at: Place) {
    at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    at.relabel("a", "y").await;
    let patched = behind
        .patch("", &json!({"data": {"c": "d"}}))
        .await
        .unwrap();
    assert_eq!(patched["metadata"]["labels"]["kind"], "y");
    assert_eq!(there(&at).await, Some(patched));
}

async fn a_patch_that_changed_nothing_then_may_change_something_now(at: Place) {
    at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    let changed = at.relabel("a", "y").await;
    let patched = behind.patch("", &labelled("x")).await.unwrap();
    assert_ne!(revision(&patched), revision(&changed));
    assert_eq!(there(&at).await.unwrap()["metadata"]["labels"]["kind"], "x");
    // And the other way round: what was to be changed has been.
    let same = behind.patch("", &labelled("x")).await.unwrap();
    assert_eq!(revision(&same), revision(&patched));
}

async fn an_update_of_an_old_version_is_refused_though_the_cache_has_it(at: Place) {
    let mut old = at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    let new = at.relabel("a", "y").await;
    old["data"] = json!({"c": "d"});
    let update = |object: &Value| behind.carry_out("update", behind.request("a", "", object));
    let error = update(&old).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (409, "Conflict"));
    assert_eq!(there(&at).await, Some(new.clone()));
    let same = update(&new).await.unwrap();
    assert_eq!(revision(&same), revision(&new));
    // Who says no version means whichever there is, but this object and no other.
    old["metadata"]["resourceVersion"] = Value::Null;
    assert_eq!(update(&old).await.unwrap()["data"]["c"], "d");
    old["metadata"]["uid"] = "other".into();
    assert_eq!(update(&old).await.unwrap_err().code(), 409);
}

async fn what_is_gone_is_not_changed(at: Place) {
    at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    at.delete("a").await;
    for label in ["x", "y"] {
        let error = behind.patch("", &labelled(label)).await.unwrap_err();
        assert_eq!(error.code(), 404);
    }
    assert_eq!(there(&at).await, None);
}

async fn a_dry_run_is_judged_by_what_is_there(at: Place) {
    let old = at.make("a", "x").await;
    let behind = Behind::from_now_on(&at).await;
    let new = at.relabel("a", "y").await;
    let data = json!({"data": {"c": "d"}});
    let tried = behind.patch("dryRun=All", &data).await.unwrap();
    assert_eq!(tried["metadata"]["labels"]["kind"], "y");
    let stale = json!({"resourceVersion": revision(&old)});
    let error = behind.delete("dryRun=All", &stale).await.unwrap_err();
    assert_eq!(error.code(), 409);
    assert_eq!(there(&at).await, Some(new));
    at.delete("a").await;
    let error = behind.patch("dryRun=All", &data).await.unwrap_err();
    assert_eq!(error.code(), 404);
}

async fn nothing_is_made_in_a_namespace_whose_deletion_has_begun(at: Place) {
    let behind = Behind::from_now_on(&at).await;
    let path = format!("/api/v1/namespaces/{}", at.namespace);
    let mut marked = at.client.delete(&path).await.ok();
    let error = behind.create("m").await.unwrap_err();
    assert_eq!(error.code(), 403);
    assert_eq!(
        error.message(),
        format!(
            "configmaps \"m\" is forbidden: unable to create new content in namespace {} because it is being terminated",
            at.namespace
        )
    );
    marked["spec"]["finalizers"] = json!([]);
    at.client
        .put(&format!("{path}/finalize"), &marked)
        .await
        .ok();
    let error = behind.create("m").await.unwrap_err();
    let gone = format!("namespaces {:?} not found", at.namespace);
    assert_eq!((error.code(), error.message()), (404, gone.as_str()));
    let (store, maps) = (
        at.store().await,
        format!("/registry/configmaps/{}/", at.namespace),
    );
    assert_eq!(store.keys(&maps).await.unwrap(), Vec::<String>::new());
}

async fn a_namespace_that_has_changed_since_is_still_open(at: Place) {
    let behind = Behind::from_now_on(&at).await;
    let path = format!("/api/v1/namespaces/{}", at.namespace);
    at.client.patch(&path, "merge", &labelled("x")).await.ok();
    behind.create("a").await.unwrap();
    assert!(there(&at).await.is_some());
}

async fn a_node_touches_no_pod_that_has_come_to_another(at: Place) {
    at.make_pod("known", "n1").await;
    let behind = Behind::from_now_on(&at).await;
    let path = at.core("pods/known");
    at.client
        .delete(&format!("{path}?gracePeriodSeconds=0"))
        .await
        .ok();
    for name in ["known", "new"] {
        at.make_pod(name, "n2").await;
        let status = json!({"status": {"message": "x"}});
        for (verb, part, body) in [
            ("delete", "", &Value::Null),
            ("create", "eviction", &json!({})),
            ("patch", "status", &status),
        ] {
            let request = Request {
                content_type: match verb {
                    "patch" => "application/merge-patch+json".to_owned(),
                    _ => "application/json".to_owned(),
                },
                ..behind.request(name, "", body)
            };
            let by = |node| behind.carry_out(verb, of_node(node, part, request.clone()));
            let refused = by("n1").await.unwrap_err();
            assert_eq!(
                refused.code(),
                403,
                "{verb} {name} {part}: {}",
                refused.message()
            );
            assert!(
                refused
                    .message()
                    .contains("with spec.nodeName set to itself")
            );
            if verb == "patch" {
                by("n2").await.unwrap();
            }
        }
    }
    let gone = of_node("n1", "", behind.request("gone", "", &Value::Null));
    let missing = behind.carry_out("delete", gone).await.unwrap_err();
    assert_eq!(missing.code(), 404);
}

async fn an_account_that_is_as_new_as_its_pod_is_found(at: Place) {
    let behind = Behind::from_now_on(&at).await;
    let account = json!({"metadata": {"name": "runner"}});
    at.client
        .post(&at.core("serviceaccounts"), &account)
        .await
        .ok();
    let create = async |account: &str| {
        let pod = json!({"metadata": {"generateName": "p-"}, "spec": {"serviceAccountName": account,
            "containers": [{"name": "a", "image": "a"}]}});
        let request = Request {
            resource: resources::find("", "v1", "pods").expect("a resource"),
            ..behind.request("", "", &pod)
        };
        behind.carry_out("create", request).await
    };
    let pod = create("runner").await.unwrap();
    assert_eq!(pod["spec"]["serviceAccount"], "runner");
    let refused = create("nobody").await.unwrap_err();
    assert!(
        refused
            .message()
            .ends_with("serviceaccount \"nobody\" not found")
    );
}
