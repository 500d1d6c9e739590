//! What holds for label selectors in objects.

use serde_json::Value;

use super::names;
use crate::status::FieldError;
use crate::value;

/// What is wrong with a `metav1.LabelSelector`; nothing if there is none.
pub fn label_selector(selector: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let field = format!("{at}.matchLabels");
    for (key, text) in value::strings_at(selector, &["matchLabels"]) {
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(field.as_str(), key, problem));
        }
        for problem in names::label_value(text) {
            errors.push(FieldError::invalid(field.as_str(), text, problem));
        }
    }
    let expressions = value::list_at(selector, &["matchExpressions"]);
    for (index, one) in expressions.iter().enumerate() {
        expression(one, &format!("{at}.matchExpressions[{index}]"), errors);
    }
}

/// What is wrong with one expression.
pub fn expression(expression: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let field = |name: &str| format!("{at}.{name}");
    let none = value::list_at(expression, &["values"]).is_empty();
    match value::str_at(expression, &["operator"]) {
        "In" | "NotIn" if none => errors.push(FieldError::required(
            field("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !none => errors.push(FieldError::forbidden(
            field("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" => {
            for (index, one) in value::list_at(expression, &["values"]).iter().enumerate() {
                let text = one.as_str().unwrap_or("");
                for problem in names::label_value(text) {
                    let field = format!("{at}.values[{index}]");
                    errors.push(FieldError::invalid(field, text, problem));
                }
            }
        }
        "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(
            field("operator"),
            other,
            "not a valid selector operator",
        )),
    }
    check_key(expression, at, errors);
}

/// What is wrong with an expression's key.
pub fn check_key(expression: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let key = value::str_at(expression, &["key"]);
    for problem in names::qualified_name(key) {
        errors.push(FieldError::invalid(format!("{at}.key"), key, problem));
    }
}
