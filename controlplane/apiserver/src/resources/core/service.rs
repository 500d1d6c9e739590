//! Services: an address that stays while pods come and go.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::addresses::service_claims;
use crate::resources::{Column, EVERY_VERB, Resource, Rules, Subresource, text};
use crate::status::FieldError;
use crate::validate::names;
use crate::value;

pub static SERVICE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    namespaced: true,
    storage: "services/specs",
    verbs: EVERY_VERB,
    subresources: &[Subresource::status(("", "v1", "Service"))],
    columns: &[
        Column::object_name(),
        Column::new("Type", "string"),
        Column::new("Cluster-IP", "string"),
        Column::new("External-IP", "string"),
        Column::new("Port(s)", "string"),
        Column::new("Age", "string"),
        Column::wide("Selector", "string"),
    ],
    row,
    fields: &[
        crate::resources::Field {
            name: "spec.clusterIP",
            path: &["spec", "clusterIP"],
            absent: "",
        },
        crate::resources::Field {
            name: "spec.type",
            path: &["spec", "type"],
            absent: "",
        },
    ],
    indexed_by: None,
    rules: &ServiceRules,
    conversion: None,
};

fn row(object: &Value, now: i64) -> Vec<Value> {
    let kind = value::str_at(object, &["spec", "type"]);
    let cluster_ip = value::str_at(object, &["spec", "clusterIP"]);
    vec![
        text::name(object),
        kind.into(),
        text::or_none(cluster_ip.to_owned()).into(),
        external_ip(object, kind).into(),
        ports(object).into(),
        text::age(object, now),
        text::labels(object, &["spec", "selector"]),
    ]
}

fn external_ip(object: &Value, kind: &str) -> String {
    let mut ips: Vec<&str> = value::list_at(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|ingress| match value::str_at(ingress, &["ip"]) {
            "" => value::str_at(ingress, &["hostname"]),
            ip => ip,
        })
        .filter(|_| kind == "LoadBalancer")
        .collect();
    let external = value::list_at(object, &["spec", "externalIPs"]);
    ips.extend(external.iter().filter_map(Value::as_str));
    match kind {
        "ExternalName" => value::str_at(object, &["spec", "externalName"]).to_owned(),
        "LoadBalancer" if ips.is_empty() => "<pending>".to_owned(),
        _ => text::or_none(ips.join(",")),
    }
}

