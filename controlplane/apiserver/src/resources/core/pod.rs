//! Pods.

use serde_json::{Value, json};

use crate::resources::{Column, EVERY_VERB, Field, Grace, Resource, Rules, Subresource, pod_spec};
use crate::status::FieldError;
use crate::validate::pods::{self, SpecOf};
use crate::value;

use super::pod_status;

pub static POD: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    namespaced: true,
    storage: "pods",
    verbs: EVERY_VERB,
    subresources: &[
        Subresource::status(("", "v1", "Pod")),
        Subresource {
            name: "binding",
            kind: ("", "v1", "Binding"),
            verbs: &["create"],
        },
        Subresource {
            name: "eviction",
            kind: ("policy", "v1", "Eviction"),
            verbs: &["create"],
        },
        Subresource {
            name: "log",
            kind: ("", "v1", "Pod"),
            verbs: &["get"],
        },
    ],
    columns: &[
        Column::object_name(),
        Column::new("Ready", "string"),
        Column::new("Status", "string"),
        Column::new("Restarts", "string"),
        Column::new("Age", "string"),
        Column::wide("IP", "string"),
        Column::wide("Node", "string"),
        Column::wide("Nominated Node", "string"),
        Column::wide("Readiness Gates", "string"),
    ],
    row: pod_status::row,
    fields: &[
        field("spec.nodeName", &["spec", "nodeName"], ""),
        field("spec.restartPolicy", &["spec", "restartPolicy"], ""),
        field("spec.schedulerName", &["spec", "schedulerName"], ""),
        field(
            "spec.serviceAccountName",
            &["spec", "serviceAccountName"],
            "",
        ),
        field("spec.hostNetwork", &["spec", "hostNetwork"], "false"),
        field("status.phase", &["status", "phase"], ""),
        field("status.podIP", &["status", "podIP"], ""),
        field(
            "status.nominatedNodeName",
            &["status", "nominatedNodeName"],
            "",
        ),
    ],
    indexed_by: Some("spec.nodeName"),
    rules: &PodRules,
    conversion: None,
};

const fn field(name: &'static str, path: &'static [&'static str], absent: &'static str) -> Field {
    Field { name, path, absent }
}

struct PodRules;

impl Rules for PodRules {
    fn counts_generation(&self) -> bool {
        true
    }

    fn splits_status(&self) -> bool {
        true
    }

    fn status_takes_labels(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        pod_spec::default(object, &["spec"], SpecOf::Pod);
        value::default(object, &["spec", "enableServiceLinks"], true);
    }

    fn prepare_create(&self, object: &mut Value) {
        let class = qos_class(object);
        value::set(
            object,
            &["status"],
            json!({"phase": "Pending", "qosClass": class}),
        );
        value::default(object, &["spec", "priority"], 0);
        value::default(
            object,
            &["spec", "preemptionPolicy"],
            "PreemptLowerPriority",
        );
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        // Who writes it need not know of it.
        let path = ["status", "qosClass"];
        if value::at(new, &path).is_null() {
            value::copy(old, new, &path);
        }
    }

    fn validate_new(&self, object: &Value, errors: &mut Vec<FieldError>) {
        pods::validate_new(value::at(object, &["spec"]), errors);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let annotations = value::at(object, &["metadata", "annotations"]);
        pods::validate_annotations(annotations, "metadata.annotations", errors);
        let spec = value::at(object, &["spec"]);
        pods::validate_spec(spec, SpecOf::Pod, "spec", errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        pods::warnings(value::at(object, &["spec"]))
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        pods::validate_update(new, old, errors);
    }

    fn grace(&self, object: &Value, asked: Option<i64>) -> Grace {
        // What runs nowhere, or no longer, has nothing to wind up.
        let phase = value::str_at(object, &["status", "phase"]);
        let is_over = matches!(phase, "Failed" | "Succeeded");
        if value::str_at(object, &["spec", "nodeName"]).is_empty() || is_over {
            return Some(0);
        }
        let own = value::int_at(object, &["spec", "terminationGracePeriodSeconds"]);
        Some(asked.or(own).unwrap_or(30))
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

/// The class by which a node's agent decides who has to go when memory runs short.
fn qos_class(pod: &Value) -> &'static str {
    let containers: Vec<&Value> = value::list_at(pod, &["spec", "containers"])
        .iter()
        .chain(value::list_at(pod, &["spec", "initContainers"]))
        .collect();
    let asks = |container: &Value, side: &str, resource: &str| {
        let quantity = value::str_at(container, &["resources", side, resource]).to_owned();
        Some(quantity).filter(|quantity| !quantity.is_empty() && quantity != "0")
    };
    let any = |container: &&Value| {
        ["cpu", "memory"].iter().any(|resource| {
            asks(container, "limits", resource).is_some()
                || asks(container, "requests", resource).is_some()
        })
    };
    let guaranteed = |container: &&Value| {
        ["cpu", "memory"].iter().all(|resource| {
            let limit = asks(container, "limits", resource);
            limit.is_some() && limit == asks(container, "requests", resource)
        })
    };
    if !containers.iter().any(any) {
        "BestEffort"
    } else if containers.iter().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_service_follows_from_what_is_asked_for() {
        let class = |resources: Value| {
            qos_class(&json!({"spec": {"containers": [{"resources": resources}]}}))
        };
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        let all = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({"requests": all, "limits": all})), "Guaranteed");
    }

    #[test]
    fn who_replaces_the_status_need_not_know_the_class() {
        let old = json!({"status": {"phase": "Pending", "qosClass": "Burstable"}});
        let mut new = json!({"status": {"phase": "Running"}});
        PodRules.prepare_status(&mut new, &old);
        assert_eq!(
            new["status"],
            json!({"phase": "Running", "qosClass": "Burstable"})
        );
    }

    #[test]
    fn a_pod_that_runs_nowhere_goes_at_once() {
        let mut pod = json!({"spec": {"terminationGracePeriodSeconds": 20}});
        assert_eq!(PodRules.grace(&pod, Some(5)), Some(0));
        pod["spec"]["nodeName"] = "n1".into();
        assert_eq!(PodRules.grace(&pod, None), Some(20));
        assert_eq!(PodRules.grace(&pod, Some(5)), Some(5));
        pod["status"] = json!({"phase": "Succeeded"});
        assert_eq!(PodRules.grace(&pod, Some(5)), Some(0));
    }
}
