//! What holds for a pod's spec.

use serde_json::Value;

use super::names;
use crate::status::FieldError;
use crate::value;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RANGE: &str = "must be between 1 and 65535, inclusive";

/// What is wrong with the spec that lies at `at`.
pub fn validate_spec(spec: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let containers = value::list_at(spec, &["containers"]);
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
    }
    let mut volumes: Vec<&str> = Vec::new();
    for (index, volume) in value::list_at(spec, &["volumes"]).iter().enumerate() {
        let field = format!("{at}.volumes[{index}].name");
        check_name(
            value::str_at(volume, &["name"]),
            field,
            &mut volumes,
            errors,
        );
    }
    let mut seen: Vec<&str> = Vec::new();
    for kind in ["initContainers", "containers"] {
        for (index, container) in value::list_at(spec, &[kind]).iter().enumerate() {
            let field = format!("{at}.{kind}[{index}]");
            let name = value::str_at(container, &["name"]);
            check_name(name, format!("{field}.name"), &mut seen, errors);
            check_container(container, &field, &volumes, errors);
        }
    }
    one_of(
        spec,
        &["restartPolicy"],
        at,
        &["Always", "OnFailure", "Never"],
        errors,
    );
    one_of(
        spec,
        &["dnsPolicy"],
        at,
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        errors,
    );
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
    for (key, text) in value::strings_at(spec, &["nodeSelector"]) {
        let field = format!("{at}.nodeSelector");
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(field.as_str(), key, problem));
        }
        for problem in names::label_value(text) {
            errors.push(FieldError::invalid(field.as_str(), text, problem));
        }
    }
    check_tolerations(spec, at, errors);
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

fn one_of(object: &Value, path: &[&str], at: &str, known: &[&str], errors: &mut Vec<FieldError>) {
    let text = value::str_at(object, path);
    if !text.is_empty() && !known.contains(&text) {
        let field = format!("{at}.{}", path.join("."));
        errors.push(FieldError::not_supported(field, text, known));
    }
}

fn check_container(container: &Value, at: &str, volumes: &[&str], errors: &mut Vec<FieldError>) {
    let image = value::str_at(container, &["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(format!("{at}.image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{at}.image"), image, why));
    }
    one_of(container, &["imagePullPolicy"], at, &PULL_POLICIES, errors);
    check_ports(container, at, errors);
    for (index, variable) in value::list_at(container, &["env"]).iter().enumerate() {
        let name = value::str_at(variable, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.env[{index}].name"), ""));
        }
    }
    for (index, mount) in value::list_at(container, &["volumeMounts"])
        .iter()
        .enumerate()
    {
        let field = |name: &str| format!("{at}.volumeMounts[{index}].{name}");
        let name = value::str_at(mount, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(field("name"), ""));
        } else if !volumes.contains(&name) {
            errors.push(FieldError::not_found(field("name"), name));
        }
        if value::str_at(mount, &["mountPath"]).is_empty() {
            errors.push(FieldError::required(field("mountPath"), ""));
        }
    }
    for side in ["limits", "requests"] {
        for (resource, quantity) in value::at(container, &["resources", side])
            .as_object()
            .into_iter()
            .flatten()
        {
            check_quantity(
                quantity,
                format!("{at}.resources.{side}[{resource}]"),
                errors,
            );
        }
    }
}

