//! What can be done with a pod beside reading and writing it: binding it to a node, evicting it, reading its log.

use serde_json::{Value, json};

use super::api::object_of;
use super::update::{Change, Part};
use super::{Api, Author, Outcome, Reply, Request, WriteOptions, codec};
use crate::clock;
use crate::rest::options::DeleteOptions;
use crate::status::{ApiError, ApiResult, FieldError};
use crate::value;

impl Api {
    pub(super) async fn bind(&self, request: &Request) -> ApiResult<Outcome> {
        let options = WriteOptions::of(request)?;
        let (binding, warnings) =
            codec::decode_body(request, ("", "v1", "Binding"), options.validation)?;
        let target = value::str_at(&binding, &["target", "name"]);
        let kind = value::str_at(&binding, &["target", "kind"]);
        let mut errors = Vec::new();
        if !matches!(kind, "" | "Node") {
            errors.push(FieldError::not_supported(
                "target.kind",
                kind,
                &["Node", "<empty>"],
            ));
        }
        if target.is_empty() {
            errors.push(FieldError::required("target.name", ""));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Binding", &request.name, &errors));
        }
        let change = Change {
            part: Part::Internal,
            ..Change::of(request, &options)
        };
        self.modify(&change, |pod| {
            Ok((bound(request, pod, &binding, target)?, Vec::new()))
        })
        .await?;
        Ok(Outcome {
            reply: created(),
            warnings,
        })
    }

    pub(super) async fn evict(&self, request: &Request) -> ApiResult<Outcome> {
        let options = WriteOptions::of(request)?;
        let (eviction, warnings) =
            codec::decode_body(request, ("policy", "v1", "Eviction"), options.validation)?;
        let name = value::name(&eviction);
        if !name.is_empty() && name != request.name {
            return Err(ApiError::bad_request(format!(
                "name in URL does not match name in Eviction object: {} vs {name}",
                request.name
            )));
        }
        let mut delete = DeleteOptions::of_object(value::at(&eviction, &["deleteOptions"]))?;
        delete.dry_run |= options.dry_run;
        self.delete_object(
            Author::User(&request.user),
            request.resource,
            &request.namespace,
            &request.name,
            &delete,
        )
        .await?;
        Ok(Outcome {
            reply: created(),
            warnings,
        })
    }

    pub(super) async fn logs(&self, request: &Request) -> ApiResult<Outcome> {
        let pod = object_of(&self.read(request).await?)?;
        Err(why_no_log(&pod, request.query.get("container")))
    }
}

/// Why there is no log of a pod's container. Kubernetes' own words where its node would refuse as well.
fn why_no_log(pod: &Value, asked: &str) -> ApiError {
    let name = value::name(pod);
    let names: Vec<&str> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .flat_map(|kind| value::list_at(pod, &["spec", kind]))
        .map(|container| value::str_at(container, &["name"]))
        .collect();
    let container = match (asked, names.as_slice()) {
        ("", [only]) => only,
        ("", _) => {
            let listed = names.join(" ");
            return ApiError::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{listed}]"
            ));
        }
        (asked, names) if names.contains(&asked) => asked,
        (asked, _) => {
            return ApiError::bad_request(format!("container {asked} is not valid for pod {name}"));
        }
    };
    let state = ["containerStatuses", "initContainerStatuses"]
        .iter()
        .flat_map(|kind| value::list_at(pod, &["status", kind]))
        .find(|status| value::str_at(status, &["name"]) == container)
        .map(|status| value::str_at(status, &["state", "waiting", "reason"]));
    match (value::str_at(pod, &["spec", "nodeName"]), state) {
        ("", _) => ApiError::bad_request(format!("pod {name} does not have a host assigned")),
        (_, Some(reason)) if !reason.is_empty() => ApiError::bad_request(format!(
            "container {container:?} in pod {name:?} is waiting to start: {reason}"
        )),
        (node, _) => ApiError::not_implemented(format!(
            "container {container:?} in pod {name:?} has no log: its node {node:?} is hollow, and runs nothing"
        )),
    }
}

fn created() -> Reply {
    Reply::Value {
        code: 201,
        value: json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    }
}

/// The pod on its node.
fn bound(request: &Request, pod: &Value, binding: &Value, node: &str) -> ApiResult<Value> {
    let subject = crate::status::Subject {
        group: "",
        resource: "pods/binding",
        name: &request.name,
    };
    let conflict = |why: String| ApiError::conflict(subject, &why);
    if value::is_deleting(pod) {
        return Err(conflict(format!(
            "pod {} is being deleted, cannot be assigned to a host",
            request.name
        )));
    }
    let uid = value::uid(binding);
    if !uid.is_empty() && uid != value::uid(pod) {
        let own = value::uid(pod);
        return Err(conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
        )));
    }
    match value::str_at(pod, &["spec", "nodeName"]) {
        "" => {}
        there => {
            return Err(conflict(format!(
                "pod {} is already assigned to node {there:?}",
                request.name
            )));
        }
    }
    if !value::list_at(pod, &["spec", "schedulingGates"]).is_empty() {
        return Err(conflict(format!(
            "pod {} has non-empty .spec.schedulingGates",
            request.name
        )));
    }
    let mut pod = pod.clone();
    value::set(&mut pod, &["spec", "nodeName"], node);
    for (key, text) in value::strings_at(binding, &["metadata", "annotations"]) {
        value::set(&mut pod, &["metadata", "annotations", key], text);
    }
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": clock::now_rfc3339(),
    });
    let mut conditions: Vec<Value> = value::list_at(&pod, &["status", "conditions"])
        .iter()
        .filter(|one| value::str_at(one, &["type"]) != "PodScheduled")
        .cloned()
        .collect();
    conditions.push(scheduled);
    value::set(&mut pod, &["status", "conditions"], conditions);
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_log_is_told_why_there_is_none() {
        let mut pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}]}});
        let why = |pod: &Value, container: &str| {
            let error = why_no_log(pod, container);
            format!("{} {}", error.code(), error.message())
        };
        assert_eq!(why(&pod, ""), "400 pod web does not have a host assigned");
        assert_eq!(why(&pod, "b"), "400 container b is not valid for pod web");
        pod["spec"]["nodeName"] = "n1".into();
        pod["status"] = json!({"containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}]});
        assert_eq!(
            why(&pod, "a"),
            "400 container \"a\" in pod \"web\" is waiting to start: ContainerCreating"
        );
        pod["status"] = json!({"containerStatuses": [{"name": "a", "state": {"running": {}}}]});
        assert_eq!(
            why(&pod, ""),
            "501 container \"a\" in pod \"web\" has no log: its node \"n1\" is hollow, and runs nothing"
        );
        pod["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]);
        assert_eq!(
            why(&pod, ""),
            "400 a container name must be specified for pod web, choose one of: [a b]"
        );
    }
}
