//! Text as Go's standard library writes it, for messages that users know by heart.

/// A string as `%q` prints it.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        escape(character, '"', &mut out);
    }
    out.push('"');
    out
}

/// A character as Go's JSON parser names it.
pub(crate) fn quoted_char(character: char) -> String {
    let mut out = String::from("'");
    escape(character, '\'', &mut out);
    out.push('\'');
    out
}

fn escape(character: char, quote: char, out: &mut String) {
    match character {
        '\\' => out.push_str(r"\\"),
        '\n' => out.push_str(r"\n"),
        '\r' => out.push_str(r"\r"),
        '\t' => out.push_str(r"\t"),
        '\u{7}' => out.push_str(r"\a"),
        '\u{8}' => out.push_str(r"\b"),
        '\u{c}' => out.push_str(r"\f"),
        '\u{b}' => out.push_str(r"\v"),
        character if character == quote => out.extend(['\\', quote]),
        character if (character as u32) < 0x20 || character == '\u{7f}' => {
            out.push_str(&format!(r"\x{:02x}", character as u32));
        }
        character => out.push(character),
    }
}

/// A value as `%v` prints what Go's JSON parser makes of it.
pub(crate) fn value(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(self::value).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(object) => {
            let entries: Vec<String> = object
                .iter()
                .map(|(key, item)| format!("{key}:{}", self::value(item)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// What Go calls the type that its JSON parser makes of a value.
pub(crate) fn type_of(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
