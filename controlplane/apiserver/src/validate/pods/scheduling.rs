//! What holds for where a pod may run.

use std::collections::HashSet;

use serde_json::Value;

use super::one_of;
use crate::status::FieldError;
use crate::validate::{names, selectors};
use crate::value;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// What is wrong with node selector, affinity, tolerations and spread.
pub(super) fn validate(spec: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for (key, text) in value::strings_at(spec, &["nodeSelector"]) {
        let field = format!("{at}.nodeSelector");
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(field.as_str(), key, problem));
        }
        for problem in names::label_value(text) {
            errors.push(FieldError::invalid(field.as_str(), text, problem));
        }
    }
    check_node_affinity(spec, &format!("{at}.affinity.nodeAffinity"), errors);
    for kind in ["podAffinity", "podAntiAffinity"] {
        check_pod_affinity(spec, kind, &format!("{at}.affinity.{kind}"), errors);
    }
    for (index, toleration) in value::list_at(spec, &["tolerations"]).iter().enumerate() {
        check_toleration(toleration, &format!("{at}.tolerations[{index}]"), errors);
    }
    let mut gates = HashSet::new();
    for (index, gate) in value::list_at(spec, &["schedulingGates"])
        .iter()
        .enumerate()
    {
        let (name, field) = (
            value::str_at(gate, &["name"]),
            format!("{at}.schedulingGates[{index}]"),
        );
        for problem in names::qualified_name(name) {
            errors.push(FieldError::invalid(field.as_str(), name, problem));
        }
        if !gates.insert(name) {
            errors.push(FieldError::duplicate(field, name));
        }
    }
    let spread = value::list_at(spec, &["topologySpreadConstraints"]);
    for (index, constraint) in spread.iter().enumerate() {
        let here = format!("{at}.topologySpreadConstraints[{index}]");
        check_spread(constraint, &here, errors);
    }
}

fn check_node_affinity(spec: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let affinity = value::at(spec, &["affinity", "nodeAffinity"]);
    let required = value::at(affinity, &[REQUIRED]);
    let terms = value::list_at(required, &["nodeSelectorTerms"]);
    let here = format!("{at}.{REQUIRED}.nodeSelectorTerms");
    if !required.is_null() && terms.is_empty() {
        let why = "must have at least one node selector term";
        errors.push(FieldError::required(here.as_str(), why));
    }
    for (index, term) in terms.iter().enumerate() {
        check_node_term(term, &format!("{here}[{index}]"), errors);
    }
    for (index, preferred) in value::list_at(affinity, &[PREFERRED]).iter().enumerate() {
        let here = format!("{at}.{PREFERRED}[{index}]");
        check_weight(preferred, &here, errors);
        let term = value::at(preferred, &["preference"]);
        check_node_term(term, &format!("{here}.preference"), errors);
    }
}

fn check_node_term(term: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let expressions = value::list_at(term, &["matchExpressions"]);
    for (index, expression) in expressions.iter().enumerate() {
        let here = format!("{at}.matchExpressions[{index}]");
        let values = value::list_at(expression, &["values"]);
        match value::str_at(expression, &["operator"]) {
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    errors.push(FieldError::required(format!("{here}.values"), why));
                }
                selectors::check_key(expression, &here, errors);
            }
            _ => selectors::expression(expression, &here, errors),
        }
    }
}

fn check_pod_affinity(spec: &Value, kind: &str, at: &str, errors: &mut Vec<FieldError>) {
    let affinity = value::at(spec, &["affinity", kind]);
    for (index, term) in value::list_at(affinity, &[REQUIRED]).iter().enumerate() {
        check_pod_term(term, &format!("{at}.{REQUIRED}[{index}]"), errors);
    }
    for (index, preferred) in value::list_at(affinity, &[PREFERRED]).iter().enumerate() {
        let here = format!("{at}.{PREFERRED}[{index}]");
        check_weight(preferred, &here, errors);
        let term = value::at(preferred, &["podAffinityTerm"]);
        check_pod_term(term, &format!("{here}.podAffinityTerm"), errors);
    }
}

fn check_pod_term(term: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let selector = value::at(term, &["labelSelector"]);
    selectors::label_selector(selector, &format!("{at}.labelSelector"), errors);
    check_topology_key(term, at, errors);
}

fn check_topology_key(object: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let (key, field) = (
        value::str_at(object, &["topologyKey"]),
        format!("{at}.topologyKey"),
    );
    if key.is_empty() {
        errors.push(FieldError::required(field, "can not be empty"));
        return;
    }
    for problem in names::qualified_name(key) {
        errors.push(FieldError::invalid(field.as_str(), key, problem));
    }
}

fn check_weight(preferred: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let weight = value::int_at(preferred, &["weight"]).unwrap_or(0);
    if !(1..=100).contains(&weight) {
        let why = "must be in the range 1-100";
        errors.push(FieldError::invalid(format!("{at}.weight"), weight, why));
    }
}

fn check_toleration(toleration: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let field = |name: &str| format!("{at}.{name}");
    let get = |name: &str| value::str_at(toleration, &[name]);
    if !get("key").is_empty() {
        for problem in names::qualified_name(get("key")) {
            errors.push(FieldError::invalid(field("key"), get("key"), problem));
        }
    } else if get("operator") != "Exists" {
        errors.push(FieldError::invalid(
            field("operator"),
            get("operator"),
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ));
    }
    let is_timed = value::int_at(toleration, &["tolerationSeconds"]).is_some();
    if is_timed && get("effect") != "NoExecute" {
        errors.push(FieldError::invalid(
            field("effect"),
            get("effect"),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ));
    }
    match get("operator") {
        "" | "Equal" => {
            for problem in names::label_value(get("value")) {
                errors.push(FieldError::invalid(
                    field("operator"),
                    get("value"),
                    problem,
                ));
            }
        }
        "Exists" if !get("value").is_empty() => errors.push(FieldError::invalid(
            field("operator"),
            toleration.clone(),
            "value must be empty when `operator` is 'Exists'",
        )),
        _ => one_of(toleration, &["operator"], at, &["Equal", "Exists"], errors),
    }
    one_of(toleration, &["effect"], at, &EFFECTS, errors);
}

fn check_spread(constraint: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let skew = value::int_at(constraint, &["maxSkew"]).unwrap_or(0);
    if skew <= 0 {
        let why = "must be greater than zero";
        errors.push(FieldError::invalid(format!("{at}.maxSkew"), skew, why));
    }
    check_topology_key(constraint, at, errors);
    let field = "whenUnsatisfiable";
    if value::str_at(constraint, &[field]).is_empty() {
        errors.push(FieldError::required(
            format!("{at}.{field}"),
            "can not be empty",
        ));
    }
    let known = ["DoNotSchedule", "ScheduleAnyway"];
    one_of(constraint, &[field], at, &known, errors);
    let selector = value::at(constraint, &["labelSelector"]);
    selectors::label_selector(selector, &format!("{at}.labelSelector"), errors);
}
