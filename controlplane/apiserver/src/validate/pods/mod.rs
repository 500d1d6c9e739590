//! What holds for a pod's spec, in a pod or in a template: in the words, and at the paths, in which Kubernetes says so.

mod annotations;
mod containers;
mod probes;
mod scheduling;
mod update;
mod variables;
mod volumes;

use std::collections::HashSet;

use serde_json::Value;

use super::names;
use crate::status::FieldError;
use crate::value;

pub use annotations::validate as validate_annotations;
pub use update::validate_update;

const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Where a spec is. Of one in a template some things are settled only when a pod is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecOf {
    /// A pod.
    Pod,
    /// A template of pods.
    Template,
}

/// What is wrong with the spec that lies at `at`. There may be as many of everything as a request has room for, so what
/// is there twice is looked up, and not looked for.
pub fn validate_spec(spec: &Value, of: SpecOf, at: &str, errors: &mut Vec<FieldError>) {
    let volumes = volumes::validate(spec, at, errors);
    if value::list_at(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
    }
    let mut seen = HashSet::new();
    for kind in ["containers", "initContainers"] {
        for (index, container) in value::list_at(spec, &[kind]).iter().enumerate() {
            let field = format!("{at}.{kind}[{index}]");
            let name = value::str_at(container, &["name"]);
            check_name(name, format!("{field}.name"), &mut seen, errors);
            containers::validate(container, &field, (kind, of), &volumes, errors);
        }
    }
    containers::check_host_ports(spec, of, at, errors);
    let policies = ["Always", "OnFailure", "Never"];
    one_of(spec, &["restartPolicy"], at, &policies, errors);
    check_dns(spec, at, errors);
    check_names(spec, at, errors);
    check_times(spec, at, errors);
    scheduling::validate(spec, at, errors);
}

fn check_dns(spec: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(spec, &["dnsPolicy"], at, &policies, errors);
    if value::str_at(spec, &["dnsPolicy"]) != "None" {
        return;
    }
    if value::at(spec, &["dnsConfig"]).is_null() {
        errors.push(FieldError::required(
            format!("{at}.dnsConfig"),
            "must provide `dnsConfig` when `dnsPolicy` is None",
        ));
    } else if value::list_at(spec, &["dnsConfig", "nameservers"]).is_empty() {
        errors.push(FieldError::required(
            format!("{at}.dnsConfig.nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ));
    }
}

/// What is wrong with a pod that is to be made, beside what is wrong with any.
pub fn validate_new(spec: &Value, errors: &mut Vec<FieldError>) {
    if !value::list_at(spec, &["ephemeralContainers"]).is_empty() {
        let why = "cannot be set on create";
        errors.push(FieldError::forbidden("spec.ephemeralContainers", why));
    }
    let is_gated = !value::list_at(spec, &["schedulingGates"]).is_empty();
    if is_gated && !value::str_at(spec, &["nodeName"]).is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", why));
    }
}

/// What who makes or changes a pod is to be told, though it is stored.
pub fn warnings(spec: &Value) -> Vec<String> {
    let grace = value::int_at(spec, &["terminationGracePeriodSeconds"]);
    let is_negative = grace.is_some_and(|seconds| seconds < 0);
    let warning = "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1";
    is_negative
        .then(|| warning.to_owned())
        .into_iter()
        .collect()
}

/// Names that the spec gives, or by which it names others.
fn check_names(spec: &Value, at: &str, errors: &mut Vec<FieldError>) {
    type Check = fn(&str) -> Vec<String>;
    let checks: [(&str, Check); 5] = [
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("priorityClassName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
    ];
    for (name, check) in checks {
        let text = value::str_at(spec, &[name]);
        if !text.is_empty() {
            for problem in check(text) {
                errors.push(FieldError::invalid(format!("{at}.{name}"), text, problem));
            }
        }
    }
}

fn check_times(spec: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let deadline = value::int_at(spec, &["activeDeadlineSeconds"]);
    if let Some(seconds) = deadline.filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds)) {
        let field = format!("{at}.activeDeadlineSeconds");
        let why = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(field, seconds, why));
    }
}

fn check_name<'a>(
    name: &'a str,
    field: String,
    seen: &mut HashSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    for problem in names::dns_label(name) {
        errors.push(FieldError::invalid(field.as_str(), name, problem));
    }
    if !seen.insert(name) {
        errors.push(FieldError::duplicate(field, name));
    }
}

/// A field that must be given.
fn required(object: &Value, path: &[&str], at: &str, errors: &mut Vec<FieldError>) {
    if value::str_at(object, path).is_empty() {
        errors.push(FieldError::required(format!("{at}.{}", path.join(".")), ""));
    }
}

/// A field that has one of a few values, if it has any.
fn one_of(object: &Value, path: &[&str], at: &str, known: &[&str], errors: &mut Vec<FieldError>) {
    let text = value::str_at(object, path);
    if !text.is_empty() && !known.contains(&text) {
        let field = format!("{at}.{}", path.join("."));
        errors.push(FieldError::not_supported(field, text, known));
    }
}

/// A path below a volume's own.
fn check_inner_path(path: &str, field: String, errors: &mut Vec<FieldError>) {
    if path.starts_with('/') {
        let why = "must be a relative path";
        errors.push(FieldError::invalid(field.as_str(), path, why));
    }
    if path.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(field, path, "must not contain '..'"));
    }
}

#[cfg(test)]
mod tests;
