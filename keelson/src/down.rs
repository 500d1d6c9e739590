//! `keelson down`: asks the launcher to stop, and cleans up after one that was killed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use rustix::process::Signal;

use crate::cli::DirArgs;
use crate::data_dir::DataDir;
use crate::part::Stage;
use crate::process::{GRACE, ProcessId};

/// The launcher gives each stage [`GRACE`], one after the other; it needs a little more itself.
const LAUNCHER_GRACE: Duration = GRACE
    .saturating_mul(Stage::ALL.len() as u32)
    .saturating_add(Duration::from_secs(5));
/// How long SIGKILL may take.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// Stops the cluster in a directory. To stop what does not run is no error.
pub async fn run(args: &DirArgs) -> anyhow::Result<ExitCode> {
    let dir = DataDir::at(&args.data_dir);
    let shown = dir.path().display();
    let launcher = dir.holder();
    if let Some(launcher) = &launcher {
        println!("stopping the cluster in {shown}");
        launcher.signal(Signal::TERM);
        if !launcher.ended_within(LAUNCHER_GRACE).await {
            println!(
                "keelson up (pid {}) does not stop; killing it",
                launcher.pid
            );
            kill(launcher, "keelson up").await?;
        }
    }
    let left_behind = dir.exists() && stop_left_behind(&dir).await?;
    if launcher.is_some() || left_behind {
        println!("stopped; the data stays in {shown}");
    } else {
        println!("nothing runs in {shown}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops processes whose launcher is gone; says whether there were any.
pub async fn stop_left_behind(dir: &DataDir) -> anyhow::Result<bool> {
    let recorded = dir.running()?;
    let mut left: Vec<(&str, &ProcessId)> = recorded
        .iter()
        .filter_map(|part| Some((part.name.as_str(), part.process.as_ref()?)))
        .filter(|(_, process)| process.is_alive())
        .collect();
    let any = !left.is_empty();
    for (name, process) in &left {
        println!(
            "{name}: left behind by a launcher that was killed (pid {}); stopping it",
            process.pid
        );
        process.signal(Signal::TERM);
    }
    let deadline = tokio::time::Instant::now() + GRACE;
    while let Some((name, process)) = left.pop() {
        if !process
            .ended_within(deadline.saturating_duration_since(tokio::time::Instant::now()))
            .await
        {
            println!(
                "{name}: did not stop within {} s; killing it",
                GRACE.as_secs()
            );
            kill(process, name).await?;
        }
    }
    Ok(any)
}

async fn kill(process: &ProcessId, name: &str) -> anyhow::Result<()> {
    process.signal(Signal::KILL);
    if !process.ended_within(KILL_GRACE).await {
        bail!(
            "{name} (pid {}) cannot be killed; is it another user's?",
            process.pid
        );
    }
    Ok(())
}
