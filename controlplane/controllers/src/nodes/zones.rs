//! How fast nodes may be relieved of their pods. Where most of a zone is down, it is rather the network that is.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

/// Rates and bounds; the flags of the node lifecycle controller.
#[derive(Debug, Clone)]
pub struct Rates {
    /// Nodes a second, usually.
    pub normal: f64,
    /// Nodes a second in a large zone of which much is down.
    pub secondary: f64,
    /// Which part of a zone is much.
    pub unhealthy_threshold: f64,
    /// How many nodes are a large zone.
    pub large_zone: usize,
}

/// How it is with a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Nodes fail one by one.
    Normal,
    /// Much of it is down.
    Partial,
    /// All of it is down.
    Full,
}

/// The zone of a node.
pub fn zone_of(node: &Node) -> String {
    let label = |name: &str| {
        node.labels()
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    let region = label("topology.kubernetes.io/region");
    let zone = label("topology.kubernetes.io/zone");
    format!("{region}:\u{0}:{zone}")
}

/// Whether a node says anything of how it is with its zone. One that is marked so comes and goes as it likes.
pub fn counts(node: &Node) -> bool {
    !node
        .labels()
        .contains_key("node.kubernetes.io/exclude-disruption")
}

/// How it is with a zone of so many nodes that are ready, and so many that are not.
pub fn state(ready: usize, not_ready: usize, rates: &Rates) -> Zone {
    let total = ready + not_ready;
    if ready == 0 && not_ready > 0 {
        Zone::Full
    } else if not_ready > 2 && not_ready as f64 / total as f64 >= rates.unhealthy_threshold {
        Zone::Partial
    } else {
        Zone::Normal
    }
}

/// Nodes a second in a zone of so many nodes. A zone that is wholly down, while others are not, is relieved as usual.
pub fn rate(state: Zone, total: usize, rates: &Rates) -> f64 {
    match state {
        Zone::Normal | Zone::Full => rates.normal,
        Zone::Partial if total > rates.large_zone => rates.secondary,
        Zone::Partial => 0.0,
    }
}

/// One node at once, and then so many a second, in each zone.
#[derive(Debug, Default)]
pub struct Limiter {
    zones: HashMap<String, (f64, Duration)>,
}

impl Limiter {
    /// Whether one more may be taken in this zone now.
    pub fn take(&mut self, zone: &str, rate: f64, now: Duration) -> bool {
        let (tokens, since) = self.zones.entry(zone.to_owned()).or_insert((1.0, now));
        let elapsed = now.saturating_sub(*since).as_secs_f64();
        *tokens = (*tokens + elapsed * rate).min(1.0);
        *since = now;
        // A hair less than one counts as one: a tenth, ten times, is not quite one.
        let admitted = rate > 0.0 && *tokens > 1.0 - 1e-6;
        if admitted {
            *tokens -= 1.0;
        }
        admitted
    }
}
