//! A pod's end that says why.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{is_conflict, is_not_found};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch};
use serde_json::json;

use crate::common::pods::{condition, is_terminal};
use crate::context::{Context, delete_this};

/// Deletes a pod, having written into it why. Without a grace nobody will say that it has ended: so we do.
pub async fn delete_with_reason(
    context: &Context,
    pod: &Pod,
    (reason, message): (&str, &str),
    grace: Option<u32>,
) -> kube::Result<()> {
    let api = context.api::<Pod>(&pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let gone = |error: &kube::Error| is_not_found(error) || is_conflict(error);
    let told = condition(pod, "DisruptionTarget").is_some_and(|known| known.status == "True");
    let ended = grace == Some(0) && !is_terminal(pod);
    if !told || ended {
        let mut patch = json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": Time(Timestamp::now()),
            }]},
        });
        if ended {
            patch["status"]["phase"] = json!("Failed");
        }
        let params = context.connect.patch();
        match api
            .patch_status(&name, &params, &Patch::Strategic(patch))
            .await
        {
            Err(error) if gone(&error) => return Ok(()),
            result => drop(result?),
        }
    }
    let mut params: DeleteParams = delete_this(pod);
    params.grace_period_seconds = grace;
    match api.delete(&name, &params).await {
        Err(error) if gone(&error) => Ok(()),
        result => result.map(drop),
    }
}
