//! What a member knows of itself, read when somebody asks for the metrics.

use std::fmt;
use std::sync::Weak;

use keelson_raft::Parts;
use keelson_store::engine::Engine;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::context::Context;
use crate::version::{CLUSTER_VERSION, ETCD_VERSION};

/// Weak, since the context holds the metrics that hold this.
pub(crate) struct MemberCollector<P: Parts>(pub(crate) Weak<Context<P>>);

impl<P: Parts> fmt::Debug for MemberCollector<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberCollector")
    }
}

impl<P: Parts> Collector for MemberCollector<P> {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(context) = self.0.upgrade() else {
            return Ok(());
        };
        let member = &context.member;
        let (status, view) = (member.status(), member.reader().now());
        let mut page = Page(encoder);
        page.gauge(
            "etcd_server_has_leader",
            "Whether there is a leader",
            u64::from(!member.leader_lost()),
        )?;
        page.gauge(
            "etcd_server_is_leader",
            "Whether this member leads",
            u64::from(status.is_leader),
        )?;
        page.gauge(
            "etcd_server_is_learner",
            "Whether this member is a learner",
            u64::from(status.is_learner),
        )?;
        page.label(
            "etcd_server_id",
            "This member's id",
            "server_id",
            format!("{:x}", member.id().0),
        )?;
        page.label(
            "etcd_server_version",
            "The version of etcd spoken",
            "server_version",
            ETCD_VERSION.into(),
        )?;
        page.label(
            "etcd_cluster_version",
            "The cluster's version",
            "cluster_version",
            CLUSTER_VERSION.into(),
        )?;
        // Gauges, for all that their names say, as in etcd.
        page.gauge(
            "etcd_server_proposals_committed_total",
            "Index of the last commit",
            status.committed_index,
        )?;
        page.gauge(
            "etcd_server_proposals_applied_total",
            "Index of the last entry applied",
            status.applied_index,
        )?;
        let quota = u64::try_from(context.options.quota_bytes).unwrap_or(0);
        page.gauge("etcd_server_quota_backend_bytes", "The quota", quota)?;
        if let Ok(size) = member.engine().size() {
            page.gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes of all files of the store",
                size.on_disk,
            )?;
            page.gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of them in use",
                size.in_use,
            )?;
        }
        page.gauge(
            "etcd_debugging_mvcc_keys_total",
            "The number of keys",
            view.state().keys,
        )?;
        let revision = |r: keelson_store::Revision| u64::try_from(r.0).unwrap_or(0);
        page.gauge(
            "etcd_debugging_mvcc_current_revision",
            "The revision",
            revision(view.revision),
        )?;
        page.gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The compacted revision",
            revision(view.compacted),
        )?;
        let watches = member.hub().stats();
        let mut watching = |name, help, count: usize| page.gauge(name, help, count as u64);
        watching(
            "etcd_debugging_mvcc_watch_stream_total",
            "Open watch streams",
            watches.streams,
        )?;
        watching(
            "etcd_debugging_mvcc_watcher_total",
            "Watches",
            watches.watchers,
        )?;
        watching(
            "etcd_debugging_mvcc_slow_watcher_total",
            "Watches that are catching up",
            watches.slow_watchers,
        )
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
        ConstGauge::new(value).encode(self.0.encode_descriptor(
            name,
            help,
            None,
            MetricType::Gauge,
        )?)
    }

    /// A gauge of 1 whose label is what matters.
    fn label(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        value: String,
    ) -> Result<(), fmt::Error> {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(1_u64).encode(metric.encode_family(&[(label, value)])?)
    }
}
