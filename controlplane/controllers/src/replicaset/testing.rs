//! An API server for tests of writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use http_body_util::BodyExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use keelson_component::{Connect, Recorder};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::context::Context;

/// A server that has pods, and loses its answers, or refuses, as it is told to.
#[derive(Default)]
pub struct Server {
    /// By name.
    pub pods: BTreeMap<String, Value>,
    /// Of the next creations, how many answers are lost although the pod is created.
    pub lost: usize,
    /// Whether creations are refused.
    pub full: bool,
    /// Whether every connection is cut off before a request arrives.
    pub cut: bool,
    /// What was written as the status.
    pub status: Value,
    /// How many creations were asked for.
    pub requests: usize,
}

impl Server {
    fn answer(&mut self, method: &str, path: &str, body: Value) -> std::io::Result<(u16, Value)> {
        let name = path.rsplit('/').next().unwrap_or_default();
        match method {
            "PATCH" => {
                self.status = body["status"].clone();
                let mut set = serde_json::to_value(replica_set())?;
                set["status"] = body["status"].clone();
                Ok((200, set))
            }
            _ if self.cut => Err(std::io::Error::other("connection reset")),
            "POST" => self.create(body),
            _ => {
                let missing =
                    json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": ""});
                let pod = if method == "DELETE" {
                    self.pods.remove(name)
                } else {
                    self.pods.get(name).cloned()
                };
                Ok(pod.map_or((404, missing), |pod| (200, pod)))
            }
        }
    }

    fn create(&mut self, pod: Value) -> std::io::Result<(u16, Value)> {
        self.requests += 1;
        if self.full {
            let message = "exceeded quota";
            let refusal =
                json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": message});
            return Ok((403, refusal));
        }
        let name = pod["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if self.pods.contains_key(&name) {
            let taken =
                json!({"kind": "Status", "code": 409, "reason": "AlreadyExists", "message": ""});
            return Ok((409, taken));
        }
        self.pods.insert(name, pod.clone());
        if self.lost > 0 {
            self.lost -= 1;
            return Err(std::io::Error::other("connection reset"));
        }
        Ok((201, pod))
    }
}

/// A context whose API server that is.
pub fn context(server: &Arc<Mutex<Server>>) -> Context {
    let server = server.clone();
    let answer = move |request: http::Request<kube::client::Body>| {
        let server = server.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(std::io::Error::other)?;
            let body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            let (method, path) = (head.method.as_str(), head.uri.path());
            let (code, reply) = server.lock().answer(method, path, body)?;
            let body = http_body_util::Full::from(reply.to_string());
            let response = http::Response::builder().status(code).body(body);
            response.map_err(|error| std::io::Error::other(error.to_string()))
        }
    };
    let connect = Connect {
        client: kube::Client::new(tower::service_fn(answer), "default"),
        name: "tester".into(),
        ca_pem: None,
    };
    let recorder = Recorder::silent();
    Context { connect, recorder }
}

/// A replica set.
pub fn replica_set() -> ReplicaSet {
    let mut set = ReplicaSet::default();
    set.metadata.name = Some("web".into());
    set.metadata.namespace = Some("default".into());
    set.metadata.uid = Some("web-uid".into());
    set
}
