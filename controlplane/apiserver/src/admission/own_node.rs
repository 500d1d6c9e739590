//! What a node may write of what it may write at all, as Kubernetes' NodeRestriction has it: itself, its Lease, mirrors
//! of pods that it runs by itself, and its pods' status and deletion.
//!
//! Rights are given by what the caches know ([`crate::serve::auth`]). Here is looked at the object that is written, as
//! the store has it then.

use serde_json::Value;

use crate::resources::{self, Resource};
use crate::rest::{Api, Author, Nodes, Request};
use crate::status::{ApiError, ApiResult, Subject};
use crate::value;

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

/// Whether a node may make the object that it sends. Anybody else may; and an agent of many nodes may make any node.
pub async fn check_new_of_node(api: &Api, request: &Request, object: &Value) -> ApiResult<()> {
    let Some(Nodes::One(node)) = request.user.nodes().filter(|_| request.part().is_empty()) else {
        return Ok(());
    };
    let name = value::name(object);
    let refused = match request.resource.storage {
        "minions" if name != node => Some(format!(
            "node {node:?} is not allowed to modify node {name:?}"
        )),
        "minions" => match forbidden_labels(object, &Value::Null) {
            labels if labels.is_empty() => None,
            labels => Some(format!(
                "node {node:?} is not allowed to set the following labels: {labels}"
            )),
        },
        "leases" if name != node => {
            Some("can only access node lease with the same name as the requesting node".to_owned())
        }
        "pods" => match why_no_mirror(node, object) {
            None => why_not_owner(api, node, object).await?,
            refused => refused,
        },
        _ => None,
    };
    refused.map_or(Ok(()), |why| refuse(request.subject(), why))
}

/// Why a node may not make such a pod, but for whose it is.
fn why_no_mirror(node: &str, pod: &Value) -> Option<String> {
    if !resources::is_mirror(pod) {
        return Some(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    if value::str_at(pod, &["spec", "nodeName"]) != node {
        return Some(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    // It would thereby be given what it names.
    resources::refers_to(pod)
        .map(|what| format!("node {node:?} can not create pods that reference {what}"))
}

/// Why a node may not say that whoever it names owns its mirror: that is the node itself, or the pod outlives it.
async fn why_not_owner(api: &Api, node: &str, pod: &Value) -> ApiResult<Option<String>> {
    let owners = value::list_at(pod, &["metadata", "ownerReferences"]);
    let [owner] = owners else {
        let how = match owners {
            [] => "an owner reference",
            _ => "a single owner reference",
        };
        return Ok(Some(format!(
            "node {node:?} can only create pods with {how} set to itself"
        )));
    };
    let get = |field: &str| value::str_at(owner, &[field]);
    if (get("apiVersion"), get("kind"), get("name")) != ("v1", "Node", node) {
        return Ok(Some(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        )));
    }
    if !value::bool_at(owner, &["controller"]) {
        return Ok(Some(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        )));
    }
    if value::bool_at(owner, &["blockOwnerDeletion"]) {
        return Ok(Some(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        )));
    }
    let uid = api.uid_of(resources::nodes(), "", node).await?;
    Ok((get("uid") != uid).then(|| {
        let said = get("uid");
        format!("node {node} UID mismatch: expected {said} got {uid}")
    }))
}

/// Whether an author may change an object so. All may but nodes, which may change themselves, and their pods' status.
pub fn check_change_of_node(
    by: Author<'_>,
    resource: &Resource,
    old: &Value,
    new: &Value,
) -> ApiResult<()> {
    let Some(nodes) = by.nodes() else {
        return Ok(());
    };
    let who = called(nodes);
    let differs = |path: &[&str]| !value::same(value::at(new, path), value::at(old, path));
    let refused = match resource.storage {
        "minions" => {
            let labels = forbidden_labels(new, old);
            if differs(&["spec", "taints"]) {
                Some(format!("{who} is not allowed to modify taints"))
            } else if differs(&["metadata", "ownerReferences"]) {
                // It would go with an owner that is not there, and come again without its taints.
                Some(format!("{who} is not allowed to modify ownerReferences"))
            } else if !labels.is_empty() {
                Some(format!("{who} is not allowed to modify labels: {labels}"))
            } else {
                None
            }
        }
        "pods" if !has(nodes, old) => Some(format!(
            "{who} can only update pod status for pods with spec.nodeName set to itself"
        )),
        // Whoever selects pods would be led to it.
        "pods" if differs(&["metadata", "labels"]) => {
            Some(format!("{who} cannot update labels through pod status"))
        }
        _ => None,
    };
    let subject = resource.subject(value::name(old));
    refused.map_or(Ok(()), |why| refuse(subject, why))
}

/// Whether an author may delete or evict an object. All may but nodes, which may do so with their own pods.
pub fn check_deletion_by_node(by: Author<'_>, resource: &Resource, old: &Value) -> ApiResult<()> {
    match by.nodes() {
        Some(nodes) if resource.storage == "pods" && !has(nodes, old) => {
            let who = called(nodes);
            refuse(
                resource.subject(value::name(old)),
                format!("{who} can only delete pods with spec.nodeName set to itself"),
            )
        }
        _ => Ok(()),
    }
}

fn called(nodes: Nodes<'_>) -> String {
    match nodes {
        Nodes::One(name) => format!("node {name:?}"),
        Nodes::Any => "an agent of nodes".to_owned(),
    }
}

/// Whether a pod is on one of the nodes.
fn has(nodes: Nodes<'_>, pod: &Value) -> bool {
    nodes.are(value::str_at(pod, &["spec", "nodeName"]))
}

fn refuse(subject: Subject<'_>, why: String) -> ApiResult<()> {
    Err(ApiError::forbidden(subject, why))
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
