//! Parses JSON.

use super::tree::{self, Parsed};
use super::{Error, Fault};

/// Parses one JSON value.
pub(crate) fn parse(body: &[u8]) -> Result<Parsed, Error> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = tree::build::<String, _>(&mut deserializer, &mut duplicates);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    let value = value.map_err(|error| Error::Malformed(in_go_words(body, &error)))?;
    let faults = duplicates
        .into_iter()
        .map(|key| Fault::DuplicateField(key.path));
    Ok(Parsed {
        value,
        faults: faults.collect(),
    })
}

/// Says a syntax error as Go's parser does, which is what users of Kubernetes know.
fn in_go_words(body: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let text = error.to_string();
    if text.starts_with("recursion limit exceeded") {
        return "exceeded max depth".to_owned();
    }
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
