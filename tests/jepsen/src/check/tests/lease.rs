use super::build::{put, put_on};
use super::{Build, Checker, assert_caught, assert_valid};
use crate::history::{
    Call, Deed, Fault, Lease, LeaseId, MemberIndex, Micros, OperationId, Reply, Revision, Settled,
    Workload,
};

const ID: LeaseId = LeaseId(0x77);
const TTL: i64 = 2;

fn grant() -> Call {
    Call::Lease(Lease::Grant { id: ID, ttl: TTL })
}

fn keep() -> Call {
    Call::Lease(Lease::KeepAlive { id: ID })
}

fn revoke() -> Call {
    Call::Lease(Lease::Revoke { id: ID })
}

/// A lease with one key, kept alive once.
fn leased() -> Build {
    let mut build = Build::new();
    build.workload = Workload::Lease;
    build.call(1, grant());
    build.call(1, put_on("l", "1", ID.0));
    build.call(1, keep());
    build
}

fn later(build: &Build, millis: u64) -> Micros {
    Micros(build.now.0 + millis * 1000)
}

fn told_gone(build: &mut Build, id: OperationId) {
    build.lie(id, |_, reply| {
        *reply = Reply::Lease {
            id: ID,
            ttl: 0,
            granted_ttl: 0,
            keys: vec![],
        };
    });
}

#[test]
fn leases_that_expire_in_time_or_are_revoked_are_valid() {
    let mut build = leased();
    let at = later(&build, 2_000);
    build.expire(ID, at);
    build.now = later(&build, 10);
    let gone = build.call(1, keep());
    told_gone(&mut build, gone);
    assert_valid(&build.finish());
    let mut build = leased();
    build.call(1, revoke());
    assert_valid(&build.finish());
    let mut build = leased();
    build.unanswered(1, revoke());
    assert_valid(&build.finish());
}

#[test]
fn keys_that_go_before_their_lease_may_are_found() {
    let mut build = leased();
    let at = later(&build, 1_900);
    build.expire(ID, at);
    let violation = assert_caught(&build.finish(), Checker::Lease, "nobody revoked it");
    assert_eq!(violation.operations, [OperationId(3)]);
}

#[test]
fn a_lease_that_is_gone_before_its_time_is_found() {
    let mut build = leased();
    build.now = later(&build, 1_000);
    let id = build.call(1, keep());
    told_gone(&mut build, id);
    assert_caught(&build.finish(), Checker::Lease, "was gone for");
}

#[test]
fn where_a_clock_jumped_a_lease_may_end_early_and_fences_hold_all_the_same() {
    let jump = |start: u64, end: u64| Fault {
        name: "clock-jump".to_owned(),
        members: vec![MemberIndex(1)],
        detail: "clock=+5000".to_owned(),
        start: Micros(start * 1_000),
        end: Some(Micros(end * 1_000)),
    };
    let expired = |jump: Fault| {
        let mut build = leased();
        // Late in the run, so that there is a time before it.
        build.now = later(&build, 10_000);
        build.call(1, keep());
        let at = later(&build, 1_900);
        build.expire(ID, at);
        let mut history = build.finish();
        history.faults.push(jump);
        history
    };
    let now = leased().now.0 / 1_000 + 10_000;
    assert_valid(&expired(jump(now + 500, now + 60_000)));
    assert_valid(&expired(jump(now - 9_000, now - 500)));
    for elsewhere in [
        jump(now - 9_000, now - 5_000),
        jump(now + 5_000, now + 6_000),
    ] {
        assert_caught(&expired(elsewhere), Checker::Lease, "nobody revoked it");
    }
    let mut at_once = held(&[(10, 30, 2), (20, 40, 3)]);
    at_once.faults.push(jump(0, 1));
    assert_valid(&at_once);
    let mut fence = held(&[(10, 30, 3), (20, 40, 2)]);
    fence.faults.push(jump(0, 1));
    assert_caught(&fence, Checker::Lease, "did not grow");
}

