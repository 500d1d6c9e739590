//! Keys, values, and the pairs of them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{LeaseId, Revision};

/// A key or a value: any bytes. Written as a string if it is UTF-8, which nearly all are, else as `{"base64": "…"}`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Data(pub Bytes);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Binary { base64: String },
}

impl Data {
    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As text, with what is not UTF-8 replaced: for values of known form, and for people.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Written::Binary {
                base64: BASE64.encode(&self.0),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Data(text.into()),
            Written::Binary { base64 } => {
                Data(BASE64.decode(base64).map_err(D::Error::custom)?.into())
            }
        })
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text().escape_debug())
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Data {
        Data(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Data {
    fn from(text: String) -> Data {
        Data(text.into())
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Data {
        Data(bytes)
    }
}

/// The first key after all those that begin with `prefix`: what etcd takes as the end of a range over a prefix.
/// `\0`, which is "to the end", if there is none.
pub fn prefix_end(prefix: &[u8]) -> Data {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX);
    let Some(last) = kept else {
        return Data(Bytes::from_static(b"\0"));
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Data(end.into())
}

/// A key with its value at some revision: etcd's `mvccpb.KeyValue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kv {
    /// The key.
    pub key: Data,
    /// Its value; empty where only keys were asked for.
    #[serde(default, skip_serializing_if = "Data::is_empty")]
    pub value: Data,
    /// The revision of the put that made it, since when it was there.
    pub create_revision: Revision,
    /// The revision of its last put.
    pub mod_revision: Revision,
    /// How many puts it had since it was made.
    pub version: i64,
    /// The lease that it hangs on; 0 is none.
    #[serde(default, skip_serializing_if = "LeaseId::is_none")]
    pub lease: LeaseId,
}

impl LeaseId {
    /// Whether this is no lease.
    pub fn is_none(&self) -> bool {
        self.0 == 0
    }
}
