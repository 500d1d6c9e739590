//! Who calls, and what he may do.
//!
//! Until there are roles, rights are few: administrators and the cluster's own components may do everything, whoever
//! is known may look around and ask about himself, and strangers may see that the server lives.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::rest::User;
use crate::status::{ApiError, ApiResult, Subject};

/// Members may do everything.
pub const MASTERS: &str = "system:masters";
const NODES: &str = "system:nodes";
const AUTHENTICATED: &str = "system:authenticated";
const COMPONENTS: [&str; 2] = ["system:kube-controller-manager", "system:kube-scheduler"];
/// What is not secret.
const PUBLIC_PATHS: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
/// What everyone who is known may see, to find his way.
const DISCOVERY_PATHS: [&str; 3] = ["/api", "/apis", "/openapi"];

/// The user whom a client certificate names: its common name, in the groups of its organizations.
pub fn user_of_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|organization| Some(organization.as_str().ok()?.to_owned()))
        .collect();
    groups.push(AUTHENTICATED.to_owned());
    Some(User { name, groups })
}

/// Whom a request is to be taken for, of a connection's user: himself, or somebody whom he impersonates.
pub fn authenticate(headers: &HeaderMap, user: &User) -> ApiResult<User> {
    // Nobody has a token yet, so that one who shows one is not who he says.
    if headers.contains_key(AUTHORIZATION) && user == &User::anonymous() {
        return Err(ApiError::unauthorized());
    }
    let text = |value: &HeaderValue| value.to_str().unwrap_or("").to_owned();
    let named = headers.get("impersonate-user").map(text);
    let others = headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-") && name != "impersonate-user");
    let Some(name) = named.filter(|name| !name.is_empty()) else {
        return match others {
            true => Err(ApiError::bad_request(
                "requested impersonation without impersonating a user",
            )),
            false => Ok(user.clone()),
        };
    };
    let mut groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .map(text)
        .collect();
    let mut wanted = vec![("users", name.clone())];
    wanted.extend(groups.iter().map(|group| ("groups", group.clone())));
    for (resource, name) in wanted {
        let attempt = Attempt::Resource {
            verb: "impersonate".to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            namespace: String::new(),
            name,
        };
        authorize(user, &attempt)?;
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

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Something with a resource.
    Resource {
        /// `list`
        verb: String,
        /// "" for core.
        group: String,
        /// `pods` or `pods/log`.
        resource: String,
        /// "" for all, or for what lives in none.
        namespace: String,
        /// "" for all.
        name: String,
    },
    /// Something with another path.
    Path {
        /// In lower case: `get`.
        verb: String,
        /// The path.
        path: String,
    },
}

/// Whether the user may.
pub fn is_allowed(user: &User, attempt: &Attempt) -> bool {
    if user.is_in(MASTERS) || COMPONENTS.contains(&user.name.as_str()) {
        return true;
    }
    if user.is_in(NODES) && user.name.starts_with("system:node:") {
        return true;
    }
    let known = user.is_in(AUTHENTICATED);
    match attempt {
        Attempt::Path { verb, path } => {
            let below = |roots: &[&str]| {
                roots.iter().any(|root| {
                    path.strip_prefix(root)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                })
            };
            verb == "get" && (below(&PUBLIC_PATHS) || known && below(&DISCOVERY_PATHS))
        }
        Attempt::Resource {
            verb,
            group,
            resource,
            ..
        } => {
            let about_oneself = matches!(
                (group.as_str(), resource.as_str()),
                (
                    "authorization.k8s.io",
                    "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
                ) | ("authentication.k8s.io", "selfsubjectreviews")
            );
            known && verb == "create" && about_oneself
        }
    }
}

/// Refuses what is not allowed, in the words that kubectl's users know.
pub fn authorize(user: &User, attempt: &Attempt) -> ApiResult<()> {
    if is_allowed(user, attempt) {
        return Ok(());
    }
    Err(match attempt {
        Attempt::Path { verb, path } => ApiError::forbidden(
            Subject {
                group: "",
                resource: "",
                name: "",
            },
            format!("User {:?} cannot {verb} path {path:?}", user.name),
        ),
        Attempt::Resource {
            verb,
            group,
            resource,
            namespace,
            name,
        } => {
            let place = match namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let plain = resource.split('/').next().unwrap_or(resource);
            ApiError::forbidden(
                Subject {
                    group,
                    resource: plain,
                    name,
                },
                format!(
                    "User {:?} cannot {verb} resource {resource:?} in API group {group:?} {place}",
                    user.name
                ),
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, groups: &[&str]) -> User {
        User {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    fn list_pods() -> Attempt {
        Attempt::Resource {
            verb: "list".to_owned(),
            group: String::new(),
            resource: "pods".to_owned(),
            namespace: "default".to_owned(),
            name: String::new(),
        }
    }

    fn get(path: &str) -> Attempt {
        Attempt::Path {
            verb: "get".to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn administrators_and_components_may_do_everything() {
        for who in [
            user("admin", &[MASTERS, AUTHENTICATED]),
            user("system:kube-scheduler", &[AUTHENTICATED]),
            user("system:kube-controller-manager", &[AUTHENTICATED]),
            user("system:node:n1", &[NODES, AUTHENTICATED]),
        ] {
            assert!(is_allowed(&who, &list_pods()), "{}", who.name);
        }
        assert!(!is_allowed(
            &user("mallory", &[NODES, AUTHENTICATED]),
            &list_pods()
        ));
    }

    #[test]
    fn who_is_known_may_look_around_and_strangers_see_health_only() {
        let jane = user("jane", &[AUTHENTICATED]);
        assert!(is_allowed(&jane, &get("/apis/apps/v1")));
        assert!(!is_allowed(&jane, &get("/metrics")));
        assert!(is_allowed(&User::anonymous(), &get("/livez")));
        assert!(is_allowed(&User::anonymous(), &get("/readyz/etcd")));
        assert!(!is_allowed(&User::anonymous(), &get("/api")));
        assert!(!is_allowed(&User::anonymous(), &get("/versions")));
    }

    #[test]
    fn only_who_may_everything_can_be_somebody_else() {
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", HeaderValue::from_static("jane"));
        headers.insert("impersonate-group", HeaderValue::from_static("dev"));
        let admin = user("admin", &[MASTERS, AUTHENTICATED]);
        let jane = authenticate(&headers, &admin).unwrap();
        assert_eq!(jane, user("jane", &["dev", AUTHENTICATED]));
        let error = authenticate(&headers, &user("joe", &[AUTHENTICATED])).unwrap_err();
        assert_eq!(
            error.message(),
            "users \"jane\" is forbidden: User \"joe\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
        );
        headers.remove("impersonate-user");
        assert_eq!(authenticate(&headers, &admin).unwrap_err().code(), 400);
    }

    #[test]
    fn a_refusal_says_what_kubectls_users_know() {
        let error = authorize(&user("jane", &[AUTHENTICATED]), &list_pods()).unwrap_err();
        assert_eq!(
            error.message(),
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        );
        let error = authorize(&User::anonymous(), &get("/api")).unwrap_err();
        assert_eq!(
            error.message(),
            "forbidden: User \"system:anonymous\" cannot get path \"/api\""
        );
    }
}
