//! Cluster IPs and node ports of services.
//!
//! Each is a claim (see [`crate::storage`]): drawn at random here, settled by the store in the service's own
//! transaction, and drawn anew among what is free if somebody else has it.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use rand::Rng;
use serde_json::{Value, json};

use crate::clock;
use crate::resources::{ADDRESS_CLAIMS, NODE_PORT_CLAIMS, Resource, needs_health_check_port};
use crate::rest::{Api, ApiOptions};
use crate::status::{ApiError, ApiResult, FieldError};
use crate::storage::Claim;
use crate::value;

/// Beside the object itself, and the namespace that it is made in.
const CLAIMS_MAX: usize = 126;

fn is_service(resource: &Resource) -> bool {
    resource.storage == "services/specs"
}

/// What others have claimed, as far as it is known: at first nothing is, and a draw is blind, which nearly always does.
#[derive(Debug, Default)]
pub struct Taken {
    addresses: HashSet<Ipv4Addr>,
    /// With their protocols.
    node_ports: HashSet<(i64, String)>,
}

impl Taken {
    /// All that is claimed now.
    pub async fn look(api: &Api) -> ApiResult<Taken> {
        let addresses = api.store.keys(ADDRESS_CLAIMS).await?;
        let node_ports = api.store.keys(NODE_PORT_CLAIMS).await?;
        Ok(Taken {
            addresses: addresses.iter().filter_map(|key| address(key)).collect(),
            node_ports: node_ports.iter().filter_map(|key| node_port(key)).collect(),
        })
    }
}

/// The address that is claimed by a key.
fn address(key: &str) -> Option<Ipv4Addr> {
    key.strip_prefix(ADDRESS_CLAIMS)?.parse().ok()
}

/// The node port that is claimed by a key, and its protocol.
fn node_port(key: &str) -> Option<(i64, String)> {
    let (port, protocol) = key.strip_prefix(NODE_PORT_CLAIMS)?.split_once('-')?;
    Some((port.parse().ok()?, protocol.to_owned()))
}

/// Gives a new service what it needs, and says which claims that takes.
pub fn claims_of_new(
    api: &Api,
    resource: &Resource,
    object: &mut Value,
    taken: &Taken,
) -> ApiResult<Vec<Claim>> {
    if is_service(resource) {
        allocate(&api.options, object, &[], taken)?;
    }
    let claims = claims(resource, object, &[]);
    check_count(object, claims.len())?;
    Ok(claims)
}

/// Gives a changed service what it needs; and says which claims that takes, and which are given up.
pub fn claims_of_change(
    api: &Api,
    resource: &Resource,
    old: &Value,
    new: &mut Value,
    taken: &Taken,
) -> ApiResult<(Vec<Claim>, Vec<String>)> {
    let held = resource.rules.claims(old);
    if is_service(resource) {
        allocate(&api.options, new, &held, taken)?;
    }
    let needed = resource.rules.claims(new);
    let released: Vec<String> = held
        .iter()
        .filter(|key| !needed.contains(key))
        .cloned()
        .collect();
    let claims = claims(resource, new, &held);
    check_count(new, claims.len() + released.len())?;
    Ok((claims, released))
}

/// Refuses what the store would: a transaction of etcd's has no more than 128 operations.
fn check_count(service: &Value, claims: usize) -> ApiResult<()> {
    if claims <= CLAIMS_MAX {
        return Ok(());
    }
    let why = format!(
        "takes or gives up {claims} node ports and addresses at once, of at most {CLAIMS_MAX}"
    );
    let ports = value::list_at(service, &["spec", "ports"]).len();
    Err(invalid(
        service,
        FieldError::invalid("spec.ports", ports, why),
    ))
}

fn claims(resource: &Resource, object: &Value, held: &[String]) -> Vec<Claim> {
    let needed = resource.rules.claims(object).into_iter();
    needed
        .filter(|key| !held.contains(key))
        .map(|key| {
            let value = claim_value(object, &key);
            Claim { key, value }
        })
        .collect()
}

/// An address is claimed as Kubernetes does it, by an IPAddress object; a port by whoever has it.
fn claim_value(service: &Value, key: &str) -> Vec<u8> {
    let holder = json!({
        "group": "",
        "resource": "services",
        "namespace": value::namespace(service),
        "name": value::name(service),
    });
    let object = match address(key) {
        None => holder,
        Some(address) => json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress",
            "metadata": {
                "name": address.to_string(),
                "uid": crate::rest::new_uid(),
                "creationTimestamp": clock::now_rfc3339(),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": "IPv4",
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": {"parentRef": holder},
        }),
    };
    object.to_string().into_bytes()
}

