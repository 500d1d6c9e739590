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
    /// The replica set, as it really is.
    pub set: Option<ReplicaSet>,
    /// Of the next creations, how many answers are lost although the pod is created.
    pub lost: usize,
    /// How many pods more may be created, if that is limited.
    pub room: Option<usize>,
    /// Whether every connection is cut off before a request arrives.
    pub cut: bool,
    /// The codes with which writes to these names are refused.
    pub refused: BTreeMap<String, u16>,
    /// What was written as the status.
    pub status: Value,
    /// What was asked for: the method and the path, and the body.
    pub asked: Vec<(String, Value)>,
}

impl Server {
    /// The bodies of the requests of this method for what has this in its path.
    pub fn bodies(&self, method: &str, part: &str) -> Vec<&Value> {
        let of_it =
            |(request, _): &&(String, Value)| request.starts_with(method) && request.contains(part);
        let asked = self.asked.iter().filter(of_it);
        asked.map(|(_, body)| body).collect()
    }

    /// How many creations of pods were asked for.
    pub fn creations(&self) -> usize {
        self.bodies("POST", "/pods").len()
    }

    fn answer(&mut self, method: &str, path: &str, body: Value) -> std::io::Result<(u16, Value)> {
        self.asked.push((format!("{method} {path}"), body.clone()));
        let is_status = path.ends_with("/status");
        let name = path.trim_end_matches("/status").rsplit('/').next();
        let name = name.unwrap_or_default();
        if self.cut && !is_status {
            return Err(std::io::Error::other("connection reset"));
        }
        if method != "GET"
            && let Some(code) = self.refused.get(name)
        {
            return Ok(refusal(*code, "refused"));
        }
        match method {
            "PATCH" if is_status => {
                self.status = body["status"].clone();
                let mut set = serde_json::to_value(replica_set())?;
                set["status"] = body["status"].clone();
                Ok((200, set))
            }
            "PATCH" => Ok((200, json!({"metadata": {"name": name}}))),
            "POST" => Ok(self.create(body)?),
            "GET" if path.contains("/replicasets/") => {
                let set = self.set.as_ref().map(serde_json::to_value).transpose()?;
                Ok(set.map_or_else(|| refusal(404, ""), |set| (200, set)))
            }
            _ => {
                let pod = if method == "DELETE" {
                    self.pods.remove(name)
                } else {
                    self.pods.get(name).cloned()
                };
                Ok(pod.map_or_else(|| refusal(404, ""), |pod| (200, pod)))
            }
        }
    }

    fn create(&mut self, pod: Value) -> std::io::Result<(u16, Value)> {
        if self.room == Some(0) {
            return Ok(refusal(403, "exceeded quota"));
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        if self.pods.contains_key(name) {
            return Ok(refusal(409, ""));
        }
        self.room = self.room.map(|room| room - 1);
        self.pods.insert(name.to_owned(), pod.clone());
        if self.lost > 0 {
            self.lost -= 1;
            return Err(std::io::Error::other("connection reset"));
        }
        Ok((201, pod))
    }
}

fn refusal(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "AlreadyExists",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "code": code, "reason": reason, "message": message});
    (code, status)
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
