//! From protobuf to JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::wire::{Fields, Raw};
use super::{DEPTH_MAX, MAGIC, number};
use crate::decode::{Error, TypeMeta};
use crate::table::{Element, Field, Form, Scalar, Schemas, Shape, Type};
use crate::time::{Precision, Timestamp};

/// A body that says which kind it has, and has it as bytes.
pub(crate) struct Envelope<'a> {
    pub type_meta: TypeMeta,
    pub raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, Error> {
        if body.is_empty() {
            return Err(Error::Malformed("empty data".to_owned()));
        }
        let unknown = body.strip_prefix(MAGIC).ok_or_else(|| {
            let what = "provided data does not appear to be a protobuf message, expected prefix";
            Error::Malformed(format!("{what} [107 56 115 0]"))
        })?;
        let mut envelope = Envelope {
            type_meta: TypeMeta::default(),
            raw: &[],
        };
        for field in Fields::of(unknown) {
            match field? {
                (number::TYPE_META, Raw::Bytes(bytes)) => {
                    for field in Fields::of(bytes) {
                        match field? {
                            (number::API_VERSION, Raw::Bytes(text)) => {
                                envelope.type_meta.api_version = string(text)
                            }
                            (number::KIND, Raw::Bytes(text)) => {
                                envelope.type_meta.kind = string(text)
                            }
                            _ => {}
                        }
                    }
                }
                (number::RAW, Raw::Bytes(bytes)) => envelope.raw = bytes,
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// The object, without anything that JSON would normalize.
    pub fn decode(&self, ty: Type<'_>) -> Result<Value, Error> {
        self.decode_at(ty, 0)
    }

    fn decode_at(&self, ty: Type<'_>, depth: usize) -> Result<Value, Error> {
        let mut object = Map::new();
        let TypeMeta { api_version, kind } = &self.type_meta;
        for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
            object.insert(name.to_owned(), Value::String(value.clone()));
        }
        message(ty, self.raw, &mut object, depth)?;
        Ok(Value::Object(object))
    }
}

/// Reads a message of type `ty` into an object, around which `depth` lists and objects are.
fn message(
    ty: Type<'_>,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    for field in Fields::of(bytes) {
        let (number, raw) = field?;
        // A field of a newer version is no fault in protobuf.
        let Some(field) = ty.wire_field(number) else {
            continue;
        };
        if field.is_inlined() {
            if let (Raw::Bytes(bytes), Some(inner)) = (raw, field.element_type()) {
                message(inner, bytes, object, depth + 1)?;
            }
            continue;
        }
        match field.shape() {
            Shape::Single | Shape::Pointer => {
                let previous = object.remove(field.name());
                object.insert(
                    field.name().to_owned(),
                    element(field, raw, previous, depth)?,
                );
            }
            Shape::List => {
                let Value::Array(items) = object
                    .entry(field.name())
                    .or_insert_with(|| Value::Array(Vec::new()))
                else {
                    continue;
                };
                match (field.element(), raw) {
                    // Numbers may come packed.
                    (
                        Element::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool),
                        Raw::Bytes(packed),
                    ) => {
                        unpack(field, packed, items)?;
                    }
                    _ => items.push(element(field, raw, None, depth + 1)?),
                }
            }
            Shape::Map => {
                let Value::Object(entries) = object
                    .entry(field.name())
                    .or_insert_with(|| Value::Object(Map::new()))
                else {
                    continue;
                };
                let (key, value) = entry(field, raw, depth + 1)?;
                entries.insert(key, value);
            }
        }
    }
    Ok(())
}

fn unpack(field: Field<'_>, packed: &[u8], items: &mut Vec<Value>) -> Result<(), Error> {
    // As if each number had a key in front of it.
    let mut rest = packed;
    while let Some(length) = rest.iter().position(|byte| *byte < 0x80) {
        let (number, tail) = rest.split_at(length + 1);
        let keyed = [&[8], number].concat();
        for field_of_one in Fields::of(&keyed) {
            items.push(element(field, field_of_one?.1, None, 0)?);
        }
        rest = tail;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Error::Malformed("unexpected EOF".to_owned()))
    }
}

