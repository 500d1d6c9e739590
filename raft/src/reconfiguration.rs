//! Carrying changes of the membership out, one at a time and to their end.
//!
//! A change of voters is two log entries: a joint membership, in which both the old and the new voters decide, and the
//! new one alone. Between them lies a commit, and whoever made the change may be gone by then. So a change outlives
//! the request that asked for it, and whoever leads finishes what a leader before left half-made.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::channel::oneshot;
use futures::lock::OwnedMutexGuard;
use keelson_planted::{Bug, on};
use keelson_proto::commandpb::Membership;
use keelson_proto::peerpb::member_change::Change;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{AsyncRuntime, ChangeMembers};

use crate::members::promotion;
use crate::shared::{Parts, Shared};
use crate::trouble::Trouble;
use crate::types::{Peer, RaftMembership, membership_to_pb};

/// Held while a change is made: the next one is checked against what this one leaves.
type Turn = OwnedMutexGuard<()>;

impl<P: Parts> Shared<P> {
    /// Changes the membership as the leader; [`Trouble::NotLeader`] if nothing was changed since this member does not
    /// lead.
    pub(crate) async fn change_members_here(
        self: &Arc<Self>,
        change: Change,
    ) -> Result<Membership, Trouble> {
        let turn = self.changing.clone().lock_owned().await;
        if !self.is_leader() {
            return Err(Trouble::NotLeader);
        }
        let (changes, retain) = self.check(change)?;
        self.carry_out(turn, changes, retain).await
    }

    /// Makes voters of the new members that have caught up.
    pub(crate) async fn finish_promotions(self: &Arc<Self>) {
        let pending = |membership: &RaftMembership| {
            let mut pending = membership.nodes().filter(|(_, peer)| peer.pending_voter);
            // Close enough that the rest arrives within a round trip or two.
            let ready = pending.find(|(id, _)| self.caught_up(**id, 999, 1_000));
            ready.map(|(id, peer)| (*id, peer.clone()))
        };
        if pending(&self.raft_membership()).is_none() {
            return;
        }
        let turn = self.changing.clone().lock_owned().await;
        let Some((id, peer)) = pending(&self.raft_membership()) else {
            return;
        };
        let member = format!("{id:x}");
        match self.carry_out(turn, promotion(id, &peer), true).await {
            Ok(_) => tracing::info!(member, "a new member has caught up and votes now"),
            Err(error) => tracing::debug!(member, %error, "a promotion has to wait"),
        }
    }

    /// Completes a change of voters that another leader began, and was deposed or died in between.
    pub(crate) async fn finish_half_made_change(self: &Arc<Self>) {
        let is_half_made =
            || self.is_leader() && self.raft_membership().get_joint_config().len() > 1;
        if !is_half_made() {
            return;
        }
        let turn = self.changing.clone().lock_owned().await;
        // One that this member makes itself is finished by then.
        if !is_half_made() {
            return;
        }
        let no_change = ChangeMembers::AddVoterIds(BTreeSet::new());
        // Voters are only ever taken away to be removed.
        match self.carry_out(turn, no_change, false).await {
            Ok(_) => tracing::info!("completed a change of members that another leader began"),
            Err(error) => tracing::debug!(%error, "a change of members cannot be completed yet"),
        }
    }

    /// Carries a change out on a task of its own: who asked for it may go before it is made.
    async fn carry_out(
        self: &Arc<Self>,
        turn: Turn,
        changes: ChangeMembers<u64, Peer>,
        retain: bool,
    ) -> Result<Membership, Trouble> {
        let (done, made) = oneshot::channel();
        let shared = self.clone();
        drop(P::Rt::spawn(async move {
            let result = shared.make(changes, retain).await;
            drop(turn);
            // Who asked may have gone.
            let _ = done.send(result);
        }));
        if on(Bug::MemberChangeAckedEarly) {
            self.metrics_may_have_changed().await;
            return Ok(self.membership());
        }
        made.await.unwrap_or(Err(Trouble::Stopped))
    }

    async fn make(
        &self,
        changes: ChangeMembers<u64, Peer>,
        retain: bool,
    ) -> Result<Membership, Trouble> {
        let error = match self.raft().change_membership(changes, retain).await {
            Ok(response) => {
                let made = response.membership.as_ref().map(membership_to_pb);
                return Ok(made.unwrap_or_else(|| self.membership()));
            }
            Err(RaftError::APIError(error)) => error,
            Err(RaftError::Fatal(_)) => return Err(Trouble::Stopped),
        };
        Err(match error {
            ClientWriteError::ForwardToLeader(_) => Trouble::NotLeader,
            ClientWriteError::ChangeMembershipError(error) => match error {
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_) => Trouble::Unhealthy,
                ChangeMembershipError::LearnerNotFound(_) => Trouble::MemberNotFound,
                _ => Trouble::NotEnoughStarted,
            },
            _ => Trouble::LeaderChanged,
        })
    }
}
