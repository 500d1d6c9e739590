//! Asks all parts how they do, each over its own public interface.

mod control_plane;
mod member;

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::data_dir::DataDir;
use crate::part::{Kind, Part};
use crate::row::{Report, What};
use crate::view::Event;

/// How long a part may take to say how it does.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who is asked together: each member by itself, and what the API server knows of, there.
enum Asked {
    Member {
        part: usize,
        url: String,
        client: Option<Box<etcd_client::Client>>,
    },
    ControlPlane(control_plane::Asked),
}

/// Asks for ever, pausing as long as `pause` says, and sends each answer, or that there was none.
pub fn watch_all(
    parts: &[Part],
    dir: &DataDir,
    pause: &watch::Sender<Duration>,
    events: &mpsc::Sender<Event>,
) {
    for mut asked in askings(parts, dir) {
        let (pause, events) = (pause.subscribe(), events.clone());
        tokio::spawn(async move {
            loop {
                for event in asked.ask().await {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
                let pause = *pause.borrow();
                sleep(pause).await;
            }
        });
    }
}

/// Asks all of them once, at the same time.
pub async fn ask_all(parts: &[Part], dir: &DataDir) -> anyhow::Result<Vec<Event>> {
    let mut answers = JoinSet::new();
    for mut asked in askings(parts, dir) {
        answers.spawn(async move { asked.ask().await });
    }
    let mut events = Vec::new();
    while let Some(answered) = answers.join_next().await {
        events.extend(answered?);
    }
    Ok(events)
}

fn askings(parts: &[Part], dir: &DataDir) -> Vec<Asked> {
    let member = |(part, asked): (usize, &Part)| match &asked.kind {
        Kind::Member(member) => Some(Asked::Member {
            part,
            url: member.client_url(),
            client: None,
        }),
        Kind::ApiServer { .. } | Kind::Client { .. } => None,
    };
    let members = parts.iter().enumerate().filter_map(member);
    let control_plane = control_plane::Asked::of(parts, dir).map(Asked::ControlPlane);
    members.chain(control_plane).collect()
}

impl Asked {
    async fn ask(&mut self) -> Vec<Event> {
        let report = |(part, report): (usize, Option<Report>)| Event {
            part,
            what: What::Report(report),
        };
        match self {
            Asked::Member { part, url, client } => {
                vec![report((*part, member::ask(client, url).await))]
            }
            Asked::ControlPlane(asked) => asked.ask().await.into_iter().map(report).collect(),
        }
    }
}
