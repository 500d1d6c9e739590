//! Leases with keys, and locks made of them.
//!
//! Half of the clients grant leases, hang keys on them, keep them alive, and let them go. The others take turns at locks,
//! as etcd's users do: whoever creates the lock's key, on its own lease, holds the lock, and passes the revision of that as
//! a fence to what the lock guards.

use std::time::Duration;

use keelson_jepsen::history::{
    Call, Compare, CompareResult, Data, Deed, Delete, Lease, LeaseId, Micros, Operation, Outcome,
    Put, Reply, Revision, Settled, Step, Target,
};
use rand::Rng;

use super::session::{Session, get, put, settled_txn, txn};
use super::unchanged;

/// The shortest that an etcd grants is 2.
const TTLS: std::ops::RangeInclusive<i64> = 2..=5;
const LOCKS: u32 = 2;
const KEYS_MAX: usize = 3;

pub async fn run(mut session: Session) {
    while session.turn().await {
        if session.index.is_multiple_of(2) {
            live(&mut session).await;
        } else {
            lock(&mut session).await;
        }
    }
}

/// A lease as its owner believes it to be.
struct Granted {
    id: LeaseId,
    ttl: i64,
    /// It cannot be over before.
    until: Micros,
}

/// Grants a lease. Its time counts from before the request was sent: the server cannot have begun earlier.
async fn grant(session: &mut Session) -> Option<Granted> {
    let ttl = session.random.random_range(TTLS);
    // An id of our own, so that a grant whose answer was lost is known as well.
    let id = LeaseId(session.random.random_range(1..i64::MAX));
    let operation = session.call(Call::Lease(Lease::Grant { id, ttl })).await?;
    let (id, ttl) = told_lease(&operation)?;
    Some(Granted {
        id,
        ttl,
        until: later(operation.start, ttl),
    })
}

fn told_lease(operation: &Operation) -> Option<(LeaseId, i64)> {
    match &operation.outcome {
        Outcome::Done {
            reply: Reply::Lease { id, ttl, .. },
            ..
        } => Some((*id, *ttl)),
        _ => None,
    }
}

fn later(start: Micros, seconds: i64) -> Micros {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    Micros(start.0 + Duration::from_secs(seconds).as_micros() as u64)
}

/// The life of a lease: granted, used, prolonged or not, and then revoked or left to expire.
async fn live(session: &mut Session) {
    let Some(lease) = grant(session).await else {
        return;
    };
    let keys = session.random.random_range(0..=KEYS_MAX);
    for number in 0..keys {
        let key = format!("lease/{:016x}/{number}", lease.id.0);
        let put = Put {
            lease: lease.id,
            ..put(&key, session.value("leased"))
        };
        session.call(Call::Put(put)).await;
    }
    for _ in 0..session.random.random_range(0..6) {
        if !session.turn().await {
            return;
        }
        let id = lease.id;
        let call = match session.random.random_range(0..4) {
            0 | 1 => Call::Lease(Lease::KeepAlive { id }),
            2 => Call::Lease(Lease::TimeToLive { id, keys: true }),
            _ if keys > 0 => Call::Range(get(&format!("lease/{:016x}/0", id.0))),
            _ => Call::Lease(Lease::List),
        };
        session.call(call).await;
    }
    let id = lease.id;
    if session.random.random() {
        session.call(Call::Lease(Lease::Revoke { id })).await;
    }
    if keys > 0 && session.random.random() {
        session
            .call(Call::Range(get(&format!("lease/{:016x}/0", id.0))))
            .await;
    }
}

/// Takes a lock, writes what it guards for a while, and gives it back.
async fn lock(session: &mut Session) {
    let Some(mut lease) = grant(session).await else {
        return;
    };
    let name = format!("lock-{}", session.random.random_range(0..LOCKS));
    if let Some((fence, from)) = acquire(session, &name, &lease).await {
        let until = hold(session, &name, fence, &mut lease, &from).await;
        session.world.act(keelson_jepsen::history::Act {
            operations: vec![from.id],
            workload: session.workload,
            client: session.client,
            start: from.start,
            end: until.max(from.end),
            deed: Deed::Held {
                lock: name.clone(),
                lease: lease.id,
                fence,
                from: from.end,
                until: until.max(from.end),
            },
            settled: Settled::Done,
        });
        if session.random.random() {
            // As a client does that is careful: only its own.
            let delete = Step::Delete(Delete {
                key: key(&name).into(),
                ..Delete::default()
            });
            session
                .call(txn(vec![holds(&name, fence)], vec![delete], Vec::new()))
                .await;
        }
    }
    let id = lease.id;
    session.call(Call::Lease(Lease::Revoke { id })).await;
}

fn key(lock: &str) -> String {
    format!("lease/{lock}")
}

fn holds(lock: &str, fence: Revision) -> Compare {
    Compare {
        key: key(lock).into(),
        range_end: Data::default(),
        result: CompareResult::Equal,
        target: Target::Create(fence),
    }
}

/// Creates the lock's key; gives the fence, and the operation.
async fn acquire(
    session: &mut Session,
    lock: &str,
    lease: &Granted,
) -> Option<(Revision, Operation)> {
    // As long as the lease lives for certain.
    while session.world.now() < lease.until && session.turn().await {
        let put = Put {
            lease: lease.id,
            ..put(&key(lock), session.value("held"))
        };
        let operation = session
            .call(txn(
                vec![unchanged(&key(lock), Revision(0))],
                vec![Step::Put(put)],
                vec![Step::Range(get(&key(lock)))],
            ))
            .await?;
        match &operation.outcome {
            Outcome::Done {
                header,
                reply: Reply::Txn {
                    succeeded: true, ..
                },
            } => return Some((header.revision, operation)),
            Outcome::Done { .. } => {}
            // It may hold the lock and cannot know: it gives up its lease.
            _ => return None,
        }
    }
    None
}

/// Writes with the fence until it has enough, or the lease may be over. Gives the time until which it believed to hold it.
async fn hold(
    session: &mut Session,
    lock: &str,
    fence: Revision,
    lease: &mut Granted,
    from: &Operation,
) -> Micros {
    let guarded = format!("lease/guarded-by-{lock}");
    for _ in 0..session.random.random_range(1..8) {
        if !session.turn().await {
            break;
        }
        if session.world.now() >= lease.until {
            return lease.until;
        }
        if session.random.random_bool(0.3) {
            let id = lease.id;
            let Some(operation) = session.call(Call::Lease(Lease::KeepAlive { id })).await else {
                break;
            };
            match told_lease(&operation) {
                // It is over, and was before this answer.
                Some((_, 0)) => return lease.until.min(operation.start),
                Some((_, ttl)) => lease.until = later(operation.start, ttl.min(lease.ttl)),
                None => {}
            }
            continue;
        }
        let write = Step::Put(put(&guarded, session.value(fence.0)));
        let call = txn(vec![holds(lock, fence)], vec![write], Vec::new());
        let Some(operation) = session.call(call).await else {
            break;
        };
        let deed = Deed::Fenced {
            lock: lock.to_owned(),
            fence,
        };
        let settled = settled_txn(&operation.outcome);
        session.act(&[&operation], deed, settled);
        if settled == Settled::Not {
            // The lock is not ours any more. We do not know since when, but until we asked, we believed it was.
            return lease.until.min(operation.start);
        }
    }
    lease.until.min(session.world.now()).max(from.end)
}
