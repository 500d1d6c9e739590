//! Walks a value beside its type: prunes, normalizes and checks, in place.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keelson_notation::quantity;
use serde_json::{Map, Value};

use super::tree::Parsed;
use super::{Decoded, Error, Fault, json_type};
use crate::path::Path;
use crate::table::{Element, Field, Form, Scalar, Shape, Type};
use crate::time;

/// Makes a value one of type `ty`.
pub(super) fn check(ty: Type<'_>, parsed: Parsed) -> Result<Decoded, Error> {
    let Parsed {
        mut value,
        faults: found,
    } = parsed;
    if value.is_null() {
        value = Value::Object(Map::new());
    }
    let mut checker = Checker {
        unknown: Vec::new(),
        first_error: None,
    };
    let place = Place {
        path: Path::root(),
        within: None,
    };
    checker.value_of_type(ty, &mut value, &place, &|| ty.go_name())?;
    if let Some(error) = checker.first_error {
        return Err(error);
    }

    let mut faults: Vec<Fault> = Vec::new();
    for fault in found {
        // What an unknown field has in it is of no interest; that it is unknown says enough.
        let told = match &fault {
            Fault::DuplicateField(path) => checker
                .unknown
                .iter()
                .any(|unknown| is_within(path, unknown)),
            _ => false,
        };
        if !told && !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    faults.extend(checker.unknown.into_iter().map(Fault::UnknownField));
    faults.truncate(Decoded::FAULTS_MAX);
    Ok(Decoded { value, faults })
}

fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

struct Checker {
    /// The paths of the fields that types do not have.
    unknown: Vec<String>,
    /// Go goes on after a wrong type, and tells of the first unless a type that decodes itself stops it later.
    first_error: Option<Error>,
}

/// Where a value stands, and in which struct: messages tell both.
#[derive(Clone, Copy)]
struct Place<'p> {
    path: Path<'p>,
    within: Option<Type<'p>>,
}

impl Place<'_> {
    fn wrong_type(&self, found: String, expected: String) -> Error {
        let place = match self.within {
            Some(within) => format!("struct field {}.{}", within.name(), self.path.go_fields()),
            None => "value".to_owned(),
        };
        Error::WrongType {
            found,
            place,
            expected,
        }
    }
}

/// Whether a value stays where it is.
enum Keep {
    Yes,
    No,
}

/// What Go calls the type that a value should have had; asked for only when it has not.
type GoType<'a> = &'a dyn Fn() -> String;

/// Errors that are returned end the walk; others are noted.
impl Checker {
    fn note(&mut self, error: Error) {
        self.first_error.get_or_insert(error);
    }

