//! What has really happened in a run, as every member's disk and state tell it, and the invariants that hold at every
//! step of it.
//!
//! Each member tells of each entry that its log has synced, of each state that it has applied, and of each vote under
//! which it speaks as a leader. What two members tell must agree; what was told once holds for ever, whatever crashes.
//! The first contradiction is kept, and ends the run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_log::{LogId, Vote};
use keelson_proto::commandpb::{Command, Membership, command::Request};
use keelson_store::Event;
use parking_lot::Mutex;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use crate::runtime::now;
use crate::tally::{Kind, Tally};

/// The kind byte of a log payload that is a command (docs/formats.md).
const KIND_COMMAND: u8 = 1;

/// What all members of a run have told. Cheap to clone.
#[derive(Clone, Default)]
pub struct Truth(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    contradiction: Option<String>,
    /// Who leads a term.
    leaders: BTreeMap<u64, u64>,
    /// The last term in which each member told others of its vote, and for whom that was.
    votes: BTreeMap<u64, (u64, u64)>,
    /// The last entry that each member has told a leader it holds, and the term of that leader.
    held: BTreeMap<u64, (u64, LogId)>,
    /// The last entry whose effects each member has on its disk as state, which then needs no log.
    flushed: BTreeMap<u64, u64>,
    /// Every entry that any log ever held, by index and term.
    logged: BTreeMap<(u64, u64), Logged>,
    /// The state after an index, wherever a batch ended there.
    applied: BTreeMap<u64, Applied>,
    /// The changes of each revision.
    events: BTreeMap<i64, Vec<Event>>,
    tally: Tally,
}

struct Logged {
    /// The term of the entry before.
    prev: Option<u64>,
    payload: u64,
    /// When it was first seen on a disk.
    at: Duration,
    meaning: Meaning,
}

/// What an entry means to the checks that go by the order of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing that they ask about.
    Other,
    /// A lease is granted, for so many seconds.
    Grant(i64, i64),
    /// A client ends a lease.
    Revoke(i64),
    /// The leader finds that these leases have run out.
    Expire(Vec<i64>),
    /// The history is compacted.
    Compact(i64),
}

impl Meaning {
    fn of(payload: &Bytes) -> Meaning {
        let Some((&KIND_COMMAND, command)) = payload.split_first() else {
            return Meaning::Other;
        };
        match Command::decode(command)
            .ok()
            .and_then(|command| command.request)
        {
            Some(Request::LeaseGrant(grant)) => Meaning::Grant(grant.id, grant.ttl),
            Some(Request::LeaseRevoke(revoke)) => Meaning::Revoke(revoke.id),
            Some(Request::LeaseExpire(expire)) => Meaning::Expire(expire.ids),
            Some(Request::Compact(compact)) => Meaning::Compact(compact.revision),
            _ => Meaning::Other,
        }
    }
}

/// What a member's state is after an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The entry's term.
    pub term: u64,
    /// The store's revision.
    pub revision: i64,
    /// The revision to which it is compacted.
    pub compacted: i64,
    /// A hash over every byte of the state.
    pub hash: u64,
    /// The membership in force.
    pub membership: Membership,
}

/// A committed entry, for the checks at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its index.
    pub index: u64,
    /// When it was first on a disk.
    pub at: Duration,
    /// What it means.
    pub meaning: Meaning,
}

impl Truth {
    /// Two things that cannot both be.
    pub fn contradiction(&self, what: String) {
        self.0.lock().contradict(what);
    }

    /// The first contradiction, if there is one.
    pub fn found(&self) -> Option<String> {
        self.0.lock().contradiction.clone()
    }

    /// Something has happened that runs are meant to do.
    pub fn count(&self, kind: Kind) {
        self.0.lock().tally.count(kind);
    }

    /// How often what has happened.
    pub fn tally(&self) -> Tally {
        self.0.lock().tally.clone()
    }

    /// A member tells others that it votes for one in a term: it has no other vote in that term, for ever.
    pub fn votes(&self, member: u64, term: u64, candidate: u64) {
        let mut inner = self.0.lock();
        match inner.votes.get(&member).copied() {
            Some((voted, other)) if voted == term && other != candidate => inner.contradict(
                format!("member {member} votes for {other} and for {candidate} in term {term}"),
            ),
            // What was said before may be told later.
            Some((voted, _)) if voted >= term => {}
            _ => {
                inner.votes.insert(member, (term, candidate));
            }
        }
    }

