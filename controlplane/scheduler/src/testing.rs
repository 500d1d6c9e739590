//! Nodes and pods for tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::cluster::NodeFacts;
use crate::pod::PodInfo;

/// A node of 4 cores, 8 GiB and 110 pods.
pub fn node(name: &str) -> NodeMaker {
    NodeMaker {
        name: name.to_owned(),
        value: json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
        }),
    }
}

/// Makes a node.
pub struct NodeMaker {
    pub name: String,
    value: Value,
}

impl NodeMaker {
    pub fn has(mut self, cpu: &str, memory: &str) -> NodeMaker {
        self.value["status"]["allocatable"]["cpu"] = cpu.into();
        self.value["status"]["allocatable"]["memory"] = memory.into();
        self
    }

    pub fn allows(mut self, resource: &str, amount: &str) -> NodeMaker {
        self.value["status"]["allocatable"][resource] = amount.into();
        self
    }

    pub fn label(mut self, key: &str, value: &str) -> NodeMaker {
        self.value["metadata"]["labels"][key] = value.into();
        self
    }

    pub fn tainted(mut self, key: &str, value: &str, effect: &str) -> NodeMaker {
        self.value["spec"]["taints"] = json!([{"key": key, "value": value, "effect": effect}]);
        self
    }

    pub fn cordoned(mut self) -> NodeMaker {
        self.value["spec"]["unschedulable"] = true.into();
        self
    }

    pub fn node(&self) -> Node {
        serde_json::from_value(self.value.clone()).unwrap()
    }

    pub fn facts(&self) -> NodeFacts {
        NodeFacts::new(&self.node())
    }
}

/// A pod with one container, in the namespace `default`.
pub fn pod(name: &str) -> PodMaker {
    PodMaker(json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {}},
        "spec": {"containers": [{"name": "c", "ports": []}]},
    }))
}

/// Makes a pod.
pub struct PodMaker(Value);

impl PodMaker {
    pub fn asks(mut self, cpu: &str, memory: &str) -> PodMaker {
        self.0["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": cpu, "memory": memory}});
        self
    }

    pub fn asks_for(mut self, resource: &str, amount: &str) -> PodMaker {
        self.0["spec"]["containers"][0]["resources"]["requests"][resource] = amount.into();
        self
    }

    pub fn port(mut self, port: i32) -> PodMaker {
        self.0["spec"]["containers"][0]["ports"] =
            json!([{"containerPort": port, "hostPort": port}]);
        self
    }

    pub fn in_namespace(mut self, namespace: &str) -> PodMaker {
        self.0["metadata"]["namespace"] = namespace.into();
        self
    }

    pub fn label(mut self, key: &str, value: &str) -> PodMaker {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }

    pub fn of(mut self, controller: &str) -> PodMaker {
        self.0["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": controller, "uid": controller, "controller": true,
        }]);
        self
    }

    /// Sets a field of the spec.
    pub fn spec(mut self, field: &str, value: Value) -> PodMaker {
        self.0["spec"][field] = value;
        self
    }

    pub fn pod(&self) -> Pod {
        serde_json::from_value(self.0.clone()).unwrap()
    }

    pub fn info(&self) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(&self.pod()))
    }
}
