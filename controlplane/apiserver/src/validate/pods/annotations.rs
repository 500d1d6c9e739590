//! Annotations that mean something on a pod.

use serde_json::Value;

use crate::status::FieldError;
use crate::value;

/// What it costs to delete a pod, which its replica set asks for.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What is wrong with the annotations of a pod or a template, which lie at `at`.
pub fn validate(annotations: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let cost = value::at(annotations, &[DELETION_COST]).as_str();
    if let Some(cost) = cost.filter(|cost| !is_cost(cost)) {
        let field = format!("{at}[{DELETION_COST}]");
        errors.push(FieldError::invalid(field, cost, "must be a 32bit integer"));
    }
}

/// As Kubernetes reads it: without a plus and without leading zeros.
fn is_cost(text: &str) -> bool {
    let is_plain =
        text == "0" || text.starts_with(['-', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    is_plain && text.parse::<i32>().is_ok()
}
