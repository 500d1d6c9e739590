//! Secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::config_map::{check_key, check_size, kept_if_immutable};
use crate::resources::rules::immutable;
use crate::resources::{Column, EVERY_VERB, Field, Resource, Rules, text};
use crate::status::FieldError;
use crate::value;

pub static SECRET: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage: "secrets",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: &[
        Column::object_name(),
        Column::new("Type", "string"),
        Column::new("Data", "string"),
        Column::new("Age", "string"),
    ],
    row: |object, now| {
        vec![
            text::name(object),
            value::str_at(object, &["type"]).into(),
            value::at(object, &["data"])
                .as_object()
                .map_or(0, |map| map.len())
                .into(),
            text::age(object, now),
        ]
    },
    fields: &[Field {
        name: "type",
        path: &["type"],
        absent: "",
    }],
    indexed_by: None,
    rules: &SecretRules,
    conversion: None,
};

/// The keys that each well-known type must have.
const TYPED: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

struct SecretRules;

impl Rules for SecretRules {
    fn default(&self, object: &mut Value) {
        value::default(object, &["type"], "Opaque");
        // What is written as text is stored as data, and never told as text.
        if let Some(Value::Object(texts)) = value::remove(object, &["stringData"]) {
            for (key, text) in texts {
                let text = text.as_str().unwrap_or("");
                value::set(object, &["data", &key], STANDARD.encode(text));
            }
        }
        for text in value::at(object, &["data"])
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.is_null())
            .map(|(key, _)| key.clone())
            .collect::<Vec<_>>()
        {
            value::set(object, &["data", &text], "");
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut bytes = 0;
        for (key, data) in value::strings_at(object, &["data"]) {
            check_key("data", key, errors);
            bytes += data.len() / 4 * 3;
        }
        check_size("data", bytes, errors);
        let kind = value::str_at(object, &["type"]);
        for (_, keys) in TYPED.iter().filter(|(typed, _)| *typed == kind) {
            for key in *keys {
                if value::at(object, &["data", key]).is_null() {
                    errors.push(FieldError::required(format!("data[{key}]"), ""));
                }
            }
        }
        let basic = ["username", "password"];
        let is_missing = |key: &&str| value::at(object, &["data", key]).is_null();
        if kind == "kubernetes.io/basic-auth" && basic.iter().all(is_missing) {
            errors.extend(basic.map(|key| FieldError::required(format!("data[{key}]"), "")));
        }
        if kind == "kubernetes.io/service-account-token" {
            let annotation = "kubernetes.io/service-account.name";
            if value::str_at(object, &["metadata", "annotations", annotation]).is_empty() {
                let field = format!("metadata.annotations[{annotation}]");
                errors.push(FieldError::required(field, ""));
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(new, old, &["type"], errors);
        kept_if_immutable(new, old, &["data"], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_stored_as_data() {
        let mut secret = json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}});
        SecretRules.default(&mut secret);
        assert_eq!(
            secret,
            json!({"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}})
        );
    }

    #[test]
    fn a_typed_secret_must_have_its_keys() {
        let secret = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}});
        let mut errors = Vec::new();
        SecretRules.validate(&secret, &mut errors);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "data[tls.key]: Required value");
    }

    #[test]
    fn basic_authentication_takes_a_name_or_a_password() {
        let faults = |data: Value| {
            let mut errors = Vec::new();
            let secret = json!({"type": "kubernetes.io/basic-auth", "data": data});
            SecretRules.validate(&secret, &mut errors);
            errors.iter().map(FieldError::to_string).collect::<Vec<_>>()
        };
        assert!(faults(json!({"password": ""})).is_empty());
        assert_eq!(
            faults(json!({"a": ""})),
            [
                "data[username]: Required value",
                "data[password]: Required value"
            ]
        );
    }
}
