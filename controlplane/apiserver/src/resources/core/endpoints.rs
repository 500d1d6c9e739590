//! Endpoints, the old form: deprecated since 1.33 in favour of endpoint slices, and still used.

use serde_json::Value;

use crate::resources::{Column, EVERY_VERB, Resource, Rules, text};
use crate::status::FieldError;
use crate::value;

pub static ENDPOINTS: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    categories: &[],
    namespaced: true,
    storage: "services/endpoints",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: &[
        Column::object_name(),
        Column::new("Endpoints", "string"),
        Column::new("Age", "string"),
    ],
    row: |object, now| {
        vec![
            text::name(object),
            shown(object).into(),
            text::age(object, now),
        ]
    },
    fields: &[],
    indexed_by: None,
    rules: &EndpointsRules,
    conversion: None,
};

const DEPRECATED: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

/// The first three addresses with their ports.
fn shown(object: &Value) -> String {
    const MOST: usize = 3;
    let mut shown = Vec::new();
    let mut count = 0;
    let mut add = |text: String| {
        count += 1;
        if count <= MOST {
            shown.push(text);
        }
    };
    for subset in value::list_at(object, &["subsets"]) {
        let addresses = value::list_at(subset, &["addresses"]);
        let ports = value::list_at(subset, &["ports"]);
        if ports.is_empty() {
            for address in addresses {
                add(value::str_at(address, &["ip"]).to_owned());
            }
        }
        for port in ports {
            let port = value::int_at(port, &["port"]).unwrap_or(0);
            for address in addresses {
                add(format!("{}:{port}", value::str_at(address, &["ip"])));
            }
        }
    }
    let mut text = text::or_none(shown.join(","));
    if count > MOST {
        text.push_str(&format!(" + {} more...", count - MOST));
    }
    text
}

struct EndpointsRules;

impl Rules for EndpointsRules {
    fn default(&self, object: &mut Value) {
        for subset in value::list_mut(object, &["subsets"]) {
            for port in value::list_mut(subset, &["ports"]) {
                value::default(port, &["protocol"], "TCP");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        for (at, subset) in value::list_at(object, &["subsets"]).iter().enumerate() {
            let none = ["addresses", "notReadyAddresses"]
                .iter()
                .all(|field| value::list_at(subset, &[field]).is_empty());
            if none {
                let why = "must specify `addresses` or `notReadyAddresses`";
                errors.push(FieldError::required(format!("subsets[{at}]"), why));
            }
        }
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some(DEPRECATED)
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}
