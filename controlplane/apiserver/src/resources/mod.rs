//! The table of resources: what is served, under which names, and by which rules.
//!
//! A new resource is an entry here ([`ALL`]) with its own [`Rules`]; everything else is generic.

mod apps;
mod coordination;
mod core;
mod discovery;
mod events;
mod pod_spec;
mod resource;
mod rules;
mod text;

pub use core::addresses::{ADDRESS_CLAIMS, ClusterIps, NODE_PORT_CLAIMS};
pub use core::pod_needs::{Need, is_mirror, named_by, refers_to};
pub use core::service::needs_health_check_port;
pub use resource::{Column, Conversion, Field, Resource, Subresource};
pub use rules::{Grace, Rules};

/// Everything that is served from the store.
pub static ALL: &[&Resource] = &[
    &core::config_map::CONFIG_MAP,
    &core::endpoints::ENDPOINTS,
    &core::event::EVENT,
    &core::namespace::NAMESPACE,
    &core::node::NODE,
    &core::pod::POD,
    &core::secret::SECRET,
    &core::service_account::SERVICE_ACCOUNT,
    &core::service::SERVICE,
    &apps::controller_revision::CONTROLLER_REVISION,
    &apps::deployment::DEPLOYMENT,
    &apps::replica_set::REPLICA_SET,
    &coordination::LEASE,
    &discovery::ENDPOINT_SLICE,
    &events::EVENT,
];

/// The verbs of a resource of which everything can be done.
pub const EVERY_VERB: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// One for each place in the store: those that show another's objects are left out.
pub fn stored() -> impl Iterator<Item = &'static Resource> {
    ALL.iter()
        .copied()
        .filter(|resource| resource.conversion.is_none())
}

/// The resource of a path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter()
        .copied()
        .find(|one| one.group == group && one.version == version && one.plural == plural)
}

/// The namespaces' own resource.
pub fn namespaces() -> &'static Resource {
    &core::namespace::NAMESPACE
}

/// Nodes.
pub fn nodes() -> &'static Resource {
    &core::node::NODE
}

/// The pods' resource.
pub fn pods() -> &'static Resource {
    &core::pod::POD
}

/// The services' resource.
pub fn services() -> &'static Resource {
    &core::service::SERVICE
}

/// The service accounts' resource.
pub fn service_accounts() -> &'static Resource {
    &core::service_account::SERVICE_ACCOUNT
}

/// A `metav1.LabelSelector` as a selector in a query; "" if it selects nothing or is not there.
pub fn selector_text(selector: &serde_json::Value) -> String {
    match text::label_selector(selector).as_str() {
        Some("<none>") | None => String::new(),
        Some(text) => text.to_owned(),
    }
}

/// The endpoints' resource.
pub fn endpoints() -> &'static Resource {
    &core::endpoints::ENDPOINTS
}

/// The endpoint slices' resource.
pub fn endpoint_slices() -> &'static Resource {
    &discovery::ENDPOINT_SLICE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_resources_share_a_path_or_a_place() {
        let paths: HashSet<_> = ALL.iter().map(|r| (r.group, r.version, r.plural)).collect();
        assert_eq!(paths.len(), ALL.len());
        let places: HashSet<_> = stored().map(|r| r.storage).collect();
        assert_eq!(places.len(), stored().count());
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        for resource in ALL {
            let row = (resource.row)(&serde_json::json!({}), 0);
            assert_eq!(row.len(), resource.columns.len(), "{}", resource.plural);
        }
    }

    #[test]
    fn defaulting_twice_changes_nothing() {
        for resource in ALL {
            let mut object = serde_json::json!({"spec": {"containers": [{"name": "a", "image": "a"}],
                "template": {"spec": {"containers": [{"name": "a"}]}}}});
            resource.rules.default(&mut object);
            let once = object.clone();
            resource.rules.default(&mut object);
            assert_eq!(object, once, "{}", resource.plural);
        }
    }
}
