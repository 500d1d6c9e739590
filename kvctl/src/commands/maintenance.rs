//! `defrag` and `alarm`.

use super::endpoint;
use crate::cli::cluster::{AlarmCommand, DefragArgs};
use crate::client::Connection;
use crate::error::CtlError;
use crate::output::{Kind, Reply, tell, write_stdout};
use crate::settings::Settings;
use etcd_client::proto::PbAlarmResponse;
use etcd_client::{AlarmAction, AlarmOptions, AlarmResponse, AlarmType, Error};

/// `defrag`: one endpoint after the other, so that no two members are busy with it at once.
pub async fn defrag(settings: &Settings, args: &DefragArgs) -> Result<(), CtlError> {
    let endpoints = endpoint::endpoints(settings, args.cluster).await?;
    let mut failed = 0;
    for endpoint in &endpoints {
        let answer = settings
            .cluster
            .ask(endpoint, async |connection| {
                connection.maintenance().defragment().await
            })
            .await;
        match answer {
            Ok(_) => write_stdout(
                format!("Finished defragmenting etcd member[{endpoint}]\n").as_bytes(),
            )?,
            Err(trouble) => {
                tell(format_args!(
                    "Failed to defragment etcd member[{endpoint}] ({trouble})"
                ));
                failed += 1;
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(CtlError::Reported(format!(
            "{failed} of {} endpoints failed",
            endpoints.len()
        ))),
    }
}

/// `alarm …`
pub async fn alarm(settings: &Settings, command: AlarmCommand) -> Result<(), CtlError> {
    settings.output.require(Kind::Alarm)?;
    match command {
        AlarmCommand::List => {
            let reply = settings.cluster.read("alarm list", list_alarms).await?;
            settings.output.print(&Reply::Alarm(&reply.0))
        }
        AlarmCommand::Disarm => disarm(settings).await,
    }
}

/// Disarms every alarm that is raised, one request each, as the Go client does, and prints those
/// that were disarmed.
async fn disarm(settings: &Settings) -> Result<(), CtlError> {
    let raised = settings.cluster.read("alarm list", list_alarms).await?;
    let mut disarmed = PbAlarmResponse::default();
    for alarm in raised.0.alarms {
        let kind = AlarmType::try_from(alarm.alarm).map_err(|_| {
            let member = alarm.member_id;
            CtlError::Unsupported(format!(
                "member {member:x} has an alarm unknown to kvctl ({})",
                alarm.alarm
            ))
        })?;
        let mut options = AlarmOptions::new();
        options.with_member(alarm.member_id);
        let reply = settings
            .cluster
            .write("alarm disarm", async |connection| {
                connection
                    .maintenance()
                    .alarm(AlarmAction::Deactivate, kind, Some(options.clone()))
                    .await
            })
            .await?;
        disarmed.alarms.extend(reply.0.alarms);
    }
    settings.output.print(&Reply::Alarm(&disarmed))
}

async fn list_alarms(connection: Connection) -> Result<AlarmResponse, Error> {
    connection
        .maintenance()
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await
}
