//! Asks a member how it does, over etcd's API.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::view::{Event, Report, What};

/// How long a member may take to say how it does.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks for ever, pausing as long as `pause` says, and sends each answer, or that there was none.
pub async fn watch_member(
    member: usize,
    url: String,
    pause: watch::Receiver<Duration>,
    events: mpsc::Sender<Event>,
) {
    let mut client = None;
    loop {
        let report = ask(&mut client, &url).await;
        if events
            .send(Event {
                member,
                what: What::Report(report),
            })
            .await
            .is_err()
        {
            return;
        }
        let pause = *pause.borrow();
        sleep(pause).await;
    }
}

/// Asks once.
pub async fn ask_once(url: &str) -> Option<Report> {
    ask(&mut None, url).await
}

async fn ask(client: &mut Option<Client>, url: &str) -> Option<Report> {
    let answer = timeout(PATIENCE, async {
        let mut connected = match client.take() {
            Some(connected) => connected,
            None => {
                Client::connect(
                    [url],
                    Some(ConnectOptions::new().with_connect_timeout(PATIENCE)),
                )
                .await?
            }
        };
        let status = connected.status().await?;
        // Kept only when it works: after a failure a fresh connection is made at once, without a back-off.
        *client = Some(connected);
        Ok::<_, etcd_client::Error>(status)
    });
    let status = answer.await.ok()?.ok()?;
    Some(Report {
        id: status.header()?.member_id(),
        leader: Some(status.leader()).filter(|leader| *leader != 0),
        term: status.raft_term(),
        index: status.raft_index(),
        applied: status.raft_applied_index(),
        is_learner: status.is_learner(),
        db_bytes: u64::try_from(status.db_size()).unwrap_or(0),
    })
}
