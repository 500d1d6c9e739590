//! What holds for a pod's spec, in a pod or in a template: in the words, and at the paths, in which Kubernetes says so.

mod containers;
mod probes;
mod scheduling;
mod update;
mod variables;
mod volumes;

use serde_json::Value;

use super::names;
use crate::status::FieldError;
use crate::value;

pub use update::validate_update;

const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// What is wrong with the spec that lies at `at`.
pub fn validate_spec(spec: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let volumes = volumes::validate(spec, at, errors);
    if value::list_at(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
    }
    let mut seen = Vec::new();
    for kind in ["containers", "initContainers"] {
        for (index, container) in value::list_at(spec, &[kind]).iter().enumerate() {
            let field = format!("{at}.{kind}[{index}]");
            let name = value::str_at(container, &["name"]);
            check_name(name, format!("{field}.name"), &mut seen, errors);
            containers::validate(container, &field, kind, &volumes, errors);
        }
    }
    containers::check_host_ports(spec, at, errors);
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
    let is_own = value::str_at(spec, &["dnsPolicy"]) == "None";
    if is_own && value::list_at(spec, &["dnsConfig", "nameservers"]).is_empty() {
        errors.push(FieldError::required(
            format!("{at}.dnsConfig.nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ));
    }
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
    let grace = value::int_at(spec, &["terminationGracePeriodSeconds"]);
    if let Some(seconds) = grace.filter(|seconds| *seconds < 0) {
        let field = format!("{at}.terminationGracePeriodSeconds");
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(field, seconds, why));
    }
}

fn check_name<'a>(
    name: &'a str,
    field: String,
    seen: &mut Vec<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    for problem in names::dns_label(name) {
        errors.push(FieldError::invalid(field.as_str(), name, problem));
    }
    if seen.contains(&name) {
        errors.push(FieldError::duplicate(field, name));
    }
    seen.push(name);
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
