//! What somebody may do.

use super::node::{Wish, may};
use super::{AUTHENTICATED, MASTERS};
use crate::resources::{EVERY_VERB, Need};
use crate::rest::User;
use crate::status::{ApiError, ApiResult, Subject};

const COMPONENTS: [&str; 2] = ["system:kube-controller-manager", "system:kube-scheduler"];
/// What is not secret.
const PUBLIC_PATHS: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
/// What everyone who is known may see, to find his way.
const DISCOVERY_PATHS: [&str; 3] = ["/api", "/apis", "/openapi"];

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
        /// The field selector of a list or watch, "" if there is none.
        fields: String,
    },
    /// Something with another path.
    Path {
        /// In lower case: `get`.
        verb: String,
        /// The path.
        path: String,
    },
}

/// One object of a namespace. Neither name is "", which elsewhere means all of them: no right to one object must come
/// out as a right to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectName<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl<'a> ObjectName<'a> {
    /// The object of these names; none if one of them is "".
    pub fn new(namespace: &'a str, name: &'a str) -> Option<ObjectName<'a>> {
        let is_one = !namespace.is_empty() && !name.is_empty();
        is_one.then_some(ObjectName { namespace, name })
    }

    /// Its namespace.
    pub fn namespace(self) -> &'a str {
        self.namespace
    }

    /// Its name.
    pub fn name(self) -> &'a str {
        self.name
    }
}

/// Where a pod is, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// On a node.
    To(String),
    /// On none yet.
    Nowhere,
    /// No such pod is known. It may be gone, or so new that it has not been heard of.
    Unknown,
}

/// What a node's rights depend on.
pub trait Cluster: Sync {
    /// Where a pod is.
    fn bound(&self, pod: ObjectName<'_>) -> Bound;
    /// Whether a pod that is bound to the node names an object of its namespace.
    fn needs(&self, node: &str, need: Need, object: ObjectName<'_>) -> bool;
}

/// Whether the user is one of the cluster's own components.
pub fn is_component(user: &User) -> bool {
    COMPONENTS.contains(&user.name.as_str())
}

/// Whether the user may.
pub fn is_allowed(user: &User, attempt: &Attempt, cluster: &dyn Cluster) -> bool {
    user.is_in(MASTERS)
        || may_as_anybody(user, attempt)
        || may_as_component(user, attempt)
        || may_as_node(user, attempt, cluster)
}

fn may_as_component(user: &User, attempt: &Attempt) -> bool {
    is_component(user)
        && match attempt {
            Attempt::Path { .. } => true,
            // Not to be somebody else.
            Attempt::Resource { verb, .. } => EVERY_VERB.contains(&verb.as_str()),
        }
}

fn may_as_node(user: &User, attempt: &Attempt, cluster: &dyn Cluster) -> bool {
    let (
        Some(nodes),
        Attempt::Resource {
            verb,
            group,
            resource,
            namespace,
            name,
            fields,
        },
    ) = (user.nodes(), attempt)
    else {
        return false;
    };
    let wish = Wish {
        verb,
        group,
        resource,
        namespace,
        name,
        fields,
    };
    may(nodes, &wish, cluster)
}

/// What everyone may who is known, and what strangers may.
fn may_as_anybody(user: &User, attempt: &Attempt) -> bool {
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
pub fn authorize(user: &User, attempt: &Attempt, cluster: &dyn Cluster) -> ApiResult<()> {
    if is_allowed(user, attempt, cluster) {
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
            ..
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
pub(super) mod tests {
    use super::*;

    /// A cluster without pods.
    pub struct NoCluster;

    impl Cluster for NoCluster {
        fn bound(&self, _: ObjectName<'_>) -> Bound {
            Bound::Unknown
        }

        fn needs(&self, _: &str, _: Need, _: ObjectName<'_>) -> bool {
            false
        }
    }

    pub fn user(name: &str, groups: &[&str]) -> User {
        User {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    fn with_pods(verb: &str) -> Attempt {
        Attempt::Resource {
            verb: verb.to_owned(),
            group: String::new(),
            resource: "pods".to_owned(),
            namespace: "default".to_owned(),
            name: String::new(),
            fields: String::new(),
        }
    }

    fn get(path: &str) -> Attempt {
        Attempt::Path {
            verb: "get".to_owned(),
            path: path.to_owned(),
        }
    }

    fn may(user: &User, attempt: &Attempt) -> bool {
        is_allowed(user, attempt, &NoCluster)
    }

    #[test]
    fn administrators_may_do_everything_and_components_all_but_be_somebody_else() {
        let admin = user("admin", &[MASTERS, AUTHENTICATED]);
        assert!(may(&admin, &with_pods("list")) && may(&admin, &with_pods("impersonate")));
        for component in COMPONENTS {
            let component = user(component, &[AUTHENTICATED]);
            assert!(may(&component, &with_pods("list")));
            for not in ["impersonate", "*"] {
                assert!(!may(&component, &with_pods(not)), "{not}");
            }
        }
        let mallory = user("mallory", &["system:nodes", AUTHENTICATED]);
        assert!(!may(&mallory, &with_pods("list")));
    }

    #[test]
    fn who_is_known_may_look_around_and_strangers_see_health_only() {
        let jane = user("jane", &[AUTHENTICATED]);
        assert!(may(&jane, &get("/apis/apps/v1")));
        assert!(!may(&jane, &get("/metrics")));
        assert!(may(&User::anonymous(), &get("/livez")));
        assert!(may(&User::anonymous(), &get("/readyz/etcd")));
        assert!(!may(&User::anonymous(), &get("/api")));
        assert!(!may(&User::anonymous(), &get("/versions")));
    }

    #[test]
    fn a_refusal_says_what_kubectls_users_know() {
        let refused = |user: &User, attempt: &Attempt| {
            authorize(user, attempt, &NoCluster)
                .unwrap_err()
                .message()
                .to_owned()
        };
        assert_eq!(
            refused(&user("jane", &[AUTHENTICATED]), &with_pods("list")),
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        );
        assert_eq!(
            refused(&User::anonymous(), &get("/api")),
            "forbidden: User \"system:anonymous\" cannot get path \"/api\""
        );
    }
}
