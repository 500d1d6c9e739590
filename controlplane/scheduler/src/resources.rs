//! Amounts of what a node has and a pod asks for, in whole numbers, so that hundreds of nodes are compared in
//! microseconds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use keelson_notation::quantity;

/// What a container without a request is taken to use when nodes are *compared*: 100 millicores.
const ASSUMED_CPU_MILLI: i64 = 100;
/// The same of memory: 200 MB, as Kubernetes has it.
const ASSUMED_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of `ephemeral-storage`.
    pub ephemeral: i64,
    /// Everything else, by name, in its own unit.
    pub extended: BTreeMap<String, i64>,
}

/// A quantity in whole units, rounded up, as Kubernetes rounds requests. What is not a quantity counts as nothing: the API
/// server has refused it long before.
pub fn units(quantity: &Quantity) -> i64 {
    bounded(quantity::Quantity::parse(&quantity.0).map_or(0, |quantity| quantity.units()))
}

/// The same in thousandths.
fn millis(quantity: &Quantity) -> i64 {
    bounded(quantity::Quantity::parse(&quantity.0).map_or(0, |quantity| quantity.millis()))
}

fn bounded(amount: i128) -> i64 {
    let bounds = (i128::from(i64::MIN), i128::from(i64::MAX));
    amount.clamp(bounds.0, bounds.1) as i64
}

/// The amounts by name, as objects carry them.
pub type Quantities = BTreeMap<String, Quantity>;

impl Resources {
    /// Reads amounts.
    pub fn from_quantities(quantities: Option<&Quantities>) -> Resources {
        let mut read = Resources::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            match name.as_str() {
                "cpu" => read.cpu_milli = millis(quantity),
                "memory" => read.memory = units(quantity),
                "ephemeral-storage" => read.ephemeral = units(quantity),
                // Its own count, of the pods on a node.
                "pods" => {}
                _ => {
                    read.extended.insert(name.clone(), units(quantity));
                }
            }
        }
        read
    }

    /// Adds amounts.
    pub fn add(&mut self, other: &Resources) {
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral = self.ephemeral.saturating_add(other.ephemeral);
        for (name, more) in &other.extended {
            let has = self.extended.entry(name.clone()).or_default();
            *has = has.saturating_add(*more);
        }
    }

    /// Takes amounts away that were added before.
    pub fn subtract(&mut self, other: &Resources) {
        self.cpu_milli -= other.cpu_milli;
        self.memory -= other.memory;
        self.ephemeral -= other.ephemeral;
        for (name, less) in &other.extended {
            if let Some(has) = self.extended.get_mut(name) {
                *has -= less;
            }
        }
    }

    /// The larger of both, resource by resource.
    fn raise_to(&mut self, other: &Resources) {
        self.cpu_milli = self.cpu_milli.max(other.cpu_milli);
        self.memory = self.memory.max(other.memory);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
        for (name, amount) in &other.extended {
            let has = self.extended.entry(name.clone()).or_default();
            *has = (*has).max(*amount);
        }
    }
}

/// What a pod asks for: the sum of its containers, or the most that its init containers need at any time, and the
/// overhead of running it. Requests of the pod as a whole take the place of its containers' for what they name.
pub fn requests(spec: &PodSpec) -> Resources {
    requests_by(spec, |container| {
        Resources::from_quantities(
            container
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref()),
        )
    })
}

/// What a pod is taken to use when nodes are compared: as [`requests`], and a little for a container that asks for
/// nothing, so that a hundred such pods do not all go to one node.
pub fn assumed_use(spec: &PodSpec) -> Resources {
    requests_by(spec, |container| {
        let asked = container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        let mut uses = Resources::from_quantities(asked);
        let asks = |name| asked.is_some_and(|asked| asked.contains_key(name));
        if !asks("cpu") {
            uses.cpu_milli = ASSUMED_CPU_MILLI;
        }
        if !asks("memory") {
            uses.memory = ASSUMED_MEMORY_BYTES;
        }
        uses
    })
}

