//! What holds for the metadata of every object.

use std::collections::HashSet;

use serde_json::Value;

use super::names;
use crate::resources::Resource;
use crate::status::FieldError;
use crate::value;

const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// Finalizers that have no slash in them and are known nevertheless.
const KNOWN_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// What is wrong with an object's metadata.
pub fn validate(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    let name = value::name(object);
    let generate = value::str_at(object, &["metadata", "generateName"]);
    if !generate.is_empty() {
        // A name made of it ends in letters, so that it may end in a dash itself.
        for problem in resource
            .rules
            .check_name(&format!("{}a", generate.trim_end_matches('-')))
        {
            errors.push(FieldError::invalid(
                "metadata.generateName",
                generate,
                problem,
            ));
        }
    }
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        for problem in resource.rules.check_name(name) {
            errors.push(FieldError::invalid("metadata.name", name, problem));
        }
    }
    if resource.namespaced {
        let namespace = value::namespace(object);
        for problem in names::dns_label(namespace) {
            errors.push(FieldError::invalid(
                "metadata.namespace",
                namespace,
                problem,
            ));
        }
    }
    labels(
        value::at(object, &["metadata", "labels"]),
        "metadata.labels",
        errors,
    );
    annotations(object, errors);
    owners(object, errors);
    finalizers(object, errors);
}

/// What is wrong with a map of labels.
pub fn labels(labels: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (key, text) in value::strings_at(labels, &[]) {
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(field, key, problem));
        }
        for problem in names::label_value(text) {
            errors.push(FieldError::invalid(field, text, problem));
        }
    }
}

fn annotations(object: &Value, errors: &mut Vec<FieldError>) {
    let mut bytes = 0;
    for (key, text) in value::strings_at(object, &["metadata", "annotations"]) {
        bytes += key.len() + text.len();
        for problem in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", key, problem));
        }
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(
            "metadata.annotations",
            ANNOTATIONS_BYTES_MAX,
        ));
    }
}

fn owners(object: &Value, errors: &mut Vec<FieldError>) {
    let owners = value::list_at(object, &["metadata", "ownerReferences"]);
    for owner in owners {
        for (name, what) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            let text = value::str_at(owner, &[name]);
            if text.is_empty() {
                let field = format!("metadata.ownerReferences.{name}");
                errors.push(FieldError::invalid(field, text, what));
            }
        }
    }
    let controllers: Vec<&str> = owners
        .iter()
        .filter(|owner| value::bool_at(owner, &["controller"]))
        .map(|owner| value::str_at(owner, &["kind"]))
        .collect();
    if let [first, second, ..] = controllers.as_slice() {
        errors.push(FieldError::invalid(
            "metadata.ownerReferences",
            owners.to_vec(),
            format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
            ),
        ));
    }
}

fn finalizers(object: &Value, errors: &mut Vec<FieldError>) {
    let finalizers = value::list_at(object, &["metadata", "finalizers"]);
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        for problem in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                finalizer,
                problem,
            ));
        }
        if !finalizer.contains('/') && !KNOWN_FINALIZERS.contains(&finalizer) {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    let has = |name: &str| finalizers.iter().any(|one| one == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.push(FieldError::invalid(
            "metadata.finalizers",
            finalizers.to_vec(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}

/// What is wrong with a change of metadata.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (new, old) = (
            value::at(new, &["metadata", field]),
            value::at(old, &["metadata", field]),
        );
        if !value::same(new, old) {
            errors.push(FieldError::invalid(
                format!("metadata.{field}"),
                new.clone(),
                "field is immutable",
            ));
        }
    }
    if value::is_deleting(old) {
        let known = value::list_at(old, &["metadata", "finalizers"]).iter();
        let known: HashSet<&Value> = known.collect();
        let added: Vec<&Value> = value::list_at(new, &["metadata", "finalizers"])
            .iter()
            .filter(|one| !known.contains(one))
            .collect();
        if !added.is_empty() {
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                    Value::from_iter(added.into_iter().cloned())
                ),
            ));
        }
    }
}
