//! What holds for a container.

use std::collections::{BTreeMap, HashSet};

use keelson_notation::quantity::Quantity;
use serde_json::Value;

use super::{
    NOT_NEGATIVE, PORT_RANGE, SpecOf, check_inner_path, one_of, probes, required, variables,
};
use crate::status::FieldError;
use crate::validate::names;
use crate::value;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What is wrong with a container of a kind (`containers`, `initContainers`), but for its name.
pub(super) fn validate(
    container: &Value,
    at: &str,
    (kind, of): (&str, SpecOf),
    volumes: &HashSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let image = value::str_at(container, &["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(format!("{at}.image"), ""));
    } else if of == SpecOf::Pod && image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{at}.image"), image, why));
    }
    one_of(container, &["imagePullPolicy"], at, &PULL_POLICIES, errors);
    let messages = ["FallbackToLogsOnError", "File"];
    one_of(
        container,
        &["terminationMessagePolicy"],
        at,
        &messages,
        errors,
    );
    check_ports(container, at, errors);
    variables::validate(container, at, errors);
    check_mounts(container, at, volumes, errors);
    check_resources(container, at, errors);
    // One that restarts is a sidecar, and may have what a container may.
    let runs_on = kind == "containers" || value::str_at(container, &["restartPolicy"]) == "Always";
    match runs_on {
        true => probes::validate(container, at, errors),
        false => probes::forbid(container, at, errors),
    }
    check_security(container, at, errors);
}

fn check_ports(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (index, port) in value::list_at(container, &["ports"]).iter().enumerate() {
        let field = |name: &str| format!("{at}.ports[{index}].{name}");
        let name = value::str_at(port, &["name"]);
        if !name.is_empty() {
            for problem in names::port_name(name) {
                errors.push(FieldError::invalid(field("name"), name, problem));
            }
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(field("name"), name));
            }
        }
        let out_of_range = |number: &i64| !(1..=65_535).contains(number);
        match value::int_at(port, &["containerPort"]) {
            None | Some(0) => errors.push(FieldError::required(field("containerPort"), "")),
            Some(number) if out_of_range(&number) => {
                errors.push(FieldError::invalid(
                    field("containerPort"),
                    number,
                    PORT_RANGE,
                ));
            }
            Some(_) => {}
        }
        let host = value::int_at(port, &["hostPort"]).filter(|port| *port != 0);
        if let Some(number) = host.filter(out_of_range) {
            errors.push(FieldError::invalid(field("hostPort"), number, PORT_RANGE));
        }
        let protocol = value::str_at(port, &["protocol"]);
        if !protocol.is_empty() && !PROTOCOLS.contains(&protocol) {
            errors.push(FieldError::not_supported(
                field("protocol"),
                protocol,
                &PROTOCOLS,
            ));
        }
    }
}

/// Ports of the node that two containers want, or that a pod in the node's network cannot have.
pub(super) fn check_host_ports(spec: &Value, of: SpecOf, at: &str, errors: &mut Vec<FieldError>) {
    let on_host = value::bool_at(spec, &["hostNetwork"]);
    let mut seen = HashSet::new();
    for (container, one) in value::list_at(spec, &["containers"]).iter().enumerate() {
        for (index, port) in value::list_at(one, &["ports"]).iter().enumerate() {
            let field = |name: &str| format!("{at}.containers[{container}].ports[{index}].{name}");
            let number = |name: &str| value::int_at(port, &[name]).unwrap_or(0);
            let (inner, host) = (number("containerPort"), number("hostPort"));
            // A template need not say it: a pod that is made of it is given the port.
            if on_host && (of == SpecOf::Pod || host != 0) && host != inner {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(field("hostPort"), host, why));
            }
            if host == 0 {
                continue;
            }
            let (protocol, ip) = (
                value::str_at(port, &["protocol"]),
                value::str_at(port, &["hostIP"]),
            );
            if !seen.insert((protocol, ip, host)) {
                let wanted = format!("{protocol}/{ip}/{host}");
                errors.push(FieldError::duplicate(field("hostPort"), wanted));
            }
        }
    }
}

