//! What holds for a container's environment.

use serde_json::Value;

use super::required;
use crate::status::FieldError;
use crate::validate::names;
use crate::value;

/// What of a pod a variable can be.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

/// What is wrong with the variables.
pub(super) fn validate(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for (index, variable) in value::list_at(container, &["env"]).iter().enumerate() {
        let here = format!("{at}.env[{index}]");
        let name = value::str_at(variable, &["name"]);
        required(variable, &["name"], &here, errors);
        for problem in names::variable(name) {
            errors.push(FieldError::invalid(format!("{here}.name"), name, problem));
        }
        check_source(variable, &format!("{here}.valueFrom"), errors);
    }
    for (index, all) in value::list_at(container, &["envFrom"]).iter().enumerate() {
        let here = format!("{at}.envFrom[{index}]");
        let given: Vec<&str> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|source| !value::at(all, &[source]).is_null())
            .collect();
        match given.as_slice() {
            [one] => required(all, &[one, "name"], &here, errors),
            [] => errors.push(FieldError::invalid(
                here,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            _ => errors.push(FieldError::invalid(
                here,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
}

fn check_source(variable: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let source = value::at(variable, &["valueFrom"]);
    if source.is_null() {
        return;
    }
    let given: Vec<&str> = SOURCES
        .into_iter()
        .filter(|one| !value::at(source, &[one]).is_null())
        .collect();
    let why = match given.as_slice() {
        [] => Some(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if !value::str_at(variable, &["value"]).is_empty() => {
            Some("may not be specified when `value` is not empty")
        }
        [_] => None,
        _ => Some("may not have more than one field specified at a time"),
    };
    if let Some(why) = why {
        errors.push(FieldError::invalid(at, "", why));
    }
    for one in given {
        let here = format!("{at}.{one}");
        let reference = value::at(source, &[one]);
        match one {
            "fieldRef" => check_field(reference, &here, errors),
            "configMapKeyRef" | "secretKeyRef" => {
                required(reference, &["name"], &here, errors);
                let key = value::str_at(reference, &["key"]);
                required(reference, &["key"], &here, errors);
                if !key.is_empty() {
                    for problem in names::config_key(key) {
                        errors.push(FieldError::invalid(format!("{here}.key"), key, problem));
                    }
                }
            }
            "resourceFieldRef" => required(reference, &["resource"], &here, errors),
            _ => {}
        }
    }
}

fn check_field(reference: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let path = value::str_at(reference, &["fieldPath"]);
    required(reference, &["fieldPath"], at, errors);
    let is_entry = ["metadata.annotations['", "metadata.labels['"]
        .iter()
        .any(|map| path.starts_with(map) && path.ends_with("']"));
    if !path.is_empty() && !is_entry && !FIELDS.contains(&path) {
        let field = format!("{at}.fieldPath");
        errors.push(FieldError::not_supported(field, path, &FIELDS));
    }
}
