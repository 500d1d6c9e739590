//! A namespace that ends, against an API server that does not always do as it is asked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::testing::{client, context, failure};

/// An API server with one namespace, some objects in it, and a group that may be down.
struct Server {
    namespace: Value,
    /// As in `pods/a`.
    objects: BTreeSet<String>,
    /// Resources whose objects go only later.
    slow: BTreeSet<&'static str>,
    /// Resources whose objects nobody may delete.
    refused: BTreeSet<&'static str>,
    group_is_down: bool,
    /// Nobody can say what there is.
    nothing_is_known: bool,
    /// What can be done with secrets.
    verbs: Vec<&'static str>,
    /// How the next request of a kind, as in `PATCH status`, is answered.
    failing: BTreeMap<&'static str, u16>,
    requests: Vec<String>,
    deleted: Vec<String>,
    finalized: bool,
}

const VERBS: [&str; 3] = ["list", "delete", "deletecollection"];

fn resources(names: &[&str], verbs_of_secrets: &[&str]) -> (u16, Value) {
    let resource = |name: &&str| {
        let verbs = if *name == "secrets" {
            verbs_of_secrets
        } else {
            &VERBS
        };
        json!({"name": name, "singularName": "", "kind": name, "namespaced": true, "verbs": verbs})
    };
    let all: Vec<Value> = names.iter().map(resource).collect();
    (200, json!({"groupVersion": "", "resources": all}))
}

impl Server {
    fn answer(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.requests.push(format!("{method} {path}"));
        let of_what = path.strip_prefix("/api/v1/namespaces/dev/");
        let failing = of_what.and_then(|what| {
            let kind = format!("{method} {what}");
            self.failing.remove(kind.as_str())
        });
        if let Some(code) = failing {
            return failure(code, "not now");
        }
        match (method, path) {
            (_, "/api") if self.nothing_is_known => failure(503, "it is all down"),
            (_, "/api") => (
                200,
                json!({"versions": ["v1"], "serverAddressByClientCIDRs": []}),
            ),
            (_, "/api/v1") => {
                resources(&["configmaps", "pods", "secrets", "vanished"], &self.verbs)
            }
            (_, "/apis") => {
                let version = json!({"groupVersion": "far.example/v1", "version": "v1"});
                let group = json!({"name": "far.example", "versions": [version], "preferredVersion": version});
                (200, json!({"groups": [group]}))
            }
            (_, "/apis/far.example/v1") if self.group_is_down => failure(503, "it is down"),
            (_, "/apis/far.example/v1") => resources(&["things"], &VERBS),
            ("GET", "/api/v1/namespaces/dev") => (200, self.namespace.clone()),
            ("PATCH", "/api/v1/namespaces/dev/status") => {
                self.namespace["status"] = body["status"].clone();
                (200, self.namespace.clone())
            }
            ("PUT", "/api/v1/namespaces/dev/finalize") => {
                self.finalized = true;
                self.namespace["spec"] = body["spec"].clone();
                (200, body)
            }
            ("DELETE", path) if path.contains("/secrets/") => {
                let (_, name) = path.split_once("/dev/").unwrap_or_default();
                self.objects.remove(name);
                (200, json!({"kind": "Status", "status": "Success"}))
            }
            _ => self.contents(method, path.rsplit('/').next().unwrap_or_default()),
        }
    }

    fn contents(&mut self, method: &str, resource: &str) -> (u16, Value) {
        let prefix = format!("{resource}/");
        if resource == "vanished" {
            return failure(404, "the server could not find the requested resource");
        }
        if method == "DELETE" {
            if self.refused.contains(resource) {
                return failure(403, "nobody may delete that");
            }
            self.deleted.push(resource.to_owned());
            if !self.slow.contains(resource) {
                self.objects.retain(|object| !object.starts_with(&prefix));
            }
        }
        let going = self.deleted.iter().any(|name| name == resource);
        let item = |object: &String| {
            let mut meta = json!({"name": object.strip_prefix(&prefix)?, "namespace": "dev"});
            if going {
                meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Some(json!({"metadata": meta}))
        };
        let items: Vec<Value> = self.objects.iter().filter_map(item).collect();
        let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {},
                          "items": items});
        (200, list)
    }
}

