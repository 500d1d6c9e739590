//! Standing for election as soon as the leader's program has ended, and not only when its time is up.
//!
//! A program that ends, however it does, leaves broken connections, and its machine refuses new ones. That is no proof that nobody
//! leads: so who sees it asks for pre-votes only, which everybody refuses who still hears from the leader. A machine that is gone
//! says nothing, and costs an election timeout as ever.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keelson_proto::peerpb;
use openraft::AsyncRuntime;
use openraft::raft::TransferLeaderRequest;

use crate::shared::{Parts, Shared};
use crate::transport::{CallError, Lane, Request, Transport};
use crate::types::Types;

/// Calls to the leader of which each may only find out that a connection broke, one a lane at most.
const ASKED: usize = Lane::ALL.len() + 1;

/// How often a member stands: the others may not have noticed yet, or have the longer log and not stood yet.
const ATTEMPTS: u32 = 3;

impl<P: Parts> Shared<P> {
    /// A connection of `from` has ended. If it was the leader's, and its program has, too, somebody else stands for election.
    pub(crate) async fn connection_ended(self: &Arc<Self>, from: u64) {
        if self.is_leaders(from) && !self.succeeding.swap(true, Ordering::AcqRel) {
            self.succeed(from).await;
            self.succeeding.store(false, Ordering::Release);
        }
    }

    fn is_leaders(&self, from: u64) -> bool {
        from != self.id.0 && !self.stopping() && self.named_leader() == Some(from)
    }

    async fn succeed(&self, leader: u64) {
        let vote = self.metrics(|metrics| metrics.vote);
        let Some(place) = self.place_in_line(leader) else {
            return;
        };
        if !self.refuses_connections(leader).await || !self.is_leaders(leader) {
            return;
        }
        tracing::info!(leader = format!("{leader:x}"), "the leader has ended");
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
            // Somebody else stands, or leads.
            if self.stopping() || self.metrics(|metrics| metrics.vote) != vote {
                return;
            }
            if self.raft().trigger().elect(true).await.is_err() {
                return;
            }
            pause = 2 * turn;
        }
    }

    /// How many voters stand before this one; none if this one does not vote.
    fn place_in_line(&self, leader: u64) -> Option<u32> {
        self.metrics(|metrics| {
            let voters = metrics.membership_config.voter_ids();
            let mut others: Vec<u64> = voters.filter(|id| *id != leader).collect();
            others.sort_unstable();
            let place = others.binary_search(&self.id.0).ok()?;
            u32::try_from(place).ok()
        })
    }

    /// Nobody is there any more to take a connection.
    async fn refuses_connections(&self, id: u64) -> bool {
        let asking = async {
            for _ in 0..ASKED {
                let ask = Request::ClusterProbe(peerpb::ClusterProbe {
                    member_id: self.id.0,
                });
                match self.net.call(id, Lane::Heartbeat, ask).await {
                    Err(CallError::NotSent { .. }) => return true,
                    // On a connection that was there before.
                    Err(CallError::Lost { .. }) => {}
                    Ok(_) => return false,
                }
            }
            false
        };
        P::Rt::timeout(self.timing.heartbeat, asking)
            .await
            .unwrap_or(false)
    }
}
