//! Who leads, as the members say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keelson_jepsen::history::MemberIndex;
use keelson_proto::etcdserverpb::StatusResponse;
use tokio::task::JoinSet;

use super::World;
use crate::client::Connection;

const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// A member that does not answer within this time is not waited for.
const LOOK: Duration = Duration::from_millis(500);

/// Looks again and again, until it is dropped.
pub async fn look_out(world: Arc<World>) {
    let mut connections: BTreeMap<MemberIndex, Connection> = BTreeMap::new();
    loop {
        let mut asked = JoinSet::new();
        for member in world.members() {
            let world = Arc::clone(&world);
            let connection = connections.remove(&member);
            asked.spawn(async move {
                let look = async {
                    let connection = match connection {
                        Some(connection) => connection,
                        None => world.connect(member).await?.ok()?,
                    };
                    let status = connection.status().await.ok()?;
                    Some((connection, status))
                };
                tokio::time::timeout(LOOK, look).await.ok().flatten()
            });
        }
        let mut seen = Vec::new();
        while let Some(answer) = asked.join_next().await {
            if let Ok(Some((connection, status))) = answer {
                let id = status.header.as_ref().map_or(0, |header| header.member_id);
                world.member_id_seen(id, connection.member);
                connections.insert(connection.member, connection);
                seen.push(status);
            }
        }
        note(&world, &seen);
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Whoever is named in the highest term that a leader is known in.
fn note(world: &World, seen: &[StatusResponse]) {
    let newest = seen
        .iter()
        .filter(|status| status.leader != 0)
        .max_by_key(|status| status.raft_term);
    match newest {
        Some(status) => {
            let leader = world.member_ids().get(&status.leader).copied();
            world.leader_seen(leader, status.raft_term);
        }
        None => {
            let term = seen.iter().map(|status| status.raft_term).max();
            world.leader_seen(None, term.unwrap_or_default());
        }
    }
}
