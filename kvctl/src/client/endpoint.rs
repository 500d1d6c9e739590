//! The address of a member, as a user writes it.

use crate::error::CtlError;
use std::fmt;

/// Where a member listens for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    name: String,
    /// `host:port`.
    pub(super) address: String,
}

impl Endpoint {
    /// Reads `host:port` or `http://host:port`.
    pub fn parse(text: &str) -> Result<Self, CtlError> {
        let name = text.trim();
        let refuse = |why: &str| {
            Err(CtlError::Arguments(format!(
                "bad endpoint {name:?}: {why}; write host:port or http://host:port"
            )))
        };
        let authority = match name.split_once("://") {
            None => name,
            Some(("http", authority)) => authority.trim_end_matches('/'),
            Some(("https", _)) => {
                return Err(CtlError::Unsupported(format!(
                    "endpoint {name}: TLS (https) is not supported yet; use http where the server allows it, or etcdctl"
                )));
            }
            Some((scheme, _)) => return refuse(&format!("unknown scheme {scheme:?}")),
        };
        let Ok(parsed) = authority.parse::<tonic::codegen::http::uri::Authority>() else {
            return refuse("not an address");
        };
        if parsed.host().is_empty() || authority.contains('@') {
            return refuse("not an address");
        }
        if parsed.port_u16().is_none() {
            return refuse("the port is missing");
        }
        Ok(Self {
            name: name.to_owned(),
            address: authority.to_owned(),
        })
    }
}

impl fmt::Display for Endpoint {
    /// As the user wrote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_with_a_port() {
        for good in [
            "127.0.0.1:2379",
            "http://localhost:2379",
            "http://h:1/",
            "[::1]:2379",
            " a:1 ",
        ] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "a:b",
            "unix://x",
            "ftp://a:1",
            "u@a:1",
            ":2379",
            "a:1/path",
            "a b:1",
        ] {
            assert!(
                matches!(Endpoint::parse(bad), Err(CtlError::Arguments(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            Endpoint::parse("https://a:1"),
            Err(CtlError::Unsupported(_))
        ));
    }
}
