//! Member and cluster ids, computed as etcd computes them, and the URLs they are computed from.
//!
//! Ids are hashes: a member's of its peer URLs and the cluster's token (and of the time, when it is added to a running
//! cluster), the cluster's of its first members' ids. Every member of a new cluster computes the same ids from the
//! same `--initial-cluster`, without talking to the others (etcd `membership/member.go`, `cluster.go`).

use keelson_store::MemberId;
use sha1::{Digest, Sha1};
use thiserror::Error;
use url::Url;

/// The id of a member with these peer URLs. `unix_s` is given for a member that joins a running cluster, so that one
/// that was removed and is added again at the same URLs gets another id.
pub fn member_id(peer_urls: &[String], token: &str, unix_s: Option<u64>) -> MemberId {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(token);
    if let Some(unix_s) = unix_s {
        hash.update(unix_s.to_string());
    }
    MemberId(first_eight(hash))
}

/// The id of a cluster that these members found.
pub fn cluster_id(members: &[MemberId]) -> u64 {
    let mut sorted: Vec<MemberId> = members.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.0.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 digest has 20 bytes"))
}

/// Why a URL cannot be a member's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum UrlError {
    #[error("no URL is given")]
    Empty,
    #[error("{url:?} is not a URL: {reason}")]
    Malformed { url: String, reason: String },
    #[error("the scheme of {url:?} must be http (https is not supported yet)")]
    Scheme { url: String },
    #[error("{url:?} does not have the form http://host:port")]
    NoPort { url: String },
    #[error("{url:?} must end after the port")]
    Path { url: String },
}

/// Checks URLs of the form `scheme://host:port` and sorts them, as etcd does; the texts stay as they were given.
/// Both http and https are taken: what other members listen on is not this member's business.
pub fn checked_urls(given: &[String]) -> Result<Vec<String>, UrlError> {
    if given.is_empty() {
        return Err(UrlError::Empty);
    }
    let mut urls = Vec::with_capacity(given.len());
    for url in given {
        let url = url.trim();
        parse_url(url)?;
        urls.push(url.to_owned());
    }
    urls.sort_unstable();
    Ok(urls)
}

/// Parses one URL of the form `scheme://host:port`.
pub fn parse_url(url: &str) -> Result<Url, UrlError> {
    let owned = || url.to_owned();
    let parsed = Url::parse(url).map_err(|e| UrlError::Malformed {
        url: owned(),
        reason: e.to_string(),
    })?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(UrlError::Scheme { url: owned() });
    }
    // `Url` drops a port that is the scheme's own and adds a path that was not there: look at the text.
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let (authority, rest) = match authority.find(['/', '?', '#']) {
        Some(at) => authority.split_at(at),
        None => (authority, ""),
    };
    let port = match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => {
            port
        }
        _ => return Err(UrlError::NoPort { url: owned() }),
    };
    if port.parse::<u16>().is_err() {
        return Err(UrlError::NoPort { url: owned() });
    }
    if !rest.is_empty() || authority.contains('@') {
        return Err(UrlError::Path { url: owned() });
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    /// The ids that etcd 3.5 prints for a member "default" of the default cluster (`etcdctl member list`).
    #[test]
    fn a_default_etcd_has_the_id_that_everybody_knows() {
        let id = member_id(&urls(&["http://localhost:2380"]), "etcd-cluster", None);
        assert_eq!(format!("{:x}", id.0), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id(&[id])), "cdf818194e3a8c32");
    }

    #[test]
    fn the_order_of_urls_and_members_does_not_matter() {
        let (a, b) = (
            urls(&["http://a:1", "http://b:2"]),
            urls(&["http://b:2", "http://a:1"]),
        );
        assert_eq!(member_id(&a, "t", None), member_id(&b, "t", None));
        assert_eq!(
            cluster_id(&[MemberId(1), MemberId(2)]),
            cluster_id(&[MemberId(2), MemberId(1)])
        );
    }

    #[test]
    fn a_member_that_is_added_again_later_gets_another_id() {
        let peers = urls(&["http://a:1"]);
        assert_ne!(
            member_id(&peers, "", Some(1)),
            member_id(&peers, "", Some(2))
        );
        assert_ne!(member_id(&peers, "", Some(1)), member_id(&peers, "", None));
    }

    #[test]
    fn urls_of_another_form_are_refused() {
        assert_eq!(checked_urls(&[]), Err(UrlError::Empty));
        for bad in ["localhost:2380", "ftp://a:1", "unix://x:1"] {
            assert!(
                matches!(parse_url(bad), Err(UrlError::Scheme { .. })),
                "{bad}"
            );
        }
        for bad in [
            "http://a",
            "http://a:",
            "http://:2380",
            "http://a:99999",
            "http://[::1]",
            "http://::1:2380",
            "http://u:p@a:1",
        ] {
            assert!(
                matches!(
                    parse_url(bad),
                    Err(UrlError::NoPort { .. } | UrlError::Malformed { .. })
                ),
                "{bad}"
            );
        }
        for bad in [
            "http://a:1/",
            "http://a:1/x",
            "http://a:1?x",
            "http://u@a:1",
        ] {
            assert!(
                matches!(parse_url(bad), Err(UrlError::Path { .. })),
                "{bad}"
            );
        }
        assert!(matches!(
            parse_url("not a url"),
            Err(UrlError::Malformed { .. })
        ));
    }

    #[test]
    fn good_urls_come_back_sorted_and_as_they_were() {
        let given = urls(&[" http://b:80", "https://[::1]:2380", "http://a:2380"]);
        assert_eq!(
            checked_urls(&given).unwrap(),
            urls(&["http://a:2380", "http://b:80", "https://[::1]:2380"])
        );
    }
}
