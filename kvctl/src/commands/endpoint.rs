//! `endpoint status`, `health` and `hashkv`: each endpoint is asked by itself, all at once, and
//! printed in the order given. One that does not answer is named on stderr and makes the exit code
//! 1, but does not hide the others.

use crate::cli::cluster::{EndpointArgs, EndpointCommand};
use crate::client::{Connection, Endpoint, Trouble};
use crate::error::CtlError;
use crate::output::{EndpointHealth, Format, Kind, Reply, tell};
use crate::raw;
use crate::settings::Settings;
use etcd_client::{AlarmAction, AlarmType, Error};
use futures::future::join_all;
use tokio::time::Instant;

/// `endpoint …`
pub async fn run(settings: &Settings, args: &EndpointArgs) -> Result<(), CtlError> {
    settings.output.require(Kind::EndpointTable)?;
    let endpoints = endpoints(settings, args.cluster).await?;
    match args.command {
        EndpointCommand::Status => status(settings, &endpoints).await,
        EndpointCommand::Health => health(settings, &endpoints).await,
        EndpointCommand::HashKv { rev } => hash_kv(settings, rev, &endpoints).await,
    }
}

/// The endpoints to visit: those of the whole cluster, or those that were named.
pub async fn endpoints(
    settings: &Settings,
    whole_cluster: bool,
) -> Result<Vec<Endpoint>, CtlError> {
    if whole_cluster {
        cluster_endpoints(settings).await
    } else {
        Ok(settings.cluster.endpoints.clone())
    }
}

/// The client URLs of all members.
pub async fn cluster_endpoints(settings: &Settings) -> Result<Vec<Endpoint>, CtlError> {
    let list = settings
        .cluster
        .read("member list", async |connection| {
            raw::member_list(connection.channel, true).await
        })
        .await?;
    list.members
        .iter()
        .flat_map(|member| &member.client_ur_ls)
        .map(|url| Endpoint::parse(url))
        .collect()
}

async fn status(settings: &Settings, endpoints: &[Endpoint]) -> Result<(), CtlError> {
    let call = async |connection: Connection| connection.maintenance().status().await;
    let (replies, failure) = visit(settings, endpoints, "status", call).await;
    let rows: Vec<_> = replies
        .into_iter()
        .map(|(endpoint, reply)| (endpoint, reply.0))
        .collect();
    settings.output.print(&Reply::Status(&rows))?;
    failure
}

async fn hash_kv(
    settings: &Settings,
    revision: i64,
    endpoints: &[Endpoint],
) -> Result<(), CtlError> {
    let call = async |connection: Connection| connection.maintenance().hash_kv(revision).await;
    let (replies, failure) = visit(settings, endpoints, "hash", call).await;
    let rows: Vec<_> = replies
        .into_iter()
        .map(|(endpoint, reply)| (endpoint, reply.0))
        .collect();
    settings.output.print(&Reply::HashKv(&rows))?;
    failure
}

type Visited<T> = (Vec<(String, T)>, Result<(), CtlError>);

/// Asks all endpoints. Those that fail are reported on stderr, and in the second result.
async fn visit<T>(
    settings: &Settings,
    endpoints: &[Endpoint],
    what: &str,
    call: impl AsyncFn(Connection) -> Result<T, Error>,
) -> Visited<T> {
    let answers = join_all(
        endpoints
            .iter()
            .map(|endpoint| settings.cluster.ask(endpoint, &call)),
    )
    .await;
    let mut replies = Vec::new();
    let mut failed = 0;
    for (endpoint, answer) in endpoints.iter().zip(answers) {
        match answer {
            Ok(reply) => replies.push((endpoint.to_string(), reply)),
            Err(trouble) => {
                tell(format_args!(
                    "Failed to get the {what} of endpoint {endpoint} ({trouble})"
                ));
                failed += 1;
            }
        }
    }
    let outcome = match failed {
        0 => Ok(()),
        _ => Err(CtlError::Reported(format!(
            "{failed} of {} endpoints failed",
            endpoints.len()
        ))),
    };
    (replies, outcome)
}

async fn health(settings: &Settings, endpoints: &[Endpoint]) -> Result<(), CtlError> {
    let checks = endpoints.iter().map(|endpoint| check(settings, endpoint));
    let health: Vec<EndpointHealth> = join_all(checks).await;
    if matches!(settings.output.format, Format::Simple) {
        for EndpointHealth {
            endpoint, error, ..
        } in &health
        {
            if let Some(error) = error {
                tell(format_args!(
                    "{endpoint} is unhealthy: failed to commit proposal: {error}"
                ));
            }
        }
    }
    settings.output.print(&Reply::Health(&health))?;
    if health.iter().any(|endpoint| endpoint.error.is_some()) {
        return Err(CtlError::Reported("unhealthy cluster".to_owned()));
    }
    Ok(())
}

/// Reads a key with a majority behind it, then looks for alarms.
async fn check(settings: &Settings, endpoint: &Endpoint) -> EndpointHealth {
    let began = Instant::now();
    let read = settings
        .cluster
        .ask(endpoint, async |connection| {
            connection.kv().get("health", None).await
        })
        .await;
    let took = Some(began.elapsed());
    let error = match read {
        Ok(_) => alarms(settings, endpoint).await,
        // Being refused the key proves a majority as well.
        Err(Trouble::Answer(status)) if status.message() == "etcdserver: permission denied" => {
            alarms(settings, endpoint).await
        }
        Err(trouble) => Some(trouble.to_string()),
    };
    EndpointHealth {
        endpoint: endpoint.to_string(),
        took,
        error,
    }
}

async fn alarms(settings: &Settings, endpoint: &Endpoint) -> Option<String> {
    let list = settings
        .cluster
        .ask(endpoint, async |connection| {
            connection
                .maintenance()
                .alarm(AlarmAction::Get, AlarmType::None, None)
                .await
        })
        .await;
    let alarms = match list {
        Ok(reply) => reply.0.alarms,
        Err(_) => return Some("Unable to fetch the alarm list".to_owned()),
    };
    if alarms.is_empty() {
        return None;
    }
    let names = alarms.iter().map(|alarm| match alarm.alarm {
        1 => "NOSPACE ",
        2 => "CORRUPT ",
        _ => "UNKNOWN ",
    });
    Some(format!("Active Alarm(s): {}", names.collect::<String>()))
}
