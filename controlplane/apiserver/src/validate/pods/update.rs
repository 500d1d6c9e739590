//! What of a pod can be changed.

use serde_json::Value;

use crate::status::FieldError;
use crate::value;

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
    check_deadline(new, old, errors);
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

/// A pod's time can only become shorter.
fn check_deadline(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let deadline = |object: &Value| value::int_at(object, &["spec", "activeDeadlineSeconds"]);
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