fn requests_by(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    // Init containers run one after the other, each beside the sidecars that were started before it.
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&of(container));
            starting.raise_to(&sidecars);
        } else {
            let mut now = of(container);
            now.add(&sidecars);
            starting.raise_to(&now);
        }
    }
    running.add(&sidecars);
    running.raise_to(&starting);

    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    if let Some(whole) = whole {
        let asked = Resources::from_quantities(Some(whole));
        if whole.contains_key("cpu") {
            running.cpu_milli = asked.cpu_milli;
        }
        if whole.contains_key("memory") {
            running.memory = asked.memory;
        }
    }
    running.add(&Resources::from_quantities(spec.overhead.as_ref()));
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    fn asks(cpu: &str, memory: &str) -> serde_json::Value {
        json!({"requests": {"cpu": cpu, "memory": memory}})
    }

    #[test]
    fn amounts_are_rounded_up_and_bounded_and_what_is_none_is_nothing() {
        let amounts = [
            ("250m", 250, 1),
            ("0.0001", 1, 1),
            ("1.5Gi", 1500 << 30, 3 << 29),
            ("-2k", -2_000_000, -2000),
            ("9Ei", i64::MAX, i64::MAX),
            ("1 Gi", 0, 0),
        ];
        for (text, in_millis, in_units) in amounts {
            let quantity = Quantity(text.into());
            assert_eq!(
                (millis(&quantity), units(&quantity)),
                (in_millis, in_units),
                "{text}"
            );
        }
    }

    #[test]
    fn a_pod_asks_for_the_sum_of_its_containers() {
        let spec = spec(json!({"containers": [
            {"name": "a", "resources": asks("100m", "1Ki")},
            {"name": "b", "resources": asks("200m", "2Ki")},
        ]}));
        let requests = requests(&spec);
        assert_eq!((requests.cpu_milli, requests.memory), (300, 3072));
    }

    #[test]
    fn an_init_container_counts_where_it_needs_more_than_all_others_together() {
        let spec = spec(json!({
            "initContainers": [{"name": "i", "resources": asks("1", "1Ki")}],
            "containers": [
                {"name": "a", "resources": asks("100m", "2Ki")},
                {"name": "b", "resources": asks("200m", "2Ki")},
            ],
        }));
        let requests = requests(&spec);
        assert_eq!((requests.cpu_milli, requests.memory), (1000, 4096));
    }

    #[test]
    fn a_sidecar_runs_beside_the_init_containers_after_it_and_beside_the_others() {
        let spec = spec(json!({
            "initContainers": [
                {"name": "first", "resources": asks("300m", "0")},
                {"name": "side", "restartPolicy": "Always", "resources": asks("200m", "0")},
                {"name": "second", "resources": asks("300m", "0")},
            ],
            "containers": [{"name": "a", "resources": asks("100m", "0")}],
        }));
        assert_eq!(requests(&spec).cpu_milli, 500);
    }

    #[test]
    fn overhead_and_requests_of_the_pod_as_a_whole_are_counted() {
        let spec = spec(json!({
            "overhead": {"cpu": "10m"},
            "resources": {"requests": {"cpu": "1"}},
            "containers": [{"name": "a", "resources": asks("100m", "1Ki")}],
        }));
        let requests = requests(&spec);
        assert_eq!((requests.cpu_milli, requests.memory), (1010, 1024));
    }

    #[test]
    fn a_container_that_asks_for_nothing_is_taken_to_use_a_little() {
        let spec = spec(json!({"containers": [{"name": "a"}]}));
        assert_eq!(requests(&spec), Resources::default());
        assert_eq!(assumed_use(&spec).cpu_milli, ASSUMED_CPU_MILLI);
        assert_eq!(assumed_use(&spec).memory, ASSUMED_MEMORY_BYTES);
    }
}
