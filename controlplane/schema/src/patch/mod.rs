//! The patches that the API takes, applied as Kubernetes applies them.
//!
//! A patch is parsed once and may be applied many times, since an update that meets a newer object starts over. What
//! comes out is checked against the object's type afterwards, by [`decode::value`](crate::decode::value): a patch may
//! write fields that are unknown, or of a wrong type.

mod directives;
mod json;
mod order;
mod shown;
mod strategic;

use serde_json::{Map, Value};

use crate::decode::{self, Fault};
use crate::table::Type;

/// What a patch's content type says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `application/json-patch+json`: a list of operations (RFC 6902).
    Json,
    /// `application/merge-patch+json`: an object to be laid over the other (RFC 7386).
    Merge,
    /// `application/strategic-merge-patch+json`: the same, but lists are merged as their fields say.
    Strategic,
}

/// A parsed patch.
#[derive(Debug, Clone)]
pub struct Patch {
    content: Content,
    faults: Vec<Fault>,
}

#[derive(Debug, Clone)]
enum Content {
    Json(json::Operations),
    Merge(Map<String, Value>),
    Strategic(Map<String, Value>),
}

/// Why a patch cannot be applied, in the words of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The patch itself is wrong: 400 BadRequest.
    #[error("{0}")]
    Invalid(String),
    /// The patch does not fit the object: 422, with this as the cause.
    #[error("{0}")]
    Unprocessable(String),
    /// The patch has too many operations: 413.
    #[error("{0}")]
    TooLarge(String),
    /// The object's type cannot do what the patch asks for: what Kubernetes answers with a 500.
    #[error("{0}")]
    Unsupported(String),
}

impl Patch {
    /// Parses a patch.
    pub fn parse(kind: Kind, body: &[u8]) -> Result<Self, Error> {
        let parsed = decode::json::parse(body).map_err(|error| match kind {
            Kind::Strategic => Error::Invalid(error.to_string()),
            Kind::Json | Kind::Merge => Error::Invalid(format!("error decoding patch: {error}")),
        })?;
        let mut faults = parsed.faults;
        let content = match (kind, parsed.value) {
            (Kind::Json, value) => {
                let (operations, unknown) = json::Operations::parse(value)?;
                faults.extend(unknown);
                faults = faults
                    .into_iter()
                    .map(|fault| Fault::Patch(Box::new(fault)))
                    .collect();
                Content::Json(operations)
            }
            (Kind::Merge, Value::Object(object)) => Content::Merge(object),
            (Kind::Strategic, Value::Object(object)) => Content::Strategic(object),
            (Kind::Merge, _) => return Err(Error::Invalid("Invalid JSON Patch".to_owned())),
            (Kind::Strategic, other) => {
                let found = decode::json_type(&other);
                let what = format!(
                    "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
                );
                return Err(Error::Invalid(what));
            }
        };
        Ok(Patch { content, faults })
    }

    /// What strict validation refuses of the patch itself. That of its outcome is found when the outcome is decoded.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The patch as Kubernetes shows it where its outcome is refused: a strategic one as it is. Of the others it shows the
    /// outcome.
    pub fn shown(&self) -> Option<String> {
        match &self.content {
            Content::Strategic(patch) => Some(shown::map(patch)),
            Content::Json(_) | Content::Merge(_) => None,
        }
    }

    /// The object as the patch makes it. Only a strategic merge patch needs to know the object's type.
    pub fn apply(&self, ty: Type<'_>, object: Value) -> Result<Value, Error> {
        match &self.content {
            Content::Json(operations) => operations.apply(object),
            Content::Merge(patch) => {
                let mut object = object;
                json_patch::merge(&mut object, &Value::Object(patch.clone()));
                Ok(object)
            }
            Content::Strategic(patch) => {
                let Value::Object(object) = object else {
                    return Err(Error::Invalid("invalid JSON document".to_owned()));
                };
                strategic::merge(Some(ty), object, patch.clone()).map(Value::Object)
            }
        }
    }
}