fn invalid(service: &Value, error: FieldError) -> ApiError {
    ApiError::invalid("", "Service", value::name(service), &[error])
}

/// The address that a service asks for, in the one field or the other.
fn asked_ip(service: &Value) -> &str {
    match value::str_at(service, &["spec", "clusterIP"]) {
        "" => value::list_at(service, &["spec", "clusterIPs"])
            .first()
            .and_then(Value::as_str)
            .unwrap_or(""),
        ip => ip,
    }
}

/// What a service asks for that it does not hold already.
fn asked_claims(resource: &Resource, service: &Value, held: &[String]) -> Vec<String> {
    let mut asked = service.clone();
    value::set(&mut asked, &["spec", "clusterIP"], asked_ip(service));
    let mut claims = resource.rules.claims(&asked);
    claims.retain(|key| !held.contains(key));
    claims
}

/// Sets addresses and ports that are not set, and refuses those that cannot be. What the service has `held` before it
/// keeps, though the ranges may be others today.
fn allocate(
    options: &ApiOptions,
    service: &mut Value,
    held: &[String],
    taken: &Taken,
) -> ApiResult<()> {
    let kind = value::str_at(service, &["spec", "type"]).to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    let ips = options.cluster_ips;
    let asked = asked_ip(service).to_owned();
    let ip = match asked.as_str() {
        "" => ips
            .choose(rand::rng().random(), &taken.addresses)
            .ok_or_else(|| ApiError::internal("failed to allocate a serviceIP: range is full"))?
            .to_string(),
        "None" => asked,
        asked => {
            let refused = |why: String| {
                let why = format!("failed to allocate IP {asked}: {why}");
                invalid(
                    service,
                    FieldError::invalid("spec.clusterIPs", json!([asked]), why),
                )
            };
            match asked.parse::<Ipv4Addr>() {
                Ok(ip) if ips.holds(ip) || held.contains(&format!("{ADDRESS_CLAIMS}{ip}")) => {}
                Ok(_) => {
                    return Err(refused(format!(
                        "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {ips}"
                    )));
                }
                Err(_) => {
                    let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                    let error = FieldError::invalid("spec.clusterIPs[0]", asked, why);
                    return Err(invalid(service, error));
                }
            }
            asked.to_owned()
        }
    };
    value::set(service, &["spec", "clusterIP"], ip.as_str());
    value::set(service, &["spec", "clusterIPs"], json!([ip]));
    value::default(service, &["spec", "ipFamilies"], json!(["IPv4"]));
    value::default(service, &["spec", "ipFamilyPolicy"], "SingleStack");
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        node_ports(&options.node_ports, service, held, taken)?;
    }
    Ok(())
}

fn node_ports(
    range: &RangeInclusive<u16>,
    service: &mut Value,
    held: &[String],
    taken: &Taken,
) -> ApiResult<()> {
    let name = value::name(service).to_owned();
    let refused = |error| ApiError::invalid("", "Service", &name, &[error]);
    let mut own = HashSet::new();
    for (field, port, protocol) in node_ports_of(service) {
        let is_held = || held.contains(&format!("{NODE_PORT_CLAIMS}{port}-{protocol}"));
        if !u16::try_from(port).is_ok_and(|port| range.contains(&port)) && !is_held() {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            );
            return Err(refused(FieldError::invalid(field, port, why)));
        }
        own.insert(port);
    }
    let mut draw = |protocol: &str, what: &str| {
        let is_free = |port: i64| {
            !own.contains(&port) && !taken.node_ports.contains(&(port, protocol.to_owned()))
        };
        let drawn = choose_port(range, rand::rng().random(), is_free).ok_or_else(|| {
            ApiError::internal(format!("failed to allocate a {what}: range is full"))
        })?;
        own.insert(drawn);
        Ok::<i64, ApiError>(drawn)
    };
    let draws = value::str_at(service, &["spec", "type"]) == "NodePort"
        || *value::at(service, &["spec", "allocateLoadBalancerNodePorts"]) != false;
    for port in value::list_mut(service, &["spec", "ports"]) {
        if draws && value::int_at(port, &["nodePort"]).unwrap_or(0) == 0 {
            let drawn = draw(value::str_at(port, &["protocol"]), "nodePort")?;
            value::set(port, &["nodePort"], drawn);
        }
    }
    let health = ["spec", "healthCheckNodePort"];
    if needs_health_check_port(service) && value::int_at(service, &health).unwrap_or(0) == 0 {
        let drawn = draw("TCP", "HealthCheck NodePort")?;
        value::set(service, &health, drawn);
    }
    Ok(())
}

