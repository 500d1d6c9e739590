//! From a request's body to an object, and what is done about fields that the schema does not know.

use std::fmt::Display;

use keelson_schema::decode::{self, Body, Encoding, Fault, TypeMeta};
use keelson_schema::patch::{self, Patch};
use keelson_schema::{Schemas, Type};
use serde_json::Value;

use super::Request;
use crate::resources::Resource;
use crate::status::{ApiError, ApiResult, FieldError};
use crate::value;

/// The body types that are understood.
pub const ACCEPTED: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// The patch types that are understood.
const ACCEPTED_PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// What is done about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// The request is refused.
    Strict,
    /// They are dropped, and the caller is told.
    Warn,
    /// They are dropped.
    Ignore,
}

/// Group, version and kind.
pub type Gvk<'a> = (&'a str, &'a str, &'a str);

/// The type of a kind, which the table of types has.
pub fn type_of((group, version, kind): Gvk<'_>) -> ApiResult<Type<'static>> {
    Schemas::kubernetes()
        .kind(group, version, kind)
        .ok_or_else(|| ApiError::internal(format!("no schema for {group}/{version} {kind}")))
}

/// The kind of a resource's objects.
pub fn gvk(resource: &Resource) -> Gvk<'static> {
    (resource.group, resource.version, resource.kind)
}

/// Decodes a request's body, which must hold an object of the kind. Gives it with what the caller is to be warned of.
pub fn decode_body(
    request: &Request,
    gvk: Gvk<'_>,
    validation: FieldValidation,
) -> ApiResult<(Value, Vec<String>)> {
    decode_bytes(&request.body, &request.content_type, gvk, validation)
}

/// The same of a body and its content type.
pub fn decode_bytes(
    body: &[u8],
    content_type: &str,
    gvk: Gvk<'_>,
    validation: FieldValidation,
) -> ApiResult<(Value, Vec<String>)> {
    let (group, version, kind) = gvk;
    let encoding = match content_type {
        "" | "application/json" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    };
    let nameless = TypeMeta::default();
    let body = Body::parse(encoding, body).map_err(|error| refused(&nameless, kind, &error))?;
    let meta = body
        .type_meta()
        .map_err(|error| refused(&nameless, kind, &error))?;
    let expected = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    if !meta.api_version.is_empty() && meta.api_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({expected})",
            meta.api_version
        )));
    }
    if !meta.kind.is_empty() && meta.kind != kind {
        let why = format!("it is a {}", meta.kind);
        return Err(refused(&meta, kind, &why));
    }
    let decoded = body
        .decode(type_of(gvk)?)
        .map_err(|error| refused(&meta, kind, &error))?;
    let mut object = decoded.value;
    value::set(&mut object, &["apiVersion"], expected);
    value::set(&mut object, &["kind"], kind);
    let warnings = judge(&decoded.faults, validation, |why| {
        refused(&meta, kind, &why)
    })?;
    Ok((object, warnings))
}

fn refused(meta: &TypeMeta, kind: &str, why: &dyn Display) -> ApiError {
    ApiError::bad_request(match meta.kind.as_str() {
        "" => format!("the object provided is unrecognized (must be of type {kind}): {why}"),
        said => {
            let version = meta.group_version().1;
            format!("{said} in version {version:?} cannot be handled as a {kind}: {why}")
        }
    })
}

/// What becomes of faults: warnings, a failure, or nothing.
fn judge(
    faults: &[Fault],
    validation: FieldValidation,
    refuse: impl FnOnce(String) -> ApiError,
) -> ApiResult<Vec<String>> {
    match validation {
        FieldValidation::Strict if !faults.is_empty() => Err(refuse(decode::strict_error(faults))),
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(faults.iter().map(Fault::to_string).collect()),
    }
}

/// Parses a request's patch.
pub fn decode_patch(request: &Request) -> ApiResult<Patch> {
    let kind = match request.content_type.as_str() {
        "application/json-patch+json" => patch::Kind::Json,
        "application/merge-patch+json" => patch::Kind::Merge,
        "application/strategic-merge-patch+json" => patch::Kind::Strategic,
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED_PATCHES)),
    };
    Patch::parse(kind, &request.body).map_err(patch_failed)
}

