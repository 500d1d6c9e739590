//! Leases end when they should and not before, and locks that are made of them exclude.
//!
//! A lease whose grant or renewal was acknowledged lives for its time from then; a client knows that it was not renewed
//! before it asked, so nothing may show that the lease is over before its time has passed since the request was sent. When
//! it is over, by expiry or revocation, all its keys went in one revision, and nothing brings it back.
//!
//! A holder of a lock who believes so for no longer than that cannot hold it beside another. One that does not look at
//! the time is kept out by its fence: behind a later holder's write, no earlier holder's write comes.
//!
//! Where a clock was made to jump, only what does not go by time is judged: fences above all.

use std::collections::{BTreeMap, HashMap};

use super::clocks::Jumps;
use super::{Case, Checker, Findings, Violation, words};
use crate::history::{
    Act, Call, Deed, EventKind, Lease, LeaseId, Micros, Operation, OperationId, Reply, Revision,
    Settled,
};

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let lives = lives(case);
    let ends = ends(case, &lives);
    let jumps = Jumps::of(case);
    for (id, life) in &lives {
        granted(*id, life, findings);
        gone_early(*id, life, &jumps, findings);
        back_from_the_dead(*id, life, ends.get(id), findings);
    }
    expired_early(case, &lives, &jumps, findings);
    keys_after_the_end(case, &ends, findings);
    keys_after_revocation(case, &lives, findings);
    let (held, fenced) = locks(case, &jumps, findings);
    findings.judged(
        Checker::Lease,
        format!(
            "{} leases, {held} holdings of locks, {fenced} fenced writes",
            lives.len()
        ),
    );
}

/// What clients did with one lease.
#[derive(Default)]
struct Life<'a> {
    grants: Vec<&'a Operation>,
    /// Acknowledged, with the seconds told; 0 if it is over.
    keeps: Vec<(&'a Operation, i64)>,
    /// Whatever may have revoked it.
    revokes: Vec<&'a Operation>,
}

/// When a lease was over, at the latest.
struct End {
    revision: Revision,
    known: Micros,
    by: Option<OperationId>,
}

impl<'a> Life<'a> {
    /// The time before which the lease cannot be over by itself, by what was acknowledged to requests that `counts`.
    fn lives_until(
        &self,
        counts: impl Fn(&Operation) -> bool,
    ) -> Option<(Micros, &'a Operation, i64)> {
        let grants = self
            .grants
            .iter()
            .filter_map(|operation| match operation.done()? {
                (_, Reply::Lease { ttl, .. }) => Some((*operation, *ttl)),
                _ => None,
            });
        let keeps = self.keeps.iter().filter(|(_, ttl)| *ttl > 0).copied();
        grants
            .chain(keeps)
            .filter(|(operation, _)| counts(operation))
            .map(|(operation, ttl)| (after(operation.start, ttl), operation, ttl))
            .max_by_key(|(until, _, _)| *until)
    }

    fn may_be_revoked_by(&self, at: Micros) -> bool {
        self.revokes.iter().any(|revoke| revoke.start <= at)
    }
}

fn after(start: Micros, seconds: i64) -> Micros {
    let micros = u64::try_from(seconds)
        .unwrap_or_default()
        .saturating_mul(1_000_000);
    Micros(start.0.saturating_add(micros))
}

fn lives<'a>(case: &Case<'a>) -> BTreeMap<LeaseId, Life<'a>> {
    let mut lives: BTreeMap<LeaseId, Life<'_>> = BTreeMap::new();
    for operation in &case.history.operations {
        if operation.refused().is_some() {
            continue;
        }
        let Call::Lease(call) = &operation.call else {
            continue;
        };
        let told = match operation.done() {
            Some((_, Reply::Lease { id, ttl, .. })) => Some((*id, *ttl)),
            _ => None,
        };
        match call {
            Lease::Grant { id, .. } => {
                let id = told.map_or(*id, |(id, _)| id);
                if !id.is_none() {
                    lives.entry(id).or_default().grants.push(operation);
                }
            }
            Lease::Revoke { id } => lives.entry(*id).or_default().revokes.push(operation),
            Lease::KeepAlive { id } => {
                if let Some((_, ttl)) = told {
                    lives.entry(*id).or_default().keeps.push((operation, ttl));
                }
            }
            Lease::TimeToLive { .. } | Lease::List => {}
        }
    }
    // Where one id may have had two lives, nothing tells them apart.
    lives.retain(|_, life| life.grants.len() <= 1);
    lives
}

