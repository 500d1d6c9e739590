//! Continue tokens: where a list goes on, and at which revision. Kubernetes' own format.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Revision;

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continue {
    /// The revision of the first page; none to go on with what is there now.
    pub revision: Option<Revision>,
    /// The first key to look at.
    pub start: String,
}

/// Why a token cannot be used, for the client.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("continue key is not valid: {0}")]
pub struct ContinueError(String);

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Continue {
    /// Goes on after `last`.
    pub fn after(last: &str, revision: Option<Revision>) -> Continue {
        Continue {
            revision,
            // The smallest key that is larger.
            start: format!("{last}\0"),
        }
    }

    /// The token that the client sees. `prefix` is what all keys of the list begin with.
    pub fn encode(&self, prefix: &str) -> String {
        let token = Token {
            v: "meta.k8s.io/v1".to_owned(),
            rv: self.revision.unwrap_or(-1),
            start: self.start.strip_prefix(prefix).unwrap_or("").to_owned(),
        };
        let json = serde_json::to_vec(&token).expect("strings and numbers are JSON");
        URL_SAFE_NO_PAD.encode(json)
    }

    /// Reads a token of ours, or of Kubernetes'.
    pub fn decode(text: &str, prefix: &str) -> Result<Continue, ContinueError> {
        let wrong = |why: &str| ContinueError(why.to_owned());
        let json = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|error| ContinueError(error.to_string()))?;
        let token: Token =
            serde_json::from_slice(&json).map_err(|error| ContinueError(error.to_string()))?;
        if token.v != "meta.k8s.io/v1" {
            return Err(wrong("server does not recognize this encoded version"));
        }
        if token.rv == 0 || token.rv < -1 {
            return Err(wrong(
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ));
        }
        // A key is compared with the prefix only as text, so that no token leads out of the resource.
        if token.start.is_empty()
            || token
                .start
                .split('/')
                .any(|part| matches!(part, "." | ".."))
        {
            return Err(wrong("encoded start key empty (version meta.k8s.io/v1)"));
        }
        Ok(Continue {
            revision: (token.rv > 0).then_some(token.rv),
            start: format!("{prefix}{}", token.start.trim_start_matches('/')),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/registry/pods/";

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for revision in [Some(7), None] {
            let token = Continue::after("/registry/pods/default/a", revision);
            assert_eq!(Continue::decode(&token.encode(PREFIX), PREFIX), Ok(token));
        }
    }

    #[test]
    fn a_token_is_kubernetes_own() {
        let theirs = URL_SAFE_NO_PAD
            .encode("{\"v\":\"meta.k8s.io/v1\",\"rv\":7,\"start\":\"default/a\\u0000\"}");
        assert_eq!(
            Continue::after("/registry/pods/default/a", Some(7)).encode(PREFIX),
            theirs
        );
    }

    #[test]
    fn a_token_that_is_damaged_or_leads_elsewhere_is_refused() {
        let encoded = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for bad in [
            "!".to_owned(),
            encoded("{}"),
            encoded(r#"{"v":"v0","rv":1,"start":"a"}"#),
            encoded(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
            encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets/a"}"#),
        ] {
            assert!(Continue::decode(&bad, PREFIX).is_err(), "{bad}");
        }
    }
}
