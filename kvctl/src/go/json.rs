//! JSON as Go's `encoding/json` writes it: fields in the order given, bytes in base64, HTML
//! characters escaped, and `omitempty` where the field's name says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::{Display, Write as _};

/// A JSON object under construction. Each method adds one field; `*_or_omit` leaves it out when it
/// has the zero value, as the tag `omitempty` does.
#[derive(Debug)]
pub struct Object(String);

impl Object {
    /// An object without fields.
    pub fn new() -> Self {
        Self("{".to_owned())
    }

    /// A field whose value is JSON already.
    pub fn raw(mut self, name: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "\"{name}\":{json}");
        self
    }

    /// A field whose value is JSON already, if there is one.
    pub fn raw_or_omit(self, name: &str, json: Option<String>) -> Self {
        match json {
            Some(json) => self.raw(name, &json),
            None => self,
        }
    }

    /// A number or boolean.
    pub fn plain(self, name: &str, value: impl Display) -> Self {
        self.raw(name, &value.to_string())
    }

    /// A number or boolean, left out when it is zero or false.
    pub fn plain_or_omit<T: Display + Default + PartialEq>(self, name: &str, value: T) -> Self {
        if value == T::default() {
            self
        } else {
            self.plain(name, value)
        }
    }

    /// A string.
    pub fn string(self, name: &str, value: &str) -> Self {
        self.raw(name, &string(value))
    }

    /// A string, left out when empty.
    pub fn string_or_omit(self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.string(name, value)
        }
    }

    /// Bytes in base64, left out when empty.
    pub fn bytes_or_omit(self, name: &str, value: &[u8]) -> Self {
        if value.is_empty() {
            self
        } else {
            self.raw(name, &bytes(value))
        }
    }

    /// An array, left out when empty.
    pub fn array_or_omit(self, name: &str, items: Vec<String>) -> Self {
        if items.is_empty() {
            self
        } else {
            self.raw(name, &array(items))
        }
    }

    /// The finished object.
    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// An array of JSON values.
pub fn array(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

/// A JSON string of bytes in base64, which is how Go encodes `[]byte`.
pub fn bytes(value: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(value))
}

/// A JSON string.
pub fn string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        assert_eq!(
            string("a\"\\\n\r\t\u{8}<>&\u{2028}é\u{7f}"),
            "\"a\\\"\\\\\\n\\r\\t\\u0008\\u003c\\u003e\\u0026\\u2028é\u{7f}\""
        );
    }

    #[test]
    fn zero_values_are_left_out_only_where_asked() {
        let json = Object::new()
            .plain("a", 0)
            .plain_or_omit("b", 0u64)
            .plain_or_omit("c", false)
            .plain_or_omit("d", true)
            .bytes_or_omit("e", b"")
            .bytes_or_omit("f", b"\xff")
            .string_or_omit("g", "")
            .string("h", "")
            .array_or_omit("i", vec![])
            .raw_or_omit("j", None)
            .end();
        assert_eq!(json, r#"{"a":0,"d":true,"f":"/w==","h":""}"#);
    }
}
