//! The scheduler: it gives each pod that has no node the best one that fits.
//!
//! **Guarantees**: the decision is a pure function of a snapshot of nodes and pods; a pod is bound once; one that fits
//! nowhere is told why, and is tried again when something changed that could make it fit.
//!
//! **Leaves to others**: running the pod (the node).
//!
//! | to understand | read |
//! |---|---|
//! | the decision | `decide.rs`, with `filter.rs` and `score.rs` |
//! | who is tried when | `queue.rs` |
//! | how what is seen and what is decided fit together | `scheduler.rs` |
//! | the loop around that | `run.rs` |
//!
//! Not here yet: pre-emption, volumes, dynamic resources.

mod affinity;
mod args;
mod claims;
mod cluster;
mod crowds;
mod decide;
mod filter;
mod pod;
mod ports;
mod queue;
mod resources;
mod run;
mod scheduler;
mod score;
mod spread;
#[cfg(test)]
mod testing;

use keelson_component::Recorder;
use keelson_component::election::lead;
use tokio_util::sync::CancellationToken;

pub use args::Args;

/// Its name in leases, events and field managers.
const NAME: &str = "kube-scheduler";

/// Schedules until `stop`, one process at a time.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let connect = args.connect.connect(NAME).await?;
    let name = args.scheduler_name.clone();
    let (recorder, write) = Recorder::new(connect.clone(), &name, stop.clone());
    let events = tokio::spawn(write);
    let work = async |stop| {
        run::schedule(connect.clone(), name, recorder, stop).await;
        Ok(())
    };
    let led = lead(&connect, &args.election, stop, work).await;
    events.abort();
    led
}
