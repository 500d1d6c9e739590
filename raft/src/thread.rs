//! The thread that a member has to itself.
//!
//! What it does for the others, and what it proposes, goes from task to task: openraft's loop, its replication, the peers'
//! connections. On one thread none of these hand-overs wakes another one, and a member that votes alone can wait there for its
//! disk without anybody noticing: the clients are served elsewhere.

use std::convert::Infallible;
use std::io;

use futures::channel::oneshot;
use tokio::runtime::{Builder, Handle};

/// A thread with a runtime of its own. Once this is dropped, all that runs there is dropped, too.
pub struct RaftThread {
    runtime: Handle,
    _running: oneshot::Sender<Infallible>,
}

impl RaftThread {
    /// Starts it.
    pub fn start() -> io::Result<RaftThread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, stopped) = oneshot::channel();
        std::thread::Builder::new()
            .name("raft".into())
            .spawn(move || {
                // Nothing is ever sent: it completes when the sender is dropped.
                let _ = runtime.block_on(stopped);
                // What blocks is left to end by itself: a disk that hangs must not keep the process.
                runtime.shutdown_background();
            })?;
        Ok(RaftThread {
            runtime: handle,
            _running: running,
        })
    }

    /// To spawn there what shall run there, as all that it spawns.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use futures::future::pending;

    use super::*;

    #[tokio::test]
    async fn what_is_spawned_there_stays_there_until_it_ends() {
        let thread = RaftThread::start().expect("a thread starts");
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
        assert_eq!(outer.as_deref(), Some("raft"));
        assert_eq!(inner, outer);
        drop(thread);
        assert!(released.await.is_err(), "dropped with the runtime");
    }
}
