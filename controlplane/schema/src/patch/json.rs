//! JSON patches.

use json_patch::jsonptr::{Pointer, PointerBuf};
use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::{Map, Value};

use super::Error;
use crate::decode::{self, Fault};

/// More are refused.
const OPERATIONS_MAX: usize = 10_000;
/// How much all copies of one patch may add: each can double the object. As a request's body.
const COPIED_BYTES_MAX: usize = 3 << 20;
/// How deep what an operation writes may lie. What is much deeper could be stored, but not read back.
const DEPTH_MAX: usize = 100;

/// The operations of a patch.
#[derive(Debug, Clone)]
pub(super) struct Operations(Vec<PatchOperation>);

impl Operations {
    /// Takes a patch apart. Members of an operation that there are not are returned as faults.
    pub fn parse(patch: Value) -> Result<(Self, Vec<Fault>), Error> {
        let Value::Array(items) = patch else {
            let found = decode::json_type(&patch);
            let what = format!(
                "json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
            );
            return Err(Error::Invalid(format!("error decoding patch: {what}")));
        };
        if items.len() > OPERATIONS_MAX {
            let allowed = "The allowed maximum operations in a JSON patch is";
            return Err(Error::TooLarge(format!(
                "{allowed} {OPERATIONS_MAX}, got {}",
                items.len()
            )));
        }
        let mut faults = Vec::new();
        let mut operations = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let Value::Object(item) = item else {
                let found = decode::json_type(&item);
                let what = format!(
                    "json: cannot unmarshal {found} into Go value of type handlers.jsonPatchOp"
                );
                return Err(Error::Invalid(format!("error decoding patch: {what}")));
            };
            let unknown = item
                .keys()
                .filter(|key| !matches!(key.as_str(), "op" | "from" | "path" | "value"));
            faults.extend(unknown.map(|key| Fault::UnknownField(format!("[{index}].{key}"))));
            operations.push(operation(&item)?);
        }
        Ok((Operations(operations), faults))
    }

    /// Applies all operations, or none.
    pub fn apply(&self, mut object: Value) -> Result<Value, Error> {
        // One at a time, since an operation's failure is told by what the ones before it have left.
        let mut copied_bytes = 0;
        for operation in &self.0 {
            check_growth(&object, operation, &mut copied_bytes)?;
            if let Err(error) =
                json_patch::patch_unsafe(&mut object, std::slice::from_ref(operation))
            {
                match explain(&object, operation, &error.kind) {
                    None => continue,
                    Some(message) => return Err(Error::Unprocessable(message)),
                }
            }
        }
        Ok(object)
    }
}

/// Refuses an operation that makes the object too large or too deep.
fn check_growth(
    object: &Value,
    operation: &PatchOperation,
    copied_bytes: &mut usize,
) -> Result<(), Error> {
    let (path, written) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
        PatchOperation::Copy(copy) => {
            let copied = object.pointer(copy.from.as_str());
            *copied_bytes += copied.map_or(0, |value| value.to_string().len());
            if *copied_bytes > COPIED_BYTES_MAX {
                return Err(Error::TooLarge(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, exceeding the limit {COPIED_BYTES_MAX}"
                )));
            }
            (&copy.path, copied)
        }
        // What is moved no deeper than it was makes nothing deeper.
        PatchOperation::Move(moving) if moving.path.count() > moving.from.count() => {
            (&moving.path, object.pointer(moving.from.as_str()))
        }
        PatchOperation::Move(_) | PatchOperation::Remove(_) | PatchOperation::Test(_) => {
            return Ok(());
        }
    };
    let depth = path.count() + written.map_or(0, crate::depth);
    match depth > DEPTH_MAX {
        true => Err(Error::TooLarge(format!(
            "the patch writes {depth} levels deep, exceeding the limit {DEPTH_MAX}"
        ))),
        false => Ok(()),
    }
}

fn operation(item: &Map<String, Value>) -> Result<PatchOperation, Error> {
    let kind = item.get("op").and_then(Value::as_str).unwrap_or_default();
    let pointer = |member: &str| {
        let missing = || {
            Error::Unprocessable(format!(
                "{kind} operation failed to decode {member}: missing value"
            ))
        };
        let text = item
            .get(member)
            .and_then(Value::as_str)
            .ok_or_else(missing)?;
        // The library that Kubernetes uses does not mind a pointer that does not begin with a slash.
        let text = if text.is_empty() || text.starts_with('/') {
            text.to_owned()
        } else {
            format!("/{text}")
        };
        PointerBuf::parse(text).map_err(|_| missing())
    };
    let value = || item.get("value").cloned().unwrap_or(Value::Null);
    let path = || pointer("path");
    Ok(match kind {
        "add" => PatchOperation::Add(json_patch::AddOperation {
            path: path()?,
            value: value(),
        }),
        "remove" => PatchOperation::Remove(json_patch::RemoveOperation { path: path()? }),
        "replace" => PatchOperation::Replace(json_patch::ReplaceOperation {
            path: path()?,
            value: value(),
        }),
        "move" => PatchOperation::Move(json_patch::MoveOperation {
            from: pointer("from")?,
            path: path()?,
        }),
        "copy" => PatchOperation::Copy(json_patch::CopyOperation {
            from: pointer("from")?,
            path: path()?,
        }),
        "test" => PatchOperation::Test(json_patch::TestOperation {
            path: path()?,
            value: value(),
        }),
        other => return Err(Error::Unprocessable(format!("Unexpected kind: {other}"))),
    })
}

/// Why an operation failed, or nothing if it did not for Kubernetes: what is not there is as good as null to a test.
fn explain(object: &Value, operation: &PatchOperation, kind: &PatchErrorKind) -> Option<String> {
    let from_is_wrong = matches!(kind, PatchErrorKind::InvalidFromPointer);
    let (name, path) = match operation {
        PatchOperation::Add(add) => ("add", &add.path),
        PatchOperation::Remove(remove) => ("remove", &remove.path),
        PatchOperation::Replace(replace) => ("replace", &replace.path),
        PatchOperation::Move(moving) => (
            "move",
            if from_is_wrong {
                &moving.from
            } else {
                &moving.path
            },
        ),
        PatchOperation::Copy(copy) => (
            "copy",
            if from_is_wrong {
                &copy.from
            } else {
                &copy.path
            },
        ),
        PatchOperation::Test(test) => ("test", &test.path),
    };
    let parent = parent(object, path);
    let last = path
        .last()
        .map(|token| token.decoded().into_owned())
        .unwrap_or_default();
    if let PatchOperation::Test(test) = operation {
        let is_null = test.value.is_null()
            && matches!(kind, PatchErrorKind::InvalidPointer)
            && parent.is_some();
        return (!is_null).then(|| format!("testing value {path} failed: test failed"));
    }
    Some(match parent {
        None => format!(
            "{name} operation does not apply: doc is missing path: \"{path}\": missing value"
        ),
        Some(Value::Array(_)) => {
            format!(
                "error in {name} for path: '{path}': Unable to access invalid index: {last}: invalid index referenced"
            )
        }
        Some(_) if name == "remove" => {
            format!(
                "error in remove for path: '{path}': Unable to remove nonexistent key: {last}: missing value"
            )
        }
        Some(_) => {
            format!("{name} operation does not apply: doc is missing key: {path}: missing value")
        }
    })
}

/// What holds the place that a pointer names.
fn parent<'a>(object: &'a Value, path: &Pointer) -> Option<&'a Value> {
    let parent = object.pointer(path.parent()?.as_str())?;
    (parent.is_object() || parent.is_array()).then_some(parent)
}
