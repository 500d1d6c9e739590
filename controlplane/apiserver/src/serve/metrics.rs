//! Metrics, under the names that Kubernetes' dashboards know.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::route::Target;
use crate::rest::Api;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of a request's duration, in seconds: Kubernetes' own, thinned out.
const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 5.0, 30.0,
];

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Coded {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResource {
    group: String,
    resource: String,
}

impl Labels {
    /// Of a request. What is no resource of the table is not told apart, so that nobody fills the memory with names.
    pub fn of(method: &str, target: Option<&Target>, watches: bool) -> Labels {
        let known = target.and_then(|target| Some((target, target.find()?.0)));
        match known {
            Some((target, resource)) => Labels {
                verb: target.verb(method, watches).to_uppercase(),
                group: resource.group.to_owned(),
                resource: resource.plural.to_owned(),
                subresource: target.subresource.clone(),
            },
            None => Labels {
                verb: match method {
                    "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" => method.to_owned(),
                    _ => "OTHER".to_owned(),
                },
                group: String::new(),
                resource: String::new(),
                subresource: String::new(),
            },
        }
    }
}

/// The server's counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<Coded, Counter>,
    durations: Family<Labels, Histogram>,
    objects: Family<OfResource, Gauge>,
    watchers: Family<OfResource, Gauge>,
    memory: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let requests = Family::default();
        let durations =
            Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        let (objects, watchers) = (Family::default(), Family::default());
        let memory = Gauge::default();
        let mut registry = Registry::default();
        registry.register(
            "apiserver_request",
            "Requests by verb, resource and code",
            requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "How long requests took until their response began",
            durations.clone(),
        );
        registry.register(
            "apiserver_resource_objects",
            "Objects in the watch cache, by resource",
            objects.clone(),
        );
        registry.register(
            "apiserver_registered_watchers",
            "Watches, by resource",
            watchers.clone(),
        );
        registry.register(
            "process_resident_memory_bytes",
            "Resident memory size in bytes",
            memory.clone(),
        );
        Metrics {
            registry,
            requests,
            durations,
            objects,
            watchers,
            memory,
        }
    }
}

impl Metrics {
    /// Counts a request.
    pub fn observe(&self, labels: Labels, status: StatusCode, took: Duration) {
        let coded = Coded {
            verb: labels.verb.clone(),
            group: labels.group.clone(),
            resource: labels.resource.clone(),
            subresource: labels.subresource.clone(),
            code: status.as_u16(),
        };
        self.requests.get_or_create(&coded).inc();
        // A watch begins at once and lasts for long: neither says anything.
        if labels.verb != "WATCH" {
            self.durations
                .get_or_create(&labels)
                .observe(took.as_secs_f64());
        }
    }

    /// All of them as text.
    pub fn text(&self, api: &Api) -> String {
        for cache in api.caches.all() {
            let labels = OfResource {
                group: cache.resource.group.to_owned(),
                resource: cache.resource.plural.to_owned(),
            };
            self.objects.get_or_create(&labels).set(cache.len() as i64);
            self.watchers
                .get_or_create(&labels)
                .set(cache.watchers() as i64);
        }
        if let Some(bytes) = resident_bytes() {
            self.memory.set(bytes);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The process' resident memory, where the system tells it.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1_024)
}
