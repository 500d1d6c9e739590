//! Field selectors: `metadata.name=web,status.phase!=Running`.

use crate::status::{ApiError, ApiResult};

/// Terms that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Reads a selector. An unknown field is found by [`FieldSelector::check`].
    pub fn parse(text: &str) -> ApiResult<FieldSelector> {
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.trim().is_empty() {
                continue;
            }
            terms.push(Term::parse(&part)?);
        }
        Ok(FieldSelector { terms })
    }

    /// The selector of one object by its name.
    pub fn name(name: &str) -> FieldSelector {
        let term = Term {
            field: "metadata.name".to_owned(),
            value: name.to_owned(),
            equal: true,
        };
        FieldSelector { terms: vec![term] }
    }

    /// Whether every object passes.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Refuses fields that the resource does not offer.
    pub fn check(&self, offered: &[&str]) -> ApiResult<()> {
        let known = |field: &str| {
            matches!(field, "metadata.name" | "metadata.namespace") || offered.contains(&field)
        };
        match self.terms.iter().find(|term| !known(&term.field)) {
            Some(term) => Err(ApiError::bad_request(format!(
                "field label not supported: {}",
                term.field
            ))),
            None => Ok(()),
        }
    }

    /// The value that `field` must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.equal && term.field == field)
            .map(|term| term.value.as_str())
    }

    /// Whether an object passes whose fields `get` tells.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> &'a str) -> bool {
        self.terms
            .iter()
            .all(|term| (get(&term.field) == term.value) == term.equal)
    }
}

impl Term {
    fn parse(part: &str) -> ApiResult<Term> {
        // The first operator counts; `!=` and `==` before `=`.
        let at = part.find(['=', '!']).filter(|at| *at > 0);
        let found = at.and_then(|at| {
            ["!=", "==", "="]
                .into_iter()
                .find(|operator| part[at..].starts_with(operator))
                .map(|operator| (at, operator))
        });
        let Some((at, operator)) = found else {
            return Err(ApiError::bad_request(format!(
                "invalid selector: '{part}'; can't understand '{part}'"
            )));
        };
        Ok(Term {
            field: part[..at].trim().to_owned(),
            value: unescape(&part[at + operator.len()..]),
            equal: operator != "!=",
        })
    }
}

/// Splits at commas that no backslash precedes, and leaves the backslashes.
fn split_unescaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            plain.push(c);
            escaped = false;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_terms_must_hold() {
        let selector = FieldSelector::parse("spec.nodeName=n1,status.phase!=Failed").unwrap();
        let matches = |node: &'static str, phase: &'static str| {
            selector.matches(move |field| match field {
                "spec.nodeName" => node,
                _ => phase,
            })
        };
        assert!(matches("n1", "Running"));
        assert!(!matches("n1", "Failed"));
        assert!(!matches("n2", "Running"));
        assert_eq!(selector.exact("spec.nodeName"), Some("n1"));
        assert_eq!(selector.exact("status.phase"), None);
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let selector = FieldSelector::parse("spec.color==red").unwrap();
        let error = selector.check(&["spec.nodeName"]).unwrap_err();
        assert_eq!(error.message(), "field label not supported: spec.color");
        assert!(FieldSelector::parse("nonsense").is_err());
    }

    #[test]
    fn commas_and_equal_signs_can_be_escaped() {
        let selector = FieldSelector::parse(r"metadata.name=a\,b\=c").unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("a,b=c"));
    }
}
