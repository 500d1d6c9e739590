//! `keelson status`: the table once, from outside the launcher.

use std::process::ExitCode;

use anyhow::bail;
use tokio::task::JoinSet;

use crate::cli::DirArgs;
use crate::data_dir::DataDir;
use crate::poll::ask_once;
use crate::screen::table_once;
use crate::view::{Event, View, What};

/// Shows the members. Succeeds if every one answers and one leads.
pub async fn run(args: &DirArgs) -> anyhow::Result<ExitCode> {
    let dir = DataDir::at(&args.data_dir);
    let Some(cluster) = dir.cluster()? else {
        bail!(
            "no cluster was ever started in {shown}; try: keelson up --data-dir {shown}",
            shown = dir.path().display()
        );
    };
    let mut view = View::new(&cluster);
    let running = dir.running()?;
    let mut answers = JoinSet::new();
    for (member, spec) in cluster.members.iter().enumerate() {
        let recorded = running.iter().find(|recorded| recorded.name == spec.name);
        let process = recorded
            .and_then(|recorded| recorded.process.as_ref())
            .filter(|process| process.is_alive());
        let Some(process) = process else {
            view.apply(&Event {
                member,
                what: What::Stopped { killed: false },
            });
            continue;
        };
        view.apply(&Event {
            member,
            what: What::Started { pid: process.pid },
        });
        view.take_over(member, recorded.map_or(0, |recorded| recorded.restarts));
        let url = spec.client_url();
        answers.spawn(async move {
            Event {
                member,
                what: What::Report(ask_once(&url).await),
            }
        });
    }
    while let Some(answer) = answers.join_next().await {
        view.apply(&answer?);
    }
    println!("{}", table_once(&view));
    if dir.holder().is_none() {
        eprintln!("keelson: no launcher runs in {}", dir.path().display());
    }
    Ok(if view.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