fn patch_failed(error: patch::Error) -> ApiError {
    match error {
        patch::Error::Invalid(why) => ApiError::bad_request(why),
        patch::Error::Unprocessable(why) => ApiError::unprocessable(why),
        patch::Error::TooLarge(why) => ApiError::too_large(0).with_message(why),
        patch::Error::Unsupported(why) => ApiError::internal(why),
    }
}

/// Applies a patch to an object of the kind. Gives what comes out with what the caller is to be warned of.
pub fn apply_patch(
    patch: &Patch,
    old: &Value,
    gvk: Gvk<'_>,
    validation: FieldValidation,
) -> ApiResult<(Value, Vec<String>)> {
    let ty = type_of(gvk)?;
    let patched = patch.apply(ty, old.clone()).map_err(patch_failed)?;
    for field in ["apiVersion", "kind"] {
        let (now, was) = (value::at(&patched, &[field]), value::at(old, &[field]));
        if now != was {
            return Err(ApiError::bad_request(format!(
                "the {field} in the data ({now}) does not match the expected {field} ({was})"
            )));
        }
    }
    let shown = patch.shown().unwrap_or_else(|| patched.to_string());
    let refused = |why: String| {
        let error = FieldError::invalid("patch", shown.as_str(), why);
        ApiError::invalid("", "", "", &[error])
    };
    let decoded = decode::value(ty, patched).map_err(|error| refused(error.to_string()))?;
    let faults: Vec<Fault> = patch
        .faults()
        .iter()
        .chain(&decoded.faults)
        .cloned()
        .collect();
    let warnings = judge(&faults, validation, refused)?;
    Ok((decoded.value, warnings))
}

/// Decodes options that a request has in its body.
pub fn decode_options(request: &Request, kind: &str) -> ApiResult<Value> {
    let ty = type_of(("", "v1", kind)).or_else(|_| type_of(("meta.k8s.io", "v1", kind)))?;
    let encoding = match request.content_type.as_str() {
        "" | "application/json" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    };
    let wrong = |error: decode::Error| refused(&TypeMeta::default(), kind, &error);
    let decoded = Body::parse(encoding, &request.body)
        .and_then(|body| body.decode(ty))
        .map_err(wrong)?;
    Ok(decoded.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_that_makes_no_object_is_shown_as_kubernetes_shows_it() {
        let old = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
        let refused = |kind: patch::Kind| {
            let body = br#"{"metadata": {"name": "m"}, "data": {"b": [1, null], "a": "c"}}"#;
            let patch = Patch::parse(kind, body).unwrap();
            let applied = apply_patch(&patch, &old, ("", "v1", "ConfigMap"), FieldValidation::Warn);
            applied.unwrap_err().message().to_owned()
        };
        let strategic = refused(patch::Kind::Strategic);
        let shown =
            "patch: Invalid value: \"map[data:map[a:c b:[1 <nil>]] metadata:map[name:m]]\": ";
        assert!(strategic.contains(shown), "{strategic}");
        let merged = refused(patch::Kind::Merge);
        assert!(
            merged.contains("\\\"kind\\\":\\\"ConfigMap\\\""),
            "{merged}"
        );
    }

    #[test]
    fn a_patch_makes_no_other_kind_of_an_object() {
        let old =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"a": "b"}});
        let patched = |kind: patch::Kind, patch: Value| {
            let patch = Patch::parse(kind, patch.to_string().as_bytes()).unwrap();
            let gvk = ("", "v1", "ConfigMap");
            apply_patch(&patch, &old, gvk, FieldValidation::Warn)
                .map_err(|error| error.code())
                .map(|(object, _)| object)
        };
        let merge = |value| patched(patch::Kind::Merge, value);
        assert_eq!(merge(json!({"kind": "ConfigMap"})), Ok(old.clone()));
        assert_eq!(merge(json!({"kind": "Secret"})), Err(400));
        assert_eq!(merge(json!({"apiVersion": null})), Err(400));
        let whole = json!([{"op": "replace", "path": "", "value": {"data": {}}}]);
        assert_eq!(patched(patch::Kind::Json, whole), Err(400));
    }
}
