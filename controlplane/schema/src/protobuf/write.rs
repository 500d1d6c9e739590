//! From JSON to protobuf.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::wire::Message;
use super::{MAGIC, number};
use crate::decode::Error;
use crate::table::{Element, Field, Form, Scalar, Shape, Type};
use crate::time::Timestamp;

/// Encodes an object of type `ty`, under the `apiVersion` and `kind` that it says it has.
///
/// # Errors
///
/// If a value is not of its field's type, which no decoded object is.
pub fn encode(ty: Type<'_>, object: &Value) -> Result<Vec<u8>, Error> {
    let Value::Object(fields) = object else {
        return Err(unfit("the object"));
    };
    let text = |name: &str| {
        object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .as_bytes()
    };
    let mut type_meta = Message::default();
    type_meta.bytes(number::API_VERSION, text("apiVersion"));
    type_meta.bytes(number::KIND, text("kind"));
    let mut unknown = Message {
        bytes: MAGIC.to_vec(),
    };
    unknown.bytes(number::TYPE_META, &type_meta.bytes);
    unknown.bytes(number::RAW, &message(ty, fields)?);
    Ok(unknown.bytes)
}

fn message(ty: Type<'_>, object: &Map<String, Value>) -> Result<Vec<u8>, Error> {
    let mut out = Message::default();
    for field in ty.wire_fields() {
        if field.is_inlined() {
            if let Some(inner) = field.element_type() {
                let inner = message(inner, object)?;
                if !inner.is_empty() {
                    out.bytes(field.number(), &inner);
                }
            }
            continue;
        }
        match (field.shape(), object.get(field.name())) {
            (_, None | Some(Value::Null)) => {}
            (Shape::Single | Shape::Pointer, Some(value)) => {
                element(field, field.number(), value, &mut out)?
            }
            (Shape::List, Some(Value::Array(items))) => {
                for item in items {
                    element(field, field.number(), item, &mut out)?;
                }
            }
            (Shape::Map, Some(Value::Object(entries))) => {
                for (key, value) in entries {
                    let mut entry = Message::default();
                    entry.bytes(number::KEY, key.as_bytes());
                    element(field, number::VALUE, value, &mut entry)?;
                    out.bytes(field.number(), &entry.bytes);
                }
            }
            _ => return Err(unfit(field.name())),
        }
    }
    Ok(out.bytes)
}

/// Writes one element of a field, under a number that in a map's entry is not the field's.
fn element(field: Field<'_>, number: u32, value: &Value, out: &mut Message) -> Result<(), Error> {
    let wrong = || unfit(field.name());
    match (field.element(), value) {
        (Element::Scalar(Scalar::String), Value::String(text)) => {
            out.bytes(number, text.as_bytes())
        }
        (Element::Scalar(Scalar::Bytes), Value::String(text)) => {
            out.bytes(number, &BASE64_STANDARD.decode(text).map_err(|_| wrong())?);
        }
        (Element::Scalar(Scalar::Bool), Value::Bool(value)) => {
            out.varint(number, u64::from(*value))
        }
        // A negative number is as long as one of 64 bits, whatever its type.
        (Element::Scalar(Scalar::Int32 | Scalar::Int64), value) => {
            out.varint(number, value.as_i64().ok_or_else(wrong)? as u64);
        }
        (Element::Scalar(Scalar::Double), value) => {
            out.fixed64(number, value.as_f64().ok_or_else(wrong)?.to_bits())
        }
        (Element::Type(ty), value) => out.bytes(number, &nested(ty, value).ok_or_else(wrong)??),
        _ => return Err(wrong()),
    }
    Ok(())
}

/// The bytes of a message, or nothing if the value is not of the type's form.
fn nested(ty: Type<'_>, value: &Value) -> Option<Result<Vec<u8>, Error>> {
    let mut out = Message::default();
    match ty.form() {
        Form::Object => return Some(message(ty, value.as_object()?)),
        Form::Quantity => out.bytes(number::ONLY, value.as_str()?.as_bytes()),
        Form::Time | Form::MicroTime => {
            let time = Timestamp::parse(value.as_str()?).ok()?;
            out.varint(number::SECONDS, time.seconds as u64);
            out.varint(number::NANOS, u64::from(time.nanos));
        }
        Form::Fields | Form::Raw => out.bytes(number::ONLY, value.to_string().as_bytes()),
        Form::Strings => {
            for item in value.as_array()? {
                out.bytes(number::ONLY, item.as_str()?.as_bytes());
            }
        }
        Form::IntOrString => match value {
            Value::String(text) => {
                out.varint(number::IS_STRING, 1);
                out.varint(number::INT, 0);
                out.bytes(number::STRING, text.as_bytes());
            }
            number => {
                out.varint(number::IS_STRING, 0);
                out.varint(number::INT, number.as_i64()? as u64);
                out.bytes(number::STRING, b"");
            }
        },
    }
    Some(Ok(out.bytes))
}

fn unfit(what: &str) -> Error {
    Error::Malformed(format!("{what} has a value that its type has not"))
}
