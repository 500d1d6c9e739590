//! Parses JSON, and notices keys that are there twice, which `serde_json` by itself would not.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Error;
use crate::path::Path;

/// A value and the paths of the keys that an object of it had more than once.
pub(super) struct Parsed {
    pub value: Value,
    pub duplicates: Vec<String>,
}

/// Parses one JSON value.
pub(super) fn parse(body: &[u8]) -> Result<Parsed, Error> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Seed {
        path: Path::root(),
        duplicates: &mut duplicates,
    };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    let value = value.map_err(|error| Error::Malformed(in_go_words(body, &error)))?;
    Ok(Parsed { value, duplicates })
}

struct Seed<'a, 'p> {
    path: Path<'p>,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = self.path.index(items.len());
            let seed = Seed {
                path,
                duplicates: self.duplicates,
            };
            match access.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = self.path.key(&key);
            if object.contains_key(&key) && self.duplicates.len() < super::Decoded::FAULTS_MAX {
                self.duplicates.push(path.to_string());
            }
            let value = access.next_value_seed(Seed {
                path,
                duplicates: self.duplicates,
            })?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Says a syntax error as Go's parser does, which is what users of Kubernetes know.
fn in_go_words(body: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let text = error.to_string();
    let place = [
        ("expected value", "looking for beginning of value"),
        (
            "key must be a string",
            "looking for beginning of object key string",
        ),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("trailing characters", "after top-level value"),
        ("trailing comma", "looking for beginning of value"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
        ("invalid number", "in numeric literal"),
    ];
    let place = place
        .iter()
        .find(|(known, _)| text.starts_with(known))
        .map(|(_, place)| *place);
    let start = body
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let character = body.get(start + error.column().saturating_sub(1)).copied();
    let place = place
        .map(str::to_owned)
        .or_else(|| in_literal(body, start + error.column().saturating_sub(1)));
    match (place, character) {
        (Some(place), Some(character)) => {
            format!(
                "invalid character {} {place}",
                crate::go::quoted_char(char::from(character))
            )
        }
        _ => text,
    }
}

/// The place of a character that should have gone on with `true`, `false` or `null`.
fn in_literal(body: &[u8], at: usize) -> Option<String> {
    let letters = body
        .get(..at)?
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_lowercase())
        .count();
    let begun = std::str::from_utf8(&body[at - letters..at])
        .ok()
        .filter(|begun| !begun.is_empty())?;
    let literal = ["true", "false", "null"]
        .into_iter()
        .find(|literal| literal.starts_with(begun))?;
    Some(format!(
        "in literal {literal} (expecting '{}')",
        literal[letters..].chars().next()?
    ))
}
