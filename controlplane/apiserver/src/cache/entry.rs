//! One object as the cache holds it: encoded, with what selectors ask about beside it.

use bytes::Bytes;
use serde_json::Value;

use crate::resources::Resource;
use crate::selector::Selector;
use crate::storage::Revision;
use crate::value;

/// An object at one revision.
#[derive(Debug)]
pub struct Entry {
    /// What follows the resource's prefix in the store: `namespace/name`, or `name`.
    key: Box<str>,
    /// When it was last written.
    revision: Revision,
    /// The object as JSON, its resource version in it.
    json: Bytes,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// The values of the resource's selectable fields, in their order.
    fields: Box<[Box<str>]>,
}

impl Entry {
    /// Reads what the store holds. None if it is no object.
    pub fn of_stored(
        resource: &Resource,
        key: &str,
        revision: Revision,
        stored: &[u8],
    ) -> Option<Entry> {
        let mut object: Value = serde_json::from_slice(stored).ok()?;
        if !object.is_object() {
            return None;
        }
        value::set(
            &mut object,
            &["metadata", "resourceVersion"],
            revision.to_string(),
        );
        let labels = value::strings_at(&object, &["metadata", "labels"])
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        let fields = resource
            .fields
            .iter()
            .map(|field| field.read(&object).into())
            .collect();
        Some(Entry {
            key: key.into(),
            revision,
            json: serde_json::to_vec(&object).ok()?.into(),
            labels,
            fields,
        })
    }

    /// The same object under another resource version: what a deletion tells.
    pub fn at_revision(&self, revision: Revision) -> Entry {
        Entry {
            key: self.key.clone(),
            revision,
            json: with_resource_version(&self.json, revision),
            labels: self.labels.clone(),
            fields: self.fields.clone(),
        }
    }

    /// `namespace/name`, or `name`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// When it was last written.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The object as JSON.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The object.
    pub fn object(&self) -> Value {
        // What was encoded here can be decoded.
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// "" for what lives in none.
    pub fn namespace(&self) -> &str {
        self.key
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.key
            .split_once('/')
            .map_or(&*self.key, |(_, name)| name)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(label, _)| &**label == key)
            .map(|(_, value)| &**value)
    }

    /// A selectable field's value.
    pub fn field(&self, resource: &Resource, name: &str) -> &str {
        match name {
            "metadata.name" => self.name(),
            "metadata.namespace" => self.namespace(),
            _ => resource
                .fields
                .iter()
                .position(|field| field.name == name)
                .and_then(|at| self.fields.get(at))
                .map_or("", |value| value),
        }
    }

    /// Whether the object is selected.
    pub fn is_selected(&self, resource: &Resource, selector: &Selector) -> bool {
        selector.labels.matches(|key| self.label(key))
            && selector.fields.matches(|name| self.field(resource, name))
    }

    /// Roughly how much memory it takes.
    pub fn bytes(&self) -> usize {
        let labels: usize = self
            .labels
            .iter()
            .map(|(k, v)| k.len() + v.len() + 32)
            .sum();
        self.json.len() + self.key.len() + labels + 128
    }
}

/// An encoded object with another resource version.
pub fn with_resource_version(json: &[u8], revision: Revision) -> Bytes {
    let mut object: Value = serde_json::from_slice(json).unwrap_or_default();
    value::set(
        &mut object,
        &["metadata", "resourceVersion"],
        revision.to_string(),
    );
    serde_json::to_vec(&object).unwrap_or_default().into()
}