    /// A member tells the leader of a term that it has everything up to an entry on its disk.
    pub fn holds(&self, member: u64, term: u64, entry: LogId) {
        let mut inner = self.0.lock();
        let held = inner.held.entry(member).or_insert((term, entry));
        if (held.0, held.1.index) < (term, entry.index) {
            *held = (term, entry);
        }
    }

    /// A member's state is on its disk, up to an entry.
    pub fn flushed(&self, member: u64, index: u64) {
        let mut inner = self.0.lock();
        let flushed = inner.flushed.entry(member).or_default();
        *flushed = index.max(*flushed);
    }

    /// A member starts, with this vote and with a log that ends so: nothing that it told of is forgotten.
    pub fn starts(&self, member: u64, vote: Option<Vote>, last: Option<LogId>) {
        let mut inner = self.0.lock();
        if let Some((term, candidate)) = inner.votes.get(&member).copied()
            && !vote.is_some_and(|vote| {
                // Who leads a term has its votes, and nobody else can have them.
                vote.term > term || vote.term == term && (vote.node == candidate || vote.committed)
            })
        {
            inner.contradict(format!(
                "member {member} voted for {candidate} in term {term}, and starts again with the vote {vote:?}"
            ));
        }
        // The leader of a later term may have replaced it.
        if let Some((term, entry)) = inner.held.get(&member).copied()
            && vote.is_none_or(|vote| vote.term <= term)
            && last.is_none_or(|last| last.index < entry.index)
            && inner
                .flushed
                .get(&member)
                .is_none_or(|flushed| *flushed < entry.index)
        {
            inner.contradict(format!(
                "member {member} told the leader of term {term} that it holds {entry:?}, and starts again with a log \
                 that ends at {last:?}"
            ));
        }
    }

    /// A member's log drops an entry from its end.
    pub fn drops(&self, member: u64, index: u64, term: u64) {
        let mut inner = self.0.lock();
        let applied = inner.applied.get(&index);
        if applied.is_some_and(|applied| applied.term == term) {
            inner.contradict(format!(
                "member {member} drops entry {index} of term {term} from its log, which was committed"
            ));
        }
    }

    /// A member speaks as the leader of a term.
    pub fn leads(&self, term: u64, member: u64) {
        let mut inner = self.0.lock();
        if !inner.leaders.contains_key(&term) {
            inner.tally.count(Kind::Election);
        }
        let leader = *inner.leaders.entry(term).or_insert(member);
        if leader != member {
            inner.contradict(format!(
                "members {leader} and {member} both lead term {term}"
            ));
        }
    }

    /// A member that has just begun to lead has a log that ends so, and holds these terms at these indexes.
    pub fn leader_has(
        &self,
        term: u64,
        member: u64,
        last: Option<LogId>,
        term_at: impl Fn(u64) -> Option<u64>,
    ) {
        let mut inner = self.0.lock();
        // A deposed leader that does not know it yet may lack what later terms have committed.
        if inner
            .leaders
            .last_key_value()
            .is_none_or(|(newest, _)| *newest > term)
        {
            return;
        }
        let Some((&index, applied)) = inner.applied.last_key_value() else {
            return;
        };
        let has = last.is_some_and(|last| last.index >= index)
            && term_at(index).is_none_or(|term| term == applied.term);
        if !has {
            let what = format!(
                "member {member} leads term {term} with a log that ends at {last:?}, but index {index} of term {} was \
                 committed",
                applied.term
            );
            inner.contradict(what);
        }
    }

    /// A member's disk holds an entry, after one of term `prev`.
    pub fn logged(&self, member: u64, prev: Option<u64>, id: LogId, payload: &Bytes) {
        let hash = xxh3_64(payload);
        let mut inner = self.0.lock();
        let place = (id.index, id.term);
        match inner.logged.entry(place) {
            Entry::Vacant(vacant) => {
                vacant.insert(Logged {
                    prev,
                    payload: hash,
                    at: now(),
                    meaning: Meaning::of(payload),
                });
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                // The term before a log's first entry is not always known.
                known.prev = known.prev.or(prev);
                if known.payload != hash || prev.is_some() && known.prev != prev {
                    let what = format!(
                        "log matching: member {member} holds another entry at index {} of term {}, or another before \
                         it, than was seen before",
                        id.index, id.term
                    );
                    inner.contradict(what);
                }
            }
        }
    }