fn ports(object: &Value) -> String {
    let ports: Vec<String> = value::list_at(object, &["spec", "ports"])
        .iter()
        .map(|port| {
            let number = value::int_at(port, &["port"]).unwrap_or(0);
            let protocol = value::str_at(port, &["protocol"]);
            match value::int_at(port, &["nodePort"]) {
                Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    text::or_none(ports.join(","))
}

struct ServiceRules;

impl Rules for ServiceRules {
    fn check_name(&self, name: &str) -> Vec<String> {
        names::dns_1035_label(name)
    }

    fn splits_status(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        value::default(object, &["spec", "sessionAffinity"], "None");
        value::default(object, &["spec", "type"], "ClusterIP");
        if value::str_at(object, &["spec", "sessionAffinity"]) == "ClientIP" {
            let path = [
                "spec",
                "sessionAffinityConfig",
                "clientIP",
                "timeoutSeconds",
            ];
            value::default(object, &path, 10_800);
        }
        for port in value::list_mut(object, &["spec", "ports"]) {
            value::default(port, &["protocol"], "TCP");
            let number = value::at(port, &["port"]).clone();
            if matches!(value::at(port, &["targetPort"]), Value::Null)
                || value::at(port, &["targetPort"]) == 0
                || value::at(port, &["targetPort"]) == ""
            {
                value::set(port, &["targetPort"], number);
            }
        }
        match value::str_at(object, &["spec", "type"]) {
            "ExternalName" => return,
            "NodePort" | "LoadBalancer" => {
                value::default(object, &["spec", "externalTrafficPolicy"], "Cluster");
            }
            _ => {}
        }
        if value::str_at(object, &["spec", "type"]) == "LoadBalancer" {
            value::default(object, &["spec", "allocateLoadBalancerNodePorts"], true);
        }
        value::default(object, &["spec", "internalTrafficPolicy"], "Cluster");
    }

    fn prepare_create(&self, object: &mut Value) {
        value::set(object, &["status"], json!({"loadBalancer": {}}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let external = |object: &Value| value::str_at(object, &["spec", "type"]) == "ExternalName";
        if external(new) {
            // What an ExternalName has no use for goes, unless the caller gives it anew, which is then refused.
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let unchanged =
                    value::at(new, &["spec", field]) == value::at(old, &["spec", field]);
                if unchanged {
                    value::remove(new, &["spec", field]);
                }
            }
            settle_node_ports(new, old);
            settle_health_check_port(new, old);
            return;
        }
        if external(old) {
            return;
        }
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if value::same(value::at(new, &["spec", field]), &Value::Null)
                || value::at(new, &["spec", field]) == ""
            {
                value::copy(old, new, &["spec", field]);
            }
        }
        settle_node_ports(new, old);
        settle_health_check_port(new, old);
    }

    fn validate_new(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let ip = value::str_at(object, &["spec", "clusterIP"]);
        let ips = value::list_at(object, &["spec", "clusterIPs"]);
        let why = match ips {
            [] => return,
            [first, ..] if !ip.is_empty() && first != ip => "first value must match `clusterIP`",
            [_] => return,
            // One for each family, and there is one.
            _ => "may only hold up to 1 value",
        };
        errors.push(FieldError::invalid("spec.clusterIPs", ips.to_vec(), why));
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let kind = value::str_at(object, &["spec", "type"]);
        let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        if !kinds.contains(&kind) {
            errors.push(FieldError::not_supported("spec.type", kind, &kinds));
        }
        let ports = value::list_at(object, &["spec", "ports"]);
        let headless = value::str_at(object, &["spec", "clusterIP"]) == "None";
        if ports.is_empty() && !headless && kind != "ExternalName" {
            errors.push(FieldError::required("spec.ports", ""));
        }
        if kind == "ExternalName" {
            let name = value::str_at(object, &["spec", "externalName"]);
            if name.is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            }
            if !value::str_at(object, &["spec", "clusterIP"]).is_empty() {
                let why = "may not be set when `type` is 'ExternalName'";
                errors.push(FieldError::forbidden("spec.clusterIPs[0]", why));
            }
        }
        let affinities = ["ClientIP", "None"];
        let affinity = value::str_at(object, &["spec", "sessionAffinity"]);
        if !affinities.contains(&affinity) {
            errors.push(FieldError::not_supported(
                "spec.sessionAffinity",
                affinity,
                &affinities,
            ));
        }
        check_ports(ports, errors);
        check_node_ports(ports, kind, errors);
        check_health_check_port(object, errors);
        for (key, text) in value::strings_at(object, &["spec", "selector"]) {
            for problem in names::qualified_name(key) {
                errors.push(FieldError::invalid("spec.selector", key, problem));
            }
            for problem in names::label_value(text) {
                errors.push(FieldError::invalid("spec.selector", text, problem));
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let external = |object: &Value| value::str_at(object, &["spec", "type"]) == "ExternalName";
        let (ip, was) = (
            value::str_at(new, &["spec", "clusterIP"]),
            value::str_at(old, &["spec", "clusterIP"]),
        );
        if !external(new) && !external(old) && ip != was {
            let value = json!([ip]);
            let why = "may not change once set";
            errors.push(FieldError::invalid("spec.clusterIPs[0]", value, why));
        }
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn claims(&self, object: &Value) -> Vec<String> {
        service_claims(object)
    }
}

/// Whether load balancers ask each node whether it has a pod of the service, at a port that the service has for that.
pub fn needs_health_check_port(service: &Value) -> bool {
    value::str_at(service, &["spec", "type"]) == "LoadBalancer"
        && value::str_at(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

/// Who replaces a service does not know its node ports; who changes its type need not take them away.
fn settle_node_ports(new: &mut Value, old: &Value) {
    let identity = |port: &Value| {
        let number = value::int_at(port, &["port"]);
        (number, value::str_at(port, &["protocol"]).to_owned())
    };
    let old_ports = value::list_at(old, &["spec", "ports"]).iter();
    // Of those that are there twice, the first.
    let old_ports: HashMap<_, &Value> = old_ports.rev().map(|old| (identity(old), old)).collect();
    let wants_node_ports = matches!(
        value::str_at(new, &["spec", "type"]),
        "NodePort" | "LoadBalancer"
    );
    for port in value::list_mut(new, &["spec", "ports"]) {
        match old_ports.get(&identity(port)) {
            Some(old) if wants_node_ports => {
                let given = value::at(old, &["nodePort"]);
                if !given.is_null() {
                    value::default(port, &["nodePort"], given.clone());
                }
            }
            Some(old) if value::at(old, &["nodePort"]) == value::at(port, &["nodePort"]) => {
                value::remove(port, &["nodePort"]);
            }
            _ => {}
        }
    }
}

fn check_ports(ports: &[Value], errors: &mut Vec<FieldError>) {
    let mut seen_names = HashSet::new();
    let mut seen = HashSet::new();
    for (at, port) in ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{at}].{name}");
        let name = value::str_at(port, &["name"]);
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(field("name"), ""));
        } else if !name.is_empty() {
            for problem in names::dns_label(name) {
                errors.push(FieldError::invalid(field("name"), name, problem));
            }
            if !seen_names.insert(name) {
                errors.push(FieldError::duplicate(field("name"), name));
            }
        }
        let number = value::int_at(port, &["port"]).unwrap_or(0);
        let mut in_range = |name: &str, number: i64| {
            if !(1..=65_535).contains(&number) {
                let why = "must be between 1 and 65535, inclusive";
                errors.push(FieldError::invalid(field(name), number, why));
            }
        };
        in_range("port", number);
        if let Some(target) = value::int_at(port, &["targetPort"]) {
            in_range("targetPort", target);
        }
        if let Some(target) = value::at(port, &["targetPort"]).as_str() {
            for problem in names::port_name(target) {
                errors.push(FieldError::invalid(field("targetPort"), target, problem));
            }
        }
        let protocol = value::str_at(port, &["protocol"]);
        let protocols = ["SCTP", "TCP", "UDP"];
        if !protocols.contains(&protocol) {
            errors.push(FieldError::not_supported(
                field("protocol"),
                protocol,
                &protocols,
            ));
        }
        if !seen.insert((number, protocol)) {
            let both = json!({"port": number, "protocol": protocol});
            errors.push(FieldError::duplicate(format!("spec.ports[{at}]"), both));
        }
    }
}

/// Each is claimed by the service as a whole, so it may be there only once, and where it is used.
fn check_node_ports(ports: &[Value], kind: &str, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (at, port) in ports.iter().enumerate() {
        let Some(node) = value::int_at(port, &["nodePort"]).filter(|node| *node != 0) else {
            continue;
        };
        let field = format!("spec.ports[{at}].nodePort");
        if kind == "ClusterIP" {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(field.as_str(), why));
        }
        let protocol = value::str_at(port, &["protocol"]);
        if !seen.insert((node, protocol)) {
            errors.push(FieldError::duplicate(field, node));
        }
    }
}

/// It is claimed like the others, and is there where it is used.
fn check_health_check_port(service: &Value, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "spec.healthCheckNodePort";
    let port = value::int_at(service, &["spec", "healthCheckNodePort"]).unwrap_or(0);
    if port == 0 {
        return;
    }
    if !needs_health_check_port(service) {
        let why =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(FIELD, port, why));
    }
    let ports = value::list_at(service, &["spec", "ports"]);
    let is_twice = ports.iter().any(|one| {
        value::int_at(one, &["nodePort"]) == Some(port)
            && value::str_at(one, &["protocol"]) == "TCP"
    });
    if is_twice {
        errors.push(FieldError::duplicate(FIELD, port));
    }
}

/// Who replaces a service does not know its port for health checks either.
fn settle_health_check_port(new: &mut Value, old: &Value) {
    const PATH: [&str; 2] = ["spec", "healthCheckNodePort"];
    let had = value::at(old, &PATH).clone();
    if had.is_null() {
        return;
    }
    if needs_health_check_port(new) {
        value::default(new, &PATH, had);
    } else if *value::at(new, &PATH) == had {
        value::remove(new, &PATH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_for_health_checks_is_there_once_and_where_it_is_used() {
        let service = |kind: &str, port: i64| {
            json!({"spec": {"type": kind, "externalTrafficPolicy": "Local", "healthCheckNodePort": port,
                "ports": [{"nodePort": 30_001, "protocol": "TCP"}]}})
        };
        let faults = |service: &Value| {
            let mut errors = Vec::new();
            check_health_check_port(service, &mut errors);
            errors.len()
        };
        assert_eq!(faults(&service("LoadBalancer", 30_002)), 0);
        assert_eq!(faults(&service("LoadBalancer", 30_001)), 1);
        assert_eq!(faults(&service("NodePort", 30_002)), 1);
        let old = service("LoadBalancer", 30_002);
        let mut new = service("NodePort", 30_002);
        settle_health_check_port(&mut new, &old);
        assert_eq!(faults(&new), 0);
    }

    fn refused(kind: &str, node_ports: &[(i64, &str)]) -> usize {
        let ports: Vec<Value> = node_ports
            .iter()
            .map(|(node, protocol)| json!({"nodePort": node, "protocol": protocol}))
            .collect();
        let mut errors = Vec::new();
        check_node_ports(&ports, kind, &mut errors);
        errors.len()
    }

    #[test]
    fn a_node_port_is_there_once_and_where_it_is_used() {
        let twice = [(30_001, "TCP"), (30_001, "TCP")];
        assert_eq!(refused("NodePort", &twice), 1);
        assert_eq!(refused("NodePort", &[(30_001, "TCP"), (30_001, "UDP")]), 0);
        assert_eq!(refused("NodePort", &[(0, "TCP"), (0, "TCP")]), 0);
        assert_eq!(refused("ClusterIP", &twice[..1]), 1);
    }

    #[test]
    fn a_new_service_does_not_contradict_itself() {
        let refused = |ip: &str, ips: Value| {
            let mut errors = Vec::new();
            let service = json!({"spec": {"clusterIP": ip, "clusterIPs": ips}});
            ServiceRules.validate_new(&service, &mut errors);
            errors.len()
        };
        let (one, other) = ("10.96.0.9", "10.96.0.8");
        for (ip, ips) in [(one, json!([])), (one, json!([one])), ("", json!([one]))] {
            assert_eq!(refused(ip, ips), 0);
        }
        for (ip, ips) in [(one, json!([other])), ("", json!([one, other]))] {
            assert_eq!(refused(ip, ips), 1);
        }
    }

    #[test]
    fn a_service_that_becomes_a_name_gives_its_node_ports_up() {
        let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": 30001}]);
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "ports": ports}});
        let mut new =
            json!({"spec": {"type": "ExternalName", "clusterIP": "10.96.0.9", "ports": ports}});
        ServiceRules.prepare_update(&mut new, &old);
        assert_eq!(
            new["spec"],
            json!({"type": "ExternalName", "ports": [{"port": 80, "protocol": "TCP"}]})
        );
    }

    #[test]
    fn a_replaced_service_keeps_its_address_and_node_ports() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
        let mut new =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
        ServiceRules.prepare_update(&mut new, &old);
        assert_eq!(new, old);
        let mut errors = Vec::new();
        new["spec"]["clusterIP"] = "10.96.0.10".into();
        ServiceRules.validate_update(&new, &old, &mut errors);
        assert_eq!(errors.len(), 1);
    }
}
