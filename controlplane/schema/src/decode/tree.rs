//! Builds a tree of values from any encoding that serde reads, and notices keys that an object has more than once, which
//! `serde_json` by itself would not tell.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Fault;
use crate::path::Path;

/// A value and what was odd about its encoding.
pub(crate) struct Parsed {
    pub value: Value,
    pub faults: Vec<Fault>,
}

/// A key that is not the first of its name in its object. The last one counts.
pub(super) struct Duplicate {
    pub path: String,
    pub key: String,
    /// 0 where the encoding does not tell.
    pub line: u64,
}

/// An object's key, as an encoding gives it.
pub(super) trait Key<'de>: Deserialize<'de> {
    /// The text, and the line where it stands.
    fn into_parts(self) -> (String, u64);
}

impl Key<'_> for String {
    fn into_parts(self) -> (String, u64) {
        (self, 0)
    }
}

/// Reads a whole value.
pub(super) fn build<'de, K: Key<'de>, D: Deserializer<'de>>(
    deserializer: D,
    duplicates: &mut Vec<Duplicate>,
) -> Result<Value, D::Error> {
    Seed::<K> {
        path: Path::root(),
        duplicates,
        key: PhantomData,
    }
    .deserialize(deserializer)
}

struct Seed<'a, 'p, K> {
    path: Path<'p>,
    duplicates: &'a mut Vec<Duplicate>,
    key: PhantomData<K>,
}

impl<'de, K: Key<'de>> DeserializeSeed<'de> for Seed<'_, '_, K> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, K: Key<'de>> Visitor<'de> for Seed<'_, '_, K> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
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
            let seed = Seed::<K> {
                path,
                duplicates: self.duplicates,
                key: PhantomData,
            };
            match access.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = access.next_key::<K>()? {
            let (key, line) = key.into_parts();
            let path = self.path.key(&key);
            if object.contains_key(&key) && self.duplicates.len() < super::Decoded::FAULTS_MAX {
                self.duplicates.push(Duplicate {
                    path: path.to_string(),
                    key: key.clone(),
                    line,
                });
            }
            let seed = Seed::<K> {
                path,
                duplicates: self.duplicates,
                key: PhantomData,
            };
            let value = access.next_value_seed(seed)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
