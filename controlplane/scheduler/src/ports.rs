//! Ports that pods take on their node itself.

use k8s_openapi::api::core::v1::PodSpec;

/// Stands for every address.
const ANY: &str = "0.0.0.0";

/// A port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    address: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// All that a pod takes, its sidecars' too.
    pub fn all_of(spec: &PodSpec) -> Vec<HostPort> {
        let sidecars = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let ports = spec
            .containers
            .iter()
            .chain(sidecars)
            .flat_map(|container| container.ports.iter().flatten());
        ports
            .filter_map(|port| {
                let number = port.host_port.filter(|number| *number > 0)?;
                let text = |value: &Option<String>, default: &str| {
                    let given = value.as_deref().filter(|value| !value.is_empty());
                    given.unwrap_or(default).to_owned()
                };
                Some(HostPort {
                    address: text(&port.host_ip, ANY),
                    protocol: text(&port.protocol, "TCP"),
                    port: number,
                })
            })
            .collect()
    }

    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let meet = self.address == other.address || self.address == ANY || other.address == ANY;
        self.port == other.port && self.protocol == other.protocol && meet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ports(ports: serde_json::Value) -> Vec<HostPort> {
        let spec = json!({"containers": [{"name": "a", "ports": ports}]});
        HostPort::all_of(&serde_json::from_value(spec).unwrap())
    }

    fn conflict(one: serde_json::Value, other: serde_json::Value) -> bool {
        ports(json!([one]))[0].conflicts(&ports(json!([other]))[0])
    }

    #[test]
    fn only_ports_of_the_host_count() {
        assert_eq!(ports(json!([{"containerPort": 80}])), []);
        assert_eq!(
            ports(json!([{"containerPort": 80, "hostPort": 80}])).len(),
            1
        );
    }

    #[test]
    fn a_port_conflicts_by_number_protocol_and_address() {
        let port = |port: i32| json!({"containerPort": 1, "hostPort": port});
        let with = |mut port: serde_json::Value, name: &str, value: &str| {
            port[name] = value.into();
            port
        };
        assert!(conflict(port(80), port(80)));
        assert!(!conflict(port(80), port(81)));
        assert!(!conflict(port(80), with(port(80), "protocol", "UDP")));
        let here = with(port(80), "hostIP", "127.0.0.1");
        let there = with(port(80), "hostIP", "127.0.0.2");
        assert!(conflict(here.clone(), port(80)));
        assert!(!conflict(here, there));
    }
}
