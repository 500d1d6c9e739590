//! What `/metrics` tells, under the names that etcd's dashboards and alert rules use.
//!
//! Counters live here and are counted where things happen; what a member knows of itself is read when somebody asks
//! ([`member`]), and so is what the system knows of the process ([`process`]).

mod calls;
pub(crate) mod member;
mod page;
mod process;

use std::future::Future;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub(crate) use calls::{Call, Calls};
pub(crate) use page::CONTENT_TYPE;

/// The metrics of a process.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) calls: Calls,
    /// How long the log takes to sync. Observe it where the log's files are synced.
    pub wal_fsync_seconds: Histogram,
    /// How long the state machine takes to write a batch. Observe it where the engine is written.
    pub backend_commit_seconds: Histogram,
    /// How often another leader was seen.
    pub leader_changes: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) health_successes: Counter,
    pub(crate) health_failures: Counter,
    proposals_pending: Gauge,
    proposals_failed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Metrics that nothing has been counted in.
    pub fn new() -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::ProcessCollector::new()));
        // etcd's buckets, which its dashboards' quantiles rest on: 1 ms to 8 s.
        let disk = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let metrics = Metrics {
            calls: Calls::new(&mut registry),
            wal_fsync_seconds: disk(),
            backend_commit_seconds: disk(),
            leader_changes: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            health_successes: Counter::default(),
            health_failures: Counter::default(),
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
            registry: Mutex::new(registry),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let registry = &mut *self.registry.lock();
        let fsync = self.wal_fsync_seconds.clone();
        registry.register(
            "etcd_disk_wal_fsync_duration_seconds",
            "The latencies of syncing the raft log",
            fsync,
        );
        let commit = self.backend_commit_seconds.clone();
        registry.register(
            "etcd_disk_backend_commit_duration_seconds",
            "The latencies of writing a batch to the state machine's engine",
            commit,
        );
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone())
        };
        counter(
            "etcd_server_leader_changes_seen",
            "How often another leader was seen",
            &self.leader_changes,
        );
        counter(
            "etcd_network_client_grpc_received_bytes",
            "Bytes received from clients",
            &self.received_bytes,
        );
        counter(
            "etcd_network_client_grpc_sent_bytes",
            "Bytes sent to clients",
            &self.sent_bytes,
        );
        counter(
            "etcd_server_health_success",
            "Health checks that succeeded",
            &self.health_successes,
        );
        counter(
            "etcd_server_health_failures",
            "Health checks that failed",
            &self.health_failures,
        );
        counter(
            "etcd_server_proposals_failed",
            "Proposals that failed",
            &self.proposals_failed,
        );
        let pending = self.proposals_pending.clone();
        registry.register(
            "etcd_server_proposals_pending",
            "Proposals under way",
            pending,
        );
    }

    pub(crate) fn add(&self, collector: impl Collector) {
        self.registry.lock().register_collector(Box::new(collector));
    }

    /// Everything, as text of [`CONTENT_TYPE`].
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry.lock())?;
        Ok(page::prometheus(&page))
    }

    /// Counts a proposal while it is under way, also when whoever waits for it goes away.
    pub(crate) async fn proposing<T, E>(
        &self,
        proposal: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        struct Pending<'a>(&'a Gauge);
        impl Drop for Pending<'_> {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        self.proposals_pending.inc();
        let _pending = Pending(&self.proposals_pending);
        let result = proposal.await;
        if result.is_err() {
            self.proposals_failed.inc();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn proposals_are_pending_while_they_are_and_counted_when_they_fail() {
        let metrics = Metrics::new();
        let _ = metrics
            .proposing(async {
                assert!(
                    metrics
                        .render()
                        .unwrap()
                        .contains("\netcd_server_proposals_pending 1\n")
                );
                Err::<(), ()>(())
            })
            .await;
        let page = metrics.render().unwrap();
        assert!(
            page.contains("\netcd_server_proposals_pending 0\n"),
            "{page}"
        );
        assert!(
            page.contains("\netcd_server_proposals_failed_total 1\n"),
            "{page}"
        );
    }

    #[test]
    fn the_names_of_etcds_alerts_are_there() {
        let metrics = Metrics::new();
        metrics.wal_fsync_seconds.observe(0.003);
        let page = metrics.render().unwrap();
        for line in [
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.004\"} 1",
            "etcd_disk_backend_commit_duration_seconds_count 0",
            "etcd_server_leader_changes_seen_total 0",
            "# TYPE grpc_server_handled_total counter",
            "etcd_server_health_success 0",
            "etcd_server_health_failures 0",
            "# TYPE process_resident_memory_bytes gauge",
        ] {
            assert!(
                page.lines().any(|found| found == line),
                "{line} is not in\n{page}"
            );
        }
    }
}
