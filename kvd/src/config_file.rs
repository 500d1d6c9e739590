//! The file of `--config-file`: YAML, with the flags' names as its keys.
//!
//! As in etcd, a file stands alone: what the command line and the environment say besides is ignored, with a warning.
//! Times may be numbers, of nanoseconds, as etcd's files have them; etcd's two groups of TLS settings are refused like
//! the flags of the same meaning.

use std::path::Path;

use serde_json::{Map, Value};

use crate::flags::{FlagError, Settings, Source, find};

/// Groups of settings that are about TLS.
const TLS_GROUPS: [&str; 2] = ["client-transport-security", "peer-transport-security"];

/// Reads the file.
pub fn read(path: &str) -> Result<Settings, FlagError> {
    let bad = |problem: String| FlagError::File {
        path: path.to_owned(),
        problem,
    };
    let text = std::fs::read_to_string(Path::new(path)).map_err(|error| bad(error.to_string()))?;
    parse(path, &text)
}

fn parse(path: &str, text: &str) -> Result<Settings, FlagError> {
    let bad = |problem: String| FlagError::File {
        path: path.to_owned(),
        problem,
    };
    let mut settings = Settings::default();
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(settings);
    }
    let map: Map<String, Value> =
        serde_saphyr::from_str(text).map_err(|error| bad(one_line(&error.to_string())))?;
    for (name, value) in map {
        let source = Source::File(path.to_owned());
        if TLS_GROUPS.contains(&name.as_str()) {
            if says_something(&value) {
                return Err(FlagError::Refused {
                    place: format!("{name} in {path}"),
                    why: "TLS is not there yet",
                });
            }
            continue;
        }
        let flag = find(&name).ok_or_else(|| bad(format!("{name} is not a setting of kvd")))?;
        // A name with nothing after it, as in etcd's example, is not set.
        if value.is_null() {
            continue;
        }
        let text = word(&value).ok_or_else(|| bad(format!("{name} must be a single value")))?;
        settings.set(flag, text, source);
    }
    Ok(settings)
}

/// A value as a flag would have it.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Array(values) => values
            .iter()
            .map(word)
            .collect::<Option<Vec<_>>>()
            .map(|words| words.join(",")),
        Value::Object(_) => None,
    }
}

/// Whether anything in a group is turned on.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        Value::Array(values) => values.iter().any(says_something),
        Value::Object(map) => map.values().any(says_something),
    }
}

/// The first line of what the parser says: the rest draws the place.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or("not YAML").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(settings: &Settings, name: &str) -> Option<String> {
        settings.get(name).map(|setting| setting.value.clone())
    }

    #[test]
    fn a_file_has_the_flags_names_as_keys() {
        let text = "# a member\nname: a\nheartbeat-interval: 200\nstrict-reconfig-check: false\n\
                    log-outputs: [stderr, /tmp/x]\nlisten-client-urls: http://127.0.0.1:1\n";
        let settings = parse("f", text).unwrap();
        assert_eq!(value(&settings, "name").as_deref(), Some("a"));
        assert_eq!(
            value(&settings, "heartbeat-interval").as_deref(),
            Some("200")
        );
        assert_eq!(
            value(&settings, "strict-reconfig-check").as_deref(),
            Some("false")
        );
        assert_eq!(
            value(&settings, "log-outputs").as_deref(),
            Some("stderr,/tmp/x")
        );
        assert_eq!(settings.place("name"), "name in f");
    }

    #[test]
    fn a_name_with_nothing_after_it_is_not_set() {
        let settings = parse("f", "data-dir:\nquota-backend-bytes:\nname: a\n").unwrap();
        assert_eq!(value(&settings, "data-dir"), None);
        assert_eq!(value(&settings, "quota-backend-bytes"), None);
        assert_eq!(value(&settings, "name").as_deref(), Some("a"));
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(parse("f", "\n# nothing\n"), Ok(Settings::default()));
    }

    #[test]
    fn tls_is_refused_unless_it_is_all_turned_off() {
        let off = "client-transport-security:\n  cert-file: ''\n  client-cert-auth: false\n";
        assert_eq!(parse("f", off), Ok(Settings::default()));
        let on = "peer-transport-security:\n  cert-file: x\n";
        assert!(matches!(parse("f", on), Err(FlagError::Refused { .. })));
    }

    #[test]
    fn what_is_unknown_or_malformed_is_one_clear_line() {
        let error = |text| parse("f", text).unwrap_err().to_string();
        assert_eq!(
            error("nmae: a\n"),
            "the configuration file f: nmae is not a setting of kvd"
        );
        assert_eq!(
            error("name: {a: b}\n"),
            "the configuration file f: name must be a single value"
        );
        let malformed = error("name: [a\n");
        assert!(
            malformed.starts_with("the configuration file f: ") && malformed.lines().count() == 1,
            "{malformed}"
        );
        assert!(
            read("/does/not/exist")
                .unwrap_err()
                .to_string()
                .contains("/does/not/exist")
        );
    }
}
