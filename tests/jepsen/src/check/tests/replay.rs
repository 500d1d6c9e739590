use super::build::{
    all, at, compact, delete, event, get, is, one, peek, put, put_on, step, swap, txn,
};
use super::{Build, Checker, assert_caught, assert_valid};
use crate::history::{Call, Data, Delete, LeaseId, Put, Range, Reply, Revision, Target};

/// A bit of everything that reads and writes.
fn busy() -> Build {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    build.call(2, get("a"));
    build.call(1, put("a", "2"));
    build.call(1, put("b", "3"));
    build.call(2, Call::Range(all()));
    build.call(2, at(all(), 2));
    build.call(2, Call::Range(Range { limit: 1, ..all() }));
    build.call(
        2,
        Call::Range(Range {
            count_only: true,
            ..all()
        }),
    );
    build.call(
        2,
        Call::Range(Range {
            keys_only: true,
            ..all()
        }),
    );
    build.call(1, swap("a", "2", "4"));
    build.call(1, swap("a", "2", "5"));
    build.call(1, delete("nothing"));
    build.call(1, delete("b"));
    build.call(2, peek("b"));
    build
}

#[test]
fn what_a_correct_store_answers_is_valid() {
    assert_valid(&busy().finish());
}

#[test]
fn a_transaction_reads_its_own_writes_and_compares_what_was_before() {
    let mut build = busy();
    let inner = txn(
        vec![is("a", Target::Value("4".into()))],
        vec![step(put("c", "inner")), step(Call::Range(all()))],
        vec![],
    );
    let outer = txn(
        vec![is("a", Target::Version(3))],
        vec![
            step(put("a", "6")),
            step(get("a")),
            step(inner),
            step(delete("c2")),
            step(at(one("a"), 2)),
        ],
        vec![step(get("a"))],
    );
    let id = build.call(1, outer);
    assert_valid(&build.history_so_far());
    build.lie(id, |_, reply| {
        let Reply::Txn { responses, .. } = reply else {
            panic!()
        };
        let Reply::Range { kvs, .. } = &mut responses[1] else {
            panic!()
        };
        kvs[0].value = "4".into();
    });
    assert_caught(&build.finish(), Checker::Replay, "found a = “4”");
}

#[test]
fn a_past_read_within_a_transaction_is_judged_at_its_revision() {
    let mut build = busy();
    let id = build.call(1, txn(vec![], vec![step(at(one("a"), 2))], vec![]));
    build.lie(id, |_, reply| {
        let Reply::Txn { responses, .. } = reply else {
            panic!()
        };
        let Reply::Range { kvs, .. } = &mut responses[0] else {
            panic!()
        };
        kvs[0].value = "2".into();
    });
    assert_caught(&build.finish(), Checker::Replay, "At revision 2");
}

#[test]
fn an_acknowledged_write_that_is_not_at_its_revision_is_found() {
    let mut build = busy();
    let id = build.call(1, put("x", "lost"));
    let revision = build.revision();
    build.call(1, put("y", "kept"));
    let mut history = build.finish();
    for stream in &mut history.watches {
        for response in &mut stream.responses {
            if response.revision == revision {
                response.events = vec![event("x", "other", revision.0)];
            }
        }
    }
    let violation = assert_caught(&history, Checker::Replay, "instead of put of x = “lost”");
    assert_eq!(violation.operations, [id]);
}

#[test]
fn an_acknowledged_write_beyond_the_end_is_lost() {
    let mut build = busy();
    let id = build.call(1, put("x", "lost"));
    let mut history = build.finish();
    history.watches[0].responses.pop();
    history.endings.clear();
    let violation = assert_caught(&history, Checker::Replay, "the write is lost");
    assert_eq!(violation.operations, [id]);
}

#[test]
fn a_revision_that_is_told_to_two_writes_is_found() {
    let mut build = busy();
    let first = build.call(1, put("x", "1"));
    let second = build.call(2, put("y", "2"));
    build.lie(second, |header, _| header.revision.0 -= 1);
    let violation = assert_caught(&build.finish(), Checker::Replay, "was used twice");
    assert_eq!(violation.operations, [first, second]);
}

#[test]
fn reads_that_differ_from_their_revision_are_found() {
    type Lie = fn(&mut Reply);
    let cases: [(Range, Lie, &str); 6] = [
        (
            all(),
            |reply| kvs(reply)[0].value = "1".into(),
            "found a = “1”",
        ),
        (all(), |reply| drop(kvs(reply).pop()), "did not find b"),
        (
            all(),
            |reply| {
                let mut extra = kvs(reply)[1].clone();
                extra.key = "c".into();
                kvs(reply).push(extra);
            },
            "found c = “3” (mod 4, create 4, version 1), which was not there",
        ),
        (all(), |reply| kvs(reply)[0].version = 1, "version 1"),
        (
            Range {
                count_only: true,
                ..all()
            },
            |reply| {
                let Reply::Range { count, .. } = reply else {
                    panic!()
                };
                *count = 3;
            },
            "counted 3 keys where there were 2",
        ),
        (
            Range { limit: 1, ..all() },
            |reply| {
                let Reply::Range { more, .. } = reply else {
                    panic!()
                };
                *more = false;
            },
            "no more",
        ),
    ];
    for (range, lie, part) in cases {
        let mut build = Build::new();
        build.call(1, put("a", "1"));
        build.call(1, put("a", "2"));
        build.call(1, put("b", "3"));
        let id = build.call(2, Call::Range(range.clone()));
        assert_valid(&build.history_so_far());
        build.lie(id, |_, reply| lie(reply));
        let violation = assert_caught(&build.finish(), Checker::Replay, part);
        assert_eq!(violation.operations[0], id, "{range:?}");
    }
}

