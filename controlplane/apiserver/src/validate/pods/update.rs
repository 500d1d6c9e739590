//! What of a pod can be changed.

use std::collections::HashSet;

use serde_json::Value;

use crate::status::FieldError;
use crate::value;

const REQUIRED: [&str; 3] = [
    "affinity",
    "nodeAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution",
];

/// What is wrong with a change of a pod: almost everything in its spec stays as it was.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for kind in ["containers", "initContainers"] {
        let count = |object: &Value| value::list_at(object, &["spec", kind]).len();
        if count(new) != count(old) {
            errors.push(FieldError::forbidden(
                format!("spec.{kind}"),
                format!("pod updates may not add or remove {kind}"),
            ));
            return;
        }
    }
    let (new, old) = (value::at(new, &["spec"]), value::at(old, &["spec"]));
    check_deadline(new, old, errors);
    check_tolerations(new, old, errors);
    check_gates(new, old, errors);
    // While a pod is held back, who holds it may narrow where it runs.
    let is_gated = !value::list_at(old, &["schedulingGates"]).is_empty();
    if is_gated {
        check_node_selector(new, old, errors);
        check_node_affinity(new, old, errors);
    }
    let comparable = |spec| comparable(spec, is_gated);
    let grace = |spec: &Value| value::int_at(spec, &["terminationGracePeriodSeconds"]);
    let mut old_spec = comparable(old);
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(new) == Some(1) {
        value::set(&mut old_spec, &["terminationGracePeriodSeconds"], 1);
    }
    if !value::same(&comparable(new), &old_spec) {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

/// What has to stay as it is, and is not judged by a rule of its own.
fn comparable(spec: &Value, is_gated: bool) -> Value {
    let mut spec = spec.clone();
    for kind in ["containers", "initContainers"] {
        for container in value::list_mut(&mut spec, &[kind]) {
            value::remove(container, &["image"]);
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        value::remove(&mut spec, &[field]);
    }
    if is_gated {
        value::remove(&mut spec, &["nodeSelector"]);
        value::remove(&mut spec, &["affinity", "nodeAffinity"]);
    }
    spec
}

/// A pod's time can only become shorter.
fn check_deadline(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let deadline = |spec: &Value| value::int_at(spec, &["activeDeadlineSeconds"]);
    let why = match (deadline(new), deadline(old)) {
        (Some(new), Some(old)) if new > old => "must be less than or equal to previous value",
        (None, Some(_)) => "must not update from a positive integer to nil value",
        _ => return,
    };
    errors.push(FieldError::invalid(
        "spec.activeDeadlineSeconds",
        deadline(new),
        why,
    ));
}

/// What a pod tolerates, it goes on to tolerate; for how long may change.
fn check_tolerations(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let tolerated = |spec: &Value| -> HashSet<[String; 4]> {
        let tolerations = value::list_at(spec, &["tolerations"]).iter();
        let fields = ["key", "operator", "value", "effect"];
        tolerations
            .map(|one| fields.map(|field| value::str_at(one, &[field]).to_owned()))
            .collect()
    };
    if !tolerated(old).is_subset(&tolerated(new)) {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
}

fn check_gates(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let names = |spec| {
        value::list_at(spec, &["schedulingGates"])
            .iter()
            .map(|gate| value::str_at(gate, &["name"]))
    };
    let had: HashSet<&str> = names(old).collect();
    for (index, name) in names(new)
        .enumerate()
        .filter(|(_, name)| !had.contains(name))
    {
        errors.push(FieldError::forbidden(
            format!("spec.schedulingGates[{index}].name"),
            format!("only deletion is allowed, but found new scheduling gate '{name}'"),
        ));
    }
}

fn check_node_selector(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let selector = value::at(new, &["nodeSelector"]);
    let is_kept = value::strings_at(old, &["nodeSelector"])
        .all(|(key, text)| value::at(selector, &[key]).as_str() == Some(text));
    if !is_kept {
        errors.push(FieldError::invalid(
            "spec.nodeSelector",
            selector.clone(),
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        ));
    }
}

/// Each of the terms, of which one has to hold, may ask for more. What is only preferred may change.
fn check_node_affinity(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let terms = |spec| value::list_at(value::at(spec, &REQUIRED), &["nodeSelectorTerms"]);
    let (new, old) = (terms(new), terms(old));
    let at = format!("spec.{}.nodeSelectorTerms", REQUIRED.join("."));
    if !old.is_empty() && new.len() != old.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(at, new.to_vec(), why));
        return;
    }
    for (index, (new, old)) in new.iter().zip(old).enumerate() {
        if !only_adds(new, old) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(
                format!("{at}[{index}]"),
                new.clone(),
                why,
            ));
        }
    }
}

