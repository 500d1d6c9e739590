//! Leases: who leads, and which node lives.

use serde_json::Value;

use super::{Column, EVERY_VERB, Resource, Rules, text};
use crate::status::FieldError;
use crate::value;

pub static LEASE: Resource = Resource {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage: "leases",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: &[
        Column::object_name(),
        Column::new("Holder", "string"),
        Column::new("Age", "string"),
    ],
    row: |object, now| {
        vec![
            text::name(object),
            value::str_at(object, &["spec", "holderIdentity"]).into(),
            text::age(object, now),
        ]
    },
    fields: &[],
    indexed_by: None,
    rules: &LeaseRules,
    conversion: None,
};

struct LeaseRules;

impl Rules for LeaseRules {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut check = |field: &str, least: i64, why: &str| {
            let number = value::int_at(object, &["spec", field]);
            if let Some(number) = number.filter(|number| *number < least) {
                errors.push(FieldError::invalid(format!("spec.{field}"), number, why));
            }
        };
        check("leaseDurationSeconds", 1, "must be greater than 0");
        check("leaseTransitions", 0, "must be greater than or equal to 0");
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}
