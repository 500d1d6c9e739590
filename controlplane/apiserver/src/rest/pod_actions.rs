//! What can be done with a pod beside reading and writing it: binding it to a node, evicting it, reading its log.

use serde_json::{Value, json};

use super::update::{Change, Part};
use super::{Api, Outcome, Reply, Request, WriteOptions, codec};
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
        self.delete_object(request.resource, &request.namespace, &request.name, &delete)
            .await?;
        Ok(Outcome {
            reply: created(),
            warnings,
        })
    }

    pub(super) async fn logs(&self, request: &Request) -> ApiResult<Outcome> {
        self.read(request).await?;
        // Nodes run no real containers, so that there is nobody who could be asked.
        Err(ApiError::not_found(request.subject()).with_message(format!(
            "the server could not find the requested resource ( pods/log {}): its node keeps no logs",
            request.name
        )))
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
