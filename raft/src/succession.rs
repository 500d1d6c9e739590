//! Standing for election as soon as the leader's program has ended, and not only when its time is up.
//!
//! A program that ends, however it does, leaves broken connections, and its machine refuses new ones. That is no proof that nobody
//! leads: so who sees it asks for pre-votes only, which everybody refuses who still hears from the leader. A machine that is gone
//! says nothing, and costs an election timeout as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keelson_proto::peerpb;
use openraft::AsyncRuntime;
use openraft::raft::TransferLeaderRequest;

use crate::shared::{Parts, Shared, Timing};
use crate::transport::{CallError, Lane, Reply, Request, Transport};
use crate::types::{RaftVote, Types, vote_to_pb};

/// How often the leader is asked whether it is there. A call may find that an old connection is broken, or be the last one that the
/// leader's machine has accepted.
const ASKED: usize = 4;

/// How often a member stands: the others may not have noticed yet, or have the longer log and not stood yet.
const ATTEMPTS: u32 = 3;

/// A lease that was void before its time.
#[derive(Clone, Copy)]
pub(crate) struct Void {
    /// The vote for the leader.
    vote: RaftVote,
    since: Duration,
}

impl Void {
    /// The leader was heard of after all, and no longer ago than a lease lasts.
    fn is_over(&self, now: Duration, heard: Duration, timing: Timing) -> bool {
        // What an ended program has sent may still be worked on for a moment.
        heard > self.since + timing.heartbeat && now.saturating_sub(heard) < timing.lease()
    }
}

impl<P: Parts> Shared<P> {
    /// A connection of `from` has ended. If it was the leader's, and its program has, too, somebody else stands for election.
    pub(crate) async fn connection_ended(self: &Arc<Self>, from: u64) {
        if !self.is_leaders(from) {
            return;
        }
        self.ended.fetch_add(1, Ordering::AcqRel);
        if self.succeeding.swap(true, Ordering::AcqRel) {
            return;
        }
        let _done = Done(&self.succeeding);
        loop {
            let seen = self.ended.load(Ordering::Acquire);
            self.succeed(from).await;
            // What has ended meanwhile may have been the last.
            if self.ended.load(Ordering::Acquire) == seen || !self.is_leaders(from) {
                return;
            }
        }
    }

    /// A leader whose lease this member has taken for void is heard of again. openraft gives a lease back with the next term only; until
    /// then it is kept here.
    pub(crate) fn keeps_to_its_leader(&self) -> bool {
        let (void, heard) = (*self.void.lock(), *self.heard.lock());
        let (Some(void), Some(heard)) = (void, heard) else {
            return false;
        };
        !self.succeeding.load(Ordering::Acquire)
            && void.is_over((self.now)(), heard, self.timing)
            && self.metrics(|metrics| metrics.vote) == void.vote
    }

    fn is_leaders(&self, from: u64) -> bool {
        from != self.id.0 && !self.leaving() && self.named_leader() == Some(from)
    }

    async fn succeed(&self, leader: u64) {
        let Some(vote) = self.vote_now().await else {
            return;
        };
        let Some((place, line)) = self.place_in_line(leader) else {
            return;
        };
        if vote_to_pb(&vote).node != leader || !self.has_ended(leader).await {
            return;
        }
        tracing::info!(
            leader = format!("{leader:x}"),
            "the leader's program has ended"
        );
        let since = (self.now)();
        *self.void.lock() = Some(Void { vote, since });
        // openraft's way to say that the leader's lease is void. Made out to the leader itself, it makes nobody stand.
        let void = TransferLeaderRequest::<Types<P::Rt>>::new(vote, leader, None);
        if self.raft().handle_transfer_leader(void).await.is_err() {
            return;
        }
        // One after the other, or two that stand at once might each be the other's obstacle.
        let turn = self.timing.heartbeat / 2;
        let mut pause = turn / 10 + turn * place;
        for _ in 0..ATTEMPTS {
            P::Rt::sleep(pause.max(Duration::from_millis(1))).await;
            // Otherwise somebody else stands, or leads. Not from what is reported: that lags behind a vote that is being written.
            if self.leaving() || self.vote_now().await != Some(vote) {
                return;
            }
            if self.raft().trigger().elect(true).await.is_err() {
                return;
            }
            pause = turn * line;
        }
    }

    /// This member's vote, written or not; none if openraft has stopped.
    async fn vote_now(&self) -> Option<RaftVote> {
        let vote = self.raft().with_raft_state(|state| *state.vote_ref());
        vote.await.ok()
    }

    /// How many voters stand before this one, and how many in all; none if this one does not vote.
    fn place_in_line(&self, leader: u64) -> Option<(u32, u32)> {
        self.metrics(|metrics| {
            let voters = metrics.membership_config.voter_ids();
            place_in_line(voters, leader, self.id.0)
        })
    }

    /// A member's machine is there, and its program is not.
    async fn has_ended(&self, id: u64) -> bool {
        let asking = async {
            for _ in 0..ASKED {
                let ask = Request::ClusterProbe(peerpb::ClusterProbe {
                    member_id: self.id.0,
                });
                match self.net.call(id, Lane::Heartbeat, ask).await {
                    Err(CallError::NotSent { is_refused, .. }) if is_refused => return true,
                    Ok(Reply::ClusterProbe(_)) => return false,
                    // On a connection that is no more, or from one that is about to end.
                    Ok(_) | Err(_) => P::Rt::sleep(self.timing.heartbeat / 20).await,
                }
            }
            false
        };
        P::Rt::timeout(self.timing.heartbeat, asking)
            .await
            .unwrap_or(false)
    }
}

fn place_in_line(voters: impl Iterator<Item = u64>, leader: u64, me: u64) -> Option<(u32, u32)> {
    let mut line: Vec<u64> = voters.filter(|id| *id != leader).collect();
    line.sort_unstable();
    let place = line.binary_search(&me).ok()?;
    Some((place as u32, line.len() as u32))
}

/// Says so when it is done, whatever became of it.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_stand_one_after_the_other_in_the_order_of_their_ids() {
        let place = |me| place_in_line([5, 1, 9, 3].into_iter(), 3, me);
        let places = [Some((0, 3)), Some((1, 3)), Some((2, 3))];
        assert_eq!([1, 5, 9].map(place), places);
        assert_eq!(place(7), None, "a learner");
    }

    #[test]
    fn a_void_lease_is_kept_again_while_the_leader_speaks() {
        let ms = Duration::from_millis;
        let timing = Timing {
            heartbeat: ms(100),
            election: ms(1_000),
        };
        let void = Void {
            vote: RaftVote::new_committed(3, 1),
            since: ms(5_000),
        };
        let is_over = |now, heard| void.is_over(ms(now), ms(heard), timing);
        assert!(!is_over(5_100, 4_990), "nothing was heard since");
        assert!(!is_over(5_100, 5_100), "it may be what was under way");
        assert!(is_over(5_200, 5_101));
        assert!(is_over(5_550, 5_101));
        assert!(!is_over(5_551, 5_101), "not longer than a lease");
    }
}
