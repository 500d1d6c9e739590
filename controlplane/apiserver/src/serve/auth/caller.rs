//! Who is at the other end of a connection, and for whom he wants to be taken.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AUTHENTICATED, Attempt, Cluster, authorize};
use crate::rest::User;
use crate::status::{ApiError, ApiResult};

/// Who is at the other end of a connection.
pub struct Caller {
    user: User,
    /// When his certificate ends, in seconds since 1970.
    until_s: Option<i64>,
}

impl Caller {
    /// Somebody who showed no certificate.
    pub fn stranger() -> Caller {
        Caller {
            user: User::anonymous(),
            until_s: None,
        }
    }

    /// Whom a client certificate names: its common name, in the groups of its organizations.
    pub fn of_certificate(der: &[u8]) -> Option<Caller> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        if name.is_empty() {
            return None;
        }
        let mut groups: Vec<String> = subject
            .iter_organization()
            .filter_map(|organization| Some(organization.as_str().ok()?.to_owned()))
            .collect();
        groups.push(AUTHENTICATED.to_owned());
        Some(Caller {
            user: User { name, groups },
            until_s: Some(certificate.validity().not_after.timestamp()),
        })
    }

    /// Whether this is the certificate of a name in one group, or in none if that is "".
    pub fn is(&self, name: &str, group: &str) -> bool {
        let groups = [group, AUTHENTICATED];
        let groups = groups.iter().filter(|group| !group.is_empty());
        self.user.name == name && self.user.groups.iter().eq(groups)
    }

    /// Who makes a request now: nobody any more once the certificate has ended, though the connection goes on.
    pub fn user(&self, now_s: i64) -> ApiResult<&User> {
        match self.until_s {
            Some(until_s) if now_s > until_s => Err(ApiError::unauthorized()),
            _ => Ok(&self.user),
        }
    }
}

/// Whom a request is to be taken for, of a connection's user: himself, or somebody whom he impersonates.
pub fn authenticate(headers: &HeaderMap, user: &User, cluster: &dyn Cluster) -> ApiResult<User> {
    // Nobody has a token yet, so that one who shows one is not who he says.
    if headers.contains_key(AUTHORIZATION) && user == &User::anonymous() {
        return Err(ApiError::unauthorized());
    }
    if !headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
    {
        return Ok(user.clone());
    }
    // From here on he is somebody else, or nobody: whatever is wrong with the name, he is not himself.
    let name = match named(headers, "impersonate-user")?.as_slice() {
        [name] => name.clone(),
        [] => {
            return Err(ApiError::bad_request(
                "requested impersonation without impersonating a user",
            ));
        }
        _ => {
            return Err(ApiError::bad_request(
                "requested impersonation of several users",
            ));
        }
    };
    let mut groups = named(headers, "impersonate-group")?;
    let mut wanted = vec![("users", name.clone())];
    wanted.extend(groups.iter().map(|group| ("groups", group.clone())));
    for (resource, name) in wanted {
        let attempt = Attempt::Resource {
            verb: "impersonate".to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            namespace: String::new(),
            name,
            fields: String::new(),
        };
        authorize(user, &attempt, cluster)?;
    }
    let known = match name.as_str() {
        "system:anonymous" => "system:unauthenticated",
        _ => AUTHENTICATED,
    };
    if !groups.iter().any(|group| group == known) {
        groups.push(known.to_owned());
    }
    Ok(User { name, groups })
}

/// The names that the headers of a name have.
fn named(headers: &HeaderMap, header: &str) -> ApiResult<Vec<String>> {
    let name = |value: &HeaderValue| match str::from_utf8(value.as_bytes()) {
        Ok("") => Err(ApiError::bad_request(format!("{header} names nobody"))),
        Ok(name) => Ok(name.to_owned()),
        Err(error) => Err(ApiError::bad_request(format!(
            "{header} is no text: {error}"
        ))),
    };
    headers.get_all(header).iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::MASTERS;
    use super::super::rights::tests::{NoCluster, user};
    use super::*;

    #[test]
    fn only_administrators_can_be_somebody_else() {
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", HeaderValue::from_static("jane"));
        headers.insert("impersonate-group", HeaderValue::from_static("dev"));
        let admin = user("admin", &[MASTERS, AUTHENTICATED]);
        let jane = authenticate(&headers, &admin, &NoCluster).unwrap();
        assert_eq!(jane, user("jane", &["dev", AUTHENTICATED]));
        for other in ["joe", "system:kube-scheduler"] {
            let other = user(other, &[AUTHENTICATED]);
            let error = authenticate(&headers, &other, &NoCluster).unwrap_err();
            assert_eq!(
                error.message(),
                format!(
                    "users \"jane\" is forbidden: User {:?} cannot impersonate resource \"users\" in API group \"\" at the \
                     cluster scope",
                    other.name
                )
            );
        }
        headers.remove("impersonate-user");
        let refused = authenticate(&headers, &admin, &NoCluster).unwrap_err();
        assert_eq!(refused.code(), 400);
    }

    #[test]
    fn who_names_somebody_in_any_way_does_not_act_as_himself() {
        let admin = user("admin", &[MASTERS, AUTHENTICATED]);
        let taken_for = |user: &[u8], group: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("impersonate-user", HeaderValue::from_bytes(user).unwrap());
            headers.insert("impersonate-group", HeaderValue::from_bytes(group).unwrap());
            authenticate(&headers, &admin, &NoCluster).map_err(|error| error.code())
        };
        let jose = taken_for("josé".as_bytes(), "büro".as_bytes());
        assert_eq!(jose, Ok(user("josé", &["büro", AUTHENTICATED])));
        for (name, group) in [
            (&b"jos\xff"[..], &b"a"[..]),
            (b"", b"a"),
            (b"jane", b"\xff"),
        ] {
            assert_eq!(taken_for(name, group), Err(400));
        }
        let mut twice = HeaderMap::new();
        for name in ["jane", "admin"] {
            twice.append("impersonate-user", HeaderValue::from_static(name));
        }
        assert_eq!(
            authenticate(&twice, &admin, &NoCluster).unwrap_err().code(),
            400
        );
    }

    #[test]
    fn a_connection_is_nobodys_once_its_certificate_has_ended() {
        let caller = Caller {
            user: user("jane", &[AUTHENTICATED]),
            until_s: Some(100),
        };
        assert_eq!(caller.user(100).unwrap().name, "jane");
        assert_eq!(caller.user(101).unwrap_err().code(), 401);
        assert!(Caller::stranger().user(101).is_ok());
    }
}
