//! Endpoints: where a service's pods can be reached.
//!
//! Two forms of the same: slices of at most a hundred endpoints ([`slices`]), and the old single object ([`legacy`]).
//! Both are pure, and say [since when](triggers) what they tell is so; [`run`](run::Endpoints) observes and writes.

mod addresses;
pub mod legacy;
mod run;
pub mod slices;
#[cfg(test)]
mod tests;
mod triggers;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

pub use run::{Endpoints, Form};

/// The label that says that a service has no address of its own.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Whether this service's endpoints are ours to keep: those without a selector are their users'.
pub fn is_ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else {
        return false;
    };
    spec.type_.as_deref() != Some("ExternalName") && !selector(spec).is_empty()
}

/// What a service selects its pods by.
pub fn selector(spec: &ServiceSpec) -> &BTreeMap<String, String> {
    const NONE: &BTreeMap<String, String> = &BTreeMap::new();
    spec.selector.as_ref().unwrap_or(NONE)
}

/// Whether a service selects what has these labels.
pub fn selects(spec: &ServiceSpec, labels: Option<&BTreeMap<String, String>>) -> bool {
    let selector = selector(spec);
    let has = |(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value);
    !selector.is_empty() && selector.iter().all(has)
}

/// Whether a service has no address of its own.
fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}
