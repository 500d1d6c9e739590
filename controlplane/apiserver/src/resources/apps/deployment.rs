//! Deployments.

use serde_json::{Value, json};

use super::template;
use crate::resources::rules::{immutable, not_negative};
use crate::resources::{Column, EVERY_VERB, Resource, Rules, Subresource, pod_spec, text};
use crate::status::FieldError;
use crate::validate::pods::SpecOf;
use crate::value;

pub static DEPLOYMENT: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    namespaced: true,
    storage: "deployments",
    verbs: EVERY_VERB,
    subresources: &[
        Subresource::status(("apps", "v1", "Deployment")),
        Subresource::SCALE,
    ],
    columns: &[
        Column::object_name(),
        Column::new("Ready", "string"),
        Column::new("Up-to-date", "string"),
        Column::new("Available", "string"),
        Column::new("Age", "string"),
        Column::wide("Containers", "string"),
        Column::wide("Images", "string"),
        Column::wide("Selector", "string"),
    ],
    row,
    fields: &[],
    indexed_by: None,
    rules: &DeploymentRules,
    conversion: None,
};

fn row(object: &Value, now: i64) -> Vec<Value> {
    let desired = value::int_at(object, &["spec", "replicas"]).unwrap_or(0);
    let ready = value::int_at(object, &["status", "readyReplicas"]).unwrap_or(0);
    let [names, images] = text::containers(value::at(object, &["spec", "template", "spec"]));
    vec![
        text::name(object),
        format!("{ready}/{desired}").into(),
        text::number(object, &["status", "updatedReplicas"]),
        text::number(object, &["status", "availableReplicas"]),
        text::age(object, now),
        names,
        images,
        text::label_selector(value::at(object, &["spec", "selector"])),
    ]
}

struct DeploymentRules;

impl Rules for DeploymentRules {
    fn counts_generation(&self) -> bool {
        true
    }

    fn desires_differ(&self, new: &Value, old: &Value) -> bool {
        // Annotations count too: the controller hands them on to the replica sets.
        [&["spec"][..], &["metadata", "annotations"]]
            .iter()
            .any(|path| !value::same(value::at(new, path), value::at(old, path)))
    }

    fn splits_status(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        value::default(object, &["spec", "replicas"], 1);
        value::default(object, &["spec", "revisionHistoryLimit"], 10);
        value::default(object, &["spec", "progressDeadlineSeconds"], 600);
        value::default(object, &["spec", "strategy", "type"], "RollingUpdate");
        if value::str_at(object, &["spec", "strategy", "type"]) == "RollingUpdate" {
            for bound in ["maxSurge", "maxUnavailable"] {
                let path = ["spec", "strategy", "rollingUpdate", bound];
                value::default(object, &path, "25%");
            }
        }
        pod_spec::default(object, &["spec", "template", "spec"], SpecOf::Template);
    }

    fn prepare_create(&self, object: &mut Value) {
        value::set(object, &["status"], json!({}));
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        not_negative(object, &["spec", "replicas"], errors);
        not_negative(object, &["spec", "minReadySeconds"], errors);
        not_negative(object, &["spec", "revisionHistoryLimit"], errors);
        template::validate(object, "deployment", errors);
        check_strategy(value::at(object, &["spec", "strategy"]), errors);
        let deadline = value::int_at(object, &["spec", "progressDeadlineSeconds"]);
        let min_ready = value::int_at(object, &["spec", "minReadySeconds"]).unwrap_or(0);
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= min_ready) {
            errors.push(FieldError::invalid(
                "spec.progressDeadlineSeconds",
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(new, old, &["spec", "selector"], errors);
    }
}

fn check_strategy(strategy: &Value, errors: &mut Vec<FieldError>) {
    let kind = value::str_at(strategy, &["type"]);
    let rolling = value::at(strategy, &["rollingUpdate"]);
    match kind {
        "Recreate" if !rolling.is_null() => errors.push(FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        "Recreate" => {}
        "RollingUpdate" => {
            let bounds = ["maxUnavailable", "maxSurge"]
                .map(|name| check_bound(name, value::at(rolling, &[name]), errors));
            if bounds == [Some(0), Some(0)] {
                errors.push(FieldError::invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    value::at(rolling, &["maxUnavailable"]).clone(),
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            if bounds[0] > Some(100) && value::at(rolling, &["maxUnavailable"]).is_string() {
                errors.push(FieldError::invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    value::at(rolling, &["maxUnavailable"]).clone(),
                    "must not be greater than 100%",
                ));
            }
        }
        other => errors.push(FieldError::not_supported(
            "spec.strategy.type",
            other,
            &["Recreate", "RollingUpdate"],
        )),
    }
}

/// The number of a bound, in replicas or per cent.
fn check_bound(name: &str, bound: &Value, errors: &mut Vec<FieldError>) -> Option<i64> {
    let field = format!("spec.strategy.rollingUpdate.{name}");
    match bound {
        Value::String(text) => {
            let number = text.strip_suffix('%').and_then(|n| n.parse::<u32>().ok());
            if number.is_none() {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                           '93%', regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(field, text.as_str(), why));
            }
            number.map(i64::from)
        }
        _ => {
            let number = bound.as_i64()?;
            if number < 0 {
                let why = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(field, number, why));
            }
            Some(number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        let mut object = json!({"spec": {"selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}}});
        DeploymentRules.default(&mut object);
        object
    }

    fn errors(object: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        DeploymentRules.validate(object, &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn a_plain_deployment_is_valid() {
        assert_eq!(errors(&deployment()), Vec::<String>::new());
    }

    #[test]
    fn the_selector_must_select_the_template() {
        let mut object = deployment();
        object["spec"]["template"]["metadata"]["labels"]["app"] = "db".into();
        assert_eq!(
            errors(&object),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not match template `labels`"
            ]
        );
        object["spec"]["selector"] = Value::Null;
        assert_eq!(errors(&object), ["spec.selector: Required value"]);
    }

    #[test]
    fn not_both_bounds_can_be_zero() {
        let mut object = deployment();
        object["spec"]["strategy"]["rollingUpdate"] =
            json!({"maxSurge": 0, "maxUnavailable": "0%"});
        assert!(errors(&object)[0].ends_with("may not be 0 when `maxSurge` is 0"));
    }

    #[test]
    fn annotations_count_as_desired_and_labels_do_not() {
        let old = deployment();
        let mut new = old.clone();
        new["metadata"]["labels"] = json!({"a": "b"});
        assert!(!DeploymentRules.desires_differ(&new, &old));
        new["metadata"]["annotations"] = json!({"a": "b"});
        assert!(DeploymentRules.desires_differ(&new, &old));
    }
}