fn check_mounts(
    container: &Value,
    at: &str,
    volumes: &HashSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let mut seen = HashSet::new();
    for (index, mount) in value::list_at(container, &["volumeMounts"])
        .iter()
        .enumerate()
    {
        let here = format!("{at}.volumeMounts[{index}]");
        let field = |name: &str| format!("{here}.{name}");
        let name = value::str_at(mount, &["name"]);
        required(mount, &["name"], &here, errors);
        if !name.is_empty() && !volumes.contains(name) {
            errors.push(FieldError::not_found(field("name"), name));
        }
        let path = value::str_at(mount, &["mountPath"]);
        required(mount, &["mountPath"], &here, errors);
        if !seen.insert(path) {
            errors.push(FieldError::invalid(
                field("mountPath"),
                path,
                "must be unique",
            ));
        }
        let sub = ["subPath", "subPathExpr"].map(|name| value::str_at(mount, &[name]));
        if sub.iter().all(|path| !path.is_empty()) {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(field("subPathExpr"), sub[1], why));
        }
        for (name, path) in ["subPath", "subPathExpr"].into_iter().zip(sub) {
            check_inner_path(path, field(name), errors);
        }
    }
}

fn check_resources(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let side = |name: &str| {
        value::strings_at(container, &["resources", name]).collect::<BTreeMap<&str, &str>>()
    };
    let (limits, requests) = (side("limits"), side("requests"));
    for (side, all) in [("limits", &limits), ("requests", &requests)] {
        for (resource, quantity) in all {
            let field = format!("{at}.resources.{side}[{resource}]");
            check_resource_name(resource, &field, errors);
            if quantity.starts_with('-') {
                errors.push(FieldError::invalid(field, *quantity, NOT_NEGATIVE));
            }
        }
    }
    for (resource, request) in &requests {
        let Some(limit) = limits.get(resource) else {
            if !can_be_overcommitted(resource) {
                errors.push(FieldError::required(
                    format!("{at}.resources.limits"),
                    "Limit must be set for non overcommitable resources",
                ));
            }
            continue;
        };
        let (Ok(more), Ok(most)) = (Quantity::parse(request), Quantity::parse(limit)) else {
            continue;
        };
        let how = match can_be_overcommitted(resource) {
            false if more != most => "equal",
            true if more > most => "less than or equal",
            _ => continue,
        };
        errors.push(FieldError::invalid(
            format!("{at}.resources.requests"),
            *request,
            format!("must be {how} to {resource} limit of {limit}"),
        ));
    }
}

/// Whether more of a resource may be promised than there is. Of devices and huge pages none can.
fn can_be_overcommitted(resource: &str) -> bool {
    let is_native = !resource.contains('/') || resource.contains("kubernetes.io/");
    is_native && !resource.starts_with("hugepages-")
}

fn check_resource_name(resource: &str, field: &str, errors: &mut Vec<FieldError>) {
    for problem in names::qualified_name(resource) {
        errors.push(FieldError::invalid(field, resource, problem));
    }
    let is_standard = RESOURCES.contains(&resource) || resource.starts_with("hugepages-");
    if !resource.contains('/') && !is_standard {
        for why in [
            "must be a standard resource type or fully qualified",
            "must be a standard resource for containers",
        ] {
            errors.push(FieldError::invalid(field, resource, why));
        }
    }
}

fn check_security(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let context = value::at(container, &["securityContext"]);
    let at = format!("{at}.securityContext");
    for name in ["runAsUser", "runAsGroup"] {
        let id = value::int_at(context, &[name]);
        if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(format!("{at}.{name}"), id, why));
        }
    }
    let escalation = value::at(context, &["allowPrivilegeEscalation"]);
    if value::bool_at(context, &["privileged"]) && escalation == &Value::Bool(false) {
        errors.push(FieldError::invalid(
            at,
            context.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ));
    }
}
