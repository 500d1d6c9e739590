//! What a node may write of what it may write at all, as Kubernetes' NodeRestriction has it: itself, its Lease, and
//! mirrors of pods that it runs by itself.

use serde_json::Value;

use crate::rest::Request;
use crate::status::{ApiError, ApiResult};
use crate::value;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels of Kubernetes' own that a node says of itself.
const OWN_LABELS: [&str; 12] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];

/// Whether a node may make the object that it sends. Anybody else may.
pub fn check_new_of_node(request: &Request, object: &Value) -> ApiResult<()> {
    let Some(node) = request.user.node().filter(|_| request.part().is_empty()) else {
        return Ok(());
    };
    let name = value::name(object);
    match request.resource.storage {
        "minions" if name != node => refuse(
            request,
            format!("node {node:?} is not allowed to modify node {name:?}"),
        ),
        "minions" => match forbidden_labels(object, &Value::Null) {
            labels if labels.is_empty() => Ok(()),
            labels => refuse(
                request,
                format!("node {node:?} is not allowed to set the following labels: {labels}"),
            ),
        },
        "leases" if name != node => refuse(
            request,
            "can only access node lease with the same name as the requesting node".to_owned(),
        ),
        "pods" => {
            let is_mirror = value::at(object, &["metadata", "annotations", MIRROR]).is_string();
            let is_here = value::str_at(object, &["spec", "nodeName"]) == node;
            match (is_mirror, is_here) {
                (true, true) => Ok(()),
                (false, _) => refuse(
                    request,
                    format!(
                        "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                    ),
                ),
                (true, false) => refuse(
                    request,
                    format!("node {node:?} can only create pods with spec.nodeName set to itself"),
                ),
            }
        }
        _ => Ok(()),
    }
}

/// Whether a node may change an object so. Anybody else may.
pub fn check_change_of_node(request: &Request, old: &Value, new: &Value) -> ApiResult<()> {
    let Some(node) = request.user.node() else {
        return Ok(());
    };
    if request.resource.storage != "minions" {
        return Ok(());
    }
    let taints = ["spec", "taints"];
    let is_main = request.part().is_empty();
    if is_main && !value::same(value::at(new, &taints), value::at(old, &taints)) {
        let why = format!("node {node:?} is not allowed to modify taints");
        return refuse(request, why);
    }
    match forbidden_labels(new, old) {
        labels if labels.is_empty() => Ok(()),
        labels => refuse(
            request,
            format!("node {node:?} is not allowed to modify labels: {labels}"),
        ),
    }
}

fn refuse(request: &Request, why: String) -> ApiResult<()> {
    Err(ApiError::forbidden(request.subject(), why))
}

/// The labels that differ and are not a node's to set.
fn forbidden_labels(new: &Value, old: &Value) -> String {
    let labels = |object: &Value| value::at(object, &["metadata", "labels"]).clone();
    let (new, old) = (labels(new), labels(old));
    let mut keys: Vec<&str> = value::strings_at(&new, &[])
        .chain(value::strings_at(&old, &[]))
        .map(|(key, _)| key)
        .filter(|key| new.get(key) != old.get(key) && !is_own_label(key))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys.join(", ")
}

fn is_own_label(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else {
        return true;
    };
    let is_in = |domain: &str| {
        prefix
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if is_in("node-restriction.kubernetes.io") {
        return false;
    }
    OWN_LABELS.contains(&key)
        || is_in("kubelet.kubernetes.io")
        || is_in("node.kubernetes.io")
        || !(is_in("kubernetes.io") || is_in("k8s.io"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_sets_its_own_labels_and_not_those_that_others_trust() {
        let node = |labels: Value| json!({"metadata": {"labels": labels}});
        let old = node(json!({"a": "b", "node-role.kubernetes.io/worker": ""}));
        let own = node(
            json!({"a": "c", "kubernetes.io/hostname": "n1", "example.com/x": "y",
            "node-role.kubernetes.io/worker": ""}),
        );
        assert_eq!(forbidden_labels(&own, &old), "");
        let others = node(json!({"node-restriction.kubernetes.io/team": "x"}));
        assert_eq!(
            forbidden_labels(&others, &old),
            "node-restriction.kubernetes.io/team, node-role.kubernetes.io/worker"
        );
    }
}