fn server(objects: &[&str]) -> Server {
    Server {
        namespace: json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "dev", "resourceVersion": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": [FINALIZER]},
        }),
        objects: objects.iter().map(|object| (*object).to_owned()).collect(),
        slow: BTreeSet::new(),
        refused: BTreeSet::new(),
        group_is_down: false,
        nothing_is_known: false,
        verbs: VERBS.into(),
        failing: BTreeMap::new(),
        requests: Vec::new(),
        deleted: Vec::new(),
        finalized: false,
    }
}

fn controller(server: Server) -> (Arc<Mutex<Server>>, Namespaces) {
    let server = Arc::new(Mutex::new(server));
    let own = server.clone();
    let client = client(move |method, path, body| own.lock().answer(method, path, body));
    let namespaces = Namespaces::new(context(client), &mut Informers::default());
    (server, namespaces)
}

async fn sync(controller: &Namespaces) -> anyhow::Result<Outcome> {
    controller.sync(Key::new("", "dev")).await
}

fn condition(server: &Server, kind: &str) -> (String, String) {
    let conditions = server.namespace["status"]["conditions"].as_array();
    let known = conditions
        .into_iter()
        .flatten()
        .find(|known| known["type"] == kind)
        .unwrap();
    let text = |field: &str| known[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"))
}

#[tokio::test]
async fn what_goes_at_once_is_gone_in_one_go() {
    let (server, controller) = controller(server(&["pods/a", "secrets/b", "things/c"]));
    assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
    let server = server.lock();
    assert_eq!(server.deleted[0], "pods");
    assert!(server.objects.is_empty() && server.finalized);
}

#[tokio::test]
async fn a_group_that_is_down_holds_up_the_end_and_not_the_others() {
    let mut down = server(&["secrets/b", "things/c"]);
    down.group_is_down = true;
    let (server, controller) = controller(down);
    assert!(matches!(
        sync(&controller).await.unwrap(),
        Outcome::After(_)
    ));
    {
        let mut server = server.lock();
        assert_eq!(server.deleted, ["secrets"]);
        assert!(!server.finalized);
        let (status, message) = condition(&server, "NamespaceDeletionDiscoveryFailure");
        assert_eq!(status, "True");
        assert!(message.ends_with("far.example/v1: it is down"), "{message}");
        server.group_is_down = false;
    }
    assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
    assert!(server.lock().finalized);
}

#[tokio::test]
async fn one_resource_that_nobody_may_delete_is_told_and_the_others_go() {
    let mut refusing = server(&["configmaps/a", "secrets/b"]);
    refusing.refused.insert("configmaps");
    let (server, controller) = controller(refusing);
    sync(&controller).await.unwrap_err();
    {
        let mut server = server.lock();
        assert_eq!(server.deleted, ["secrets"]);
        let told = "Failed to delete all resource types, 1 remaining: nobody may delete that";
        let expected = ("True".to_owned(), told.to_owned());
        assert_eq!(
            condition(&server, "NamespaceDeletionContentFailure"),
            expected
        );
        server.refused.clear();
    }
    // What failed then is no reason not to finish now.
    assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
    assert!(server.lock().finalized);
}

#[tokio::test]
async fn what_takes_its_time_is_looked_at_less_and_less_often() {
    let mut slow = server(&["pods/a", "secrets/b"]);
    slow.slow.insert("pods");
    let (server, controller) = controller(slow);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        match sync(&controller).await.unwrap() {
            Outcome::After(pause) => pauses.push(pause.as_secs()),
            Outcome::Done => panic!("a pod is left"),
        }
    }
    assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
    assert_eq!(
        server.lock().deleted,
        ["pods"],
        "asked once, and the rest waits"
    );
    server.lock().objects.remove("pods/a");
    assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
}