    fn object(
        &mut self,
        ty: Type<'_>,
        object: &mut Map<String, Value>,
        path: &Path<'_>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        object.retain(|key, value| match result {
            Ok(()) => match self.entry(ty, key, value, path) {
                Ok(keep) => matches!(keep, Keep::Yes),
                Err(error) => {
                    result = Err(error);
                    true
                }
            },
            Err(_) => true,
        });
        result?;
        fill(ty, object);
        Ok(())
    }

    fn entry(
        &mut self,
        ty: Type<'_>,
        key: &str,
        value: &mut Value,
        path: &Path<'_>,
    ) -> Result<Keep, Error> {
        if let Some(field) = ty.field(key) {
            let path = path.field(key, field.inlined_from());
            return self.field(
                field,
                value,
                &Place {
                    path,
                    within: Some(ty),
                },
            );
        }
        if ty.is_kind() && matches!(key, "apiVersion" | "kind") {
            if !value.is_null() {
                let place = Place {
                    path: path.field(key, Some("TypeMeta")),
                    within: Some(ty),
                };
                self.scalar(Scalar::String, value, &place, &|| "string".to_owned());
            }
            return Ok(if is_zero(value) { Keep::No } else { Keep::Yes });
        }
        if self.unknown.len() < Decoded::FAULTS_MAX {
            self.unknown.push(path.key(key).to_string());
        }
        Ok(Keep::No)
    }

    fn field(
        &mut self,
        field: Field<'_>,
        value: &mut Value,
        place: &Place<'_>,
    ) -> Result<Keep, Error> {
        // Null means absent, whatever the type.
        if value.is_null() {
            return Ok(Keep::No);
        }
        match field.shape() {
            Shape::Single | Shape::Pointer => {
                self.element(field, value, place)?;
                let omitted =
                    field.shape() == Shape::Single && field.omits_empty() && is_zero(value);
                // A zero time is no time, and only nulls and empty strings become one.
                let absent = omitted || value.is_null();
                Ok(if absent { Keep::No } else { Keep::Yes })
            }
            Shape::List => {
                let Value::Array(items) = value else {
                    self.note(place.wrong_type(json_type(value).to_owned(), field.go_type()));
                    return Ok(Keep::Yes);
                };
                for (index, item) in items.iter_mut().enumerate() {
                    if item.is_null() {
                        *item = zero(field);
                    }
                    let place = Place {
                        path: place.path.index(index),
                        within: place.within,
                    };
                    self.element(field, item, &place)?;
                }
                Ok(if items.is_empty() && field.omits_empty() {
                    Keep::No
                } else {
                    Keep::Yes
                })
            }
            Shape::Map => {
                let Value::Object(entries) = value else {
                    self.note(place.wrong_type(json_type(value).to_owned(), field.go_type()));
                    return Ok(Keep::Yes);
                };
                // A time or anything else that has no zero but null is absent, too.
                entries.retain(|_, item| !item.is_null() || !zero(field).is_null());
                for (key, item) in entries.iter_mut() {
                    if item.is_null() {
                        *item = zero(field);
                    }
                    let place = Place {
                        path: place.path.key(key),
                        within: place.within,
                    };
                    self.element(field, item, &place)?;
                }
                Ok(if entries.is_empty() && field.omits_empty() {
                    Keep::No
                } else {
                    Keep::Yes
                })
            }
        }
    }

    fn element(
        &mut self,
        field: Field<'_>,
        value: &mut Value,
        place: &Place<'_>,
    ) -> Result<(), Error> {
        let go_type = || field.go_element_type();
        match field.element() {
            Element::Scalar(scalar) => {
                self.scalar(scalar, value, place, &go_type);
                Ok(())
            }
            Element::Type(ty) => self.value_of_type(ty, value, place, &go_type),
        }
    }

    fn scalar(
        &mut self,
        scalar: Scalar,
        value: &mut Value,
        place: &Place<'_>,
        go_type: GoType<'_>,
    ) {
        if let Err(error) = check_scalar(scalar, value, place, go_type) {
            self.note(error);
        }
    }

    fn value_of_type(
        &mut self,
        ty: Type<'_>,
        value: &mut Value,
        place: &Place<'_>,
        go_type: GoType<'_>,
    ) -> Result<(), Error> {
        match (ty.form(), &mut *value) {
            (Form::Object, Value::Object(object)) => return self.object(ty, object, &place.path),
            (Form::Raw, _)
            | (Form::Fields, Value::Object(_))
            | (Form::IntOrString, Value::String(_)) => {}
            (Form::Strings, Value::Array(items)) => {
                for item in items {
                    self.scalar(Scalar::String, item, place, &|| "string".to_owned());
                }
            }
            (Form::Object | Form::Fields | Form::Strings, other) => {
                self.note(place.wrong_type(json_type(other).to_owned(), go_type()));
            }
            (Form::IntOrString, other) => {
                check_scalar(Scalar::Int32, other, place, &|| "int32".to_owned())?
            }
            (Form::Quantity, other) => {
                let text = match &*other {
                    Value::String(text) => text.trim().to_owned(),
                    other => other.to_string(),
                };
                let quantity = quantity::canonical(&text)
                    .map_err(|error| Error::Malformed(error.to_string()))?;
                *other = Value::String(quantity);
            }
            (Form::Time, other) => check_time(other, place, time::Precision::Seconds)?,
            (Form::MicroTime, other) => check_time(other, place, time::Precision::Micros)?,
        }
        Ok(())
    }
}