fn ends(case: &Case<'_>, lives: &BTreeMap<LeaseId, Life<'_>>) -> HashMap<LeaseId, End> {
    let mut ends = HashMap::new();
    for (revision, lease) in case.causes.lease_ends() {
        if let Some(step) = case.truth.step(revision) {
            let end = End {
                revision,
                known: step.known,
                by: None,
            };
            ends.insert(lease, end);
        }
    }
    for (id, life) in lives {
        for revoke in &life.revokes {
            let Some((header, _)) = revoke.done() else {
                continue;
            };
            let end = ends.entry(*id).or_insert(End {
                revision: header.revision,
                known: revoke.end,
                by: None,
            });
            end.revision = end.revision.min(header.revision);
            end.known = end.known.min(revoke.end);
            end.by = Some(revoke.id);
        }
    }
    ends.retain(|id, _| lives.contains_key(id));
    ends
}

/// A grant gives the id that was asked for, and no less time.
fn granted(id: LeaseId, life: &Life<'_>, findings: &mut Findings) {
    for grant in &life.grants {
        let (
            Call::Lease(Lease::Grant { id: asked, ttl }),
            Some((_, Reply::Lease { ttl: told, .. })),
        ) = (&grant.call, grant.done())
        else {
            continue;
        };
        if told < ttl || (!asked.is_none() && *asked != id) {
            let sentence = format!(
                "{} was granted lease {:x} of {told} s instead.",
                words::capital(&words::operation(grant)),
                id.0
            );
            findings.by(Checker::Lease, &[grant], sentence);
        }
    }
}

/// A renewal is told that the lease is over, and it cannot be.
fn gone_early(id: LeaseId, life: &Life<'_>, jumps: &Jumps, findings: &mut Findings) {
    for (keep, ttl) in &life.keeps {
        if *ttl > 0 || life.may_be_revoked_by(keep.end) {
            continue;
        }
        let promise = life.lives_until(|operation| operation.end < keep.start);
        if let Some((until, by, seconds)) = promise
            && keep.end < until
            && !jumps.between(by.start, keep.end)
        {
            let sentence = format!(
                "Lease {:x} was gone for {}, but {} gave it {seconds} s, until {} at least, and nobody revoked it.",
                id.0,
                words::operation(keep),
                words::operation(by),
                words::time(until)
            );
            findings.by(Checker::Lease, &[keep, by], sentence);
        }
    }
}

/// What is over stays over.
fn back_from_the_dead(id: LeaseId, life: &Life<'_>, end: Option<&End>, findings: &mut Findings) {
    let Some(end) = end else {
        return;
    };
    for (keep, ttl) in &life.keeps {
        if *ttl > 0 && keep.start > end.known {
            let mut operations = vec![keep.id];
            operations.extend(end.by);
            findings.add(Violation {
                checker: Checker::Lease,
                sentence: format!(
                    "Lease {:x} was over at {}, at revision {}, but {} was told that it lives.",
                    id.0,
                    words::time(end.known),
                    end.revision.0,
                    words::operation(keep)
                ),
                operations,
                watches: Vec::new(),
                at: keep.end,
            });
        }
    }
}

/// Keys went with a lease that had time left.
fn expired_early(
    case: &Case<'_>,
    lives: &BTreeMap<LeaseId, Life<'_>>,
    jumps: &Jumps,
    findings: &mut Findings,
) {
    let mut ends: Vec<_> = case.causes.lease_ends().collect();
    ends.sort();
    for (revision, lease) in ends {
        let (Some(life), Some(step)) = (lives.get(&lease), case.truth.step(revision)) else {
            continue;
        };
        if life.may_be_revoked_by(step.known) {
            continue;
        }
        let Some((until, by, seconds)) =
            life.lives_until(|operation| operation.start <= step.known)
        else {
            continue;
        };
        if step.known < until && !jumps.between(by.start, step.known) {
            let sentence = format!(
                "The keys of lease {:x} went at revision {}, seen at {}, but {} gave it {seconds} s, until {} at least, \
                 and nobody revoked it.",
                lease.0,
                revision.0,
                words::time(step.known),
                words::operation(by),
                words::time(until)
            );
            findings.by(Checker::Lease, &[by], sentence);
        }
    }
}

/// Nothing is hung on a lease that is over.
fn keys_after_the_end(case: &Case<'_>, ends: &HashMap<LeaseId, End>, findings: &mut Findings) {
    for (revision, step) in case.truth.steps() {
        for event in &step.events {
            let Some(end) = ends.get(&event.kv.lease) else {
                continue;
            };
            if event.kind == EventKind::Put && revision > end.revision {
                let writer = case.writer(revision).map(|writer| writer.id);
                findings.add(Violation {
                    checker: Checker::Lease,
                    sentence: format!(
                        "{} was hung on lease {:x} at revision {}, but the lease was over at revision {}.",
                        event.kv.key, event.kv.lease.0, revision.0, end.revision.0
                    ),
                    operations: writer.into_iter().chain(end.by).collect(),
                    watches: Vec::new(),
                    at: step.known,
                });
            }
        }
    }
}

