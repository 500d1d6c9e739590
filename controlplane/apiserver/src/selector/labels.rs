//! Label selectors: `app=web,tier!=db,env in (a,b),zone notin (c),ready,!old`.

use serde_json::Value;

use crate::status::{ApiError, ApiResult};
use crate::validate::names;
use crate::value;

/// Requirements that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    /// Also true where the key is absent.
    NotIn(Vec<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

impl LabelSelector {
    /// Reads the selector of a query.
    pub fn parse(text: &str) -> ApiResult<LabelSelector> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let requirement = Requirement::parse(part).ok_or_else(|| {
                ApiError::bad_request(format!("unable to parse requirement: found '{part}'"))
            })?;
            requirement.check()?;
            requirements.push(requirement);
        }
        Ok(LabelSelector { requirements })
    }

    /// Reads a `metav1.LabelSelector`. An absent one selects nothing, so it gives none.
    pub fn of_object(selector: &Value) -> Option<LabelSelector> {
        let selector = Some(selector).filter(|selector| selector.is_object())?;
        let mut requirements: Vec<Requirement> = value::strings_at(selector, &["matchLabels"])
            .map(|(key, value)| Requirement {
                key: key.to_owned(),
                test: Test::In(vec![value.to_owned()]),
            })
            .collect();
        for expression in value::list_at(selector, &["matchExpressions"]) {
            let values = value::list_at(expression, &["values"]);
            let values = values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            let test = match value::str_at(expression, &["operator"]) {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                _ => return None,
            };
            requirements.push(Requirement {
                key: value::str_at(expression, &["key"]).to_owned(),
                test,
            });
        }
        Some(LabelSelector { requirements })
    }

    /// Whether every object passes.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object passes whose labels `get` tells.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(get(&requirement.key)))
    }
}

impl Requirement {
    fn parse(part: &str) -> Option<Requirement> {
        let of = |key: &str, test| {
            Some(Requirement {
                key: key.trim().to_owned(),
                test,
            })
        };
        if let Some(key) = part.strip_prefix('!') {
            return of(key, Test::Absent);
        }
        if let Some(at) = part.find(['=', '!', '<', '>']) {
            let (key, rest) = part.split_at(at);
            let one = |text: &str| vec![text.trim().to_owned()];
            return match rest.as_bytes() {
                [b'!', b'=', ..] => of(key, Test::NotIn(one(&rest[2..]))),
                [b'=', b'=', ..] => of(key, Test::In(one(&rest[2..]))),
                [b'=', ..] => of(key, Test::In(one(&rest[1..]))),
                [b'>', ..] => of(key, Test::Above(rest[1..].trim().parse().ok()?)),
                [b'<', ..] => of(key, Test::Below(rest[1..].trim().parse().ok()?)),
                _ => None,
            };
        }
        let Some(open) = part.find('(') else {
            return match part.contains(char::is_whitespace) {
                true => None,
                false => of(part, Test::Exists),
            };
        };
        let values: Vec<String> = part[open + 1..]
            .strip_suffix(')')?
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut words = part[..open].split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => of(key, Test::In(values)),
            (Some(key), Some("notin"), None) => of(key, Test::NotIn(values)),
            _ => None,
        }
    }

    fn check(&self) -> ApiResult<()> {
        let mut problems = names::qualified_name(&self.key);
        if let Test::In(values) | Test::NotIn(values) = &self.test {
            problems.extend(values.iter().flat_map(|value| names::label_value(value)));
        }
        match problems.first() {
            Some(problem) => Err(ApiError::bad_request(format!(
                "unable to parse requirement: {:?}: {problem}",
                self.key
            ))),
            None => Ok(()),
        }
    }

    fn holds(&self, label: Option<&str>) -> bool {
        let number = || label.and_then(|label| label.parse::<i64>().ok());
        match (&self.test, label) {
            (Test::In(values), Some(label)) => values.iter().any(|value| value == label),
            (Test::NotIn(values), Some(label)) => values.iter().all(|value| value != label),
            (Test::NotIn(_) | Test::Absent, None) | (Test::Exists, Some(_)) => true,
            (Test::Above(bound), Some(_)) => number().is_some_and(|number| number > *bound),
            (Test::Below(bound), Some(_)) => number().is_some_and(|number| number < *bound),
            _ => false,
        }
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0_usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        LabelSelector::parse(selector).unwrap().matches(|key| {
            labels
                .iter()
                .find(|(label, _)| *label == key)
                .map(|(_, value)| *value)
        })
    }

    #[test]
    fn each_operator_does_what_it_says() {
        let labels = &[("app", "web"), ("n", "5")];
        for yes in [
            "app=web",
            "app==web",
            "app!=db",
            "app in (web, db)",
            "app notin (db)",
            "app",
            "!old",
            "old!=x",
            "old notin (x)",
            "n>4",
            "n<6",
            "app=web,n",
            "",
        ] {
            assert!(matches(yes, labels), "{yes}");
        }
        for no in [
            "app=db",
            "app!=web",
            "app in (db)",
            "app notin (web)",
            "!app",
            "old",
            "old=x",
            "n>5",
            "n<5",
            "app=web,old",
        ] {
            assert!(!matches(no, labels), "{no}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["a b", "a in b", "a=b c", "=x", "a>z", "-a=b"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_selector_object_means_the_same() {
        let selector = json!({"matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}]});
        let selector = LabelSelector::of_object(&selector).unwrap();
        assert!(selector.matches(|key| (key == "app").then_some("web")));
        assert!(!selector.matches(|key| match key {
            "app" => Some("web"),
            _ => Some("db"),
        }));
        assert!(LabelSelector::of_object(&Value::Null).is_none());
    }
}
