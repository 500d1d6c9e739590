//! What the rights of nodes depend on, as the caches have it.

use serde_json::Value;

use super::{Cluster, Need};
use crate::cache::{Caches, Scope};
use crate::resources;
use crate::selector::{FieldSelector, Selector};
use crate::value;

impl Cluster for Caches {
    fn node_of(&self, namespace: &str, pod: &str) -> Option<String> {
        let pods = resources::pods();
        let found = self.of(pods).get(&pods.cache_key(namespace, pod))?;
        Some(found.field(pods, "spec.nodeName").to_owned())
    }

    fn needs(&self, node: &str, need: Need, namespace: &str, name: &str) -> bool {
        let pods = resources::pods();
        let Ok(fields) = FieldSelector::parse(&format!("spec.nodeName={node}")) else {
            return false;
        };
        let on_the_node = Scope {
            namespace: namespace.to_owned(),
            selector: Selector {
                fields,
                ..Selector::default()
            },
        };
        let all = self.of(pods).snapshot();
        all.select(&on_the_node, None)
            .any(|pod| is_named(&pod.object(), need, name))
    }
}

/// Whether a pod names an object that it needs.
fn is_named(pod: &Value, need: Need, name: &str) -> bool {
    let spec = value::at(pod, &["spec"]);
    let each = |path: &[&str], inner: &[&str]| {
        value::list_at(spec, path)
            .iter()
            .any(|one| value::str_at(one, inner) == name)
    };
    let projected = |inner: &[&str]| {
        let volumes = value::list_at(spec, &["volumes"]).iter();
        volumes
            .flat_map(|volume| value::list_at(volume, &["projected", "sources"]))
            .any(|source| value::str_at(source, inner) == name)
    };
    let variable = |of_one: &str, of_all: &str| {
        let kinds = ["initContainers", "containers", "ephemeralContainers"];
        let mut containers = kinds.iter().flat_map(|kind| value::list_at(spec, &[kind]));
        containers.any(|container| {
            let one = ["valueFrom", of_one, "name"];
            let all = [of_all, "name"];
            let has = |list: &str, path: &[&str]| {
                let list = value::list_at(container, &[list]).iter();
                list.into_iter().any(|one| value::str_at(one, path) == name)
            };
            has("env", &one) || has("envFrom", &all)
        })
    };
    match need {
        Need::ServiceAccount => value::str_at(spec, &["serviceAccountName"]) == name,
        Need::ConfigMap => {
            each(&["volumes"], &["configMap", "name"])
                || projected(&["configMap", "name"])
                || variable("configMapKeyRef", "configMapRef")
        }
        Need::Secret => {
            each(&["volumes"], &["secret", "secretName"])
                || each(&["imagePullSecrets"], &["name"])
                || projected(&["secret", "name"])
                || variable("secretKeyRef", "secretRef")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_needs_what_its_volumes_variables_and_images_name() {
        let pod = json!({"spec": {
            "serviceAccountName": "runner",
            "imagePullSecrets": [{"name": "registry"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "password"}}}],
                "envFrom": [{"configMapRef": {"name": "settings"}}]}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "early"}}]}],
            "volumes": [{"secret": {"secretName": "tls"}}, {"projected": {"sources": [{"configMap": {"name": "root"}}]}}],
        }});
        for (need, name) in [
            (Need::ServiceAccount, "runner"),
            (Need::Secret, "registry"),
            (Need::Secret, "password"),
            (Need::Secret, "early"),
            (Need::Secret, "tls"),
            (Need::ConfigMap, "settings"),
            (Need::ConfigMap, "root"),
        ] {
            assert!(is_named(&pod, need, name), "{name}");
            assert!(!is_named(&pod, need, "another"));
        }
        assert!(!is_named(&pod, Need::ConfigMap, "tls"));
    }
}
