//! `member list`, `add`, `remove`, `update`, `promote`, and `move-leader`.

use super::{endpoint, parse_member_id};
use crate::cli::cluster::{MemberCommand, MemberListArgs, MoveLeaderArgs};
use crate::client::Endpoint;
use crate::error::CtlError;
use crate::go::quote::quote;
use crate::output::{Kind, Reply, write_stdout};
use crate::raw;
use crate::settings::Settings;
use etcd_client::MemberAddOptions;
use etcd_client::proto::PbMemberAddResponse;

/// `member …`
pub async fn run(settings: &Settings, command: MemberCommand) -> Result<(), CtlError> {
    match command {
        MemberCommand::List(args) => list(settings, &args).await,
        MemberCommand::Add {
            name,
            peer_urls,
            learner,
        } => add(settings, &name, &peer_urls, learner).await,
        MemberCommand::Remove { id } => {
            settings.output.require(Kind::MemberChange)?;
            let id = parse_member_id(&id)?;
            let reply = settings
                .cluster
                .write("member remove", async |connection| {
                    connection.members().member_remove(id).await
                })
                .await?;
            settings.output.print(&Reply::MemberRemove(id, &reply.0))
        }
        MemberCommand::Update { id, peer_urls } => {
            settings.output.require(Kind::MemberChange)?;
            let id = parse_member_id(&id)?;
            let urls = parse_peer_urls(&peer_urls)?;
            let reply = settings
                .cluster
                .write("member update", async |connection| {
                    connection.members().member_update(id, urls.clone()).await
                })
                .await?;
            settings.output.print(&Reply::MemberUpdate(id, &reply.0))
        }
        MemberCommand::Promote { id } => {
            settings.output.require(Kind::MemberChange)?;
            let id = parse_member_id(&id)?;
            let reply = settings
                .cluster
                .write("member promote", async |connection| {
                    connection.members().member_promote(id).await
                })
                .await?;
            settings.output.print(&Reply::MemberPromote(id, &reply.0))
        }
    }
}

async fn list(settings: &Settings, args: &MemberListArgs) -> Result<(), CtlError> {
    settings.output.require(Kind::MemberList)?;
    let linearizable = match args.consistency.as_str() {
        "l" => true,
        "s" => false,
        other => {
            return Err(CtlError::Unsupported(format!(
                "unknown consistency flag {other:?}; use l or s"
            )));
        }
    };
    let reply = settings
        .cluster
        .read("member list", async |connection| {
            raw::member_list(connection.channel, linearizable).await
        })
        .await?;
    settings.output.print(&Reply::MemberList(&reply))
}

async fn add(
    settings: &Settings,
    name: &str,
    peer_urls: &str,
    learner: bool,
) -> Result<(), CtlError> {
    settings.output.require(Kind::MemberChange)?;
    let urls = parse_peer_urls(peer_urls)?;
    let options = if learner {
        MemberAddOptions::new().with_is_learner()
    } else {
        MemberAddOptions::new()
    };
    let reply = settings
        .cluster
        .write("member add", async |connection| {
            connection
                .members()
                .member_add(urls.clone(), Some(options.clone()))
                .await
        })
        .await?;
    settings.output.print(&Reply::MemberAdd(&reply.0))?;
    if settings.output.is_simple() {
        write_stdout(start_settings(name, peer_urls, &reply.0).as_bytes())?;
    }
    Ok(())
}

/// The environment with which the new member is to be started.
fn start_settings(name: &str, peer_urls: &str, reply: &PbMemberAddResponse) -> String {
    let new = reply.member.as_ref().map_or(0, |member| member.id);
    let cluster: Vec<String> = reply
        .members
        .iter()
        .flat_map(|member| {
            let name = if member.id == new { name } else { &member.name };
            member
                .peer_ur_ls
                .iter()
                .map(move |url| format!("{name}={url}"))
        })
        .collect();
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quote(name.as_bytes()),
        quote(cluster.join(",").as_bytes()),
        quote(peer_urls.as_bytes()),
    )
}

fn parse_peer_urls(text: &str) -> Result<Vec<String>, CtlError> {
    if text.is_empty() {
        return Err(CtlError::Arguments(
            "member peer urls not provided; say where its peers reach it with --peer-urls"
                .to_owned(),
        ));
    }
    Ok(text.split(',').map(str::to_owned).collect())
}

/// `move-leader`: only the leader can hand over, so it is looked for among the endpoints, then
/// among all members.
pub async fn move_leader(settings: &Settings, args: &MoveLeaderArgs) -> Result<(), CtlError> {
    settings.output.require(Kind::MoveLeader)?;
    let target = parse_member_id(&args.target)?;
    let (leader, id) = match find_leader(settings, &settings.cluster.endpoints).await {
        Some(found) => found,
        None => {
            let members = endpoint::cluster_endpoints(settings).await?;
            find_leader(settings, &members).await.ok_or_else(|| {
                let asked: Vec<_> = settings
                    .cluster
                    .endpoints
                    .iter()
                    .chain(&members)
                    .map(Endpoint::to_string)
                    .collect();
                CtlError::Arguments(format!("no leader endpoint given at {}", asked.join(", ")))
            })?
        }
    };
    let mut cluster = settings.cluster.clone();
    cluster.endpoints = vec![leader];
    let reply = cluster
        .write("move-leader", async |connection| {
            connection.maintenance().move_leader(target).await
        })
        .await?;
    settings
        .output
        .print(&Reply::MoveLeader(id, target, &reply.0))
}

/// The first of these endpoints that leads, and its member id.
async fn find_leader(settings: &Settings, endpoints: &[Endpoint]) -> Option<(Endpoint, u64)> {
    for endpoint in endpoints {
        let status = settings
            .cluster
            .ask(endpoint, async |connection| {
                connection.maintenance().status().await
            })
            .await;
        let Ok(status) = status else { continue };
        let id = status.header().map_or(0, |header| header.member_id());
        if id == status.leader() {
            return Some((endpoint.clone(), id));
        }
    }
    None
}
