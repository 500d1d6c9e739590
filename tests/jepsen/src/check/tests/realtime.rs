use super::build::{at, delete, event, get, one, peek, put, step, txn};
use super::{Build, Checker, assert_caught, assert_valid};
use crate::history::{ConnectionId, Micros, Outcome, Revision};

#[test]
fn a_stale_linearizable_read_is_found() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let old = build.call(2, get("a"));
    let write = build.call(1, put("a", "2"));
    let read = build.call(3, get("a"));
    let stale = build.operation(old).outcome.clone();
    build.operation(read).outcome = stale;
    let violation = assert_caught(&build.finish(), Checker::RealTime, "the read is stale");
    assert_eq!(violation.operations, [read, write]);
}

#[test]
fn a_stale_read_only_transaction_is_found() {
    let mut build = Build::new();
    let read = || txn(vec![], vec![step(get("a"))], vec![]);
    build.call(1, put("a", "1"));
    let old = build.call(2, read());
    build.call(1, put("a", "2"));
    let id = build.call(3, read());
    let stale = build.operation(old).outcome.clone();
    build.operation(id).outcome = stale;
    assert_caught(&build.finish(), Checker::RealTime, "the read is stale");
}

#[test]
fn a_read_that_overlaps_the_write_may_miss_it() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let old = build.call(2, get("a"));
    let write = build.call(1, put("a", "2"));
    let read = build.call(3, get("a"));
    let stale = build.operation(old).outcome.clone();
    build.operation(read).outcome = stale;
    let end = build.operation(read).end;
    build.operation(write).end = end;
    let mut history = build.finish();
    history.watches[0].responses.last_mut().unwrap().at = end;
    assert_valid(&history);
}

#[test]
fn a_read_that_is_older_than_what_a_watcher_was_sent_is_found() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let old = build.call(2, get("a"));
    build.unanswered(1, put("a", "2"));
    let read = build.call(3, get("a"));
    let stale = build.operation(old).outcome.clone();
    build.operation(read).outcome = stale;
    let violation = assert_caught(&build.finish(), Checker::RealTime, "the watcher recorder");
    assert_eq!(violation.watches.len(), 1);
}

#[test]
fn a_write_before_its_time_is_found() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    build.call(1, put("b", "2"));
    let early = build.call(2, put("c", "3"));
    // It was asked for only after all of it had been seen.
    let late = Micros(build.now.0 + 1000);
    build.operation(early).start = late;
    build.operation(early).end = Micros(late.0 + 10);
    assert_caught(
        &build.finish(),
        Checker::RealTime,
        "made revision 4, but before it began",
    );
}

#[test]
fn an_unknown_write_takes_part_once_it_is_settled() {
    let mut build = Build::new();
    let early = build.unanswered(2, put("c", "3"));
    build.call(1, put("a", "1"));
    let late = build.now;
    build.operation(early).start = late;
    build.operation(early).end = Micros(late.0 + 10);
    let violation = assert_caught(&build.finish(), Checker::RealTime, "made revision 2");
    assert_eq!(violation.operations[0], early);
}

#[test]
fn serializable_reads_may_be_old_but_not_go_back_on_one_connection() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let old = build.call(2, peek("a"));
    build.call(1, put("a", "2"));
    let new = build.call(2, peek("a"));
    let again = build.call(2, peek("a"));
    let stale = build.operation(old).outcome.clone();
    build.operation(again).outcome = stale;
    let violation = assert_caught(
        &build.history_so_far(),
        Checker::RealTime,
        "the member went back",
    );
    assert_eq!(violation.operations, [again, new]);
    build.operation(again).connection = ConnectionId(99);
    assert_valid(&build.finish());
}

#[test]
fn a_serializable_read_behind_a_write_that_the_member_acknowledged_is_found() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let old = build.call(2, peek("a"));
    build.call(2, put("a", "2"));
    let read = build.call(2, peek("a"));
    let stale = build.operation(old).outcome.clone();
    build.operation(read).outcome = stale;
    assert_caught(
        &build.finish(),
        Checker::RealTime,
        "answered a write that it had not applied itself",
    );
}

#[test]
fn a_delete_that_missed_what_was_there_is_found() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    build.call(1, put("b", "2"));
    let id = build.call(2, delete("c"));
    build.lie(id, |header, _| header.revision = Revision(2));
    assert_caught(&build.finish(), Checker::RealTime, "read revision 2");
}

#[test]
fn an_answer_from_a_revision_after_its_own_header_is_found() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    build.call(1, put("a", "2"));
    let id = build.call(2, at(one("a"), 3));
    build.lie(id, |header, _| header.revision = Revision(2));
    assert_caught(&build.finish(), Checker::RealTime, "yet to come");
}

#[test]
fn a_refusal_as_of_the_future_is_found_if_it_is_the_past() {
    let mut build = Build::new();
    let error = "etcdserver: mvcc: required revision is a future revision";
    build.call(1, put("a", "1"));
    build.refused(2, at(one("a"), 3), error);
    assert_valid(&build.history_so_far());
    build.refused(2, at(one("a"), 2), error);
    assert_caught(&build.finish(), Checker::RealTime, "as of the future");
}

#[test]
fn a_read_that_failed_says_nothing() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let id = build.call(2, get("a"));
    build.operation(id).outcome = Outcome::Unknown {
        error: "timed out".to_owned(),
    };
    assert_valid(&build.finish());
}

#[test]
fn what_the_future_holds_is_not_told_by_anyone() {
    // A reader knows of revision 3 before the write that makes it was asked for.
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let read = build.call(2, get("a"));
    build.call(1, put("a", "2"));
    build.lie(read, |header, reply| {
        header.revision = Revision(3);
        let mut kv = event("a", "2", 3).kv;
        kv.create_revision = Revision(2);
        kv.version = 2;
        *reply = crate::history::Reply::Range {
            kvs: vec![kv],
            count: 1,
            more: false,
        };
    });
    assert_caught(
        &build.finish(),
        Checker::RealTime,
        "made revision 3, but before it began",
    );
}
