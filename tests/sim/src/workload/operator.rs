//! The operator, who changes the cluster under everybody's feet: members join, are promoted, removed and replaced
//! after their disk was lost, and leadership is moved.
//!
//! The cluster has three to five voters. A disk is destroyed only where the voters that are left are a quorum
//! whatever becomes of a change whose outcome is not known.

use std::time::Duration;

use keelson_proto::commandpb::Membership;
use keelson_proto::peerpb::member_change::{Add, Change};
use keelson_store::MemberId;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Site, pause};
use crate::runtime::now;
use crate::tally::Kind;

/// Voters that the cluster has at least, and at most.
const VOTERS_MIN: usize = 3;
const VOTERS_MAX: usize = 5;
/// A change that was not acknowledged is made or gone after so long: its messages, and the leader that has it, are.
const UNCLEAR_FOR: Duration = Duration::from_secs(20);
/// How often something that need not succeed is tried.
const TRIES: usize = 5;

struct Operator {
    site: Site,
    rng: StdRng,
    /// The id of the next member.
    next_id: u64,
    /// Until when a change may be under way whose outcome is not known.
    unclear_until: Duration,
}

/// Changes the cluster until the site closes, and then finishes what is begun.
pub async fn run(site: Site, rng: StdRng, next_id: u64) {
    let mut operator = Operator {
        site,
        rng,
        next_id,
        unclear_until: Duration::ZERO,
    };
    while !operator.site.closing() {
        pause(&mut operator.rng, 800, 5_000).await;
        operator.act().await;
    }
}

impl Operator {
    async fn act(&mut self) {
        let membership = self.site.truth.membership();
        let voters = voters(&membership);
        let learner = learner(&membership);
        let settled = membership.configs.len() == 1
            && !membership.nodes.iter().any(|node| node.pending_voter);
        let may_lose_one =
            voters.len() > VOTERS_MIN || voters.len() == VOTERS_MIN && now() > self.unclear_until;
        match self.rng.random_range(0..10) {
            0 | 1 => self.move_leader(&voters).await,
            2 | 3 if voters.len() < VOTERS_MAX => {
                let as_learner = learner.is_none() && self.rng.random_ratio(1, 2);
                self.add(as_learner, TRIES).await;
            }
            4 | 5 if learner.is_some() => self.settle_learner(learner).await,
            6 if voters.len() > VOTERS_MIN && settled => {
                let id = voters[self.rng.random_range(0..voters.len())];
                self.remove(id, TRIES).await;
            }
            7 | 8 if settled && may_lose_one => {
                let id = voters[self.rng.random_range(0..voters.len())];
                self.replace(id).await;
            }
            _ => {}
        }
    }

    /// Asks any member for a change, and says whether it was made.
    async fn change(&mut self, change: Change) -> bool {
        let Some(life) = self.site.any(&mut self.rng) else {
            return false;
        };
        let asked = change.clone();
        let made = self.site.at(
            &life,
            |member| async move { member.change_members(asked).await },
        );
        let made = made.await;
        let outcome = match &made {
            Some(Ok(_)) => "made".to_string(),
            Some(Err(trouble)) => trouble.to_string(),
            None => "no answer".to_string(),
        };
        if !matches!(made, Some(Ok(_))) {
            self.unclear_until = now() + UNCLEAR_FOR;
        }
        self.site.note(format!(
            "operator, at member {}: {change:?}: {outcome}",
            life.member.id()
        ));
        let made = matches!(made, Some(Ok(_)));
        if made {
            self.hold(&change, life.member.id());
        }
        made
    }

    /// A change that was said to be made is one that a member has applied, as a committed entry.
    fn hold(&self, change: &Change, member: MemberId) {
        let truth = &self.site.truth;
        let (kind, holds) = match change {
            Change::Add(add) => (
                Kind::Joined,
                truth.was_member(|then| then.nodes.iter().any(|node| node.id == add.id)),
            ),
            Change::Promote(id) => (
                Kind::Promoted,
                truth.was_member(|then| voters(then).contains(id)),
            ),
            // Its id is never used again.
            Change::Remove(id) => (Kind::Removed, !self.is_member(*id)),
            Change::Update(_) => return,
        };
        truth.count(kind);
        if !holds {
            truth.contradiction(format!(
                "member {member} says that {change:?} is made, and nobody has applied it"
            ));
        }
    }

    async fn add(&mut self, learner: bool, tries: usize) {
        let id = self.next_id;
        self.next_id += 1;
        let change = Change::Add(Add {
            id,
            peer_urls: vec![format!("http://member-{id}")],
            learner,
        });
        for _ in 0..tries {
            if self.change(change.clone()).await || self.is_member(id) {
                return;
            }
            pause(&mut self.rng, 100, 800).await;
        }
    }

    async fn remove(&mut self, id: u64, tries: usize) {
        for _ in 0..tries {
            if !self.is_member(id) || self.change(Change::Remove(id)).await {
                return;
            }
            pause(&mut self.rng, 100, 800).await;
        }
    }

    /// A learner becomes a voter, or goes.
    async fn settle_learner(&mut self, learner: Option<u64>) {
        let Some(id) = learner else { return };
        if self.rng.random_ratio(1, 4) {
            return self.remove(id, TRIES).await;
        }
        if voters(&self.site.truth.membership()).len() >= VOTERS_MAX {
            return;
        }
        for _ in 0..TRIES {
            if self.change(Change::Promote(id)).await {
                return;
            }
            pause(&mut self.rng, 100, 800).await;
        }
    }

    /// A member's disk is lost: it is removed, and another one takes its place. That must succeed in the end.
    async fn replace(&mut self, id: u64) {
        self.site.doom(id);
        while self.is_member(id) {
            self.change(Change::Remove(id)).await;
            pause(&mut self.rng, 100, 800).await;
        }
        let before = self.next_id;
        while !(before..self.next_id).any(|id| self.is_member(id)) {
            self.add(false, TRIES).await;
        }
        self.site.truth.count(Kind::Replaced);
    }

    async fn move_leader(&mut self, voters: &[u64]) {
        let Some(leader) = self.site.leader() else {
            return;
        };
        if voters.is_empty() {
            return;
        }
        let to = voters[self.rng.random_range(0..voters.len())];
        let moved = self.site.at(&leader, |member| async move {
            member.move_leader(MemberId(to)).await
        });
        let moved = moved.await;
        if matches!(moved, Some(Ok(()))) && leader.member.id().0 != to {
            self.site.truth.count(Kind::LeaderMoved);
        }
        let from = leader.member.id();
        self.site.note(format!(
            "operator: leadership from member {from} to {to}: {moved:?}"
        ));
    }

    fn is_member(&self, id: u64) -> bool {
        let membership = self.site.truth.membership();
        membership.nodes.iter().any(|node| node.id == id)
    }
}

/// The voters, and those who are about to become one.
fn voters(membership: &Membership) -> Vec<u64> {
    let is_voter = |id: &u64| {
        membership
            .configs
            .iter()
            .any(|config| config.ids.contains(id))
    };
    let nodes = membership.nodes.iter();
    nodes
        .filter(|node| node.pending_voter || is_voter(&node.id))
        .map(|node| node.id)
        .collect()
}

/// The learner, if there is one.
fn learner(membership: &Membership) -> Option<u64> {
    let voters = voters(membership);
    let mut nodes = membership.nodes.iter().map(|node| node.id);
    nodes.find(|id| !voters.contains(id))
}
