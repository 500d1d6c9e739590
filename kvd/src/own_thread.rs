//! A thread with a runtime of its own.
//!
//! Tasks that hand work to one another do so without waking another thread, and nobody looks for work to take from others,
//! which costs a lone client as much as the work itself. Consensus has such a thread: what it proposes and what it does for the
//! others goes from task to task, and where a member votes alone, it can wait there for its disk without anybody noticing.
//! Clients have as many as there are cores, and a connection stays with the one that it was given.

use std::convert::Infallible;
use std::io;

use futures::channel::oneshot;
use tokio::runtime::{Builder, Handle};

/// A thread with a runtime of its own. Once this is dropped, all that runs there is dropped, too.
pub(crate) struct OwnThread {
    runtime: Handle,
    _running: oneshot::Sender<Infallible>,
}

impl OwnThread {
    /// Starts it.
    pub(crate) fn start(name: impl Into<String>) -> io::Result<OwnThread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
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

    /// Starts one for each core that this process may use.
    pub(crate) fn one_a_core(name: &str) -> io::Result<Vec<OwnThread>> {
        let cores = std::thread::available_parallelism()?.get();
        (0..cores)
            .map(|core| OwnThread::start(format!("{name}-{core}")))
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
        let thread = OwnThread::start("mine").expect("a thread starts");
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
