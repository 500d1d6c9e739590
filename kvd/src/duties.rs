//! What a member does by itself, beside answering: introducing itself, compacting by policy, watching the disk.

use std::path::PathBuf;
use std::time::Duration;

use keelson_api::{Api, Metrics};
use keelson_proto::commandpb::{ClusterInit, Command, MemberAttributes, command};
use keelson_raft::{Member, Parts, Trouble};
use keelson_store::Refusal;

use crate::auto_compaction::{AutoCompaction, Retention};
use crate::disk::Room;

/// How long to wait before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often the disks are looked at: in less time than a fast writer takes for half of the smallest reserve.
const DISK_TICK: Duration = Duration::from_millis(500);
/// How often it is looked who leads.
const LEADER_TICK: Duration = Duration::from_millis(100);

/// Tells the cluster this member's name and client URLs, and which cluster it is if nobody has. Completes when the
/// cluster knows: then there is a leader, and this member takes part.
pub async fn introduce<P: Parts>(
    member: &Member<P>,
    name: &str,
    client_urls: &[String],
) -> Result<(), Trouble> {
    let id = member.id().0;
    let attributes = MemberAttributes {
        id,
        name: name.to_owned(),
        client_urls: client_urls.to_vec(),
    };
    loop {
        let view = member.reader().now();
        let known = view.attributes().is_ok_and(|all| all.contains(&attributes));
        let request = if view.state().cluster_id == 0 {
            command::Request::ClusterInit(ClusterInit {
                cluster_id: member.cluster_id(),
            })
        } else if !known {
            command::Request::MemberAttributes(attributes.clone())
        } else {
            // Known from before; whether the cluster is there now, a read tells.
            match member.read_barrier().await {
                Ok(()) => return Ok(()),
                Err(Trouble::Stopped) => return Err(Trouble::Stopped),
                Err(_) => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        };
        match member
            .propose(Command {
                request: Some(request),
                ..Command::default()
            })
            .await
        {
            Ok(_) => {}
            Err(Trouble::Stopped) => return Err(Trouble::Stopped),
            Err(trouble) => {
                tracing::debug!(%trouble, "this member could not introduce itself yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Compacts by the operator's policy while this member leads.
pub async fn compact_by_policy<P: Parts>(member: Member<P>, api: Api<P>, retention: Retention) {
    let mut policy = AutoCompaction::new(retention);
    loop {
        tokio::time::sleep(policy.interval()).await;
        let now = member.reader().now().revision;
        let Some(upto) = policy.look(now, member.status().is_leader) else {
            continue;
        };
        match api.compact(upto).await {
            Ok(()) | Err(keelson_api::Failure::Refused(Refusal::Compacted)) => {
                tracing::info!(revision = upto.0, "compacted the history, as configured");
                policy.done(upto);
            }
            Err(error) => {
                tracing::warn!(%error, revision = upto.0, "the history could not be compacted")
            }
        }
    }
}

/// Raises the NOSPACE alarm before a disk is full on which this member keeps its data.
pub async fn watch_the_disks<P: Parts>(api: Api<P>, places: Vec<PathBuf>) {
    let mut said = false;
    loop {
        let looked_at = places.clone();
        // A disk that hangs says nothing at all.
        let low = tokio::task::spawn_blocking(move || low_place(&looked_at)).await;
        match low.ok().flatten() {
            Some((path, room)) => {
                // Once: it may stay so for days.
                if !std::mem::replace(&mut said, true) {
                    let (free_bytes, path) = (room.free, path.display());
                    tracing::warn!(free_bytes, %path, "the disk is almost full: raising the NOSPACE alarm");
                }
                if let Err(error) = api.raise_no_space().await {
                    tracing::debug!(%error, "the NOSPACE alarm could not be raised");
                }
            }
            None => said = false,
        }
        tokio::time::sleep(DISK_TICK).await;
    }
}

/// A place whose disk is almost full, if there is one.
fn low_place(places: &[PathBuf]) -> Option<(PathBuf, Room)> {
    places.iter().find_map(|path| match Room::at(path) {
        Ok(room) => room.is_low().then(|| (path.clone(), room)),
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "the disk's free room is not known");
            None
        }
    })
}

/// Counts how often another leader is seen.
pub async fn count_leaders<P: Parts>(member: Member<P>, metrics: std::sync::Arc<Metrics>) {
    let mut seen = None;
    loop {
        let leader = member.status().leader;
        if leader.is_some() && leader != seen {
            metrics.leader_changes.inc();
            seen = leader;
        }
        tokio::time::sleep(LEADER_TICK).await;
    }
}

/// Completes when a peer has said that this member is no longer one.
pub async fn removed<P: Parts>(member: &Member<P>) {
    while !member.removed() {
        tokio::time::sleep(LEADER_TICK).await;
    }
}
