//! What names may look like, in the words in which Kubernetes says so.
//!
//! Each check gives what is wrong, nothing when all is well.

const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
     and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_TEXT: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
     for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
     'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

fn is_lower_alnum(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |c: &u8| is_lower_alnum(*c) || *c == b'-';
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            is_lower_alnum(*first) && is_lower_alnum(*last) && bytes.iter().all(inner)
        }
        _ => false,
    }
}

/// `[A-Za-z0-9]` at both ends, and `-`, `_`, `.` between.
fn is_loose(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(inner)
        }
        _ => false,
    }
}

fn check(text: &str, most: usize, good: bool, words: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > most {
        problems.push(too_long(most));
    }
    if !good {
        problems.push(words.to_owned());
    }
    problems
}

/// RFC 1123 label: namespaces, container names.
pub fn dns_label(text: &str) -> Vec<String> {
    check(text, 63, is_label(text), LABEL_TEXT)
}

/// RFC 1123 subdomain: the name of most kinds.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    check(text, 253, text.split('.').all(is_label), SUBDOMAIN_TEXT)
}

/// RFC 1035 label: services.
pub fn dns_1035_label(text: &str) -> Vec<String> {
    let good = is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    check(text, 63, good, LABEL_1035_TEXT)
}

/// Label and annotation keys: `[prefix/]name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (prefix, name) = match parts.as_slice() {
        [name] => (None, *name),
        [prefix, name] => (Some(*prefix), *name),
        _ => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                QUALIFIED_TEXT.trim_start_matches("name part ")
            )];
        }
    };
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => problems.extend(
            dns_subdomain(prefix)
                .into_iter()
                .map(|problem| format!("prefix part {problem}")),
        ),
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push(format!("name part {}", too_long(63)));
    }
    if !is_loose(name) {
        problems.push(QUALIFIED_TEXT.to_owned());
    }
    problems
}

/// A label's value.
pub fn label_value(text: &str) -> Vec<String> {
    check(
        text,
        63,
        text.is_empty() || is_loose(text),
        LABEL_VALUE_TEXT,
    )
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let mut problems = check(
        text,
        253,
        !text.is_empty() && text.bytes().all(good),
        CONFIG_KEY_TEXT,
    );
    match text {
        "." => problems.push("must not be '.'".to_owned()),
        ".." => problems.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// The name of a variable in a container's environment.
pub fn variable(text: &str) -> Vec<String> {
    match text.bytes().all(|c| matches!(c, b' '..=b'~') && c != b'=') {
        true => Vec::new(),
        false => vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        ],
    }
}

/// A port's name (IANA service name).
pub fn port_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 15 {
        problems.push("must be no more than 15 characters".to_owned());
    }
    if !text.bytes().all(|c| is_lower_alnum(c) || c == b'-') {
        problems.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        assert!(dns_label("my-name-1").is_empty());
        assert!(dns_subdomain("a.b-c.d").is_empty());
        assert!(dns_1035_label("web").is_empty());
        assert!(qualified_name("example.com/My_Name").is_empty());
        assert!(label_value("").is_empty());
        assert!(config_key("ca.crt").is_empty());
    }

    #[test]
    fn bad_names_are_told_in_kubernetes_words() {
        assert!(dns_label("A")[0].starts_with("a lowercase RFC 1123 label must consist of"));
        assert!(
            dns_subdomain("a..b")[0].starts_with("a lowercase RFC 1123 subdomain must consist")
        );
        assert!(dns_1035_label("1a")[0].starts_with("a DNS-1035 label must consist of"));
        assert!(qualified_name("/x")[0].starts_with("prefix part must be non-empty"));
        assert_eq!(
            dns_label(&"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
    }
}