fn check_ports(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in value::list_at(container, &["ports"]).iter().enumerate() {
        let field = |name: &str| format!("{at}.ports[{index}].{name}");
        let name = value::str_at(port, &["name"]);
        if !name.is_empty() {
            for problem in names::port_name(name) {
                errors.push(FieldError::invalid(field("name"), name, problem));
            }
            if seen.contains(&name) {
                errors.push(FieldError::duplicate(field("name"), name));
            }
            seen.push(name);
        }
        match value::int_at(port, &["containerPort"]) {
            None | Some(0) => errors.push(FieldError::required(field("containerPort"), "")),
            Some(number) if !(1..=65_535).contains(&number) => {
                errors.push(FieldError::invalid(field("containerPort"), number, RANGE));
            }
            Some(_) => {}
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

fn check_quantity(quantity: &Value, field: String, errors: &mut Vec<FieldError>) {
    let text = match quantity {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.starts_with('-') {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(field, text, why));
    }
}

fn check_tolerations(spec: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for (index, toleration) in value::list_at(spec, &["tolerations"]).iter().enumerate() {
        let field = |name: &str| format!("{at}.tolerations[{index}].{name}");
        let get = |name: &str| value::str_at(toleration, &[name]);
        if get("key").is_empty() && get("operator") != "Exists" {
            errors.push(FieldError::invalid(
                field("operator"),
                get("operator"),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !get("effect").is_empty() && !effects.contains(&get("effect")) {
            errors.push(FieldError::not_supported(
                field("effect"),
                get("effect"),
                &effects,
            ));
        }
        if value::int_at(toleration, &["tolerationSeconds"]).is_some()
            && get("effect") != "NoExecute"
        {
            errors.push(FieldError::invalid(
                field("effect"),
                get("effect"),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
    }
}

/// What is wrong with a change of a pod: almost everything in its spec stays as it was.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let comparable = |object: &Value| {
        let mut spec = value::at(object, &["spec"]).clone();
        for kind in ["containers", "initContainers"] {
            for container in value::list_mut(&mut spec, &[kind]) {
                value::remove(container, &["image"]);
            }
        }
        for field in ["activeDeadlineSeconds", "tolerations"] {
            value::remove(&mut spec, &[field]);
        }
        let grace = ["terminationGracePeriodSeconds"];
        if value::int_at(&spec, &grace).is_some_and(|seconds| seconds < 0) {
            value::set(&mut spec, &grace, 1);
        }
        spec
    };
    let kept = value::list_at(old, &["spec", "tolerations"])
        .iter()
        .all(|one| value::list_at(new, &["spec", "tolerations"]).contains(one));
    // Scheduling gates may be taken away, and before a pod is scheduled its node selector may be narrowed.
    let gates = |object: &Value| value::list_at(object, &["spec", "schedulingGates"]).len();
    let (mut new_spec, mut old_spec) = (comparable(new), comparable(old));
    if gates(new) < gates(old) {
        value::remove(&mut new_spec, &["schedulingGates"]);
        value::remove(&mut old_spec, &["schedulingGates"]);
    }
    if !kept || !value::same(&new_spec, &old_spec) {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(spec: Value) -> Vec<String> {
        let mut errors = Vec::new();
        validate_spec(&spec, "spec", &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn a_pod_needs_a_container_with_name_and_image() {
        assert_eq!(errors(json!({})), ["spec.containers: Required value"]);
        assert_eq!(
            errors(json!({"containers": [{}]})),
            [
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Required value"
            ]
        );
    }

    #[test]
    fn names_and_ports_are_not_given_twice() {
        let container = json!({"name": "a", "image": "a", "ports": [{"name": "x", "containerPort": 1}, {"name": "x",
            "containerPort": 70_000}]});
        assert_eq!(
            errors(json!({"containers": [container, {"name": "a", "image": "a"}]})),
            [
                "spec.containers[0].ports[1].name: Duplicate value: \"x\"",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.containers[1].name: Duplicate value: \"a\""
            ]
        );
    }

    #[test]
    fn a_pods_image_may_change_and_its_command_may_not() {
        let pod = |image: &str, command: &str| json!({"spec": {"containers": [{"image": image, "command": [command]}]}});
        let mut errors = Vec::new();
        validate_update(&pod("b", "x"), &pod("a", "x"), &mut errors);
        assert!(errors.is_empty());
        validate_update(&pod("a", "y"), &pod("a", "x"), &mut errors);
        assert_eq!(errors.len(), 1);
    }
}
