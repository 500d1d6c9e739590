//! `keelson status`: the table once, from outside the launcher.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::bail;

use crate::cli::DirArgs;
use crate::data_dir::DataDir;
use crate::part::Part;
use crate::poll;
use crate::row::What;
use crate::screen::table_once;
use crate::view::{Event, View};

/// Shows what was last started here. Succeeds if all of it answers and a member leads.
pub async fn run(args: &DirArgs) -> anyhow::Result<ExitCode> {
    let dir = DataDir::at(&args.data_dir);
    let Some(cluster) = dir.cluster()? else {
        bail!(
            "no cluster was ever started in {shown}; try: keelson up --data-dir {shown}",
            shown = dir.path().display()
        );
    };
    let running = dir.running()?;
    let recorded = |part: &Part| running.iter().find(|recorded| recorded.name == part.name);
    // The last run may have been of the store alone.
    let mut parts = Part::all_of(&cluster, false);
    parts.retain(|part| running.is_empty() || recorded(part).is_some());

    let mut view = View::new(&parts);
    for (place, part) in parts.iter().enumerate() {
        let recorded = recorded(part);
        let process = recorded
            .and_then(|recorded| recorded.process.as_ref())
            .filter(|process| process.is_alive());
        let Some(process) = process else {
            let what = What::Stopped { killed: false };
            view.apply(&Event { part: place, what });
            continue;
        };
        let what = What::Started {
            pid: process.pid,
            // Long ago: whatever it answers is its own.
            at: SystemTime::UNIX_EPOCH,
        };
        view.apply(&Event { part: place, what });
        view.take_over(place, recorded.map_or(0, |recorded| recorded.restarts));
    }
    for answer in poll::ask_all(&parts, &dir).await? {
        view.apply(&answer);
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
