//! Which changes of the membership are allowed, and asking whoever leads for them. [`crate::reconfiguration`] carries
//! them out.
//!
//! A new voter starts as a learner marked as pending, and whoever leads promotes it once it has caught up: adding a
//! member never costs the cluster its quorum. To clients it is a voter that has not started, in lists and in the
//! strict check alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keelson_planted::{Bug, on};
use keelson_proto::commandpb::{self, Membership};
use keelson_proto::peerpb::{self, member_change::Change};
use keelson_store::MemberId;
use openraft::async_runtime::Instant;
use openraft::{AsyncRuntime, ChangeMembers};

use crate::shared::{Parts, Shared};
use crate::transport::{CallError, Lane, Reply, Request, Transport};
use crate::trouble::Trouble;
use crate::types::{Peer, RaftMembership};

/// A learner may be promoted when it has so much of the leader's log (etcd's nine tenths).
const READY_NUMERATOR: u64 = 9;
const READY_DENOMINATOR: u64 = 10;

impl<P: Parts> Shared<P> {
    /// Changes the membership, wherever the leader is.
    pub(crate) async fn change_members(
        self: &Arc<Self>,
        change: Change,
    ) -> Result<Membership, Trouble> {
        let under_way = AtomicBool::new(false);
        let work = async {
            loop {
                if self.stopping() {
                    return Err(Trouble::Stopped);
                }
                let leader = self.named_leader();
                under_way.store(leader.is_some(), Ordering::Relaxed);
                let result = match leader {
                    Some(id) if id == self.id.0 => self.change_members_here(change.clone()).await,
                    Some(id) => self.forward_change(id, change.clone()).await,
                    None => Err(Trouble::NotLeader),
                };
                match result {
                    Err(Trouble::NotLeader) => {
                        under_way.store(false, Ordering::Relaxed);
                        self.leadership_may_have_changed().await;
                    }
                    result => return result,
                }
            }
        };
        match P::Rt::timeout(self.timing.request_timeout(), work).await {
            Ok(result) => result,
            Err(_) => Err(self.out_of_time(under_way.into_inner())),
        }
    }

    async fn forward_change(&self, leader: u64, change: Change) -> Result<Membership, Trouble> {
        let request = Request::MemberChange(peerpb::MemberChange {
            change: Some(change),
        });
        let call = self.net.call(leader, Lane::Forward, request);
        let grace = self.timing.election;
        let Some(answer) = self.while_it_leads(leader, grace, call).await else {
            return Err(Trouble::LeaderChanged);
        };
        match answer {
            Ok(Reply::MemberChange(peerpb::MemberChangeReply {
                result: Some(result),
            })) => match result {
                peerpb::member_change_reply::Result::Membership(membership) => Ok(membership),
                peerpb::member_change_reply::Result::Trouble(trouble) => {
                    Err(Trouble::from_pb(&trouble))
                }
            },
            Ok(_) => Err(Trouble::Unknown),
            Err(CallError::NotSent { .. }) => Err(Trouble::NotLeader),
            Err(CallError::Lost { .. }) => Err(Trouble::TimeoutConnectionLost),
        }
    }

    /// What a change comes down to, if it may be made now, and whether voters that it takes away stay as learners.
    pub(crate) fn check(
        &self,
        change: Change,
    ) -> Result<(ChangeMembers<u64, Peer>, bool), Trouble> {
        let membership = self.raft_membership();
        Ok(match change {
            Change::Add(add) => (self.check_add(&membership, add)?, true),
            Change::Remove(id) => (self.check_remove(&membership, id)?, false),
            Change::Update(update) => (check_update(&membership, update)?, true),
            Change::Promote(id) => (self.check_promote(&membership, id)?, true),
        })
    }

    fn check_add(
        &self,
        membership: &RaftMembership,
        add: peerpb::member_change::Add,
    ) -> Result<ChangeMembers<u64, Peer>, Trouble> {
        let removed = self
            .reader
            .now()
            .removed_members()
            .map_err(|_| Trouble::Corrupt)?;
        if membership.get_node(&add.id).is_some() || removed.contains(&MemberId(add.id)) {
            return Err(Trouble::MemberExists);
        }
        check_urls_are_free(membership, add.id, &add.peer_urls)?;
        let voters = voters_and_pending(membership);
        if add.learner {
            let learners = membership.nodes().count() - voters.len();
            if learners >= self.max_learners {
                return Err(Trouble::TooManyLearners);
            }
        } else if self.strict_reconfig {
            // The new member counts as one that has not started; a cluster of one must be able to grow nevertheless.
            let started = self.started(&voters)?;
            if (started, voters.len()) != (1, 1) {
                check_enough_started(started, voters.len() + 1)?;
            }
            self.check_quorum_answers(&voters)?;
        }
        let peer = Peer {
            peer_urls: add.peer_urls,
            pending_voter: !add.learner,
        };
        Ok(ChangeMembers::AddNodes(BTreeMap::from([(add.id, peer)])))
    }

    fn check_remove(
        &self,
        membership: &RaftMembership,
        id: u64,
    ) -> Result<ChangeMembers<u64, Peer>, Trouble> {
        if membership.get_node(&id).is_none() {
            return Err(Trouble::MemberNotFound);
        }
        let is_voter = membership.voter_ids().any(|voter| voter == id);
        let mut left = voters_and_pending(membership);
        left.remove(&id);
        if is_voter && left.is_empty() {
            return Err(Trouble::NotEnoughStarted);
        }
        if self.strict_reconfig && is_voter {
            check_enough_started(self.started(&left)?, left.len())?;
            // Taking away one that does not answer is what heals a cluster.
            if self.answers(id) {
                self.check_quorum_answers(&left)?;
            }
        }
        let ids = BTreeSet::from([id]);
        Ok(if is_voter {
            ChangeMembers::RemoveVoters(ids)
        } else {
            ChangeMembers::RemoveNodes(ids)
        })
    }

