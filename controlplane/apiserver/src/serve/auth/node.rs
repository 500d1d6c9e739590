//! What a node may do: what it needs for itself and for the pods that are bound to it, as Kubernetes' node authorizer
//! has it. What depends on the content of a write is for admission.

use super::{Bound, Cluster, ObjectName};
use crate::resources::Need;
use crate::rest::{Nodes, User};
use crate::selector::FieldSelector;

const LEASES: &str = "kube-node-lease";

/// What a node wants to do with a resource.
pub struct Wish<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The field selector of a list or watch.
    pub fields: &'a str,
}

/// What a node may do at most: group, resource, verbs.
pub struct NodeRule(
    pub &'static str,
    pub &'static str,
    pub &'static [&'static str],
);

const READ: &[&str] = &["get", "list", "watch"];
const CHANGE: &[&str] = &["get", "patch", "update"];

const RULES: &[NodeRule] = &[
    NodeRule(
        "",
        "nodes",
        &["create", "get", "list", "patch", "update", "watch"],
    ),
    NodeRule("", "nodes/status", CHANGE),
    NodeRule(
        "coordination.k8s.io",
        "leases",
        &["create", "delete", "get", "patch", "update"],
    ),
    NodeRule("", "pods", &["create", "delete", "get", "list", "watch"]),
    NodeRule("", "pods/status", CHANGE),
    NodeRule("", "pods/eviction", &["create"]),
    NodeRule("", "secrets", READ),
    NodeRule("", "configmaps", READ),
    NodeRule("", "serviceaccounts", READ),
    NodeRule("", "services", READ),
    NodeRule("", "endpoints", &["get"]),
    NodeRule("", "events", &["create", "patch", "update"]),
    NodeRule("events.k8s.io", "events", &["create", "patch", "update"]),
    NodeRule("authentication.k8s.io", "tokenreviews", &["create"]),
    NodeRule(
        "authorization.k8s.io",
        "localsubjectaccessreviews",
        &["create"],
    ),
    NodeRule("authorization.k8s.io", "subjectaccessreviews", &["create"]),
];

/// What a user may do at most as a node; nothing if he is none.
pub fn rules_of_node(user: &User) -> &'static [NodeRule] {
    user.nodes().map_or(&[], |_| RULES)
}

/// Whether nodes may: by the rules, and because it is their own.
pub(super) fn may(nodes: Nodes<'_>, wish: &Wish<'_>, cluster: &dyn Cluster) -> bool {
    let is_rule = RULES.iter().any(|NodeRule(group, resource, verbs)| {
        (*group, *resource) == (wish.group, wish.resource) && verbs.contains(&wish.verb)
    });
    is_rule && is_theirs(nodes, wish, cluster)
}

fn is_theirs(nodes: Nodes<'_>, wish: &Wish<'_>, cluster: &dyn Cluster) -> bool {
    let is_list = matches!(wish.verb, "list" | "watch");
    let is_of = |name: &str| nodes == Nodes::Any || nodes.are(name);
    match (wish.resource, wish.verb) {
        ("leases", _) if wish.namespace != LEASES => false,
        // Its name is in the body.
        ("nodes" | "leases", "create") => true,
        ("nodes", _) if is_list => is_of(&wish.asked_name()),
        ("nodes" | "nodes/status" | "leases", _) => is_of(wish.name),
        // What runs without the API server, as a mirror.
        ("pods", "create") => nodes != Nodes::Any,
        ("pods", _) if is_list => is_of(&wish.asked_field("spec.nodeName")),
        ("pods" | "pods/status" | "pods/eviction", _) => have_pod(nodes, wish, cluster),
        ("secrets", _) => need(nodes, Need::Secret, wish, cluster),
        ("configmaps", _) => need(nodes, Need::ConfigMap, wish, cluster),
        ("serviceaccounts", _) => need(nodes, Need::ServiceAccount, wish, cluster),
        _ => true,
    }
}

fn have_pod(nodes: Nodes<'_>, wish: &Wish<'_>, cluster: &dyn Cluster) -> bool {
    let Some(pod) = ObjectName::new(wish.namespace, wish.name) else {
        return false;
    };
    match cluster.bound(pod) {
        Bound::To(node) => nodes.are(&node),
        Bound::Nowhere => false,
        // Who writes to one that is gone is to hear that it is gone. If it is there after all, admission looks at it, as
        // it is in the store.
        Bound::Unknown => wish.verb != "get",
    }
}

