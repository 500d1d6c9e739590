//! Objects, lists and tables as bytes.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::body::ReplyBody;
use super::negotiate::{Include, Shape};
use crate::cache::{Entry, WatchKind};
use crate::clock;
use crate::resources::Resource;
use crate::rest::{ListReply, shown};
use crate::value;

/// A list is sent in pieces of about this size, each made when the one before is on its way.
const PIECE_BYTES: usize = 64 << 10;

/// JSON of a value.
pub fn json_bytes(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// One object, in a shape.
pub fn object(resource: &Resource, object: Value, shape: Shape) -> Value {
    match shape {
        Shape::Full => object,
        Shape::Partial => partial(&object),
        Shape::Table(include) => {
            let metadata =
                json!({"resourceVersion": value::at(&object, &["metadata", "resourceVersion"])});
            let rows = vec![row(resource, &object, include)];
            table(resource, metadata, rows)
        }
    }
}

fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": value::at(object, &["metadata"]),
    })
}

fn table(resource: &Resource, metadata: Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns(resource),
        "rows": rows,
    })
}

fn columns(resource: &Resource) -> Value {
    resource
        .columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": "",
                "priority": i32::from(column.wide),
            })
        })
        .collect()
}

fn row(resource: &Resource, object: &Value, include: Include) -> Value {
    let cells = (resource.row)(object, clock::now_s());
    match include {
        Include::None => json!({"cells": cells}),
        Include::Metadata => json!({"cells": cells, "object": partial(object)}),
        Include::Object => json!({"cells": cells, "object": object}),
    }
}

/// An element of a list, in a shape.
fn item(resource: &Resource, entry: &Entry, shape: Shape) -> Bytes {
    if shape == Shape::Full && resource.conversion.is_none() {
        return entry.json().clone();
    }
    let object = shown(resource, entry.object());
    json_bytes(&match shape {
        Shape::Full => object,
        Shape::Partial => partial(&object),
        Shape::Table(include) => row(resource, &object, include),
    })
}

/// A list, made while it is sent.
pub fn list(reply: ListReply, shape: Shape) -> ReplyBody {
    let resource = reply.resource;
    let mut metadata = json!({"resourceVersion": reply.revision.to_string()});
    if let Some(token) = &reply.continue_token {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(remaining) = reply.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let head = match shape {
        Shape::Full => format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
            resource.kind,
            resource.api_version()
        ),
        Shape::Partial => format!(
            r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"items":["#
        ),
        Shape::Table(_) => format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"columnDefinitions":{},"rows":["#,
            columns(resource)
        ),
    };
    let mut pieces = ListPieces {
        resource,
        shape,
        items: reply.items.into_iter(),
        head: Some(head),
        is_first: true,
        is_over: false,
    };
    // A short list goes out with its length.
    let first = pieces.next();
    if pieces.is_over {
        return ReplyBody::Whole(first);
    }
    ReplyBody::Pieces(Box::new(first.into_iter().chain(pieces)))
}

struct ListPieces {
    resource: &'static Resource,
    shape: Shape,
    items: std::vec::IntoIter<Arc<Entry>>,
    head: Option<String>,
    is_first: bool,
    is_over: bool,
}

impl Iterator for ListPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let mut piece = self.head.take().unwrap_or_default().into_bytes();
        while piece.len() < PIECE_BYTES {
            let Some(entry) = self.items.next() else {
                piece.extend_from_slice(b"]}");
                self.is_over = true;
                break;
            };
            if !std::mem::take(&mut self.is_first) {
                piece.push(b',');
            }
            piece.extend_from_slice(&item(self.resource, &entry, self.shape));
        }
        Some(piece.into())
    }
}

/// A watch event, as one line.
pub fn event(resource: &Resource, kind: WatchKind, entry: &Entry, shape: Shape) -> Bytes {
    let object = match shape {
        Shape::Table(include) => {
            let object = shown(resource, entry.object());
            let metadata = json!({"resourceVersion": entry.revision().to_string()});
            json_bytes(&table(
                resource,
                metadata,
                vec![row(resource, &object, include)],
            ))
        }
        Shape::Full | Shape::Partial => item(resource, entry, shape),
    };
    line(kind.as_str(), &object)
}

/// A bookmark: how far the watch is; with `ends_initial`, that all there was has been told.
pub fn bookmark(resource: &Resource, revision: i64, shape: Shape, ends_initial: bool) -> Bytes {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if ends_initial {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = match shape {
        Shape::Full => json!({
            "kind": resource.kind,
            "apiVersion": resource.api_version(),
            "metadata": metadata,
        }),
        Shape::Partial => partial(&json!({"metadata": metadata})),
        // The annotation of an object has its place in a row.
        Shape::Table(_) if ends_initial => {
            let object = partial(&json!({"metadata": metadata}));
            let cells = vec![Value::from(""); resource.columns.len()];
            let metadata = json!({"resourceVersion": revision.to_string()});
            table(
                resource,
                metadata,
                vec![json!({"cells": cells, "object": object})],
            )
        }
        Shape::Table(_) => table(resource, metadata, Vec::new()),
    };
    line("BOOKMARK", &json_bytes(&object))
}

/// The end of a watch that went wrong.
pub fn error_event(status: &Value) -> Bytes {
    line("ERROR", &json_bytes(status))
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(br#"{"type":""#);
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(br#"","object":"#);
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