    /// A member has applied everything up to an index, and these changes of keys since it last told.
    pub fn applied(&self, member: u64, index: u64, state: Applied, events: Vec<Event>) {
        let mut inner = self.0.lock();
        inner.check_neighbours(member, index, &state);
        match inner.applied.get(&index) {
            None => {
                inner.applied.insert(index, state);
            }
            Some(known) if *known != state => {
                let what = format!(
                    "state machines differ: after index {index} member {member} is at {state:?}, and {known:?} was \
                     seen before"
                );
                inner.contradict(what);
            }
            Some(_) => {}
        }
        let mut revisions: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for event in events {
            revisions.entry(event.revision.0).or_default().push(event);
        }
        for (revision, events) in revisions {
            match inner.events.get(&revision) {
                None => {
                    inner.events.insert(revision, events);
                }
                Some(known) if *known != events => {
                    let what = format!(
                        "revision {revision} is used twice: member {member} has other changes in it than were seen \
                         before"
                    );
                    inner.contradict(what);
                }
                Some(_) => {}
            }
        }
    }

    /// The membership of the newest state.
    pub fn membership(&self) -> Membership {
        let inner = self.0.lock();
        let newest = inner.applied.last_key_value();
        newest
            .map(|(_, state)| state.membership.clone())
            .unwrap_or_default()
    }

    /// Whether there ever was a membership like that.
    pub fn was_member(&self, is_so: impl Fn(&Membership) -> bool) -> bool {
        let inner = self.0.lock();
        let mut states = inner.applied.values().rev();
        states.any(|state| is_so(&state.membership))
    }

    /// Every change of a key, in its order.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().events.values().flatten().cloned().collect()
    }

    /// Every committed entry of which some member's disk was seen to hold it, in their order.
    pub fn committed(&self) -> Vec<Committed> {
        let inner = self.0.lock();
        let newest = inner.applied.last_key_value();
        let mut place = newest.map(|(index, state)| (*index, state.term));
        let mut all = Vec::new();
        while let Some((index, term)) = place {
            let Some(logged) = inner.logged.get(&(index, term)) else {
                break;
            };
            all.push(Committed {
                index,
                at: logged.at,
                meaning: logged.meaning.clone(),
            });
            place = index.checked_sub(1).zip(logged.prev);
        }
        all.reverse();
        all
    }
}

impl Inner {
    fn contradict(&mut self, what: String) {
        self.contradiction
            .get_or_insert_with(|| format!("at {:.3} s: {what}", now().as_secs_f64()));
    }

