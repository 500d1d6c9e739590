//! An API server for tests of these loops, and what is on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::super::taints::NO_EXECUTE;
use crate::context::Context;
use crate::testing::{client, context, failure};

/// A server that agrees to everything but to some writes of pods, and notes what it is asked.
#[derive(Default)]
pub struct Server {
    /// By name.
    pub nodes: BTreeMap<String, Value>,
    /// How writes of these pods are answered.
    pub refused: BTreeMap<&'static str, u16>,
    /// Writes of pods, as in `PATCH a`.
    pub writes: Vec<(String, Value)>,
    /// Events that were written.
    pub events: Vec<Value>,
}

impl Server {
    fn answer(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match parts[2..] {
            ["nodes", name, ..] => (200, self.nodes[name].clone()),
            ["namespaces", _, "events"] => {
                self.events.push(body.clone());
                (201, body)
            }
            ["namespaces", _, "pods", name, ..] => {
                self.writes.push((format!("{method} {name}"), body));
                match self.refused.get(name) {
                    Some(code) => failure(*code, "no"),
                    None => (200, serde_json::to_value(pod(name, "True")).unwrap()),
                }
            }
            _ => panic!("{method} {path}"),
        }
    }

    /// The writes of pods since the last time.
    pub fn take(&mut self) -> Vec<String> {
        let writes = std::mem::take(&mut self.writes).into_iter();
        let mut writes: Vec<_> = writes.map(|(write, _)| write).collect();
        writes.sort();
        writes
    }
}

/// A context whose API server that is.
pub fn serve(server: &Arc<Mutex<Server>>) -> Context {
    let server = server.clone();
    context(client(move |method, path, body| {
        server.lock().answer(method, path, body)
    }))
}

/// A node with taints of these keys that make pods leave.
pub fn node(name: &str, ready: &str, taints: &[&str]) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(name.into());
    node.metadata.uid = Some(format!("{name}-uid"));
    let taints = taints.iter().map(|key| Taint {
        key: (*key).into(),
        effect: NO_EXECUTE.into(),
        time_added: Some(Time(Timestamp::now())),
        value: None,
    });
    node.spec.get_or_insert_default().taints = Some(taints.collect());
    let condition = NodeCondition {
        type_: "Ready".into(),
        status: ready.into(),
        ..NodeCondition::default()
    };
    node.status.get_or_insert_default().conditions = Some(vec![condition]);
    node
}

/// A pod on the node `n1`.
pub fn pod(name: &str, ready: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("{name}-uid")},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    });
    serde_json::from_value(pod).unwrap()
}
