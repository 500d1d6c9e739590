//! Events, as the core group shows them. They go away after an hour.

use serde_json::Value;

use crate::clock;
use crate::resources::{Column, EVERY_VERB, Field, Resource, Rules, text};
use crate::status::FieldError;
use crate::value;

pub static EVENT: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    namespaced: true,
    storage: "events",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: COLUMNS,
    row,
    fields: FIELDS,
    indexed_by: None,
    rules: &EventRules,
    conversion: None,
};

pub(crate) const COLUMNS: &[Column] = &[
    Column::new("Last Seen", "string"),
    Column::new("Type", "string"),
    Column::new("Reason", "string"),
    Column::new("Object", "string"),
    Column::wide("Subobject", "string"),
    Column::wide("Source", "string"),
    Column::new("Message", "string"),
    Column::wide("First Seen", "string"),
    Column::wide("Count", "string"),
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        wide: true,
    },
];

const fn involved(name: &'static str, path: &'static [&'static str]) -> Field {
    Field {
        name,
        path,
        absent: "",
    }
}

pub(crate) const FIELDS: &[Field] = &[
    involved("involvedObject.kind", &["involvedObject", "kind"]),
    involved("involvedObject.namespace", &["involvedObject", "namespace"]),
    involved("involvedObject.name", &["involvedObject", "name"]),
    involved("involvedObject.uid", &["involvedObject", "uid"]),
    involved(
        "involvedObject.apiVersion",
        &["involvedObject", "apiVersion"],
    ),
    involved(
        "involvedObject.resourceVersion",
        &["involvedObject", "resourceVersion"],
    ),
    involved("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
    involved("reason", &["reason"]),
    involved("reportingComponent", &["reportingComponent"]),
    involved("source", &["source", "component"]),
    involved("type", &["type"]),
];

/// A row, of an event in the core group's form.
pub(crate) fn row(object: &Value, now: i64) -> Vec<Value> {
    let time = |path: &[&str]| value::at(object, path).as_str();
    let first = time(&["firstTimestamp"]).or(time(&["eventTime"]));
    let (last, count) = match value::at(object, &["series"]) {
        Value::Null => {
            let count = value::int_at(object, &["count"]).unwrap_or(0);
            (time(&["lastTimestamp"]).or(first), count.max(1))
        }
        series => (
            series.get("lastObservedTime").and_then(Value::as_str),
            value::int_at(series, &["count"]).unwrap_or(1),
        ),
    };
    let last_seen = match (last, first) {
        (Some(last), Some(first)) if count > 1 => format!(
            "{} (x{count} over {})",
            clock::age(Some(last), now),
            clock::age(Some(first), now)
        ),
        (last, _) => clock::age(last, now),
    };
    let component = match value::str_at(object, &["source", "component"]) {
        "" => value::str_at(object, &["reportingComponent"]),
        component => component,
    };
    let host = match value::str_at(object, &["source", "host"]) {
        "" => value::str_at(object, &["reportingInstance"]),
        host => host,
    };
    let source = match host {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    };
    let kind = value::str_at(object, &["involvedObject", "kind"]).to_lowercase();
    let name = value::str_at(object, &["involvedObject", "name"]);
    let involved = match name {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last_seen.into(),
        value::str_at(object, &["type"]).into(),
        value::str_at(object, &["reason"]).into(),
        involved.into(),
        value::str_at(object, &["involvedObject", "fieldPath"]).into(),
        source.into(),
        value::str_at(object, &["message"]).trim().into(),
        clock::age(first, now).into(),
        count.into(),
        text::name(object),
    ]
}

struct EventRules;

impl Rules for EventRules {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let namespace = value::str_at(object, &["involvedObject", "namespace"]);
        // What lives in no namespace has its events in `default`.
        let expected = match namespace {
            "" => "default",
            namespace => namespace,
        };
        let own = value::namespace(object);
        if own != expected && !(namespace.is_empty() && own == "kube-system") {
            errors.push(FieldError::invalid(
                "involvedObject.namespace",
                namespace,
                "does not match event.namespace",
            ));
        }
    }

    fn expires(&self) -> bool {
        true
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}