/// The port that `random` points at, or the next that is free.
fn choose_port(
    range: &RangeInclusive<u16>,
    random: u32,
    is_free: impl Fn(i64) -> bool,
) -> Option<i64> {
    let first = i64::from(*range.start());
    let count = i64::from(*range.end()) - first + 1;
    let begin = i64::from(random) % count;
    (0..count)
        .map(|step| first + (begin + step) % count)
        .find(|port| is_free(*port))
}

/// The node ports that a service has or asks for: in which field, and with which protocol.
fn node_ports_of(service: &Value) -> Vec<(String, i64, String)> {
    let ports = value::list_at(service, &["spec", "ports"])
        .iter()
        .enumerate();
    let mut all: Vec<(String, i64, String)> = ports
        .filter_map(|(at, port)| {
            let number = value::int_at(port, &["nodePort"])?;
            let protocol = value::str_at(port, &["protocol"]).to_owned();
            Some((format!("spec.ports[{at}].nodePort"), number, protocol))
        })
        .collect();
    let health = value::int_at(service, &["spec", "healthCheckNodePort"]);
    all.extend(health.map(|port| {
        (
            "spec.healthCheckNodePort".to_owned(),
            port,
            "TCP".to_owned(),
        )
    }));
    all.retain(|(_, port, _)| *port != 0);
    all
}

/// Says so if an address or port that the caller himself asked for is taken by another than who has `held`; nothing if
/// another draw may do.
pub async fn check_asked_claims(
    api: &Api,
    resource: &Resource,
    object: &Value,
    held: &[String],
) -> ApiResult<()> {
    for key in asked_claims(resource, object, held) {
        if api.store.get(&key).await?.is_some() {
            return Err(invalid(object, already_allocated(object, &key)));
        }
    }
    Ok(())
}

