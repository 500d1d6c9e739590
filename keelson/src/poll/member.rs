//! Asks a member how it does, over etcd's API.

use etcd_client::{Client, ConnectOptions};
use tokio::time::timeout;

use super::PATIENCE;
use crate::row::{MemberReport, Report};

/// Asks once, and keeps the connection if it works.
pub async fn ask(client: &mut Option<Box<Client>>, url: &str) -> Option<Report> {
    let answer = timeout(PATIENCE, async {
        let mut connected = match client.take() {
            Some(connected) => connected,
            None => {
                let options = ConnectOptions::new().with_connect_timeout(PATIENCE);
                Box::new(Client::connect([url], Some(options)).await?)
            }
        };
        let status = connected.status().await?;
        // Kept only when it works: after a failure a fresh connection is made at once, without a back-off.
        *client = Some(connected);
        Ok::<_, etcd_client::Error>(status)
    });
    let status = answer.await.ok()?.ok()?;
    Some(Report::Member(MemberReport {
        id: status.header()?.member_id(),
        leader: Some(status.leader()).filter(|leader| *leader != 0),
        term: status.raft_term(),
        index: status.raft_index(),
        applied: status.raft_applied_index(),
        is_learner: status.is_learner(),
        db_bytes: u64::try_from(status.db_size()).unwrap_or(0),
    }))
}