/// Only one object at a time is read, and only one that a pod on the node names.
fn need(nodes: Nodes<'_>, need: Need, wish: &Wish<'_>, cluster: &dyn Cluster) -> bool {
    let name = wish.asked_name();
    match (nodes, ObjectName::new(wish.namespace, &name)) {
        (Nodes::One(node), Some(object)) => cluster.needs(node, need, object),
        _ => false,
    }
}

impl Wish<'_> {
    fn asked_name(&self) -> String {
        match self.name {
            "" => self.asked_field("metadata.name"),
            name => name.to_owned(),
        }
    }

    fn asked_field(&self, field: &str) -> String {
        let selector = FieldSelector::parse(self.fields).unwrap_or_default();
        selector.exact(field).unwrap_or("").to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n1` has the pod `default/web`, which needs the secret `key`; `n2` has `db`, and `new` is on none.
    struct OnePod;

    impl Cluster for OnePod {
        fn bound(&self, pod: ObjectName<'_>) -> Bound {
            match (pod.namespace(), pod.name()) {
                ("default", "web") => Bound::To("n1".to_owned()),
                ("default", "db") => Bound::To("n2".to_owned()),
                ("default", "new") => Bound::Nowhere,
                _ => Bound::Unknown,
            }
        }

        fn needs(&self, node: &str, need: Need, object: ObjectName<'_>) -> bool {
            let object = (object.namespace(), object.name());
            (node, need, object) == ("n1", Need::Secret, ("default", "key"))
        }
    }

    /// `VERB GROUP:RESOURCE NAMESPACE:NAME FIELDS`
    fn they_may(nodes: Nodes<'_>, wish: &str) -> bool {
        let words: Vec<&str> = wish.split(' ').collect();
        let (group, resource) = words[1].split_once(':').unwrap_or(("", words[1]));
        let (namespace, name) = words[2].split_once(':').unwrap_or(("", words[2]));
        let wish = Wish {
            verb: words[0],
            group,
            resource,
            namespace,
            name,
            fields: words.get(3).copied().unwrap_or(""),
        };
        may(nodes, &wish, &OnePod)
    }

    #[test]
    fn a_node_may_do_what_it_needs_for_itself_and_its_pods() {
        for wish in [
            "create nodes :",
            "get nodes n1",
            "patch nodes/status n1",
            "watch nodes : metadata.name=n1",
            "patch coordination.k8s.io:leases kube-node-lease:n1",
            "watch pods : spec.nodeName=n1",
            "get pods default:web",
            "delete pods default:web",
            "delete pods default:gone",
            "patch pods/status default:web",
            "get secrets default:key",
            "watch secrets default: metadata.name=key",
            "list services :",
            "create events default:",
        ] {
            assert!(they_may(Nodes::One("n1"), wish), "{wish}");
        }
    }

    #[test]
    fn a_node_may_not_do_what_is_anothers() {
        for wish in [
            "get nodes n2",
            "list nodes :",
            "patch nodes/status n2",
            "delete nodes n1",
            "patch coordination.k8s.io:leases kube-node-lease:n2",
            "get coordination.k8s.io:leases kube-system:n1",
            "list pods :",
            "watch pods : spec.nodeName=n2",
            "patch pods/status default:db",
            "delete pods default:new",
            "get pods default:gone",
            "patch pods default:web",
            "create pods/binding default:web",
            "list secrets default:",
            "list secrets : metadata.name=key",
            "watch secrets :key",
            "watch secrets : metadata.name=key",
            "delete pods default:",
            "get secrets default:other",
            "get configmaps default:key",
            "update services default:web",
            "list apps:deployments default:",
        ] {
            assert!(!they_may(Nodes::One("n1"), wish), "{wish}");
        }
    }

    #[test]
    fn the_agent_of_many_nodes_may_for_each_and_reads_no_secrets() {
        for wish in [
            "list nodes :",
            "patch nodes/status n7",
            "list pods :",
            "patch pods/status default:web",
        ] {
            assert!(they_may(Nodes::Any, wish), "{wish}");
        }
        for wish in [
            "get secrets default:key",
            "list secrets :",
            "create pods default:",
            "delete nodes n1",
        ] {
            assert!(!they_may(Nodes::Any, wish), "{wish}");
        }
    }
}
