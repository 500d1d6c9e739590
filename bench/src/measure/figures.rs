//! Figures: what a run can show, by name. A workload says which of them are compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a number is: its name in results, and what people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub higher_is_better: bool,
}

const fn figure(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    higher_is_better: bool,
) -> Figure {
    Figure {
        name,
        title,
        unit,
        higher_is_better,
    }
}

/// Every figure there is.
pub const FIGURES: &[Figure] = &[
    figure("rate", "rate", "/s", true),
    figure("p50_ms", "p50", "ms", false),
    figure("p99_ms", "p99", "ms", false),
    figure("p999_ms", "p99.9", "ms", false),
    figure("max_ms", "longest", "ms", false),
    figure("operations", "operations", "", true),
    figure("server_cpu_us", "servers' CPU an operation", "µs", false),
    figure("client_cpu_us", "client's CPU an operation", "µs", false),
    figure("peak_mib", "peak memory of all members", "MiB", false),
    figure("rise_mib", "memory beyond that at rest", "MiB", false),
    figure("written_bytes", "written to disk an operation", "B", false),
    figure("beside_rate", "puts beside", "/s", true),
    figure(
        "refusals",
        "puts refused for now, and offered again",
        "",
        false,
    ),
    figure("keys", "keys", "", true),
    figure("api_s", "until the API answers", "s", false),
    figure("first_pod_s", "until the first pod runs", "s", false),
    figure("deployed_s", "until all replicas are ready", "s", false),
    figure("scheduled_rate", "pods scheduled", "/s", true),
    figure("idle_pss_mib", "memory at rest (PSS)", "MiB", false),
    figure("idle_rss_mib", "memory at rest (RSS)", "MiB", false),
    figure("idle_cpu_percent", "processor at rest", "%", false),
    figure(
        "top_rate",
        "most puts offered that it keeps up with",
        "/s",
        true,
    ),
    figure("offered_rate", "puts that are offered", "/s", true),
    figure("catch_up_s", "until all have all events", "s", false),
    figure("gone_s", "the last key is gone after its time", "s", false),
    figure("p99_before_ms", "put p99 before", "ms", false),
    figure("p99_during_ms", "put p99 meanwhile", "ms", false),
    figure(
        "p99_after_ms",
        "put p99 in the four seconds after",
        "ms",
        false,
    ),
    figure(
        "p99_growth",
        "put p99 meanwhile or after, by that before",
        "times",
        false,
    ),
    figure("took_s", "it took", "s", false),
    figure(
        "spent_cpu_s",
        "servers' CPU meanwhile and after",
        "s",
        false,
    ),
    figure(
        "spent_written_mib",
        "written to disk meanwhile and after",
        "MiB",
        false,
    ),
    figure("loaded_mib", "memory with all keys", "MiB", false),
    figure(
        "loaded_anonymous_mib",
        "of it, not of mapped files",
        "MiB",
        false,
    ),
    figure("restarted_mib", "memory after a restart", "MiB", false),
    figure("disk_mib", "data on the disk", "MiB", false),
    figure("load_rate", "puts while loading", "/s", true),
    figure("put_rate", "puts with all keys there", "/s", true),
    figure("put_cpu_us", "servers' CPU of a put then", "µs", false),
    figure("get_rate", "gets with all keys there", "/s", true),
    figure("get_cpu_us", "servers' CPU of a get then", "µs", false),
    figure(
        "ready_quiet_s",
        "ready after SIGKILL, quiet before",
        "s",
        false,
    ),
    figure(
        "ready_load_s",
        "ready after SIGKILL, under load before",
        "s",
        false,
    ),
    figure(
        "gap_max_ms",
        "longest gap in acknowledged writes",
        "ms",
        false,
    ),
    figure("gap_median_ms", "median of the gaps", "ms", false),
    figure(
        "wait_max_ms",
        "longest wait of a put for an answer",
        "ms",
        false,
    ),
    figure("errors", "errors that clients saw", "", false),
];

/// The figure with a name.
pub fn named(name: &str) -> Figure {
    let found = FIGURES.iter().find(|figure| figure.name == name);
    *found.unwrap_or_else(|| panic!("there is no figure {name}"))
}

/// What one run of one system showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub figures: BTreeMap<String, f64>,
    /// Lines to draw: for each its points.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lines: BTreeMap<String, Vec<(f64, f64)>>,
    /// Replies that were wrong, or said no.
    pub failures: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
}

impl Outcome {
    pub fn new() -> Outcome {
        Outcome::default()
    }

    /// Notes a figure, which must be one of [`FIGURES`].
    pub fn set(&mut self, name: &'static str, value: f64) {
        // What was divided by nothing is no number, and JSON has none for it.
        if !value.is_finite() {
            return;
        }
        self.figures.insert(named(name).name.to_owned(), value);
    }

    /// Adds the failures of another part of the same run.
    pub fn add_failures(&mut self, of: &Outcome) {
        self.failures += of.failures;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&of.first_failure);
        }
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}
