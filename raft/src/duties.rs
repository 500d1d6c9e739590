//! What a member does by itself, much of it while it leads: lease expiry, finishing changes of the membership, noticing
//! its own removal, flushing, purging, letting watchers catch up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keelson_planted::{Bug, on};
use keelson_proto::commandpb::{Command, LeaseExpire, command};
use keelson_proto::peerpb;
use keelson_store::engine::Engine;
use openraft::AsyncRuntime;
use prost::Message;

use crate::barrier::leader_read_index;
use crate::proposals::Offered;
use crate::shared::{Parts, Shared};
use crate::transport::{Lane, Reply, Request, Transport};

/// How often expired leases, and members that have caught up, are looked for. etcd looks every 500 ms.
const LEASE_TICK: Duration = Duration::from_millis(100);
/// When leases are revoked so long after their time, nobody else is left time any more; later still, more go together. Several voters
/// take longer for the same.
const LATE_MAX_ALONE: Duration = Duration::from_secs(2);
const LATE_MAX: Duration = Duration::from_secs(5);
/// How often progress notifications are looked at.
const WATCH_TICK: Duration = Duration::from_millis(50);
/// How often flushing and the log's size are looked at.
const UPKEEP_TICK: Duration = Duration::from_millis(250);

/// The leader's duties, for as long as the member runs.
pub(crate) async fn lead<P: Parts>(shared: Arc<Shared<P>>) {
    let mut leading_term = None;
    while !shared.stopping() {
        let (leads, term) = shared.leads_in();
        shared.hub.set_term(term);
        if on(Bug::ExpiryByDeposedLeader) && leading_term.is_some() {
            expire_leases(&shared, term).await;
            P::Rt::sleep(LEASE_TICK).await;
            continue;
        }
        if !leads {
            if leading_term.take().is_some() {
                shared.leases.step_down();
            }
            shared.roles_may_have_changed(shared.timing.heartbeat).await;
            continue;
        }
        if leading_term != Some(term) {
            // What the clock says comes from a term before: another leader may have renewed since.
            shared.leases.step_down();
            // Everything of the terms before must be applied before the clock starts: a revocation among it is final.
            if !begin_term(&shared).await {
                shared.leadership_may_have_changed().await;
                continue;
            }
            leading_term = Some(term);
        }
        expire_leases(&shared, term).await;
        P::Rt::sleep(LEASE_TICK).await;
    }
}

async fn begin_term<P: Parts>(shared: &Arc<Shared<P>>) -> bool {
    let Ok(index) = leader_read_index(shared).await else {
        return false;
    };
    if let Some(reached) = shared.progress.reached(index)
        && P::Rt::timeout(shared.timing.request_timeout(), reached)
            .await
            .is_err()
    {
        return false;
    }
    match shared.applier.start_lease_clock().await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "could not read the leases");
            false
        }
    }
}

/// Revokes what has run out by the clock of this term, and leaves others time after each batch.
async fn expire_leases<P: Parts>(shared: &Arc<Shared<P>>, term: u64) {
    loop {
        let late_max = if shared.leads_alone() {
            LATE_MAX_ALONE
        } else {
            LATE_MAX
        };
        let began = (shared.now)();
        let due = shared.leases.expired(began, late_max);
        if due.ids.is_empty() {
            return;
        }
        let ids = due.ids.iter().map(|id| id.0).collect();
        let request = Some(command::Request::LeaseExpire(LeaseExpire { ids }));
        let command = Command {
            member: shared.id.0,
            request,
            ..Command::default()
        };
        if on(Bug::ExpiryByDeposedLeader) {
            let _ = shared.propose(command).await;
            return;
        }
        // Proposed here and in this term, or nowhere: only the one that keeps the clock may say that it has run out. Who
        // is deposed and leads again may not have noticed, and another leader has renewed in between.
        let offered = shared.propose_in(term, command.encode_to_vec().into());
        match P::Rt::timeout(shared.timing.request_timeout(), offered).await {
            Ok(Ok(_)) => {}
            Ok(Err(Offered::NotAppended | Offered::Failed(_))) | Err(_) => {
                shared.leases.report_again(&due.ids);
                return;
            }
        }
        let took = (shared.now)().saturating_sub(began);
        P::Rt::sleep(rest_for_others(took, due.late, late_max)).await;
    }
}

/// As long as the last batch took, or less the later it is.
fn rest_for_others(took: Duration, late: Duration, late_max: Duration) -> Duration {
    took.mul_f64(late_max.saturating_sub(late).div_duration_f64(late_max))
}

/// Brings changes of the membership to their end while this member leads. Not among [`lead`]'s other duties: a change
/// may have to wait for a quorum.
pub(crate) async fn finish_changes<P: Parts>(shared: Arc<Shared<P>>) {
    while !shared.stopping() {
        if !shared.is_leader() {
            shared.roles_may_have_changed(shared.timing.heartbeat).await;
            continue;
        }
        shared.finish_half_made_change().await;
        shared.finish_promotions().await;
        P::Rt::sleep(LEASE_TICK).await;
    }
}

