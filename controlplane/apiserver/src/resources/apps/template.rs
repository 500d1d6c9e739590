//! What all kinds with a pod template and a selector have in common.

use serde_json::Value;

use crate::selector::LabelSelector;
use crate::status::FieldError;
use crate::validate::pods::{self, SpecOf};
use crate::validate::{metadata, selectors};
use crate::value;

/// Checks selector and template, and that the template's pods are selected. `kind` is for the message.
pub fn validate(object: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    let selector = value::at(object, &["spec", "selector"]);
    let template = value::at(object, &["spec", "template"]);
    check_selector(selector, kind, errors);
    let labels = value::at(template, &["metadata", "labels"]);
    if let Some(parsed) = LabelSelector::of_object(selector) {
        let selected = parsed.matches(|key| value::at(labels, &[key]).as_str());
        if !selected {
            errors.push(FieldError::invalid(
                "spec.template.metadata.labels",
                labels.clone(),
                "`selector` does not match template `labels`",
            ));
        }
    }
    metadata::labels(labels, "spec.template.labels", errors);
    let annotations = value::at(template, &["metadata", "annotations"]);
    pods::validate_annotations(annotations, "spec.template.annotations", errors);
    let spec = value::at(template, &["spec"]);
    pods::validate_spec(spec, SpecOf::Template, "spec.template.spec", errors);
    let policy = value::str_at(template, &["spec", "restartPolicy"]);
    if policy != "Always" && !policy.is_empty() {
        errors.push(FieldError::not_supported(
            "spec.template.spec.restartPolicy",
            policy,
            &["Always"],
        ));
    }
}

fn check_selector(selector: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    if selector.is_null() {
        errors.push(FieldError::required("spec.selector", ""));
        return;
    }
    if value::same(selector, &Value::Null) {
        let why = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::invalid("spec.selector", selector.clone(), why));
    }
    selectors::label_selector(selector, "spec.selector", errors);
}
