//! The Kubernetes API's types as data: which fields a kind has, of what type, under what protobuf number, how its lists
//! merge, and what its documentation says.
//!
//! **Guarantees**: everything here is pure: bytes and values in, values and faults out. One table, made from the
//! published API definitions, serves decoding, checking, patching and OpenAPI, so that they cannot disagree.
//!
//! **Leaves to others**: which resources are served, defaults and validation by kind (`keelson-apiserver`).
//!
//! ```
//! use keelson_schema::{Schemas, decode};
//!
//! let ty = Schemas::kubernetes().kind("apps", "v1", "Deployment").expect("a kind of the table");
//! let body = br#"{"spec": {"replica": 3}}"#;
//! let decoded = decode::json(ty, body).expect("an object");
//! assert_eq!(decode::strict_error(&decoded.faults), r#"strict decoding error: unknown field "spec.replica""#);
//! ```

pub mod decode;
mod depth;
mod go;
pub mod openapi;
pub mod patch;
mod path;
pub mod protobuf;
mod table;
pub mod time;

pub use depth::{DEPTH_MAX, depth};
pub use table::{Element, Enum, Field, Form, Scalar, Schemas, Shape, Type};
