//! Handing leadership over, because somebody asked for it or before this member stops.
//!
//! From then on until the other leads nobody takes writes, and the other stands for election once it has the whole log.
//! So it must be close behind. It need not be level: while there are writes under way, it may never be.

use std::cmp::Reverse;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{Either, join, select};
use keelson_proto::peerpb;
use openraft::AsyncRuntime;

use crate::shared::{MetricsOf, Parts, Shared};
use crate::transport::{Lane, Reply, Request, Transport};
use crate::trouble::Trouble;

/// Those who wait for a member that stops hold it up no longer than this: elections may take minutes.
const LEAVE_MAX: Duration = Duration::from_secs(5);

impl<P: Parts> Shared<P> {
    /// Hands leadership to a voter, and waits until it leads. As in etcd, the leader must be asked.
    pub(crate) async fn move_leader(&self, to: u64) -> Result<(), Trouble> {
        if !self.is_leader() {
            return Err(match self.named_leader() {
                None => Trouble::NoLeader,
                Some(_) => Trouble::NotLeader,
            });
        }
        if !self.is_voter(to) {
            return Err(Trouble::BadTransferee);
        }
        if to == self.id.0 {
            return Ok(());
        }
        let work = async {
            self.keeps_up(to).await;
            self.raft()
                .trigger()
                .transfer_leader(to)
                .await
                .map_err(|_| Trouble::Stopped)?;
            loop {
                match self.named_leader() {
                    Some(id) if id == to => return Ok(()),
                    Some(id) if id != self.id.0 => return Err(Trouble::LeaderChanged),
                    _ => self.metrics_may_have_changed().await,
                }
            }
        };
        // As long as an election may take.
        match P::Rt::timeout(3 * self.timing.election, work).await {
            Ok(result) => result,
            Err(_) => Err(Trouble::TimeoutLeaderFail),
        }
    }

    /// Before this member stops: hands leadership to a voter that is there to take it, if this member leads. Gives the one that has taken
    /// it, and stands for election.
    pub(crate) async fn hand_over(&self) -> Option<u64> {
        if !self.is_leader() {
            return None;
        }
        for to in self.successors() {
            if self.yield_leadership(to).await {
                return Some(to);
            }
            tracing::info!(to = format!("{to:x}"), "leadership was not handed over");
        }
        None
    }

    /// After [`Shared::hand_over`]: takes part until its successor leads, which may need the vote of this member, and for as long as somebody
    /// waits for a command that was proposed here. Whether it was appended is known here alone; the outcome comes from the next leader.
    /// Changes of the membership are not waited for.
    pub(crate) async fn leave(&self, successor: Option<u64>) {
        self.leaving.store(true, Ordering::Release);
        self.raft().runtime_config().elect(false);
        let succeeded = async {
            if let Some(successor) = successor
                && self.is_voter(self.id.0)
            {
                self.unless_gone(successor, self.another_leads()).await;
            }
        };
        // Without a majority there is no answer.
        let patience = self.timing.election.min(LEAVE_MAX);
        let over = join(self.close_intake(), succeeded);
        if P::Rt::timeout(patience, over).await.is_err() {
            tracing::warn!(
                "no majority was there in time: nobody leads, or what was proposed last is left without an answer"
            );
        }
    }

    /// Completes once this member has heard from another leader.
    async fn another_leads(&self) {
        while self.named_leader().is_none_or(|id| id == self.id.0) {
            self.leadership_may_have_changed().await;
        }
    }

    fn is_voter(&self, id: u64) -> bool {
        self.metrics(|metrics| {
            metrics
                .membership_config
                .voter_ids()
                .any(|voter| voter == id)
        })
    }

    /// The other voters, the one with the longest log first.
    fn successors(&self) -> Vec<u64> {
        self.metrics(|metrics| {
            let voters = metrics.membership_config.voter_ids();
            let mut others: Vec<u64> = voters.filter(|id| *id != self.id.0).collect();
            others.sort_by_key(|id| Reverse(matching::<P>(metrics, *id)));
            others
        })
    }

    /// Makes another member stand for election, and gives up if it is not there. Says whether this member leads no
    /// more; it may stop before it would have learned who leads now.
    async fn yield_leadership(&self, to: u64) -> bool {
        if !self.is_there(to).await {
            return false;
        }
        let yielded = self.unless_gone(to, self.yield_to(to));
        let patience = 2 * self.timing.election;
        matches!(P::Rt::timeout(patience, yielded).await, Ok(Some(true)))
    }

    /// Says whether this member leads no more.
    async fn yield_to(&self, to: u64) -> bool {
        self.keeps_up(to).await;
        if self.raft().trigger().transfer_leader(to).await.is_err() {
            return false;
        }
        while self.is_leader() {
            self.metrics_may_have_changed().await;
        }
        true
    }

    /// Does something that a member takes part in; none if that is not there.
    async fn unless_gone<T>(&self, id: u64, work: impl Future<Output = T> + Send) -> Option<T> {
        match select(pin!(work), pin!(self.is_gone(id))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Completes when the member is not there.
    async fn is_gone(&self, id: u64) {
        while self.is_there(id).await {
            P::Rt::sleep(self.timing.heartbeat).await;
        }
    }

    /// Completes once a member has got the log of this leader as it was a short while ago, or this member leads no
    /// more: what came since is there as soon, if nothing is added to it.
    async fn keeps_up(&self, id: u64) {
        // It is given a little longer than this to get the rest.
        let a_short_while = self.timing.election / 4;
        loop {
            let (since, last) = ((self.now)(), self.metrics(|metrics| metrics.last_log_index));
            while self.metrics(|metrics| matching::<P>(metrics, id)) < last {
                if !self.is_leader() {
                    return;
                }
                self.metrics_may_have_changed().await;
            }
            if (self.now)().saturating_sub(since) <= a_short_while {
                return;
            }
        }
    }

    /// The member answers, and is not about to stop itself.
    async fn is_there(&self, id: u64) -> bool {
        let ask = Request::ClusterProbe(peerpb::ClusterProbe {
            member_id: self.id.0,
        });
        let answer = self.net.call(id, Lane::Heartbeat, ask);
        let answer = P::Rt::timeout(self.timing.election, answer).await;
        matches!(answer, Ok(Ok(Reply::ClusterProbe(_))))
    }
}

/// How far a member's log is known to be the leader's; none if this member does not lead.
fn matching<P: Parts>(metrics: &MetricsOf<P>, id: u64) -> Option<u64> {
    let replication = metrics.replication.as_ref()?;
    replication.get(&id)?.as_ref().map(|at| at.index())
}
