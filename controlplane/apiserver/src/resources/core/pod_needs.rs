//! What a pod names of its namespace's objects, and so needs to run.

use serde_json::Value;

use crate::value;

/// What a pod can need by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// For its volumes, variables and images.
    Secret,
    /// For its volumes and variables.
    ConfigMap,
    /// As whom it runs.
    ServiceAccount,
}

/// The sources of a volume that name a secret, and where.
const SECRETS_OF_VOLUMES: [&[&str]; 10] = [
    &["azureFile", "secretName"],
    &["cephfs", "secretRef", "name"],
    &["cinder", "secretRef", "name"],
    &["csi", "nodePublishSecretRef", "name"],
    &["flexVolume", "secretRef", "name"],
    &["iscsi", "secretRef", "name"],
    &["rbd", "secretRef", "name"],
    &["scaleIO", "secretRef", "name"],
    &["secret", "secretName"],
    &["storageos", "secretRef", "name"],
];
const KINDS_OF_CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// What a node writes on a pod that it runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod is the mirror of one that its node runs by itself, without the API server: it shows it, and no more.
pub fn is_mirror(pod: &Value) -> bool {
    value::at(pod, &["metadata", "annotations", MIRROR]).is_string()
}

/// The names of what a pod needs of a kind.
pub fn named_by(pod: &Value, need: Need) -> Vec<&str> {
    let spec = value::at(pod, &["spec"]);
    let mut names = match need {
        Need::ServiceAccount => ["serviceAccountName", "serviceAccount"]
            .map(|field| value::str_at(spec, &[field]))
            .to_vec(),
        Need::ConfigMap => {
            let mut names = of_volumes(spec, &[&["configMap", "name"]]);
            names.extend(of_projections(spec, "configMap"));
            names.extend(of_variables(spec, "configMapKeyRef", "configMapRef"));
            names
        }
        Need::Secret => {
            let mut names = of_volumes(spec, &SECRETS_OF_VOLUMES);
            names.extend(of_projections(spec, "secret"));
            names.extend(of_variables(spec, "secretKeyRef", "secretRef"));
            let pulled = value::list_at(spec, &["imagePullSecrets"]).iter();
            names.extend(pulled.map(|secret| value::str_at(secret, &["name"])));
            names
        }
    };
    names.retain(|name| !name.is_empty());
    names
}

/// What a pod refers to in the API, in the words of a refusal; none if it stands for itself.
pub fn refers_to(pod: &Value) -> Option<&'static str> {
    let volumes = value::list_at(pod, &["spec", "volumes"]).iter();
    let has_claim = volumes.clone().any(|volume| {
        volume.get("persistentVolumeClaim").is_some() || volume.get("ephemeral").is_some()
    });
    let mut sources = volumes.flat_map(|volume| value::list_at(volume, &["projected", "sources"]));
    let has = |need| !named_by(pod, need).is_empty();
    if has(Need::ServiceAccount) {
        Some("a service account")
    } else if has(Need::Secret) {
        Some("secrets")
    } else if has(Need::ConfigMap) {
        Some("configmaps")
    } else if has_claim {
        Some("persistentvolumeclaims")
    } else if sources
        .clone()
        .any(|source| source.get("clusterTrustBundle").is_some())
    {
        Some("clustertrustbundles")
    } else {
        let has_token = sources.any(|source| source.get("serviceAccountToken").is_some());
        has_token.then_some("service account tokens")
    }
}

fn of_volumes<'a>(spec: &'a Value, paths: &[&[&str]]) -> Vec<&'a str> {
    let volumes = value::list_at(spec, &["volumes"]).iter();
    volumes
        .flat_map(|volume| paths.iter().map(|path| value::str_at(volume, path)))
        .collect()
}

fn of_projections<'a>(spec: &'a Value, kind: &str) -> Vec<&'a str> {
    let volumes = value::list_at(spec, &["volumes"]).iter();
    volumes
        .flat_map(|volume| value::list_at(volume, &["projected", "sources"]))
        .map(|source| value::str_at(source, &[kind, "name"]))
        .collect()
}

/// Of single variables, and of all that an object has.
fn of_variables<'a>(spec: &'a Value, of_one: &str, of_all: &str) -> Vec<&'a str> {
    let containers = KINDS_OF_CONTAINERS
        .iter()
        .flat_map(|kind| value::list_at(spec, &[kind]));
    let names = |container: &'a Value| {
        let one = value::list_at(container, &["env"])
            .iter()
            .map(|variable| value::str_at(variable, &["valueFrom", of_one, "name"]));
        let all = value::list_at(container, &["envFrom"])
            .iter()
            .map(|source| value::str_at(source, &[of_all, "name"]));
        one.chain(all).collect::<Vec<&str>>()
    };
    containers.flat_map(names).collect()
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
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "password"}}}, {"name": "A", "value": "b"}],
                "envFrom": [{"configMapRef": {"name": "settings"}}]}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "early"}}]}],
            "volumes": [{"secret": {"secretName": "tls"}}, {"projected": {"sources": [{"configMap": {"name": "root"}}]}},
                {"rbd": {"secretRef": {"name": "disk"}}}],
        }});
        assert_eq!(named_by(&pod, Need::ServiceAccount), ["runner"]);
        assert_eq!(
            named_by(&pod, Need::Secret),
            ["tls", "disk", "early", "password", "registry"]
        );
        assert_eq!(named_by(&pod, Need::ConfigMap), ["root", "settings"]);
    }

    #[test]
    fn a_pod_that_refers_to_nothing_stands_for_itself() {
        let with = |spec: Value| json!({"spec": spec});
        let volume = |source: Value| with(json!({"volumes": [source]}));
        let projected = |source: Value| volume(json!({"projected": {"sources": [source]}}));
        let plain = with(
            json!({"containers": [{"env": [{"name": "a", "value": "b"}]}], "volumes": [{"hostPath": {}}]}),
        );
        assert_eq!(refers_to(&plain), None);
        for (pod, what) in [
            (with(json!({"serviceAccount": "a"})), "a service account"),
            (volume(json!({"secret": {"secretName": "a"}})), "secrets"),
            (volume(json!({"configMap": {"name": "a"}})), "configmaps"),
            (
                volume(json!({"persistentVolumeClaim": {}})),
                "persistentvolumeclaims",
            ),
            (
                projected(json!({"clusterTrustBundle": {}})),
                "clustertrustbundles",
            ),
            (
                projected(json!({"serviceAccountToken": {}})),
                "service account tokens",
            ),
        ] {
            assert_eq!(refers_to(&pod), Some(what));
        }
    }
}
