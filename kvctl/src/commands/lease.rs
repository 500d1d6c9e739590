//! `lease grant`, `revoke`, `timetolive`, `list` and `keep-alive`.

use super::parse_lease_id;
use crate::cli::cluster::LeaseCommand;
use crate::client::{Cluster, Connection, Trouble};
use crate::error::{CtlError, Exit};
use crate::output::{Kind, Reply, write_stdout};
use crate::raw::{self, KeepAlive};
use crate::settings::Settings;
use etcd_client::proto::PbLeaseKeepAliveResponse;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

/// How long to wait before the endpoints are tried again when none renews the lease.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// `lease …`
pub async fn run(settings: &Settings, command: LeaseCommand) -> Result<(), CtlError> {
    settings.output.require(Kind::Lease)?;
    // etcdctl gives exit code 2 when a lease cannot be read or renewed, and 1 otherwise.
    let connection = |error: CtlError| error.with_exit(Exit::Connection);
    match command {
        LeaseCommand::Grant { ttl } => grant(settings, &ttl).await,
        LeaseCommand::Revoke { id } => revoke(settings, parse_lease_id(&id)?).await,
        LeaseCommand::TimeToLive { id, keys } => time_to_live(settings, parse_lease_id(&id)?, keys)
            .await
            .map_err(connection),
        LeaseCommand::List => list(settings).await.map_err(connection),
        LeaseCommand::KeepAlive { id, once: true } => renew_once(settings, parse_lease_id(&id)?)
            .await
            .map_err(connection),
        LeaseCommand::KeepAlive { id, once: false } => keep_alive(settings, parse_lease_id(&id)?)
            .await
            .map_err(connection),
    }
}

async fn grant(settings: &Settings, ttl: &str) -> Result<(), CtlError> {
    let seconds: i64 = ttl
        .parse()
        .map_err(|error| CtlError::Arguments(format!("bad TTL {ttl:?} ({error})")))?;
    let reply = settings
        .cluster
        .write("lease grant", async |connection| {
            connection.lease().grant(seconds, None).await
        })
        .await?;
    settings.output.print(&Reply::Grant(&reply.0))
}

async fn revoke(settings: &Settings, id: i64) -> Result<(), CtlError> {
    let reply = settings
        .cluster
        .write("lease revoke", async |connection| {
            connection.lease().revoke(id).await
        })
        .await?;
    settings.output.print(&Reply::Revoke(id, &reply.0))
}

async fn time_to_live(settings: &Settings, id: i64, keys: bool) -> Result<(), CtlError> {
    let reply = settings
        .cluster
        .read("lease timetolive", async |connection| {
            raw::lease_time_to_live(connection.channel, id, keys).await
        })
        .await?;
    settings.output.print(&Reply::TimeToLive(&reply, keys))
}

async fn list(settings: &Settings) -> Result<(), CtlError> {
    let reply = settings
        .cluster
        .read("lease list", async |connection| {
            raw::leases(connection.channel).await
        })
        .await?;
    settings.output.print(&Reply::Leases(&reply))
}

async fn renew_once(settings: &Settings, id: i64) -> Result<(), CtlError> {
    let reply = settings
        .cluster
        .read("lease keep-alive", async |connection| {
            let (_, reply) = KeepAlive::start(connection.channel, id).await?;
            // A lease that is not there is no error of the protocol, but it is one for the caller.
            if reply.ttl <= 0 {
                return Err(Status::not_found("etcdserver: requested lease not found"));
            }
            Ok(reply)
        })
        .await?;
    settings.output.print(&Reply::KeepAlive(&reply))
}

/// Renews the lease at a third of its time to live, over and over, at whichever endpoint answers,
/// until it has expired or been revoked.
async fn keep_alive(settings: &Settings, id: i64) -> Result<(), CtlError> {
    let mut renewing = Renewing {
        cluster: &settings.cluster,
        id,
        next_endpoint: 0,
        stream: None,
    };
    let mut reply = settings
        .cluster
        .read("lease keep-alive", async |connection| {
            KeepAlive::start(connection.channel, id)
                .await
                .map(|(_, reply)| reply)
        })
        .await?;
    while reply.ttl > 0 {
        settings.output.print(&Reply::KeepAlive(&reply))?;
        let ttl = Duration::from_secs(reply.ttl.unsigned_abs());
        let expiry = Instant::now() + ttl;
        sleep(ttl / 3).await;
        reply = renewing.renew(expiry).await?;
    }
    if settings.output.is_simple() {
        write_stdout(format!("lease {id:016x} expired or revoked.\n").as_bytes())?;
    }
    Ok(())
}

/// A lease that is being renewed, on a stream that may break.
struct Renewing<'a> {
    cluster: &'a Cluster,
    id: i64,
    next_endpoint: usize,
    stream: Option<KeepAlive>,
}

impl Renewing<'_> {
    /// Renews the lease, at another endpoint if need be, until `expiry`. Renewing twice does no
    /// harm, so an answer that was lost is simply asked for again.
    async fn renew(&mut self, expiry: Instant) -> Result<PbLeaseKeepAliveResponse, CtlError> {
        let mut failed = Vec::new();
        loop {
            let endpoint = self.cluster.endpoints[self.next_endpoint].clone();
            let patience = self
                .cluster
                .command_timeout
                .min(expiry.saturating_duration_since(Instant::now()));
            let trouble = match timeout(patience, self.attempt()).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Silent(patience),
            };
            self.cluster.debug(format_args!("{endpoint}: {trouble}"));
            self.stream = None;
            self.next_endpoint = (self.next_endpoint + 1) % self.cluster.endpoints.len();
            failed.push((endpoint, trouble));
            if Instant::now() >= expiry {
                return Err(CtlError::NoEndpoint {
                    what: "lease keep-alive",
                    failed,
                });
            }
            if failed.len() >= self.cluster.endpoints.len() {
                failed.clear();
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn attempt(&mut self) -> Result<PbLeaseKeepAliveResponse, Trouble> {
        if let Some(stream) = &mut self.stream {
            return Ok(stream.renew(self.id).await?);
        }
        let endpoint = &self.cluster.endpoints[self.next_endpoint];
        let Connection { channel, .. } = self.cluster.connect(endpoint).await?;
        let (stream, reply) = KeepAlive::start(channel, self.id).await?;
        self.stream = Some(stream);
        Ok(reply)
    }
}
