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
use crate::types::{Peer, membership_to_pb};

/// Held while a change is made: the next one is checked against what this one leaves.
type Turn = OwnedMutexGuard<()>;

/// What the membership is to become.
enum Wanted {
    /// What was asked for.
    Asked(Change),
    /// A new member that has caught up votes.
    Promoted(u64),
    /// What a leader before began is finished, and no more.
    Whole,
}

impl<P: Parts> Shared<P> {
    /// Changes the membership as the leader; [`Trouble::NotLeader`] if nothing was changed since this member does not
    /// lead.
    pub(crate) async fn change_members_here(
        self: &Arc<Self>,
        change: Change,
    ) -> Result<Membership, Trouble> {
        // Who asks through another member waits there, and cannot call this off.
        let turn = self.changing.clone().lock_owned();
        match P::Rt::timeout(self.timing.request_timeout(), turn).await {
            Ok(turn) => self.carry_out(turn, Wanted::Asked(change)).await,
            Err(_) => Err(Trouble::Timeout),
        }
    }

    /// Makes voters of the new members that have caught up.
    pub(crate) async fn finish_promotions(self: &Arc<Self>) {
        if self.ready_to_vote().is_none() {
            return;
        }
        let turn = self.changing.clone().lock_owned().await;
        let Some(id) = self.ready_to_vote() else {
            return;
        };
        let member = format!("{id:x}");
        match self.carry_out(turn, Wanted::Promoted(id)).await {
            Ok(_) => tracing::info!(member, "a new member has caught up and votes now"),
            Err(error) => tracing::debug!(member, %error, "a promotion has to wait"),
        }
    }

    /// A new member that is there, and so close behind that the rest arrives within a round trip or two.
    fn ready_to_vote(&self) -> Option<u64> {
        let membership = self.raft_membership();
        let mut pending = membership.nodes().filter(|(_, peer)| peer.pending_voter);
        let ready = pending.find(|(id, _)| self.answers(**id) && self.caught_up(**id, 999, 1_000));
        ready.map(|(id, _)| *id)
    }

    /// Completes a change of voters that another leader began, and was deposed or died in between.
    pub(crate) async fn finish_half_made_change(self: &Arc<Self>) {
        if !self.is_half_made() {
            return;
        }
        let turn = self.changing.clone().lock_owned().await;
        // One that this member makes itself is finished by then.
        if !self.is_half_made() {
            return;
        }
        match self.carry_out(turn, Wanted::Whole).await {
            Ok(_) => tracing::info!("completed a change of members that another leader began"),
            Err(error) => tracing::debug!(%error, "a change of members cannot be completed yet"),
        }
    }

    fn is_half_made(&self) -> bool {
        self.is_leader() && self.raft_membership().get_joint_config().len() > 1
    }

    /// Carries a change out on a task of its own: who asked for it may go before it is made.
    async fn carry_out(
        self: &Arc<Self>,
        turn: Turn,
        wanted: Wanted,
    ) -> Result<Membership, Trouble> {
        let (done, made) = oneshot::channel();
        let shared = self.clone();
        drop(P::Rt::spawn(async move {
            let result = shared.make(wanted).await;
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

    async fn make(&self, wanted: Wanted) -> Result<Membership, Trouble> {
        if !self.is_leader() {
            return Err(Trouble::NotLeader);
        }
        if self.is_half_made() {
            // Before anything else: the next change would carry this one to its end in its own way, and might keep as a
            // learner whom this one takes away. Voters are only ever taken away to be removed.
            let no_change = ChangeMembers::AddVoterIds(BTreeSet::new());
            match (self.commit(no_change, false).await, &wanted) {
                (whole, Wanted::Whole) => return whole,
                (Ok(_), _) => {}
                // Nothing of what was asked for was made.
                (Err(Trouble::LeaderChanged), _) => return Err(Trouble::NotLeader),
                (Err(trouble), _) => return Err(trouble),
            }
        }
        let (changes, retain) = match wanted {
            Wanted::Asked(change) => self.check(change)?,
            Wanted::Promoted(id) => match self.raft_membership().get_node(&id) {
                Some(peer) if peer.pending_voter => (promotion(id, peer), true),
                _ => return Err(Trouble::MemberNotFound),
            },
            Wanted::Whole => return Ok(self.membership()),
        };
        self.commit(changes, retain).await
    }

    async fn commit(
        &self,
        changes: ChangeMembers<u64, Peer>,
        retain: bool,
    ) -> Result<Membership, Trouble> {
        let before = self.raft_membership();
        let error = match self.raft().change_membership(changes, retain).await {
            Ok(response) => {
                let made = response.membership.as_ref().map(membership_to_pb);
                return Ok(made.unwrap_or_else(|| self.membership()));
            }
            Err(RaftError::APIError(error)) => error,
            Err(RaftError::Fatal(_)) => return Err(Trouble::Stopped),
        };
        Err(match error {
            // The second of two entries can be refused when the first is committed: not to be asked for again.
            ClientWriteError::ForwardToLeader(_) if self.raft_membership() != before => {
                Trouble::LeaderChanged
            }
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