/// At the revision that a revocation was told, none of the lease's keys is there any more.
fn keys_after_revocation(
    case: &Case<'_>,
    lives: &BTreeMap<LeaseId, Life<'_>>,
    findings: &mut Findings,
) {
    let mut revocations = Vec::new();
    for (id, life) in lives {
        for revoke in &life.revokes {
            if let Some((header, _)) = revoke.done() {
                revocations.push((header.revision, (*id, *revoke)));
            }
        }
    }
    case.truth.visit(revocations, |state, revision, (id, revoke)| {
        if let Some(key) = state.of_lease(id).next() {
            let sentence = format!(
                "{key} is still there at revision {}, which {} was told: it outlives its lease.",
                revision.0,
                words::operation(revoke)
            );
            findings.by(Checker::Lease, &[revoke], sentence);
        }
    });
}

/// Locks exclude, by time and by fence. How many holdings and fenced writes there were.
fn locks(case: &Case<'_>, jumps: &Jumps, findings: &mut Findings) -> (usize, usize) {
    let mut holdings: BTreeMap<&str, Vec<Holding<'_>>> = BTreeMap::new();
    let mut writes: BTreeMap<&str, Vec<(Revision, Revision, &Act)>> = BTreeMap::new();
    let mut counts = (0, 0);
    for act in &case.history.acts {
        match &act.deed {
            Deed::Held {
                lock,
                fence,
                from,
                until,
                ..
            } => {
                counts.0 += 1;
                // Whoever learns of it when it is over has not held it.
                if until > from {
                    holdings.entry(lock).or_default().push(Holding {
                        from: *from,
                        until: *until,
                        fence: *fence,
                        act,
                    });
                }
            }
            Deed::Fenced { lock, fence } if act.settled == Settled::Done => {
                let operation = act.operations.last().and_then(|id| case.operations.get(id));
                if let Some(revision) = operation.and_then(|operation| operation.wrote()) {
                    counts.1 += 1;
                    let fenced = writes.entry(lock).or_default();
                    fenced.push((revision, *fence, act));
                }
            }
            _ => {}
        }
    }
    for (lock, mut holdings) in holdings {
        holdings.sort_by_key(|holding| holding.from);
        exclude(lock, &holdings, jumps, findings);
    }
    for (lock, mut writes) in writes {
        writes.sort_by_key(|(revision, _, _)| *revision);
        for pair in writes.windows(2) {
            let [(earlier, later_fence, before), (later, fence, act)] = pair else {
                continue;
            };
            if fence < later_fence {
                let sentence = format!(
                    "Client {} wrote under {lock} with fence {} at revision {}, after client {} had with fence {} at revision {}.",
                    act.client.0, fence.0, later.0, before.client.0, later_fence.0, earlier.0
                );
                tell(act, before, sentence, findings);
            }
        }
    }
    counts
}

/// When a client believed to hold a lock.
struct Holding<'a> {
    from: Micros,
    until: Micros,
    fence: Revision,
    act: &'a Act,
}

/// Holdings of one lock, in order of time, do not overlap, and their fences grow.
fn exclude(lock: &str, holdings: &[Holding<'_>], jumps: &Jumps, findings: &mut Findings) {
    let mut longest: Option<&Holding<'_>> = None;
    for holding in holdings {
        if let Some(other) = longest {
            let jumped = jumps.between(other.from, holding.from);
            let overlap = holding.from < other.until && !jumped;
            if overlap || holding.fence <= other.fence {
                let sentence = format!(
                    "Client {} held {lock} from {} with fence {}, and client {} from {} to {} with fence {}: {}.",
                    holding.act.client.0,
                    words::time(holding.from),
                    holding.fence.0,
                    other.act.client.0,
                    words::time(other.from),
                    words::time(other.until),
                    other.fence.0,
                    if overlap {
                        "both at once"
                    } else {
                        "the fence did not grow"
                    }
                );
                tell(holding.act, other.act, sentence, findings);
            }
        }
        if longest.is_none_or(|longest| holding.until > longest.until) {
            longest = Some(holding);
        }
    }
}

fn tell(act: &Act, other: &Act, sentence: String, findings: &mut Findings) {
    findings.add(Violation {
        checker: Checker::Lease,
        sentence,
        operations: act
            .operations
            .iter()
            .chain(&other.operations)
            .copied()
            .collect(),
        watches: Vec::new(),
        at: act.end,
    });
}
