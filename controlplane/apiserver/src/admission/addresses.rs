//! Cluster IPs and node ports of services.
//!
//! Each is a claim (see [`crate::storage`]): drawn at random here, settled by the store in the service's own
//! transaction, and drawn anew if somebody else has it.

use std::net::Ipv4Addr;

use rand::Rng;
use serde_json::{Value, json};

use crate::clock;
use crate::resources::{Resource, service_claims};
use crate::rest::Api;
use crate::status::{ApiError, ApiResult, FieldError};
use crate::storage::Claim;
use crate::value;

fn is_service(resource: &Resource) -> bool {
    resource.storage == "services/specs"
}

/// Gives a new service what it needs, and says which claims that takes.
pub fn claims_of_new(api: &Api, resource: &Resource, object: &mut Value) -> ApiResult<Vec<Claim>> {
    if !is_service(resource) {
        return Ok(Vec::new());
    }
    allocate(api, object)?;
    Ok(claims(object, &[]))
}

/// Gives a changed service what it needs; and says which claims that takes, and which are given up.
pub fn claims_of_change(
    api: &Api,
    resource: &Resource,
    old: &Value,
    new: &mut Value,
) -> ApiResult<(Vec<Claim>, Vec<String>)> {
    if !is_service(resource) {
        return Ok((Vec::new(), Vec::new()));
    }
    allocate(api, new)?;
    let (held, needed) = (service_claims(old), service_claims(new));
    let released = held
        .iter()
        .filter(|key| !needed.contains(key))
        .cloned()
        .collect();
    Ok((claims(new, &held), released))
}

/// What a service holds, to be given up with it.
pub fn claims_held(resource: &Resource, object: &Value) -> Vec<String> {
    match is_service(resource) {
        true => service_claims(object),
        false => Vec::new(),
    }
}

fn claims(service: &Value, held: &[String]) -> Vec<Claim> {
    service_claims(service)
        .into_iter()
        .filter(|key| !held.contains(key))
        .map(|key| {
            let value = claim_value(service, &key);
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
    let last = key.rsplit('/').next().unwrap_or(key);
    let object = match key.contains("/ipaddresses/") {
        false => holder,
        true => json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress",
            "metadata": {
                "name": last,
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
fn asked_claims(service: &Value, held: &[String]) -> Vec<String> {
    let mut asked = service.clone();
    value::set(&mut asked, &["spec", "clusterIP"], asked_ip(service));
    let mut claims = service_claims(&asked);
    claims.retain(|key| !held.contains(key));
    claims
}

/// Sets addresses and ports that are not set, and refuses those that cannot be.
fn allocate(api: &Api, service: &mut Value) -> ApiResult<()> {
    let kind = value::str_at(service, &["spec", "type"]).to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    let ips = api.options.cluster_ips;
    let asked = asked_ip(service).to_owned();
    let ip = match asked.as_str() {
        "" => ips.pick(rand::rng().random()).to_string(),
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
                Ok(ip) if ips.holds(ip) => {}
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
        node_ports(api, service)?;
    }
    Ok(())
}

fn node_ports(api: &Api, service: &mut Value) -> ApiResult<()> {
    let range = &api.options.node_ports;
    let name = value::name(service).to_owned();
    let mut taken: Vec<i64> = value::list_at(service, &["spec", "ports"])
        .iter()
        .filter_map(|port| value::int_at(port, &["nodePort"]))
        .collect();
    let ports = value::list_mut(service, &["spec", "ports"]);
    for (at, port) in ports.iter_mut().enumerate() {
        match value::int_at(port, &["nodePort"]).filter(|port| *port > 0) {
            Some(asked) => {
                let fits = u16::try_from(asked).is_ok_and(|port| range.contains(&port));
                if !fits {
                    let why = format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        range.start(),
                        range.end()
                    );
                    let field = format!("spec.ports[{at}].nodePort");
                    let error = FieldError::invalid(field, asked, why);
                    return Err(ApiError::invalid("", "Service", &name, &[error]));
                }
            }
            None => {
                let drawn = (0..64)
                    .map(|_| i64::from(rand::rng().random_range(range.clone())))
                    .find(|port| !taken.contains(port));
                let drawn = drawn.ok_or_else(|| ApiError::internal("range is full"))?;
                taken.push(drawn);
                value::set(port, &["nodePort"], drawn);
            }
        }
    }
    Ok(())
}

/// Says so if an address or port that the caller himself asked for is taken by another than who has `held`; nothing if
/// another draw may do.
pub async fn check_asked_claims(
    api: &Api,
    resource: &Resource,
    object: &Value,
    held: &[String],
) -> ApiResult<()> {
    if !is_service(resource) {
        return Ok(());
    }
    for key in asked_claims(object, held) {
        if api.store.get(&key).await?.is_none() {
            continue;
        }
        let last = key.rsplit('/').next().unwrap_or(&key).to_owned();
        let error = match key.contains("/ipaddresses/") {
            true => FieldError::invalid(
                "spec.clusterIPs",
                json!([last]),
                format!("failed to allocate IP {last}: provided IP is already allocated"),
            ),
            false => {
                let port: i64 = last
                    .split('-')
                    .next()
                    .and_then(|port| port.parse().ok())
                    .unwrap_or(0);
                let ports = value::list_at(object, &["spec", "ports"]);
                let at = ports
                    .iter()
                    .position(|one| value::int_at(one, &["nodePort"]) == Some(port))
                    .unwrap_or(0);
                FieldError::invalid(
                    format!("spec.ports[{at}].nodePort"),
                    port,
                    "provided port is already allocated",
                )
            }
        };
        return Err(invalid(object, error));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_in_either_field() {
        let service = json!({"spec": {"clusterIPs": ["10.96.0.9"]}});
        let claims = asked_claims(&service, &[]);
        assert_eq!(claims, ["/registry/ipaddresses/10.96.0.9"]);
        let other = json!({"spec": {"clusterIP": "10.96.0.9"}});
        assert_eq!(asked_claims(&other, &[]), claims);
    }

    #[test]
    fn what_a_service_holds_already_is_not_asked_for() {
        let old = json!({"spec": {"clusterIP": "10.96.0.9"}});
        let mut new = old.clone();
        new["spec"]["ports"] = json!([{"port": 80, "protocol": "TCP", "nodePort": 30001}]);
        let asked = asked_claims(&new, &service_claims(&old));
        assert_eq!(asked, ["/registry/.keelson/nodeports/30001-TCP"]);
    }
}
