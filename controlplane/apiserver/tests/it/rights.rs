//! Who is known, and what he may do.

use keelson_apiserver::serve::Pki;
use serde_json::{Value, json};

use crate::support::{Client, RunningStore, Server, StoreKind};

/// A node, as the administrator may pretend to be it.
struct Node<'a>(&'a Client, &'static str);

impl Node<'_> {
    async fn asks(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let headers = [
            ("impersonate-user", self.1),
            ("impersonate-group", "system:nodes"),
            ("content-type", "application/merge-patch+json"),
        ];
        let headers = match method {
            "POST" => &headers[..2],
            _ => &headers[..],
        };
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let reply = self.0.request(method, path, headers, body.as_bytes()).await;
        (reply.code, reply.message().to_owned())
    }

    async fn code(&self, method: &str, path: &str, body: &Value) -> u16 {
        self.asks(method, path, body).await.0
    }
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

#[tokio::test]
async fn a_node_may_do_what_is_its_own_and_nothing_else() {
    let server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let admin = server.client(Some("admin"));
    let n1 = Node(&admin, "system:node:n1");
    assert_eq!(n1.code("POST", "/api/v1/nodes", &node("n1")).await, 201);
    assert_eq!(
        n1.asks("POST", "/api/v1/nodes", &node("n2")).await,
        (
            403,
            "nodes is forbidden: node \"n1\" is not allowed to modify node \"n2\"".to_owned()
        )
    );
    let here = "/api/v1/namespaces/default";
    for name in ["needed", "other"] {
        let secret = json!({"metadata": {"name": name}});
        admin.post(&format!("{here}/secrets"), &secret).await.ok();
    }
    admin
        .post(
            "/api/v1/namespaces",
            &json!({"metadata": {"name": "other"}}),
        )
        .await
        .ok();
    let same_name = json!({"metadata": {"name": "needed"}});
    let elsewhere = "/api/v1/namespaces/other/secrets";
    admin.post(elsewhere, &same_name).await.ok();
    for (name, on) in [("web", "n1"), ("db", "n2")] {
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": on,
            "containers": [{"name": "a", "image": "a", "envFrom": [{"secretRef": {"name": "needed"}}]}]}});
        admin.post(&format!("{here}/pods"), &pod).await.ok();
    }
    let (none, status) = (Value::Null, json!({"status": {"message": "x"}}));
    let taint = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    for (code, method, path, body) in [
        (200, "GET", "/api/v1/nodes/n1", &none),
        (403, "GET", "/api/v1/nodes", &none),
        (
            200,
            "GET",
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1",
            &none,
        ),
        (403, "GET", "/api/v1/pods", &none),
        (
            200,
            "GET",
            "/api/v1/namespaces/default/secrets/needed",
            &none,
        ),
        (
            403,
            "GET",
            "/api/v1/namespaces/default/secrets/other",
            &none,
        ),
        (403, "GET", "/api/v1/secrets", &none),
        (
            200,
            "GET",
            "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dneeded",
            &none,
        ),
        (
            403,
            "GET",
            "/api/v1/secrets?fieldSelector=metadata.name%3Dneeded",
            &none,
        ),
        (403, "GET", "/api/v1/secrets/needed?watch=true", &none),
        // It would be a watch of another node's pod.
        (
            400,
            "GET",
            "/api/v1/namespaces/default/pods/db?watch=true&fieldSelector=spec.nodeName%3Dn1",
            &none,
        ),
        (
            403,
            "PATCH",
            "/api/v1/namespaces/default/pods/web/status",
            &json!({"metadata": {"labels": {"app": "shop"}}}),
        ),
        (
            403,
            "PATCH",
            "/api/v1/nodes/n1",
            &json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "u"}]}}),
        ),
        (
            200,
            "PATCH",
            "/api/v1/namespaces/default/pods/web/status",
            &status,
        ),
        (
            403,
            "PATCH",
            "/api/v1/namespaces/default/pods/db/status",
            &status,
        ),
        (403, "PATCH", "/api/v1/nodes/n1", &taint),
        (403, "DELETE", "/api/v1/nodes/n1", &none),
        (403, "DELETE", "/api/v1/namespaces/default/pods/db", &none),
        (200, "DELETE", "/api/v1/namespaces/default/pods/web", &none),
    ] {
        assert_eq!(n1.code(method, path, body).await, code, "{method} {path}");
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "a"}]}});
    let (code, why) = n1.asks("POST", &format!("{here}/pods"), &pod).await;
    assert_eq!(code, 403);
    assert!(
        why.ends_with("node \"n1\" can only create mirror pods"),
        "{why}"
    );
    let made = admin.get("/api/v1/nodes/n1").await.ok();
    let uid = &made["metadata"]["uid"];
    let owner =
        json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true});
    let mirror = |name: &str, owner: &Value, extra: Value| {
        let mut spec = json!({"nodeName": "n1", "containers": [{"name": "a", "image": "a"}]});
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().cloned().unwrap());
        json!({"metadata": {"name": name, "ownerReferences": [owner],
            "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": spec})
    };
    let of_another =
        json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": true});
    let volume = |source: Value| json!({"volumes": [source]});
    for (code, pod) in [
        (201, mirror("plain", &owner, json!({}))),
        (403, mirror("m", &of_another, json!({}))),
        (
            403,
            mirror("m", &owner, json!({"serviceAccountName": "default"})),
        ),
        (
            403,
            mirror(
                "m",
                &owner,
                volume(json!({"name": "v", "secret": {"secretName": "other"}})),
            ),
        ),
        (
            403,
            mirror(
                "m",
                &owner,
                volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}})),
            ),
        ),
    ] {
        let (answered, why) = n1.asks("POST", &format!("{here}/pods"), &pod).await;
        assert_eq!(answered, code, "{why} {pod}");
    }
    let secret = format!("{here}/secrets/other");
    assert_eq!(n1.code("GET", &secret, &none).await, 403);
    // Asked about, it is the same.
    for (name, allowed) in [("needed", true), ("other", false)] {
        let review = json!({"spec": {"user": "system:node:n1", "groups": ["system:nodes"],
            "resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": "default", "name": name}}});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = admin.post(path, &review).await.ok();
        assert_eq!(answer["status"]["allowed"], allowed, "{name}");
    }
}

#[tokio::test]
async fn clients_of_another_authority_are_known_beside_the_clusters_own() {
    let other = tempfile::tempdir().unwrap();
    let pki = Pki::open(other.path()).unwrap();
    pki.client("jane", "jane", "developers").unwrap();
    let given = other.path().join("clients.crt");
    std::fs::copy(other.path().join("ca.crt"), &given).unwrap();
    let store = RunningStore::start(StoreKind::Etcd).await;
    let flag = format!("--client-ca-file={}", given.display());
    // It is the administrator, by the kubeconfig's certificate, who sees that it is ready.
    let server = Server::start_with(store, &[flag.as_str()]).await;
    std::fs::copy(server.pki().join("ca.crt"), other.path().join("ca.crt")).unwrap();
    let jane = Client::of(server.port, other.path(), Some("jane")).unwrap();
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = jane.post(path, &json!({})).await.ok();
    assert_eq!(review["status"]["userInfo"]["username"], "jane");
}
