//! A thread with a runtime of its own.
//!
//! Tasks that hand work to one another do so without waking another thread, and nobody looks for work to take from others,
//! which costs a lone client as much as the work itself. Consensus has such a thread: what it proposes and what it does for the
//! others goes from task to task, and where a member votes alone, it can wait there for its disk without anybody noticing.
//! Clients have as many as there are cores, and a connection stays with the one that it was given.

use std::convert::Infallible;
use std::io;
use std::num::NonZeroUsize;

use futures::channel::oneshot;
use tokio::runtime::{Builder, Handle};

/// Threads that may wait at a time for large reads, of all clients: as many as a runtime has that is shared.
const BLOCKING_THREADS_MAX: usize = 512;

/// A thread with a runtime of its own. Once this is dropped, all that runs there is dropped, too.
pub(crate) struct OwnThread {
    runtime: Handle,
    _running: oneshot::Sender<Infallible>,
}

impl OwnThread {
    /// Starts it. What blocks is done by so many threads more.
    pub(crate) fn start(name: impl Into<String>, blocking: usize) -> io::Result<OwnThread> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(blocking)
            .build()?;
        let handle = runtime.handle().clone();
        let (running, stopped) = oneshot::channel();
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                // Nothing is ever sent: it completes when the sender is dropped.
                let _ = runtime.block_on(stopped);
                // What blocks is left to end by itself: a disk that hangs must not keep the process.
                runtime.shutdown_background();
            })?;
        Ok(OwnThread {
            runtime: handle,
            _running: running,
        })
    }

    /// Starts one for each core that this process may use, or as many as `TOKIO_WORKER_THREADS` says, as for a runtime that is shared.
    pub(crate) fn one_a_core(name: &str) -> io::Result<Vec<OwnThread>> {
        let wanted = std::env::var("TOKIO_WORKER_THREADS").ok();
        let threads = wanted
            .and_then(|number| number.parse().ok())
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get);
        let blocking = (BLOCKING_THREADS_MAX / threads).max(16);
        (0..threads)
            .map(|number| OwnThread::start(format!("{name}-{number}"), blocking))
            .collect()
    }

    /// To spawn there what shall run there, as all that it spawns.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use futures::future::pending;

    use super::*;

    #[tokio::test]
    async fn what_is_spawned_there_stays_there_until_it_ends() {
        let thread = OwnThread::start("mine", 1).expect("a thread starts");
        let (held, released) = oneshot::channel::<Infallible>();
        let here = || std::thread::current().name().map(str::to_owned);
        let spawned = thread.runtime().spawn(async move {
            tokio::spawn(async move {
                pending::<()>().await;
                drop(held);
            });
            let beneath = tokio::spawn(async move { here() }).await;
            (here(), beneath.expect("nothing panics"))
        });
        let (outer, inner) = spawned.await.expect("nothing panics");
        assert_eq!(outer.as_deref(), Some("mine"));
        assert_eq!(inner, outer);
        drop(thread);
        assert!(released.await.is_err(), "dropped with the runtime");
    }
}
