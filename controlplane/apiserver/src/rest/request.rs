//! Whom a request is about, and who asks.

use bytes::Bytes;

use super::User;
use crate::resources::{Resource, Subresource};
use crate::status::{ApiError, ApiResult, Subject};

/// A query string, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter; "" if it is not there.
    pub fn get(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value)
    }

    /// Whether a parameter is given.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that says yes or no. Like Kubernetes, anything but a plain no is a yes.
    pub fn flag(&self, key: &str) -> bool {
        self.has(key) && !matches!(self.get(key), "false" | "0" | "")
    }

    /// A parameter that is a number.
    pub fn number(&self, key: &str) -> ApiResult<Option<i64>> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!(
                    "strconv.ParseInt: parsing {text:?}: invalid syntax"
                ))
            }),
        }
    }
}

/// Undoes percent encoding, of a query or of one segment of a path.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| {
            after
                .get(at)
                .and_then(|digit| (*digit as char).to_digit(16))
        };
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
                continue;
            }
            (b'+', ..) => bytes.push(b' '),
            (other, ..) => bytes.push(*other),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A request about a resource.
#[derive(Clone)]
pub struct Request {
    /// Who asks.
    pub user: User,
    /// What it is about.
    pub resource: &'static Resource,
    /// Which part.
    pub subresource: Option<&'static Subresource>,
    /// "" for all, or for what lives in none.
    pub namespace: String,
    /// "" for all.
    pub name: String,
    /// The parameters.
    pub query: Query,
    /// The body's type, without parameters.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
    /// What the client calls itself.
    pub user_agent: String,
}

impl Request {
    /// The object, for messages.
    pub fn subject(&self) -> Subject<'_> {
        self.resource.subject(&self.name)
    }

    /// The object's key in the store.
    pub fn key(&self) -> String {
        self.resource.key(&self.namespace, &self.name)
    }

    /// The part's name, "" for the object itself.
    pub fn part(&self) -> &'static str {
        self.subresource.map_or("", |part| part.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let query =
            Query::parse("labelSelector=app%3Dweb%2Cx+in+%28a%29&watch=true&limit=500&flag");
        assert_eq!(query.get("labelSelector"), "app=web,x in (a)");
        assert!(query.flag("watch") && query.has("flag") && !query.flag("other"));
        assert_eq!(query.number("limit").unwrap(), Some(500));
        assert!(Query::parse("limit=x").number("limit").is_err());
        assert_eq!(decode("100%"), "100%");
    }
}