    /// Terms, revisions and compactions only grow along the log.
    fn check_neighbours(&mut self, member: u64, index: u64, state: &Applied) {
        let order = |a: &Applied, b: &Applied| {
            a.term <= b.term && a.revision <= b.revision && a.compacted <= b.compacted
        };
        let before = self.applied.range(..index).next_back();
        let after = self.applied.range(index + 1..).next();
        let wrong = before.is_some_and(|(_, before)| !order(before, state))
            || after.is_some_and(|(_, after)| !order(state, after));
        if wrong {
            self.contradict(format!(
                "member {member} has applied index {index} out of order: {state:?}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use openraft::AsyncRuntime;

    fn id(term: u64, index: u64) -> LogId {
        LogId {
            term,
            node: 0,
            index,
        }
    }

    fn state(term: u64, revision: i64, hash: u64) -> Applied {
        Applied {
            term,
            revision,
            compacted: -1,
            hash,
            membership: Membership::default(),
        }
    }

    /// What is found after `told` was told.
    fn found(told: impl FnOnce(&Truth)) -> Option<String> {
        Runtime::with_seed(0).block_on(async {
            let truth = Truth::default();
            told(&truth);
            truth.found()
        })
    }

    #[test]
    fn two_leaders_of_a_term_are_a_contradiction_and_one_of_each_is_not() {
        assert_eq!(
            found(|truth| {
                truth.leads(1, 1);
                truth.leads(2, 2);
                truth.leads(1, 1);
            }),
            None
        );
        assert!(
            found(|truth| {
                truth.leads(1, 1);
                truth.leads(1, 2);
            })
            .is_some()
        );
    }

    fn vote(term: u64, node: u64) -> Option<Vote> {
        let committed = false;
        Some(Vote {
            term,
            node,
            committed,
        })
    }

    #[test]
    fn a_vote_that_was_told_and_is_changed_or_forgotten_is_a_contradiction() {
        assert_eq!(
            found(|truth| {
                truth.votes(1, 2, 3);
                truth.starts(1, vote(2, 3), None);
                truth.votes(1, 4, 2);
                truth.votes(1, 2, 3);
                truth.starts(1, vote(5, 1), None);
            }),
            None
        );
        for after in [
            |truth: &Truth| truth.votes(1, 2, 1),
            |truth: &Truth| truth.starts(1, vote(2, 1), None),
            |truth: &Truth| truth.starts(1, vote(1, 3), None),
        ] {
            let wrong = found(|truth| {
                truth.votes(1, 2, 3);
                after(truth);
            });
            assert!(wrong.is_some());
        }
    }

    #[test]
    fn an_entry_that_a_member_held_and_does_not_find_again_is_a_contradiction() {
        let starts = |vote, last| {
            found(|truth| {
                truth.holds(1, 3, id(2, 7));
                truth.holds(1, 3, id(2, 6));
                truth.starts(1, vote, last);
            })
        };
        assert_eq!(starts(vote(3, 2), Some(id(3, 8))), None);
        assert!(starts(vote(3, 2), Some(id(2, 6))).is_some());
        assert!(starts(vote(3, 2), None).is_some());
        // The leader of a later term may have replaced it.
        assert_eq!(starts(vote(4, 2), Some(id(2, 6))), None);
        // It is in a snapshot that was installed.
        let installed = found(|truth| {
            truth.holds(1, 3, id(2, 7));
            truth.flushed(1, 7);
            truth.starts(1, vote(3, 2), Some(id(2, 6)));
        });
        assert_eq!(installed, None);
    }

    #[test]
    fn a_committed_entry_that_is_dropped_is_a_contradiction() {
        let drops = |term| {
            found(|truth| {
                truth.applied(1, 5, state(2, 3, 7), Vec::new());
                truth.drops(2, 5, term);
            })
        };
        assert_eq!(drops(1), None);
        assert!(drops(2).is_some());
    }

    #[test]
    fn logs_that_do_not_match_are_a_contradiction() {
        let payload = Bytes::from_static(b"\0");
        let other = Bytes::from_static(b"\x01");
        assert_eq!(
            found(|truth| {
                truth.logged(1, None, id(1, 0), &payload);
                truth.logged(1, Some(1), id(1, 1), &payload);
                // Another term may hold something else.
                truth.logged(2, Some(1), id(2, 1), &other);
                truth.logged(2, None, id(1, 1), &payload);
            }),
            None
        );
        for (prev, payload) in [(Some(1), &other), (Some(0), &payload)] {
            assert!(
                found(|truth| {
                    truth.logged(1, Some(1), id(1, 1), &Bytes::from_static(b"\0"));
                    truth.logged(2, prev, id(1, 1), payload);
                })
                .is_some()
            );
        }
    }

    #[test]
    fn states_that_differ_at_an_index_and_revisions_that_go_back_are_contradictions() {
        assert_eq!(
            found(|truth| {
                truth.applied(1, 5, state(1, 3, 7), Vec::new());
                truth.applied(2, 4, state(1, 2, 6), Vec::new());
                truth.applied(2, 5, state(1, 3, 7), Vec::new());
            }),
            None
        );
        for (index, state) in [
            (5, state(1, 3, 8)),
            (5, state(2, 3, 7)),
            (6, state(1, 2, 9)),
        ] {
            assert!(
                found(|truth| {
                    truth.applied(1, 5, self::state(1, 3, 7), Vec::new());
                    truth.applied(2, index, state, Vec::new());
                })
                .is_some()
            );
        }
    }

    #[test]
    fn a_leader_without_what_was_committed_is_a_contradiction_unless_it_is_deposed() {
        let short = |truth: &Truth, term| truth.leader_has(term, 2, Some(id(1, 4)), |_| Some(1));
        assert!(
            found(|truth| {
                truth.applied(1, 5, state(1, 3, 7), Vec::new());
                truth.leads(2, 2);
                short(truth, 2);
            })
            .is_some()
        );
        assert_eq!(
            found(|truth| {
                truth.applied(1, 5, state(1, 3, 7), Vec::new());
                truth.leads(2, 2);
                truth.leads(3, 3);
                short(truth, 2);
            }),
            None
        );
    }
}
