//! Following who leads, and waiting for its answers no longer than it does.
//!
//! A leader that hangs, or whose machine is gone, breaks no connection: its answers just do not come. Whoever waits for
//! one also watches who leads, so that it costs no request more than the election that follows.

use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use openraft::AsyncRuntime;
use openraft::async_runtime::watch::WatchReceiver;

use crate::shared::{Parts, Shared};
use crate::transport::{Call, CallError, Lane, Reply, Request, Transport};

impl<P: Parts> Shared<P> {
    /// Asks `leader` something that may safely be asked again. None if there is no answer: it was not reached, it
    /// leads no more, or it took longer than an election would.
    pub(crate) async fn ask_leader(&self, leader: u64, question: Request) -> Option<Reply> {
        let call = self.net.call(leader, Lane::Forward, question);
        let answer = self.while_it_leads(leader, Duration::ZERO, call);
        let answer = P::Rt::timeout(self.timing.election, answer).await;
        answer.ok().flatten()?.ok()
    }

    /// Waits for the answer to a call while `leader` is named as the leader, and `grace` longer: it may have answered
    /// before it was deposed.
    pub(crate) async fn while_it_leads(
        &self,
        leader: u64,
        grace: Duration,
        mut call: Call,
    ) -> Option<Result<Reply, CallError>> {
        loop {
            let changed = pin!(self.leadership_may_have_changed());
            match select(&mut call, changed).await {
                Either::Left((answer, _)) => return Some(answer),
                Either::Right(_) if self.named_leader() == Some(leader) => {}
                Either::Right(_) => return P::Rt::timeout(grace, call).await.ok(),
            }
        }
    }

    /// Completes when who leads may be another now, or after a while.
    pub(crate) async fn leadership_may_have_changed(&self) {
        self.roles_may_have_changed(self.timing.heartbeat / 2).await;
    }

    /// Completes when the leader, the term, what this member is or the membership may have changed, or after a pause.
    /// Not at every entry, as [`Shared::metrics_may_have_changed`].
    pub(crate) async fn roles_may_have_changed(&self, pause: Duration) {
        let mut metrics = self.raft().server_metrics();
        // The receiver is a copy of an old one: without this, it would report a change at once, every time.
        drop(metrics.borrow_and_update());
        let still_open = metrics.changed().map(|changed| changed.is_ok());
        self.news_or_pause(still_open, pause).await;
    }

    /// Completes when openraft reports anything new, or after a heartbeat.
    pub(crate) async fn metrics_may_have_changed(&self) {
        let mut metrics = self.raft().metrics();
        drop(metrics.borrow_and_update());
        let still_open = metrics.changed().map(|changed| changed.is_ok());
        self.news_or_pause(still_open, self.timing.heartbeat).await;
    }

    /// Waits for news, or for a pause. Once openraft has stopped nothing changes any more, which is said at once: that must
    /// not turn who waits into a busy loop. If it has not said why, it has panicked: what it last reported is no longer true.
    async fn news_or_pause(&self, still_open: impl Future<Output = bool> + Send, pause: Duration) {
        let pause = pause.max(Duration::from_millis(1));
        if let Ok(false) = P::Rt::timeout(pause, still_open).await {
            if !self.stopping() && self.stopped().is_none() {
                self.fail("consensus has ended without a word".into());
            }
            P::Rt::sleep(pause).await;
        }
    }
}