#[test]
fn a_lease_that_lives_after_its_end_is_found() {
    let mut build = leased();
    build.call(1, revoke());
    build.call(1, keep());
    assert_caught(&build.finish(), Checker::Lease, "was told that it lives");
    let mut build = leased();
    let at = later(&build, 3_000);
    build.expire(ID, at);
    build.now = later(&build, 10);
    build.call(1, keep());
    assert_caught(&build.finish(), Checker::Lease, "was told that it lives");
}

#[test]
fn a_key_that_outlives_the_revocation_is_found() {
    let mut build = leased();
    let id = build.call(1, revoke());
    build.lie(id, |header, _| header.revision = Revision(2));
    assert_caught(&build.finish(), Checker::Lease, "outlives its lease");
}

#[test]
fn a_key_that_is_hung_on_a_lease_that_is_over_is_found() {
    let mut build = leased();
    build.call(1, revoke());
    build.call(1, put_on("l2", "2", ID.0));
    assert_caught(
        &build.finish(),
        Checker::Lease,
        "the lease was over at revision 3",
    );
}

#[test]
fn a_lease_of_less_time_than_asked_for_is_found() {
    let mut build = Build::new();
    let id = build.call(1, grant());
    build.lie(id, |_, reply| {
        let Reply::Lease { ttl, .. } = reply else {
            panic!()
        };
        *ttl = 1;
    });
    assert_caught(
        &build.finish(),
        Checker::Lease,
        "was granted lease 77 of 1 s instead",
    );
}

/// Two holdings of one lock: when, and with which fences.
fn held(holdings: &[(u64, u64, i64)]) -> crate::history::History {
    let mut build = Build::new();
    build.workload = Workload::Lease;
    for (client, (from, until, fence)) in holdings.iter().enumerate() {
        let id = build.call(client as u32, put("lock", &client.to_string()));
        let deed = Deed::Held {
            lock: "lock".to_owned(),
            lease: LeaseId(client as i64),
            fence: Revision(*fence),
            from: Micros(*from),
            until: Micros(*until),
        };
        build.act(&[id], deed, Settled::Done);
    }
    build.finish()
}

#[test]
fn holdings_one_after_another_are_valid() {
    assert_valid(&held(&[(10, 20, 2), (20, 30, 3), (30, 40, 4)]));
    // The reply came when it was all over: the client never believed to hold it.
    assert_valid(&held(&[(30, 30, 2), (10, 40, 3)]));
}

#[test]
fn two_holders_at_once_and_fences_that_do_not_grow_are_found() {
    assert_caught(
        &held(&[(10, 30, 2), (20, 40, 3)]),
        Checker::Lease,
        "both at once",
    );
    assert_caught(
        &held(&[(10, 50, 2), (20, 30, 3), (40, 60, 4)]),
        Checker::Lease,
        "both at once",
    );
    assert_caught(
        &held(&[(10, 20, 3), (30, 40, 2)]),
        Checker::Lease,
        "did not grow",
    );
    assert_caught(
        &held(&[(10, 20, 3), (30, 40, 3)]),
        Checker::Lease,
        "did not grow",
    );
}

#[test]
fn a_write_behind_a_later_fence_is_found() {
    let fenced = |fences: [i64; 3]| {
        let mut build = Build::new();
        build.workload = Workload::Lease;
        for (number, fence) in fences.into_iter().enumerate() {
            let id = build.call(number as u32, put("guarded", &number.to_string()));
            let deed = Deed::Fenced {
                lock: "lock".to_owned(),
                fence: Revision(fence),
            };
            build.act(&[id], deed, Settled::Done);
        }
        build.finish()
    };
    assert_valid(&fenced([5, 5, 7]));
    assert_caught(
        &fenced([5, 7, 5]),
        Checker::Lease,
        "wrote under lock with fence 5",
    );
}