fn entry(field: Field<'_>, raw: Raw<'_>, depth: usize) -> Result<(String, Value), Error> {
    let Raw::Bytes(bytes) = raw else {
        return Err(wrong_wire_type(field));
    };
    let (mut key, mut value) = (String::new(), Value::Null);
    for part in Fields::of(bytes) {
        match part? {
            (number::KEY, Raw::Bytes(text)) => key = string(text),
            (number::VALUE, raw) => value = element(field, raw, None, depth)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn element(
    field: Field<'_>,
    raw: Raw<'_>,
    previous: Option<Value>,
    depth: usize,
) -> Result<Value, Error> {
    Ok(match (field.element(), raw) {
        (Element::Scalar(Scalar::String), Raw::Bytes(text)) => Value::String(string(text)),
        (Element::Scalar(Scalar::Bytes), Raw::Bytes(bytes)) => {
            Value::String(BASE64_STANDARD.encode(bytes))
        }
        (Element::Scalar(Scalar::Bool), Raw::Varint(value)) => Value::Bool(value != 0),
        (Element::Scalar(Scalar::Int32), Raw::Varint(value)) => Value::from(value as i32),
        (Element::Scalar(Scalar::Int64), Raw::Varint(value)) => Value::from(value as i64),
        (Element::Scalar(Scalar::Double), Raw::Fixed64(bits)) => Value::from(f64::from_bits(bits)),
        (Element::Type(ty), Raw::Bytes(bytes)) => match ty.form() {
            Form::Object => {
                // The parts of a message that comes in several are merged.
                let mut object = match previous {
                    Some(Value::Object(object)) => object,
                    _ => Map::new(),
                };
                message(ty, bytes, &mut object, depth + 1)?;
                Value::Object(object)
            }
            form => special(form, bytes, depth + 1)?,
        },
        _ => return Err(wrong_wire_type(field)),
    })
}

fn special(form: Form, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let mut fields = Fields::of(bytes);
    match form {
        Form::Quantity => Ok(only_bytes(&mut fields)?
            .map_or_else(|| Value::from("0"), |text| Value::String(string(text)))),
        Form::Fields => match only_bytes(&mut fields)? {
            None | Some([]) => Ok(Value::Null),
            Some(json) => raw_json(json, depth),
        },
        Form::Raw => match only_bytes(&mut fields)? {
            None | Some([]) => Ok(Value::Null),
            // Lists that hold several kinds have each item in an envelope of its own.
            Some(body) if body.starts_with(MAGIC) => {
                let envelope = Envelope::parse(body)?;
                let (group, version) = envelope.type_meta.group_version();
                let ty = Schemas::kubernetes().kind(group, version, &envelope.type_meta.kind);
                let ty = ty.ok_or_else(|| {
                    Error::Malformed(format!(
                        "no kind {:?} is registered",
                        envelope.type_meta.kind
                    ))
                })?;
                envelope.decode_at(ty, depth)
            }
            Some(json) => raw_json(json, depth),
        },
        Form::Strings => {
            let mut items = Vec::new();
            for field in fields {
                if let (number::ONLY, Raw::Bytes(text)) = field? {
                    items.push(Value::String(string(text)));
                }
            }
            Ok(Value::Array(items))
        }
        Form::Time | Form::MicroTime => {
            // A zero time is an empty message.
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            let mut time = Timestamp {
                seconds: 0,
                nanos: 0,
            };
            for field in fields {
                match field? {
                    (number::SECONDS, Raw::Varint(value)) => time.seconds = value as i64,
                    (number::NANOS, Raw::Varint(value)) => {
                        time.nanos = (value as u32).min(999_999_999)
                    }
                    _ => {}
                }
            }
            let precision = if form == Form::Time {
                Precision::Seconds
            } else {
                Precision::Micros
            };
            Ok(Value::String(time.format(precision)))
        }
        Form::IntOrString => {
            let (mut is_string, mut int, mut text) = (false, 0, String::new());
            for field in fields {
                match field? {
                    (number::IS_STRING, Raw::Varint(value)) => is_string = value != 0,
                    (number::INT, Raw::Varint(value)) => int = value as i32,
                    (number::STRING, Raw::Bytes(value)) => text = string(value),
                    _ => {}
                }
            }
            Ok(if is_string {
                Value::String(text)
            } else {
                Value::from(int)
            })
        }
        Form::Object => Ok(Value::Null),
    }
}

fn only_bytes<'a>(fields: &mut Fields<'a>) -> Result<Option<&'a [u8]>, Error> {
    let mut found = None;
    for field in fields {
        if let (number::ONLY, Raw::Bytes(bytes)) = field? {
            found = Some(bytes);
        }
    }
    Ok(found)
}

/// JSON around which `depth` lists and objects are: what is read in parts must be readable as a whole.
fn raw_json(json: &[u8], depth: usize) -> Result<Value, Error> {
    let value = serde_json::from_slice(json);
    let value = value.map_err(|error| Error::Malformed(error.to_string()))?;
    match depth + crate::depth(&value) > crate::DEPTH_MAX {
        true => Err(too_deep()),
        false => Ok(value),
    }
}

fn too_deep() -> Error {
    Error::Malformed("exceeded max depth".to_owned())
}

/// Go does not insist on UTF-8, and replaces what is not when it writes JSON.
fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn wrong_wire_type(field: Field<'_>) -> Error {
    Error::Malformed(format!("proto: wrong wireType for field {}", field.name()))
}
