//! From the bytes of a request to a JSON value of a known type.
//!
//! What comes out is what Kubernetes' own server would store: unknown fields are gone, and so are nulls and fields that
//! are empty where empty means absent; structs that Go holds by value are there; times and quantities are in their
//! canonical form. Two objects that mean the same are therefore the same value, whichever encoding they came in.
//!
//! What was wrong but can be lived with is returned as [`Fault`]s, and the caller decides by `fieldValidation` whether
//! they refuse the request. A wrong type is an [`Error`] in any case.

mod check;
pub(crate) mod json;
mod tree;
mod yaml;

use std::fmt;

use serde_json::Value;

use crate::protobuf;
use crate::table::Type;

/// A decoded value and what was odd about its encoding.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object, without its unknown fields.
    pub value: Value,
    /// At most [`Decoded::FAULTS_MAX`], each once.
    pub faults: Vec<Fault>,
}

impl Decoded {
    /// More are not counted: they would only make the answer longer.
    pub const FAULTS_MAX: usize = 100;
}

/// Something that strict validation refuses, and lax validation overlooks. It is displayed as Kubernetes words it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A field that the type does not have.
    UnknownField(String),
    /// A field that is there twice; the last one counts.
    DuplicateField(String),
    /// A key that is twice in a YAML mapping, in YAML's words.
    Yaml(String),
    /// One of these in a JSON patch, and not in the object.
    Patch(Box<Fault>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::UnknownField(path) => write!(f, "unknown field {}", crate::go::quoted(path)),
            Fault::DuplicateField(path) => write!(f, "duplicate field {}", crate::go::quoted(path)),
            Fault::Yaml(message) => f.write_str(message),
            Fault::Patch(fault) => write!(f, "json patch {fault}"),
        }
    }
}

/// The message with which strict validation refuses a request that has these faults.
pub fn strict_error(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
    format!("strict decoding error: {}", faults.join(", "))
}

/// Why bytes are no object of the type, in the words of Kubernetes' own server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value of the wrong type.
    #[error("json: cannot unmarshal {found} into Go {place} of type {expected}")]
    WrongType {
        /// Such as `string`, or `number 1.5`.
        found: String,
        /// `struct field DeploymentSpec.spec.replicas`, or `value`.
        place: String,
        /// Such as `int32` or `[]v1.Container`.
        expected: String,
    },
    /// Anything else that is wrong with a value or with the encoding.
    #[error("{0}")]
    Malformed(String),
}

/// Which object a body says that it holds. What it does not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeMeta {
    /// `apps/v1`, or `v1` for the core group.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
}

impl TypeMeta {
    /// Group and version.
    pub fn group_version(&self) -> (&str, &str) {
        self.api_version
            .split_once('/')
            .unwrap_or(("", &self.api_version))
    }
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// A body that was parsed, but not yet taken for an object of any type: what it says that it is can be asked first.
pub struct Body<'a>(Parsed<'a>);

enum Parsed<'a> {
    Tree(tree::Parsed),
    Protobuf(protobuf::Envelope<'a>),
}

impl<'a> Body<'a> {
    /// Parses a body.
    pub fn parse(encoding: Encoding, body: &'a [u8]) -> Result<Self, Error> {
        Ok(Body(match encoding {
            Encoding::Json => Parsed::Tree(json::parse(body)?),
            Encoding::Yaml => Parsed::Tree(yaml::parse(body)?),
            Encoding::Protobuf => Parsed::Protobuf(protobuf::Envelope::parse(body)?),
        }))
    }

    /// What the body says that it is.
    pub fn type_meta(&self) -> Result<TypeMeta, Error> {
        match &self.0 {
            Parsed::Tree(tree) => type_meta(&tree.value),
            Parsed::Protobuf(envelope) => Ok(envelope.type_meta.clone()),
        }
    }

    /// Takes the body for an object of type `ty`.
    pub fn decode(self, ty: Type<'_>) -> Result<Decoded, Error> {
        match self.0 {
            Parsed::Tree(tree) => check::check(ty, tree),
            Parsed::Protobuf(envelope) => value(ty, envelope.decode(ty)?),
        }
    }
}

/// Decodes a JSON object of type `ty`.
pub fn json(ty: Type<'_>, body: &[u8]) -> Result<Decoded, Error> {
    Body::parse(Encoding::Json, body)?.decode(ty)
}

/// Decodes a YAML object of type `ty`.
pub fn yaml(ty: Type<'_>, body: &[u8]) -> Result<Decoded, Error> {
    Body::parse(Encoding::Yaml, body)?.decode(ty)
}

/// Decodes a protobuf object of type `ty`.
pub fn protobuf(ty: Type<'_>, body: &[u8]) -> Result<Decoded, Error> {
    Body::parse(Encoding::Protobuf, body)?.decode(ty)
}

/// Checks a value that was decoded before, and then changed: by a patch, say.
pub fn value(ty: Type<'_>, value: Value) -> Result<Decoded, Error> {
    check::check(
        ty,
        tree::Parsed {
            value,
            faults: Vec::new(),
        },
    )
}

/// What messages call a value's JSON type.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What a value says that it is.
pub fn type_meta(value: &Value) -> Result<TypeMeta, Error> {
    const STRUCT: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let wrong = |found: &Value, place: &str, expected: &str| {
        let found = json_type(found);
        Error::Malformed(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go {place} of type {expected}"
        ))
    };
    let field = |name: &str| match value.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(wrong(other, &format!("struct field .{name}"), "string")),
    };
    match value {
        Value::Object(_) => Ok(TypeMeta {
            api_version: field("apiVersion")?,
            kind: field("kind")?,
        }),
        Value::Null => Ok(TypeMeta::default()),
        other => Err(wrong(other, "value", STRUCT)),
    }
}
