//! From a path to a resource.

use crate::resources::{self, Resource, Subresource};
use crate::rest::decode_segment;

/// What a path is about.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// "" for core.
    pub group: String,
    /// `v1`
    pub version: String,
    /// "" if there is none, or it is about all.
    pub namespace: String,
    /// `pods`
    pub resource: String,
    /// "" for all.
    pub name: String,
    /// `status`, or "".
    pub subresource: String,
}

/// Reads a path below `/api/v1/` or `/apis/GROUP/VERSION/`; none for any other.
pub fn target(path: &str) -> Option<Target> {
    let mut parts: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .map(decode_segment)
        .collect();
    let mut parts = parts.drain(..);
    let (group, version) = match parts.next()?.as_str() {
        "api" => (String::new(), parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let mut rest: Vec<String> = parts.collect();
    if rest.is_empty() || rest.iter().any(String::is_empty) {
        return None;
    }
    let mut namespace = String::new();
    // `namespaces/NAME` and its two parts are about the namespace itself.
    let is_inside = rest.len() >= 3
        && rest[0] == "namespaces"
        && !(rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize"));
    if is_inside {
        namespace = rest[1].clone();
        rest.drain(..2);
    }
    let mut rest = rest.into_iter();
    let target = Target {
        group,
        version,
        namespace,
        resource: rest.next()?,
        name: rest.next().unwrap_or_default(),
        subresource: rest.next().unwrap_or_default(),
    };
    let is_odd = |text: &str| text.contains(['/', '%']) || matches!(text, "." | "..");
    let is_plain = !is_odd(&target.namespace) && !is_odd(&target.name);
    (is_plain && rest.next().is_none()).then_some(target)
}

impl Target {
    /// The entry of the table, if there is one: and the subresource, if it has it.
    pub fn find(&self) -> Option<(&'static Resource, Option<&'static Subresource>)> {
        let resource = resources::find(&self.group, &self.version, &self.resource)?;
        if !resource.namespaced && !self.namespace.is_empty() {
            return None;
        }
        match self.subresource.as_str() {
            "" => Some((resource, None)),
            name => Some((resource, Some(resource.subresource(name)?))),
        }
    }

    /// Whether a path of this form takes the verb: one object for some, a collection for others.
    pub fn can_be(&self, verb: &str, resource: &Resource) -> bool {
        let is_named = !self.name.is_empty();
        let fits = match verb {
            "get" | "update" | "patch" | "delete" => is_named,
            "create" => is_named != self.subresource.is_empty(),
            "list" | "deletecollection" => !is_named,
            "watch" => true,
            _ => false,
        };
        let is_everywhere = resource.namespaced && self.namespace.is_empty();
        fits && (!is_everywhere || !is_named && matches!(verb, "list" | "watch"))
    }

    /// What the method does there.
    pub fn verb(&self, method: &str, watches: bool) -> &'static str {
        let one = !self.name.is_empty();
        match method {
            "GET" | "HEAD" if watches => "watch",
            "GET" | "HEAD" if one => "get",
            "GET" | "HEAD" => "list",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if one => "delete",
            "DELETE" => "deletecollection",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str) -> Option<String> {
        let t = target(path)?;
        Some(format!(
            "{}|{}|{}|{}|{}|{}",
            t.group, t.version, t.namespace, t.resource, t.name, t.subresource
        ))
    }

    #[test]
    fn verbs_have_their_paths() {
        let can = |path: &str, verb: &str| target(path).unwrap().can_be(verb, resources::pods());
        let (all, some) = ("/api/v1/pods", "/api/v1/namespaces/a/pods");
        let of_no_namespace = "/api/v1/pods/b";
        let (one, part) = (
            "/api/v1/namespaces/a/pods/b",
            "/api/v1/namespaces/a/pods/b/binding",
        );
        assert!(
            can(all, "list")
                && can(all, "watch")
                && !can(all, "create")
                && !can(all, "deletecollection")
                && !can(of_no_namespace, "watch")
        );
        assert!(can(some, "create") && can(some, "deletecollection") && !can(some, "update"));
        assert!(can(one, "get") && can(one, "delete") && !can(one, "create") && !can(one, "list"));
        assert!(can(part, "create"));
    }

    #[test]
    fn paths_lead_to_resources() {
        for (path, expected) in [
            ("/api/v1/pods", "|v1||pods||"),
            (
                "/api/v1/namespaces/default/pods/a/status",
                "|v1|default|pods|a|status",
            ),
            ("/api/v1/namespaces", "|v1||namespaces||"),
            ("/api/v1/namespaces/a", "|v1||namespaces|a|"),
            ("/api/v1/namespaces/a/status", "|v1||namespaces|a|status"),
            (
                "/api/v1/namespaces/a/finalize",
                "|v1||namespaces|a|finalize",
            ),
            ("/api/v1/namespaces/a/pods", "|v1|a|pods||"),
            (
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "apps|v1|a|deployments|b|scale",
            ),
            ("/api/v1/nodes/a%20b", "|v1||nodes|a b|"),
        ] {
            assert_eq!(shown(path).as_deref(), Some(expected), "{path}");
        }
        for none in [
            "/",
            "/api",
            "/api/v1",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/api/v1/a/b/c/d",
            "/api/v1/nodes/a%2Fb",
            "/api/v1/namespaces/%2E%2E/pods/a",
        ] {
            assert_eq!(shown(none), None, "{none}");
        }
    }
}
