//! Defaults of a pod's spec, in a pod or in a template.

use serde_json::{Value, json};

use crate::validate::pods::SpecOf;
use crate::value;

const KINDS_OF_CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Sets what is not given below `path`.
pub fn default(object: &mut Value, path: &[&str], of: SpecOf) {
    let mut here = &mut *object;
    for step in path {
        match here.get_mut(step) {
            Some(next) => here = next,
            None => return,
        }
    }
    let spec = here;
    value::default(spec, &["restartPolicy"], "Always");
    value::default(spec, &["dnsPolicy"], "ClusterFirst");
    value::default(spec, &["schedulerName"], "default-scheduler");
    value::default(spec, &["terminationGracePeriodSeconds"], 30);
    value::default(spec, &["securityContext"], json!({}));
    // Not in a template, which would keep the ports when it leaves the node's network.
    let takes_host_ports = of == SpecOf::Pod && value::bool_at(spec, &["hostNetwork"]);
    for kind in KINDS_OF_CONTAINERS {
        for container in value::list_mut(spec, &[kind]) {
            container_defaults(container, takes_host_ports);
        }
    }
    for volume in value::list_mut(spec, &["volumes"]) {
        volume_defaults(volume);
    }
    // The old name of the service account is kept equal to the new.
    let account = value::str_at(spec, &["serviceAccountName"]).to_owned();
    match account.as_str() {
        "" => {
            let old = value::str_at(spec, &["serviceAccount"]).to_owned();
            if !old.is_empty() {
                value::set(spec, &["serviceAccountName"], old);
            }
        }
        _ => value::set(spec, &["serviceAccount"], account),
    }
}

fn container_defaults(container: &mut Value, takes_host_ports: bool) {
    value::default(
        container,
        &["terminationMessagePath"],
        "/dev/termination-log",
    );
    value::default(container, &["terminationMessagePolicy"], "File");
    value::default(container, &["resources"], json!({}));
    let pull = match is_latest(value::str_at(container, &["image"])) {
        true => "Always",
        false => "IfNotPresent",
    };
    value::default(container, &["imagePullPolicy"], pull);
    for port in value::list_mut(container, &["ports"]) {
        value::default(port, &["protocol"], "TCP");
        if takes_host_ports {
            let number = value::at(port, &["containerPort"]).clone();
            value::default(port, &["hostPort"], number);
        }
    }
    for variable in value::list_mut(container, &["env"]) {
        let path = ["valueFrom", "fieldRef"];
        if !value::at(variable, &path).is_null() {
            value::default(variable, &["valueFrom", "fieldRef", "apiVersion"], "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            probe_defaults(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        let path = ["lifecycle", hook, "httpGet"];
        if !value::at(container, &path).is_null() {
            value::default(container, &["lifecycle", hook, "httpGet", "scheme"], "HTTP");
            value::default(container, &["lifecycle", hook, "httpGet", "path"], "/");
        }
    }
    // What is limited and not asked for is asked for.
    if let Some(Value::Object(limits)) = container
        .get("resources")
        .and_then(|r| r.get("limits"))
        .cloned()
    {
        for (resource, quantity) in limits {
            value::default(container, &["resources", "requests", &resource], quantity);
        }
    }
}

fn probe_defaults(probe: &mut Value) {
    for (field, number) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        value::default(probe, &[field], number);
    }
    if !value::at(probe, &["httpGet"]).is_null() {
        value::default(probe, &["httpGet", "scheme"], "HTTP");
        value::default(probe, &["httpGet", "path"], "/");
    }
    if !value::at(probe, &["grpc"]).is_null() {
        value::default(probe, &["grpc", "service"], "");
    }
}

fn volume_defaults(volume: &mut Value) {
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if !value::at(volume, &[kind]).is_null() {
            value::default(volume, &[kind, "defaultMode"], 0o644);
        }
    }
    if !value::at(volume, &["hostPath"]).is_null() {
        value::default(volume, &["hostPath", "type"], "");
    }
    for item in value::list_mut(volume, &["downwardAPI", "items"]) {
        if !value::at(item, &["fieldRef"]).is_null() {
            value::default(item, &["fieldRef", "apiVersion"], "v1");
        }
    }
    for source in value::list_mut(volume, &["projected", "sources"]) {
        if !value::at(source, &["serviceAccountToken"]).is_null() {
            value::default(source, &["serviceAccountToken", "expirationSeconds"], 3_600);
        }
        for item in value::list_mut(source, &["downwardAPI", "items"]) {
            if !value::at(item, &["fieldRef"]).is_null() {
                value::default(item, &["fieldRef", "apiVersion"], "v1");
            }
        }
    }
    let sources = value::map_mut(volume);
    // A volume of no kind is an empty directory.
    if sources.keys().all(|key| key == "name") {
        sources.insert("emptyDir".to_owned(), json!({}));
    }
}

/// Whether an image is named without a tag or digest, or by `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or("");
    match last.split_once(':') {
        None => true,
        Some((_, tag)) => tag == "latest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_fixed_tag_are_pulled_always() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("nginx@sha256:0", "IfNotPresent"),
        ] {
            let mut pod = json!({"spec": {"containers": [{"image": image}]}});
            default(&mut pod, &["spec"], SpecOf::Pod);
            assert_eq!(
                pod["spec"]["containers"][0]["imagePullPolicy"], policy,
                "{image}"
            );
        }
    }

    #[test]
    fn a_pod_in_the_nodes_network_takes_its_ports_and_a_template_does_not() {
        let port = |of: SpecOf| {
            let mut object = json!({"spec": {"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}]}]}});
            default(&mut object, &["spec"], of);
            object["spec"]["containers"][0]["ports"][0]["hostPort"].clone()
        };
        assert_eq!(port(SpecOf::Pod), 80);
        assert_eq!(port(SpecOf::Template), Value::Null);
    }

    #[test]
    fn limits_are_requests_where_none_are_given() {
        let mut pod = json!({"spec": {"containers": [{"resources":
            {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]}});
        default(&mut pod, &["spec"], SpecOf::Pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m", "memory": "1Gi"})
        );
    }
}
