//! Runs one workload on one cluster.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinSet;

use super::arrivals::{self, Load};
use super::closed::Clients;
use super::keys::Values;
use super::load::{self, Told};
use super::operation::{Asker, Numbers, Operation, all};
use super::{
    State, Work, Workload, disturbed, expiry, keepalive, leader, memory, offered, reconnect, watch,
};
use crate::client::Connection;
use crate::measure::{MIB, Meter, Outcome, Usage};
use crate::system::member::{connect, serves};
use crate::system::{Cluster, Kind};

/// How long, and by how many connections.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub warm_up: Duration,
    pub measured: Duration,
    pub connections_min: usize,
}

impl Effort {
    /// At least one a client, and at most ten clients on one.
    pub fn connections(self, clients: usize) -> usize {
        clients.min(self.connections_min.max(clients / 10))
    }
}

/// Makes a cluster hold what a workload needs.
pub async fn prepare(state: State, cluster: &Cluster, told: &Told) -> anyhow::Result<()> {
    if let State::Keys {
        keys,
        bytes,
        manner,
    } = state
    {
        let values = Rc::new(Values::new(bytes));
        load::keys(&cluster.endpoints, 0, keys, &values, manner, told).await?;
    }
    // A serializable read may be answered by a member that has not seen all of it yet, and would seem wrong.
    for url in &cluster.endpoints {
        serves(url).await?;
    }
    Ok(())
}

/// A cluster, and how much is to be done with it.
pub struct Running<'a> {
    pub cluster: &'a mut Cluster,
    pub effort: Effort,
    /// Shown to who waits.
    pub told: &'a Told,
    /// What etcd did in this pair, if it did.
    pub reference: Option<&'a Outcome>,
}

impl Running<'_> {
    /// Does the work, and tells what it showed.
    pub async fn run(&mut self, workload: &Workload) -> anyhow::Result<Outcome> {
        let keys = match workload.state {
            State::Empty => 0,
            State::Keys { keys, .. } => keys,
        };
        let told = self.told;
        match workload.work {
            Work::Closed {
                operation,
                clients,
                beside,
                bytes,
            } => self.closed(operation, clients, beside, bytes, keys).await,
            Work::Offered { keys, bytes } => {
                let top = self.reference.and_then(|outcome| outcome.get("top_rate"));
                offered::measure(self, keys, bytes, top).await
            }
            Work::Watch(watchers) => watch::measure(self, watchers).await,
            Work::Reconnect(reconnect) => reconnect::measure(self, reconnect, told).await,
            Work::KeepAlive { leases } => keepalive::measure(self, leases, told).await,
            Work::Expiry(expiry) => expiry::measure(self, expiry, told).await,
            Work::Memory { keys } => memory::measure(self, keys, told).await,
            Work::Disturbed { by, revisions } => {
                disturbed::measure(self, by, revisions, told).await
            }
            Work::Leader { loss, times } => leader::measure(self, loss, times).await,
            Work::ControlPlane(_) => bail!("a whole cluster is started otherwise"),
        }
    }

    /// Measures clients that ask again when they are answered, and beside them so many puts a second, on a cluster with so
    /// many keys.
    pub async fn closed(
        &self,
        operation: Operation,
        clients: usize,
        beside: Option<f64>,
        bytes: usize,
        keys: u64,
    ) -> anyhow::Result<Outcome> {
        let values = Rc::new(Values::new(bytes));
        let numbers = Rc::new(Numbers::new(keys));
        let operation = on(operation, self.cluster.kind);
        let mut askers: Vec<Asker> = (0..clients)
            .map(|number| Asker::new(operation, number as u64, values.clone(), numbers.clone()))
            .collect();
        if operation == Operation::GuardedUpdate {
            let seen = self.revisions().await?;
            for asker in &mut askers {
                asker.know(&seen)?;
            }
        }

        let meter = Rc::new(Meter::new());
        let count = self.effort.connections(askers.len());
        let mut shares: Vec<Vec<Asker>> = Vec::new();
        shares.resize_with(count, Vec::new);
        for (number, asker) in askers.into_iter().enumerate() {
            shares[number % count].push(asker);
        }
        // Before the first of them asks.
        let at_rest = Usage::of(&self.cluster.pids())?.rss_bytes as f64 / MIB;
        let mut tasks = match beside {
            Some(rate) => {
                let load = Load {
                    measured: false,
                    ..Load::new(rate, keys)
                };
                arrivals::begin(&self.cluster.endpoints, load, &values, &meter).await?
            }
            None => JoinSet::new(),
        };
        for (share, url) in shares
            .into_iter()
            .zip(self.cluster.endpoints.iter().cycle())
        {
            let mut connection = Connection::open(url).await?;
            let mut clients = Clients::new(share, meter.clone());
            tasks.spawn_local(async move { connection.run(&mut clients).await });
        }
        let Effort {
            warm_up, measured, ..
        } = self.effort;
        let mut outcome = until(
            tasks,
            meter.watch(|| self.cluster.pids(), warm_up, measured),
        )
        .await?;
        let peak = outcome.get("peak_mib").context("it is measured")?;
        outcome.set("rise_mib", (peak - at_rest).max(0.0));
        let first = outcome.first_failure.as_deref().unwrap_or("none");
        anyhow::ensure!(
            meter.operations() > 0,
            "no operation succeeded; the first failure: {first}"
        );
        Ok(outcome)
    }
    /// At which revision each key was last written.
    async fn revisions(&self) -> anyhow::Result<HashMap<Bytes, i64>> {
        let first = self.cluster.endpoints.first();
        let mut kv = KvClient::new(connect(first.context("a cluster has members")?).await?)
            .max_decoding_message_size(usize::MAX);
        let range = RangeRequest {
            keys_only: true,
            ..all()
        };
        let found = kv.range(range).await?.into_inner().kvs.into_iter();
        Ok(found.map(|kv| (kv.key, kv.mod_revision)).collect())
    }
}

/// Where a system has no streamed list, its list.
fn on(operation: Operation, kind: Kind) -> Operation {
    match operation {
        Operation::List { keys, .. } if kind == Kind::Etcd => Operation::List {
            keys,
            streamed: false,
        },
        other => other,
    }
}

/// Waits for what is measured; connections that break meanwhile are its end.
pub async fn until<T>(
    mut tasks: JoinSet<anyhow::Result<()>>,
    measured: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = measured => done,
        Some(ended) = tasks.join_next() => {
            ended?.context("a connection broke")?;
            bail!("a client ended by itself")
        }
    }
}
