//! The scale subresource: `spec.replicas` of whatever has them, as an `autoscaling/v1` Scale.

use serde_json::{Value, json};

use super::api::{object_of, shown};
use super::codec;
use super::update::{Change, Changed};
use super::{Api, Outcome, Reply, Request, WriteOptions};
use crate::resources::Resource;
use crate::status::{ApiError, ApiResult, FieldError};
use crate::value;

const SCALE: codec::Gvk<'static> = ("autoscaling", "v1", "Scale");

impl Api {
    pub(super) async fn get_scale(&self, request: &Request) -> ApiResult<Outcome> {
        let object = object_of(&self.read(request).await?)?;
        Ok(reply(&shown(request.resource, object)))
    }

    pub(super) async fn update_scale(&self, request: &Request) -> ApiResult<Outcome> {
        let options = WriteOptions::of(request)?;
        let (scale, warnings) = codec::decode_body(request, SCALE, options.validation)?;
        let change = Change::of(request, &options);
        let resource = request.resource;
        let changed = self.modify(&change, |old| scaled(resource, old, &scale, Vec::new()));
        let (object, _) = changed.await?;
        let mut outcome = reply(&object);
        outcome.warnings = warnings;
        Ok(outcome)
    }

    pub(super) async fn patch_scale(&self, request: &Request) -> ApiResult<Outcome> {
        let options = WriteOptions::of(request)?;
        let patch = codec::decode_patch(request)?;
        let change = Change::of(request, &options);
        let resource = request.resource;
        let changed = self.modify(&change, |old| {
            let old_scale = scale_of(old);
            let (scale, warnings) =
                codec::apply_patch(&patch, &old_scale, SCALE, options.validation)?;
            scaled(resource, old, &scale, warnings)
        });
        let (object, warnings) = changed.await?;
        let mut outcome = reply(&object);
        outcome.warnings = warnings;
        Ok(outcome)
    }
}

fn reply(object: &Value) -> Outcome {
    Reply::Value {
        code: 200,
        value: scale_of(object),
    }
    .into()
}

/// The object with the number of replicas that `scale` says.
fn scaled(resource: &Resource, old: &Value, scale: &Value, warnings: Vec<String>) -> Changed {
    let replicas = value::int_at(scale, &["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let why = "must be greater than or equal to 0";
        let error = FieldError::invalid("spec.replicas", replicas, why);
        let name = value::name(old);
        return Err(ApiError::invalid("autoscaling", "Scale", name, &[error]));
    }
    let name = value::name(scale);
    if !name.is_empty() && name != value::name(old) {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            resource.subject(value::name(old)).name
        )));
    }
    let mut new = old.clone();
    // Compared with what is there, like any object's.
    value::copy(scale, &mut new, &["metadata", "resourceVersion"]);
    let uid = value::uid(scale);
    if !uid.is_empty() {
        value::set(&mut new, &["metadata", "uid"], uid);
    }
    value::set(&mut new, &["spec", "replicas"], replicas);
    Ok((new, warnings))
}

fn scale_of(object: &Value) -> Value {
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {},
        "spec": {},
        "status": {"replicas": value::int_at(object, &["status", "replicas"]).unwrap_or(0)},
    });
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        value::copy(object, &mut scale, &["metadata", field]);
    }
    value::copy(object, &mut scale, &["spec", "replicas"]);
    let selector = crate::resources::selector_text(value::at(object, &["spec", "selector"]));
    if !selector.is_empty() {
        value::set(&mut scale, &["status", "selector"], selector);
    }
    scale
}