/// Asks the others whether this member was removed from the cluster, when it has lost its leader: nobody needs to send
/// it the entry that says so.
pub(crate) async fn notice_removal<P: Parts>(shared: Arc<Shared<P>>) {
    let me = shared.id.0;
    let ask = peerpb::ClusterProbe { member_id: me };
    while !shared.stopping() {
        P::Rt::sleep(shared.timing.election).await;
        if !shared.leader_lost() {
            continue;
        }
        let mut removed = false;
        for node in shared.membership().nodes {
            if removed || node.id == me {
                continue;
            }
            let call = shared
                .net
                .call(node.id, Lane::Heartbeat, Request::ClusterProbe(ask));
            let answer = P::Rt::timeout(shared.timing.election, call).await;
            removed = matches!(answer, Ok(Ok(Reply::ClusterProbe(reply))) if reply.removed);
        }
        if removed {
            shared.removed.store(true, Ordering::Release);
            return;
        }
    }
}

/// Sends the watch streams' progress notifications, and on the caller's thread also lets them catch up.
pub(crate) async fn watch_upkeep<P: Parts>(shared: Arc<Shared<P>>) {
    while !shared.stopping() {
        shared.hub.tick((shared.now)().as_millis() as u64);
        if !shared.applier.is_inline() {
            P::Rt::sleep(WATCH_TICK).await;
            continue;
        }
        let needed = std::future::poll_fn(|cx| shared.hub.poll_catch_up_needed(cx));
        match P::Rt::timeout(WATCH_TICK, needed).await {
            Ok(false) => return,
            Ok(true) => {
                if let Err(error) = shared.hub.catch_up() {
                    shared.fail(error.to_string());
                    return;
                }
            }
            Err(_) => {}
        }
    }
}

/// Lets watch streams catch up, on a thread of its own: it reads the log of events.
pub(crate) fn spawn_catch_up<P: Parts>(shared: Arc<Shared<P>>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || {
            let ended = AssertUnwindSafe(|| keelson_watch::run_catch_up(&shared.hub));
            match catch_unwind(ended) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shared.fail(error.to_string()),
                Err(_) => shared.fail("the thread that lets watchers catch up panicked".into()),
            }
        })?;
    Ok(())
}

/// Flushes the state machine when there is enough to flush or nothing else to do, and drops what is not needed of the log
/// and of snapshots.
pub(crate) async fn upkeep<P: Parts>(shared: Arc<Shared<P>>) {
    let mut flushed_bytes = 0;
    let mut flushed_index = shared.progress.applied();
    let mut seen_index = flushed_index;
    let mut idle_since = (shared.now)();
    while !shared.stopping() {
        P::Rt::sleep(UPKEEP_TICK).await;
        shared.clear_abandoned_transfer().await;
        let now = (shared.now)();
        let (index, bytes) = (shared.progress.applied(), shared.log.appended_bytes());
        if index != seen_index {
            seen_index = index;
            idle_since = now;
        }
        let idle = now.saturating_sub(idle_since) >= shared.upkeep.flush_idle;
        let due =
            index != flushed_index && (idle || bytes - flushed_bytes >= shared.upkeep.flush_bytes);
        if !due {
            continue;
        }
        if let Err(error) = shared.raft().trigger().snapshot().await {
            tracing::debug!(%error, "no flush: openraft has stopped");
            return;
        }
        (flushed_bytes, flushed_index) = (bytes, index);
        purge(&shared).await;
    }
}

/// Drops log below what is on the disk as state, but for a tail.
async fn purge<P: Parts>(shared: &Arc<Shared<P>>) {
    let engine = shared.engine.load_full();
    let state = keelson_store::read_state(|family, key| engine.get_persisted(family, key));
    let Ok(Some(persisted)) = state.map(|state| state.and_then(|state| state.applied)) else {
        return;
    };
    let kept = shared.log.size_bytes();
    let (first, last) = (
        shared.log.first_index(),
        shared.log.last().map_or(0, |id| id.index),
    );
    if kept <= 2 * shared.upkeep.log_tail_bytes || last <= first {
        return;
    }
    // By the average size of what is there: the tail is a courtesy, not a promise.
    let average = (kept / (last - first + 1)).max(1);
    let upto = last
        .saturating_sub(shared.upkeep.log_tail_bytes / average)
        .min(persisted.index);
    if upto > first {
        let _ = shared.raft().trigger().purge_log(upto).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_late_rests_less() {
        let [took, max] = [10, 2_000].map(Duration::from_millis);
        let rest = |late| rest_for_others(took, Duration::from_millis(late), max).as_millis();
        assert_eq!([0, 1_000, 2_000, 9_000].map(rest), [10, 5, 0, 0]);
    }
}