fn only_adds(new: &Value, old: &Value) -> bool {
    const LISTS: [&str; 2] = ["matchExpressions", "matchFields"];
    let of = |term, list| value::list_at(term, &[list]);
    // A term that asks for nothing matches nothing: one that asks for something would match more.
    if LISTS.iter().all(|list| of(old, list).is_empty()) {
        return LISTS.iter().all(|list| of(new, list).is_empty());
    }
    LISTS
        .iter()
        .all(|list| of(new, list).starts_with(of(old, list)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(new: &Value, old: &Value) -> Vec<String> {
        let pod = |spec: &Value| json!({"spec": spec});
        let mut errors = Vec::new();
        validate_update(&pod(new), &pod(old), &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn gates_are_taken_away_and_not_exchanged() {
        let gated = |names: &[&str]| {
            let gates: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"schedulingGates": gates})
        };
        let two = gated(&["a", "b"]);
        for fewer in [gated(&["b"]), gated(&[])] {
            assert_eq!(changed(&fewer, &two), NOTHING);
        }
        assert_eq!(
            changed(&gated(&["c"]), &two),
            [
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'c'"
            ]
        );
    }

    #[test]
    fn where_a_pod_runs_is_narrowed_while_it_is_held_back() {
        let spec = |gates: Value, selector: Value| json!({"schedulingGates": gates, "nodeSelector": selector});
        let gate = || json!([{"name": "a"}]);
        let old = spec(gate(), json!({"a": "b"}));
        for gates in [gate(), json!([])] {
            let narrowed = spec(gates, json!({"a": "b", "c": "d"}));
            assert_eq!(changed(&narrowed, &old), NOTHING);
        }
        let other = spec(gate(), json!({"a": "c"}));
        assert_eq!(
            changed(&other, &old),
            [
                "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed \
              (no mutations or deletions)"
            ]
        );
        let free = spec(json!([]), json!({"a": "b"}));
        let narrowed = spec(json!([]), json!({"a": "b", "c": "d"}));
        assert_eq!(changed(&narrowed, &free).len(), 1);
    }

    #[test]
    fn what_a_node_must_have_is_added_to_while_a_pod_is_held_back() {
        let spec = |terms: Value| {
            let required = json!({"nodeSelectorTerms": terms});
            json!({"schedulingGates": [{"name": "a"}], "affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
        };
        let asks = |keys: &[&str]| {
            let all: Vec<Value> = keys
                .iter()
                .map(|key| json!({"key": key, "operator": "Exists"}))
                .collect();
            json!({"matchExpressions": all})
        };
        let gated = json!({"schedulingGates": [{"name": "a"}]});
        let old = spec(json!([asks(&["a"])]));
        assert_eq!(changed(&spec(json!([asks(&["a", "b"])])), &old), NOTHING);
        assert_eq!(changed(&old, &gated), NOTHING);
        let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        for (terms, expected) in [
            (json!([asks(&["b"])]), format!("{at}[0]: Invalid value: ")),
            (
                json!([asks(&["a"]), asks(&["b"])]),
                format!("{at}: Invalid value: "),
            ),
        ] {
            let refused = changed(&spec(terms), &old);
            assert_eq!(refused.len(), 1);
            assert!(refused[0].starts_with(&expected), "{refused:?}");
        }
    }

    #[test]
    fn a_taint_is_tolerated_for_another_while_but_not_no_more() {
        let tolerates = |key: &str, seconds: i64| {
            json!({"tolerations": [{"key": key, "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": seconds}]})
        };
        let old = tolerates("a", 300);
        assert_eq!(changed(&tolerates("a", 30), &old), NOTHING);
        for other in [tolerates("b", 300), json!({})] {
            assert_eq!(
                changed(&other, &old),
                [
                    "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
                ]
            );
        }
    }

    #[test]
    fn a_negative_grace_period_may_become_one_and_nothing_else() {
        let spec = |seconds: i64| json!({"terminationGracePeriodSeconds": seconds});
        assert_eq!(changed(&spec(1), &spec(-5)), NOTHING);
        assert_eq!(changed(&spec(-5), &spec(-5)), NOTHING);
        assert_eq!(changed(&spec(2), &spec(-5)).len(), 1);
        assert_eq!(changed(&spec(-5), &spec(1)).len(), 1);
    }
}