#[tokio::test]
async fn what_others_hold_a_namespace_for_is_left_to_them() {
    let mut held = server(&[]);
    held.namespace["spec"]["finalizers"] = json!(["other", FINALIZER]);
    let (server, controller) = controller(held);
    assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
    let spec = json!({"finalizers": ["other"]});
    assert_eq!(server.lock().namespace["spec"], spec);
}

#[tokio::test]
async fn one_that_has_gone_before_it_was_finalized_is_done_with() {
    let mut gone = server(&[]);
    gone.failing.insert("PUT finalize", 404);
    let (_, controller) = controller(gone);
    assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
}

#[tokio::test]
async fn whoever_is_faster_makes_it_look_again() {
    for what in ["PATCH status", "PUT finalize"] {
        let mut busy = server(&["secrets/b"]);
        busy.failing.insert(what, 409);
        let (server, controller) = controller(busy);
        sync(&controller).await.unwrap_err();
        assert!(!server.lock().finalized, "{what}");
        assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
        assert!(server.lock().finalized, "{what}");
    }
}

#[tokio::test]
async fn one_that_does_not_end_or_is_not_held_by_us_is_looked_at_and_left() {
    let mut alive = server(&["secrets/b"]);
    alive.namespace["metadata"]["deletionTimestamp"] = Value::Null;
    let mut finalized = server(&["secrets/b"]);
    finalized.namespace["spec"]["finalizers"] = json!(["other"]);
    for namespace in [alive, finalized] {
        let (server, controller) = controller(namespace);
        assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
        assert_eq!(server.lock().requests, ["GET /api/v1/namespaces/dev"]);
    }
}

#[tokio::test]
async fn nothing_goes_while_it_is_not_known_what_there_is() {
    let mut unknown = server(&["secrets/b"]);
    unknown.nothing_is_known = true;
    let (server, controller) = controller(unknown);
    // It is looked at again, whether as a failure or after a while.
    let _ = sync(&controller).await;
    {
        let mut server = server.lock();
        assert_eq!((server.deleted.len(), server.finalized), (0, false));
        let (status, message) = condition(&server, "NamespaceDeletionDiscoveryFailure");
        assert_eq!(status, "True");
        assert!(message.ends_with("it is all down"), "{message}");
        server.nothing_is_known = false;
    }
    assert_eq!(sync(&controller).await.unwrap(), Outcome::Done);
    assert!(server.lock().finalized);
}

#[tokio::test]
async fn what_does_not_go_together_goes_one_by_one() {
    const TOGETHER: &str = "DELETE /api/v1/namespaces/dev/secrets";
    for refusal in [None, Some(405), Some(404)] {
        let mut single = server(&["secrets/b", "secrets/c"]);
        match refusal {
            None => single.verbs = vec!["list", "delete"],
            Some(code) => drop(single.failing.insert("DELETE secrets", code)),
        }
        // Somebody else deletes one of them first.
        single.failing.insert("DELETE secrets/b", 404);
        let (server, controller) = controller(single);
        let first = sync(&controller).await.unwrap();
        let asked = |request: &str| {
            let server = server.lock();
            let mut requests = server.requests.iter();
            requests.any(|known| known == request)
        };
        assert_eq!(asked(TOGETHER), refusal.is_some(), "{refusal:?}");
        for name in ["b", "c"] {
            assert!(asked(&format!("{TOGETHER}/{name}")), "{refusal:?} {name}");
        }
        // Of another namespace, or of this one again, they are asked to go together: nothing is remembered.
        assert_eq!(first, Outcome::Done);
        {
            let mut server = server.lock();
            server.requests.clear();
            server.deleted.clear();
            server.objects.insert("secrets/d".to_owned());
            server.namespace["spec"]["finalizers"] = json!([FINALIZER]);
        }
        sync(&controller).await.unwrap();
        assert_eq!(asked(TOGETHER), refusal.is_some(), "{refusal:?}");
    }
}
