//! The addresses and ports of services: from where they are drawn, and by which keys they are claimed.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::value;

/// What the keys of claimed addresses begin with: Kubernetes keeps its IPAddress objects there.
pub const ADDRESS_CLAIMS: &str = "/registry/ipaddresses/";
/// What the keys of claimed node ports begin with.
pub const NODE_PORT_CLAIMS: &str = "/registry/.keelson/nodeports/";

/// The range from which services get their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterIps {
    base: u32,
    size: u32,
}

impl ClusterIps {
    /// Reads `10.96.0.0/12`.
    pub fn parse(cidr: &str) -> Option<ClusterIps> {
        let (address, bits) = cidr.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok().filter(|bits| (8..=30).contains(bits))?;
        let size = 1_u32 << (32 - bits);
        Some(ClusterIps {
            base: u32::from(address) & !(size - 1),
            size,
        })
    }

    /// The address of the `kubernetes` service: the first.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Whether services may have the address: it lies in the range, and is neither its first nor its last.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        (1..self.size - 1).contains(&offset)
    }

    /// The address that `random` points at, or the next that is not taken. The lower sixteenth of the range (16 to 256
    /// addresses) is left to those who ask for one by name as long as there are others, as in Kubernetes.
    pub fn choose(&self, random: u32, taken: &HashSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let reserved = (self.size / 16).clamp(16, 256).min(self.size / 2);
        let among = |from: u32, to: u32| {
            let (count, begin) = (to - from, random % (to - from));
            (0..count)
                .map(|step| Ipv4Addr::from(self.base + from + (begin + step) % count))
                .find(|address| !taken.contains(address))
        };
        among(reserved, self.size - 1).or_else(|| among(1, reserved))
    }
}

/// The keys that a service holds beside its own: its address, and its node ports.
pub fn service_claims(service: &Value) -> Vec<String> {
    let mut claims = Vec::new();
    // Such a service is only a name, and uses none of what it may be left with.
    if value::str_at(service, &["spec", "type"]) == "ExternalName" {
        return claims;
    }
    let ip = value::str_at(service, &["spec", "clusterIP"]);
    if ip.parse::<Ipv4Addr>().is_ok() {
        claims.push(format!("{ADDRESS_CLAIMS}{ip}"));
    }
    for port in value::list_at(service, &["spec", "ports"]) {
        let protocol = value::str_at(port, &["protocol"]);
        if let Some(node) = value::int_at(port, &["nodePort"]).filter(|port| *port > 0) {
            claims.push(format!("{NODE_PORT_CLAIMS}{node}-{protocol}"));
        }
    }
    if let Some(port) = value::int_at(service, &["spec", "healthCheckNodePort"]).filter(|p| *p > 0)
    {
        claims.push(format!("{NODE_PORT_CLAIMS}{port}-TCP"));
    }
    claims
}

impl std::fmt::Display for ClusterIps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{}",
            Ipv4Addr::from(self.base),
            32 - self.size.trailing_zeros()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_picked_inside_the_range_and_above_what_is_reserved() {
        let ips = ClusterIps::parse("10.96.0.0/24").unwrap();
        assert_eq!(ips.first(), Ipv4Addr::new(10, 96, 0, 1));
        let mut taken = HashSet::new();
        for random in (1..=239).rev() {
            let ip = ips.choose(random * 7, &taken).unwrap();
            assert!(ips.holds(ip) && ip.octets()[3] >= 16, "{ip}");
            assert!(taken.insert(ip), "{ip} is drawn twice");
        }
        // Only when nothing else is left.
        for _ in 1..16 {
            let ip = ips.choose(5, &taken).unwrap();
            assert!(ips.holds(ip) && ip.octets()[3] < 16, "{ip}");
            taken.insert(ip);
        }
        assert_eq!(ips.choose(5, &taken), None);
        assert!(!ips.holds(Ipv4Addr::new(10, 96, 0, 0)));
        assert!(!ips.holds(Ipv4Addr::new(10, 96, 0, 255)));
        assert!(!ips.holds(Ipv4Addr::new(10, 96, 1, 1)));
        assert!(ClusterIps::parse("10.96.0.0").is_none());
    }

    #[test]
    fn a_service_claims_its_address_and_node_ports() {
        let service = json!({"spec": {"clusterIP": "10.96.0.9", "ports": [{"protocol": "TCP", "nodePort": 30001}]}});
        assert_eq!(
            service_claims(&service),
            [
                "/registry/ipaddresses/10.96.0.9",
                "/registry/.keelson/nodeports/30001-TCP"
            ]
        );
        assert!(service_claims(&json!({"spec": {"clusterIP": "None"}})).is_empty());
        let mut name = service;
        name["spec"]["type"] = "ExternalName".into();
        assert!(service_claims(&name).is_empty());
    }
}
