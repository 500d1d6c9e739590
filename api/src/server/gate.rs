//! Holds calls back until the member may answer them.
//!
//! A member that starts may know less than it did before it was stopped, until it has applied again what it had applied
//! then, and it needs a leader to tell it how far that is. Most often that is a matter of a second, and the calls that
//! arrive meanwhile just wait. They wait no longer than any request does for a leader.

use std::sync::Arc;
use std::time::Duration;

use keelson_raft::Trouble;
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

/// A gate that is opened once, for good. Its clones are the same gate.
#[derive(Clone)]
pub(super) struct Gate {
    recovered: Arc<SetOnce<()>>,
    stopping: CancellationToken,
    patience: Duration,
}

impl Gate {
    /// A gate that is closed.
    pub(super) fn new(patience: Duration, stopping: CancellationToken) -> Gate {
        Gate {
            recovered: Arc::new(SetOnce::new()),
            stopping,
            patience,
        }
    }

    /// Opens it when `recovered` says so. Returns when it has, or when the server stops.
    pub(super) async fn open_when(self, recovered: impl Future<Output = Result<(), Trouble>>) {
        tokio::select! {
            recovered = recovered => if recovered.is_ok() {
                // It is opened from here alone.
                let _ = self.recovered.set(());
            },
            () = self.stopping.cancelled() => {}
        }
    }

    /// Whether calls may pass.
    pub(super) fn is_open(&self) -> bool {
        self.recovered.initialized()
    }

    /// Waits until calls may pass, or says why they never will.
    pub(super) async fn passed(self) -> Result<(), Trouble> {
        tokio::select! {
            () = async { self.recovered.wait().await; } => Ok(()),
            () = self.stopping.cancelled() => Err(Trouble::Stopped),
            () = tokio::time::sleep(self.patience) => Err(Trouble::NoLeader),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(7);

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_recovery_and_then_pass_at_once() {
        let gate = Gate::new(PATIENCE, CancellationToken::new());
        let waits = tokio::spawn(gate.clone().passed());
        let recovery = async {
            tokio::time::sleep(PATIENCE / 2).await;
            Ok(())
        };
        gate.clone().open_when(recovery).await;
        assert_eq!(waits.await.unwrap(), Ok(()));
        assert!(gate.is_open());
        assert_eq!(gate.passed().await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_recovery_a_call_is_refused_when_its_time_is_up() {
        let gate = Gate::new(PATIENCE, CancellationToken::new());
        let asked = tokio::time::Instant::now();
        assert_eq!(gate.clone().passed().await, Err(Trouble::NoLeader));
        assert_eq!(asked.elapsed().as_secs(), PATIENCE.as_secs());
        gate.clone()
            .open_when(async { Err(Trouble::Stopped) })
            .await;
        assert!(!gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_lets_the_waiting_go() {
        let stopping = CancellationToken::new();
        let gate = Gate::new(PATIENCE, stopping.clone());
        let waits = tokio::spawn(gate.clone().passed());
        stopping.cancel();
        gate.open_when(std::future::pending()).await;
        assert_eq!(waits.await.unwrap(), Err(Trouble::Stopped));
    }
}
