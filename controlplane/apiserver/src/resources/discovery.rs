//! Endpoint slices.

use serde_json::{Value, json};

use super::rules::immutable;
use super::{Column, EVERY_VERB, Resource, Rules, text};
use crate::status::FieldError;
use crate::value;

pub static ENDPOINT_SLICE: Resource = Resource {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage: "endpointslices",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: &[
        Column::object_name(),
        Column::new("AddressType", "string"),
        Column::new("Ports", "string"),
        Column::new("Endpoints", "string"),
        Column::new("Age", "string"),
    ],
    row: |object, now| {
        vec![
            text::name(object),
            value::str_at(object, &["addressType"]).into(),
            ports(object).into(),
            addresses(object).into(),
            text::age(object, now),
        ]
    },
    fields: &[],
    indexed_by: None,
    rules: &EndpointSliceRules,
    conversion: None,
};

/// Up to three, and how many more.
fn first_three(all: &[String]) -> String {
    const MOST: usize = 3;
    match all.len() {
        0 => "<unset>".to_owned(),
        1..=MOST => all.join(","),
        count => format!("{} + {} more...", all[..MOST].join(","), count - MOST),
    }
}

fn ports(object: &Value) -> String {
    let ports: Vec<String> = value::list_at(object, &["ports"])
        .iter()
        .map(|port| match value::int_at(port, &["port"]) {
            Some(number) => number.to_string(),
            None => match value::str_at(port, &["name"]) {
                "" => "*".to_owned(),
                name => name.to_owned(),
            },
        })
        .collect();
    first_three(&ports)
}

fn addresses(object: &Value) -> String {
    let addresses: Vec<String> = value::list_at(object, &["endpoints"])
        .iter()
        .flat_map(|endpoint| value::list_at(endpoint, &["addresses"]))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    first_three(&addresses)
}

struct EndpointSliceRules;

impl Rules for EndpointSliceRules {
    fn counts_generation(&self) -> bool {
        true
    }

    fn desires_differ(&self, new: &Value, old: &Value) -> bool {
        [&["metadata", "labels"][..], &["ports"], &["endpoints"]]
            .iter()
            .any(|path| !value::same(value::at(new, path), value::at(old, path)))
    }

    fn default(&self, object: &mut Value) {
        for port in value::list_mut(object, &["ports"]) {
            value::default(port, &["name"], "");
            value::default(port, &["protocol"], "TCP");
        }
        if value::at(object, &["endpoints"]).is_null() {
            value::set(object, &["endpoints"], json!([]));
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let kinds = ["FQDN", "IPv4", "IPv6"];
        match value::str_at(object, &["addressType"]) {
            "" => errors.push(FieldError::required("addressType", "")),
            kind if !kinds.contains(&kind) => {
                errors.push(FieldError::not_supported("addressType", kind, &kinds));
            }
            _ => {}
        }
        for (at, endpoint) in value::list_at(object, &["endpoints"]).iter().enumerate() {
            if value::list_at(endpoint, &["addresses"]).is_empty() {
                let field = format!("endpoints[{at}].addresses");
                errors.push(FieldError::required(
                    field,
                    "must contain at least 1 address",
                ));
            }
        }
        let count = value::list_at(object, &["endpoints"]).len();
        if count > 1_000 {
            let why = "must have at most 1000 items";
            errors.push(FieldError::invalid("endpoints", count, why));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(new, old, &["addressType"], errors);
    }
}