    fn check_promote(
        &self,
        membership: &RaftMembership,
        id: u64,
    ) -> Result<ChangeMembers<u64, Peer>, Trouble> {
        let Some(peer) = membership.get_node(&id) else {
            return Err(Trouble::MemberNotFound);
        };
        if membership.voter_ids().any(|voter| voter == id) || peer.pending_voter {
            return Err(Trouble::NotLearner);
        }
        if !self.caught_up(id, READY_NUMERATOR, READY_DENOMINATOR) {
            return Err(Trouble::LearnerNotReady);
        }
        if self.strict_reconfig {
            // It has caught up: it counts as one that has started.
            let voters = voters_and_pending(membership);
            check_enough_started(self.started(&voters)? + 1, voters.len() + 1)?;
        }
        Ok(promotion(id, peer))
    }

    /// How many have started, as etcd's strict check counts: those that have published their name.
    fn started(&self, voters: &BTreeSet<u64>) -> Result<usize, Trouble> {
        let attributes = self
            .reader
            .now()
            .attributes()
            .map_err(|_| Trouble::Corrupt)?;
        let started = attributes
            .iter()
            .filter(|member| voters.contains(&member.id));
        Ok(started.count())
    }

    fn check_quorum_answers(&self, voters: &BTreeSet<u64>) -> Result<(), Trouble> {
        let answering = voters.iter().filter(|id| self.answers(**id)).count();
        if answering < voters.len() / 2 + 1 && !on(Bug::MemberChangeAckedEarly) {
            Err(Trouble::Unhealthy)
        } else {
            Ok(())
        }
    }

    /// The member has answered this leader within an election timeout.
    pub(crate) fn answers(&self, id: u64) -> bool {
        if id == self.id.0 {
            return true;
        }
        self.metrics(|metrics| {
            let answered = metrics
                .heartbeat
                .as_ref()
                .and_then(|heartbeat| heartbeat.get(&id));
            answered
                .and_then(|answered| answered.as_ref())
                .is_some_and(|at| at.elapsed() <= self.timing.election)
        })
    }

    /// The member has so much of this leader's log.
    pub(crate) fn caught_up(&self, id: u64, numerator: u64, denominator: u64) -> bool {
        self.metrics(|metrics| {
            let last = metrics.last_log_index.unwrap_or(0);
            let matching = metrics
                .replication
                .as_ref()
                .and_then(|replication| replication.get(&id));
            let matching = matching
                .and_then(|matching| matching.as_ref())
                .map(|id| id.index());
            matching.is_some_and(|index| (index + 1) * denominator >= (last + 1) * numerator)
        })
    }
}

/// Makes a learner a voter.
pub(crate) fn promotion(id: u64, peer: &Peer) -> ChangeMembers<u64, Peer> {
    let peer = Peer {
        peer_urls: peer.peer_urls.clone(),
        pending_voter: false,
    };
    ChangeMembers::Batch(vec![
        ChangeMembers::SetNodes(BTreeMap::from([(id, peer)])),
        ChangeMembers::AddVoterIds(BTreeSet::from([id])),
    ])
}

fn check_update(
    membership: &RaftMembership,
    update: peerpb::member_change::Update,
) -> Result<ChangeMembers<u64, Peer>, Trouble> {
    let Some(peer) = membership.get_node(&update.id) else {
        return Err(Trouble::MemberNotFound);
    };
    check_urls_are_free(membership, update.id, &update.peer_urls)?;
    let peer = Peer {
        peer_urls: update.peer_urls,
        pending_voter: peer.pending_voter,
    };
    // Same id, same log: only the address changes, so replacing the node cannot split the cluster.
    Ok(ChangeMembers::SetNodes(BTreeMap::from([(update.id, peer)])))
}

fn check_urls_are_free(
    membership: &RaftMembership,
    id: u64,
    urls: &[String],
) -> Result<(), Trouble> {
    let mut others = membership.nodes().filter(|(other, _)| **other != id);
    if others.any(|(_, peer)| peer.peer_urls.iter().any(|url| urls.contains(url))) {
        return Err(Trouble::PeerUrlExists);
    }
    Ok(())
}

/// Enough have started that so many voters have a quorum.
fn check_enough_started(started: usize, voters: usize) -> Result<(), Trouble> {
    if started < voters / 2 + 1 {
        Err(Trouble::NotEnoughStarted)
    } else {
        Ok(())
    }
}

/// The voters, and those on their way to become one.
fn voters_and_pending(membership: &RaftMembership) -> BTreeSet<u64> {
    let pending = membership
        .nodes()
        .filter(|(_, peer)| peer.pending_voter)
        .map(|(id, _)| *id);
    membership.voter_ids().chain(pending).collect()
}

/// What a client sees: a pending voter is no learner.
pub(crate) fn is_learner(membership: &commandpb::Membership, id: u64) -> bool {
    let voter = membership
        .configs
        .iter()
        .any(|config| config.ids.contains(&id));
    let pending = membership
        .nodes
        .iter()
        .any(|node| node.id == id && node.pending_voter);
    !voter && !pending
}
