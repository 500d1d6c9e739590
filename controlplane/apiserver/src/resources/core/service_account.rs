//! Service accounts.

use serde_json::Value;

use crate::resources::{Column, EVERY_VERB, Resource, Rules, text};
use crate::value;

pub static SERVICE_ACCOUNT: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    namespaced: true,
    storage: "serviceaccounts",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: &[
        Column::object_name(),
        Column::new("Secrets", "string"),
        Column::new("Age", "string"),
    ],
    row: |object: &Value, now| {
        vec![
            text::name(object),
            value::list_at(object, &["secrets"]).len().into(),
            text::age(object, now),
        ]
    },
    fields: &[],
    indexed_by: None,
    rules: &ServiceAccountRules,
    conversion: None,
};

struct ServiceAccountRules;

impl Rules for ServiceAccountRules {
    fn returns_deleted(&self) -> bool {
        true
    }
}