/// What is said of a claim that another has.
fn already_allocated(service: &Value, key: &str) -> FieldError {
    if let Some(ip) = address(key) {
        let why = format!("failed to allocate IP {ip}: provided IP is already allocated");
        return FieldError::invalid("spec.clusterIPs", json!([ip.to_string()]), why);
    }
    let (port, protocol) = node_port(key).unwrap_or_default();
    let field = node_ports_of(service)
        .into_iter()
        .find(|(_, one, of)| *one == port && *of == protocol)
        .map_or_else(|| "spec.ports".to_owned(), |(field, ..)| field);
    FieldError::invalid(field, port, "provided port is already allocated")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{self, ClusterIps};
    use std::time::Duration;

    fn options() -> ApiOptions {
        ApiOptions {
            cluster_ips: ClusterIps::parse("10.96.0.0/28").unwrap(),
            node_ports: 30_000..=30_003,
            event_ttl: Duration::from_secs(3_600),
            watch_at_least: Duration::from_secs(1),
            service_accounts: false,
        }
    }

    fn service(kind: &str, ports: usize) -> Value {
        let ports: Vec<Value> = (0..ports)
            .map(|number| json!({"port": 80 + number, "protocol": "TCP"}))
            .collect();
        json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": ports}})
    }

    fn all_but(free: &[i64]) -> Taken {
        Taken {
            node_ports: (30_000..=30_003)
                .filter(|port| !free.contains(port))
                .map(|port| (port, "TCP".to_owned()))
                .collect(),
            ..Taken::default()
        }
    }

    #[test]
    fn an_address_is_asked_for_in_either_field() {
        let asked = |service| asked_claims(resources::services(), &service, &[]);
        let claims = asked(json!({"spec": {"clusterIPs": ["10.96.0.9"]}}));
        assert_eq!(claims, ["/registry/ipaddresses/10.96.0.9"]);
        assert_eq!(asked(json!({"spec": {"clusterIP": "10.96.0.9"}})), claims);
    }

    #[test]
    fn what_a_service_holds_already_is_not_asked_for() {
        let services = resources::services();
        let old = json!({"spec": {"clusterIP": "10.96.0.9"}});
        let mut new = old.clone();
        new["spec"]["ports"] = json!([{"port": 80, "protocol": "TCP", "nodePort": 30001}]);
        let asked = asked_claims(services, &new, &services.rules.claims(&old));
        assert_eq!(asked, ["/registry/.keelson/nodeports/30001-TCP"]);
    }

    #[test]
    fn the_last_free_address_and_port_are_found_at_once() {
        let (options, mut service) = (options(), service("NodePort", 1));
        let mut taken = all_but(&[30_002]);
        taken.addresses = (1..=14)
            .map(|last| Ipv4Addr::new(10, 96, 0, last))
            .collect();
        taken.addresses.remove(&Ipv4Addr::new(10, 96, 0, 3));
        allocate(&options, &mut service, &[], &taken).unwrap();
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.3");
        assert_eq!(service["spec"]["ports"][0]["nodePort"], 30_002);
    }

    #[test]
    fn a_full_range_is_said_to_be_full() {
        let options = options();
        let addresses = (1..=14).map(|last| Ipv4Addr::new(10, 96, 0, last));
        let taken = Taken {
            addresses: addresses.collect(),
            ..Taken::default()
        };
        let error = allocate(&options, &mut service("ClusterIP", 1), &[], &taken).unwrap_err();
        let full = "Internal error occurred: failed to allocate a serviceIP: range is full";
        assert_eq!((error.code(), error.message()), (500, full));
        let taken = all_but(&[30_001]);
        let error = allocate(&options, &mut service("NodePort", 2), &[], &taken).unwrap_err();
        let full = "Internal error occurred: failed to allocate a nodePort: range is full";
        assert_eq!((error.code(), error.message()), (500, full));
    }

    #[test]
    fn a_health_check_has_a_port_of_its_own() {
        let mut service = service("LoadBalancer", 1);
        service["spec"]["externalTrafficPolicy"] = "Local".into();
        service["spec"]["ports"][0]["nodePort"] = 30_000.into();
        allocate(&options(), &mut service, &[], &all_but(&[30_000, 30_003])).unwrap();
        assert_eq!(service["spec"]["healthCheckNodePort"], 30_003);
    }

    #[test]
    fn what_a_service_has_is_not_judged_by_ranges_that_came_later() {
        let mut old = service("NodePort", 1);
        old["spec"]["clusterIP"] = "10.0.0.9".into();
        old["spec"]["ports"][0]["nodePort"] = 20_000.into();
        let held = resources::services().rules.claims(&old);
        let mut new = old.clone();
        allocate(&options(), &mut new, &held, &Taken::default()).unwrap();
        assert_eq!(new["spec"]["clusterIP"], "10.0.0.9");
        assert_eq!(new["spec"]["ports"], old["spec"]["ports"]);
        for (path, other) in [
            ("/spec/clusterIP", json!("10.0.0.8")),
            ("/spec/ports/0/nodePort", json!(20_001)),
        ] {
            let mut new = old.clone();
            *new.pointer_mut(path).unwrap() = other;
            let refused = allocate(&options(), &mut new, &held, &Taken::default());
            assert_eq!(refused.unwrap_err().code(), 422, "{path}");
        }
    }

    #[test]
    fn a_load_balancer_that_wants_no_node_ports_is_given_none() {
        let mut service = service("LoadBalancer", 1);
        service["spec"]["allocateLoadBalancerNodePorts"] = false.into();
        allocate(&options(), &mut service, &[], &Taken::default()).unwrap();
        assert_eq!(service["spec"]["ports"][0].get("nodePort"), None);
    }

    #[test]
    fn more_claims_than_the_store_takes_at_once_are_refused() {
        let ports = service("NodePort", 200);
        assert!(check_count(&ports, CLAIMS_MAX).is_ok());
        let refused = check_count(&ports, CLAIMS_MAX + 1).unwrap_err();
        assert_eq!(refused.code(), 422);
    }

    #[test]
    fn what_another_has_is_named_with_its_field() {
        let service = json!({"spec": {"healthCheckNodePort": 30_001, "ports": [{"nodePort": 30_000, "protocol": "UDP"}]}});
        let said = |key: &str| already_allocated(&service, key).to_string();
        assert_eq!(
            said("/registry/.keelson/nodeports/30001-TCP"),
            "spec.healthCheckNodePort: Invalid value: 30001: provided port is already allocated"
        );
        assert_eq!(
            said("/registry/.keelson/nodeports/30000-UDP"),
            "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
        );
    }
}