#[test]
fn a_read_is_held_against_the_write_that_it_missed_and_not_against_the_latest() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let missed = build.unanswered(1, put("b", "2"));
    build.call(1, put("c", "3"));
    let id = build.call(2, Call::Range(all()));
    build.lie(id, |_, reply| drop(kvs(reply).remove(1)));
    let violation = assert_caught(&build.finish(), Checker::Replay, "revision 3 was made by");
    assert_eq!(violation.operations, [id, missed]);
}

fn kvs(reply: &mut Reply) -> &mut Vec<crate::history::Kv> {
    match reply {
        Reply::Range { kvs, .. } => kvs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_of_a_compaction_that_dropped_a_live_version_is_found() {
    let mut build = busy();
    build.call(1, compact(4));
    let id = build.call(2, at(one("a"), 4));
    assert_valid(&build.history_so_far());
    build.lie(id, |_, reply| {
        *reply = Reply::Range {
            kvs: vec![],
            count: 0,
            more: false,
        }
    });
    assert_caught(&build.finish(), Checker::Replay, "did not find a = “2”");
}

#[test]
fn a_serializable_read_is_judged_at_the_revision_that_it_was_told() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    let old = build.call(2, peek("a"));
    build.call(1, put("a", "2"));
    let id = build.call(3, peek("a"));
    let stale = build.operation(old).outcome.clone();
    build.operation(id).outcome = stale;
    assert_valid(&build.history_so_far());
    build.lie(id, |header, _| header.revision = Revision(3));
    assert_caught(&build.finish(), Checker::Replay, "found a = “1”");
}

#[test]
fn a_compare_that_was_judged_wrong_is_found() {
    let mut build = busy();
    let id = build.call(1, swap("a", "wrong", "7"));
    build.lie(id, |header, reply| {
        header.revision.0 += 1;
        *reply = Reply::Txn {
            succeeded: true,
            responses: vec![Reply::Put { prev_kv: None }],
        };
    });
    build.make_up(vec![]);
    let mut history = build.finish();
    let revision = Revision(history.endings[0].revision.0);
    let mut put = event("a", "7", revision.0);
    put.kv.create_revision = Revision(2);
    put.kv.version = 4;
    history.watches[0]
        .responses
        .push(crate::history::WatchResponse {
            at: crate::history::Micros(5000),
            revision,
            events: vec![put],
            ..Default::default()
        });
    let part = "succeeded, although its conditions did not hold";
    assert_caught(&history, Checker::Replay, part);
}

#[test]
fn a_false_previous_value_and_a_false_count_of_deletions_are_found() {
    let mut build = busy();
    let id = build.call(1, put("a", "8"));
    build.lie(id, |_, reply| *reply = Reply::Put { prev_kv: None });
    assert_caught(&build.finish(), Checker::Replay, "nothing was there before");
    let mut build = busy();
    let id = build.call(1, delete("a"));
    build.lie(id, |_, reply| {
        let Reply::Delete { deleted, .. } = reply else {
            panic!()
        };
        *deleted = 2;
    });
    assert_caught(
        &build.finish(),
        Checker::Replay,
        "deleted 2 keys where there were 1",
    );
    let mut build = busy();
    let id = build.call(1, delete("gone"));
    build.call(1, put("gone", "1"));
    build.lie(id, |header, _| header.revision.0 += 1);
    assert_caught(
        &build.finish(),
        Checker::Replay,
        "deleted 0 keys where there were 1",
    );
}

#[test]
fn unknown_outcomes_are_settled_by_what_is_there() {
    let mut build = busy();
    build.unanswered(1, put("x", "unknown 1"));
    build.vanished(1, put("x", "unknown 2"));
    build.unanswered(1, delete("x"));
    build.vanished(1, delete("x"));
    build.unanswered(
        1,
        Call::Delete(Delete {
            key: "a".into(),
            range_end: "z".into(),
            prev_kv: false,
        }),
    );
    build.unanswered(2, txn(vec![], vec![step(put("y", "in a txn"))], vec![]));
    build.call(2, Call::Range(all()));
    assert_valid(&build.finish());
}

#[test]
fn two_unknown_deletes_share_two_revisions_whichever_is_tried_first() {
    // The first revision fits both deletes, the second only the one of the range.
    let mut build = Build::new();
    let range = Call::Delete(Delete {
        key: "a".into(),
        range_end: "c".into(),
        prev_kv: false,
    });
    build.call(1, put("a", "1"));
    build.unanswered(2, delete("a"));
    build.call(1, put("b", "2"));
    build.unanswered(3, range);
    assert_valid(&build.finish());
}

#[test]
fn an_unknown_delete_is_not_taken_for_one_that_was_seen_before_it_was_asked_for() {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    build.unanswered(2, delete("a"));
    build.call(1, put("a", "2"));
    build.vanished(2, delete("a"));
    let mut history = build.finish();
    // So that the wrong one is tried first.
    history.operations.reverse();
    assert_valid(&history);
}

#[test]
fn a_refused_write_that_is_there_is_found() {
    let mut build = busy();
    let id = build.refused(1, put("x", "refused"), "etcdserver: too many requests");
    let revision = build.revision().0 + 1;
    build.make_up(vec![event("x", "refused", revision)]);
    let violation = assert_caught(&build.finish(), Checker::Replay, "that was refused");
    assert_eq!(violation.operations, [id]);
}

#[test]
fn a_write_that_was_applied_twice_is_found() {
    for unanswered in [false, true] {
        let mut build = Build::new();
        let id = if unanswered {
            build.unanswered(1, put("x", "once"))
        } else {
            build.call(1, put("x", "once"))
        };
        let mut again = event("x", "once", 3);
        again.kv.create_revision = Revision(2);
        again.kv.version = 2;
        build.make_up(vec![again]);
        let violation = assert_caught(&build.finish(), Checker::Replay, "applied twice");
        assert_eq!(violation.operations, [id]);
    }
}

#[test]
fn a_change_that_nobody_asked_for_is_found() {
    let mut build = busy();
    let revision = build.revision().0 + 1;
    build.make_up(vec![event("x", "made up", revision)]);
    assert_caught(
        &build.finish(),
        Checker::Replay,
        "which no client asked for",
    );
}

#[test]
fn the_end_of_a_lease_explains_that_its_keys_went_and_only_all_of_them() {
    let mut build = Build::new();
    build.workload = crate::history::Workload::Lease;
    for key in ["a", "b"] {
        let put = Put {
            key: key.into(),
            value: key.into(),
            lease: LeaseId(5),
            ..Put::default()
        };
        build.call(1, Call::Put(put));
    }
    let before = build.now;
    build.expire(LeaseId(5), crate::history::Micros(before.0 + 5_000_000));
    let mut history = build.finish();
    assert_valid(&history);
    for stream in &mut history.watches {
        stream.responses.last_mut().unwrap().events.pop();
    }
    assert_caught(&history, Checker::Replay, "not the end of one whole lease");
}

#[test]
fn a_false_life_of_a_key_is_found() {
    let mut build = Build::new();
    build.call(1, put_on("a", "1", 0));
    build.call(1, put_on("a", "2", 0));
    let mut history = build.finish();
    history.watches[0].responses[2].events[0].kv.create_revision = Revision(3);
    history.endings.clear();
    assert_caught(&history, Checker::Replay, "create 3");
}

#[test]
fn a_refusal_as_compacted_needs_a_compaction() {
    let error = "etcdserver: mvcc: required revision has been compacted";
    let mut build = busy();
    build.refused(1, at(all(), 3), error);
    assert_caught(&build.finish(), Checker::Replay, "nobody had compacted");
    let mut build = busy();
    build.call(2, compact(4));
    build.refused(1, at(all(), 3), error);
    assert_valid(&build.finish());
}

#[test]
fn a_read_below_an_acknowledged_compaction_is_found() {
    let mut build = busy();
    build.call(2, compact(4));
    build.call(1, at(all(), 3));
    assert_caught(
        &build.finish(),
        Checker::Replay,
        "had been acknowledged before",
    );
}

#[test]
fn without_a_recorder_nothing_is_called_valid() {
    let mut history = busy().finish();
    history.watches.clear();
    assert!(!super::judge(&history).is_valid());
}

#[test]
fn a_recording_that_breaks_off_is_inconclusive_and_accuses_nobody() {
    let mut history = busy().finish();
    history.watches[0].responses.truncate(3);
    history.watches[0].ended = Some("the connection broke".to_owned());
    let verdict = super::judge(&history);
    assert!(verdict.violations.is_empty(), "{verdict:#?}");
    assert!(!verdict.inconclusive.is_empty());
}

#[test]
fn values_that_are_no_text_survive_the_judgement() {
    let mut build = Build::new();
    build.call(
        1,
        Call::Put(Put {
            key: Data(vec![0xff, 0, 1].into()),
            value: Data(vec![0xfe].into()),
            ..Put::default()
        }),
    );
    build.call(2, Call::Range(all()));
    assert_valid(&build.finish());
}