fn check_scalar(
    scalar: Scalar,
    value: &mut Value,
    place: &Place<'_>,
    go_type: GoType<'_>,
) -> Result<(), Error> {
    let fits = match (scalar, &*value) {
        (Scalar::String, Value::String(_))
        | (Scalar::Bool, Value::Bool(_))
        | (Scalar::Double, Value::Number(_)) => true,
        (Scalar::Int32, Value::Number(number)) => number
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok()),
        (Scalar::Int64, Value::Number(number)) => number.as_i64().is_some(),
        (Scalar::Bytes, Value::String(text)) => {
            let text = text.replace(['\r', '\n'], "");
            // Decoded and encoded again, so that equal bytes are equal values.
            let bytes = BASE64_STANDARD
                .decode(&text)
                .map_err(|error| Error::Malformed(base64_error(&text, error)))?;
            *value = Value::String(BASE64_STANDARD.encode(bytes));
            true
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let found = match (scalar, &*value) {
        (Scalar::Int32 | Scalar::Int64, Value::Number(number)) => format!("number {number}"),
        (_, value) => json_type(value).to_owned(),
    };
    Err(place.wrong_type(found, go_type()))
}

fn check_time(
    value: &mut Value,
    place: &Place<'_>,
    precision: time::Precision,
) -> Result<(), Error> {
    let Value::String(text) = value else {
        return Err(place.wrong_type(json_type(value).to_owned(), "string".to_owned()));
    };
    *value = time::canonical(text, precision)
        .map(Value::String)
        .map_err(Error::Malformed)?;
    Ok(())
}

/// Gives an object what Go's struct always has: the structs and quantities that it holds by value, and zeros that JSON does
/// not omit.
///
/// Lists, maps and times are left out even then, where Go would write null: nobody needs them. So are numbers that may be
/// strings, so that a port that nobody gave can be told from port 0.
pub(crate) fn fill(ty: Type<'_>, object: &mut Map<String, Value>) {
    for field in ty.fields().filter(|field| field.shape() == Shape::Single) {
        if object.contains_key(field.name()) {
            continue;
        }
        let value = match field.element() {
            Element::Scalar(_) if field.omits_empty() => continue,
            Element::Scalar(_) => zero(field),
            Element::Type(inner) if matches!(inner.form(), Form::Object | Form::Quantity) => {
                zero(field)
            }
            Element::Type(_) => continue,
        };
        object.insert(field.name().to_owned(), value);
    }
}

/// The value that Go's zero is in JSON.
fn zero(field: Field<'_>) -> Value {
    match field.element() {
        Element::Scalar(Scalar::String | Scalar::Bytes) => Value::String(String::new()),
        Element::Scalar(Scalar::Bool) => Value::Bool(false),
        Element::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double) => Value::from(0),
        Element::Type(ty) => match ty.form() {
            Form::Object => {
                let mut object = Map::new();
                fill(ty, &mut object);
                Value::Object(object)
            }
            Form::Quantity => Value::from("0"),
            Form::IntOrString => Value::from(0),
            Form::Strings => Value::Array(Vec::new()),
            Form::Time | Form::MicroTime | Form::Fields | Form::Raw => Value::Null,
        },
    }
}

/// Whether `omitempty` leaves a value out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        // A struct is never empty to Go.
        Value::Object(_) => false,
    }
}

fn base64_error(text: &str, error: base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            at
        }
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
            text.len() / 4 * 4
        }
    };
    format!("illegal base64 data at input byte {at}")
}
