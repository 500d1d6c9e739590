use super::build::{compact, delete, event, put, step, txn};
use super::{Build, Checker, Violation, assert_caught, assert_valid};
use crate::history::{EventKind, History, Micros, Revision, WatchResponse, WatchStream, Workload};

/// Puts and deletes of keys under w/, and of another; a transaction that changes two at once.
fn busy() -> Build {
    let mut build = Build::new();
    build.workload = Workload::Watch;
    build.call(1, put("w/1", "a"));
    build.call(1, put("other", "b"));
    build.call(1, put("w/1", "c"));
    build.call(
        1,
        txn(
            vec![],
            vec![step(put("w/2", "d")), step(put("w/3", "e"))],
            vec![],
        ),
    );
    build.call(1, delete("w/1"));
    build.call(1, put("w/1", "f"));
    build
}

/// The history with a watcher of w/ that was served right but for `lie`.
fn with(start: i64, lie: impl FnOnce(&mut WatchStream)) -> History {
    let mut build = busy();
    let mut stream = build.watch("w", "w/", "w0", start);
    lie(&mut stream);
    build.history.watches.push(stream);
    build.finish()
}

fn caught(lie: impl FnOnce(&mut WatchStream), part: &str) -> Violation {
    assert_caught(&with(1, lie), Checker::Watch, part)
}

fn progress(revision: i64) -> WatchResponse {
    WatchResponse {
        at: Micros(9000),
        revision: Revision(revision),
        ..WatchResponse::default()
    }
}

#[test]
fn a_stream_that_is_served_right_is_valid() {
    assert_valid(&with(1, |_| {}));
    assert_valid(&with(4, |_| {}));
    assert_valid(&with(1, |stream| stream.responses.push(progress(7))));
    assert_valid(&with(1, |stream| stream.responses.insert(2, progress(3))));
    // One from now on, created at revision 3.
    assert_valid(&with(4, |stream| {
        stream.start_revision = Revision(0);
        stream.responses[0].revision = Revision(3);
        stream.responses[0].at = Micros(1035);
    }));
}

#[test]
fn several_revisions_in_one_response_are_valid() {
    assert_valid(&with(1, |stream| {
        let later = stream.responses.remove(3);
        stream.responses[2].events.extend(later.events);
        stream.responses[2].revision = later.revision;
        stream.responses[2].at = later.at;
    }));
}

#[test]
fn an_event_that_was_left_out_is_found() {
    let violation = caught(
        |stream| drop(stream.responses.remove(2)),
        "was not sent the put of w/1 at revision 4",
    );
    assert_eq!(violation.operations.len(), 1);
    assert_eq!(violation.watches.len(), 1);
}

#[test]
fn an_event_that_never_came_is_found_of_a_stream_that_was_waited_for() {
    caught(
        |stream| drop(stream.responses.pop()),
        "was never sent the put of w/1 at revision 7",
    );
    let broken = with(1, |stream| {
        stream.responses.pop();
        stream.ended = Some("broken".to_owned());
    });
    let verdict = super::judge(&broken);
    assert!(verdict.violations.is_empty(), "{verdict:#?}");
    assert!(verdict.inconclusive[0].contains("the put of w/1 at revision 7"));
    // One that broke when it had everything lacks nothing.
    assert_valid(&with(1, |stream| stream.ended = Some("broken".to_owned())));
}

#[test]
fn an_event_that_came_twice_or_late_is_found() {
    caught(
        |stream| {
            let again = stream.responses[2].clone();
            stream.responses.insert(3, again);
        },
        "again, or after what came later",
    );
    caught(|stream| stream.responses.swap(2, 3), "was not sent");
}

#[test]
fn a_revision_that_came_in_parts_is_found_unless_fragments_were_allowed() {
    let split = |stream: &mut WatchStream| {
        let rest = stream.responses[3].events.split_off(1);
        let mut second = stream.responses[3].clone();
        second.events = rest;
        stream.responses.insert(4, second);
    };
    caught(split, "in parts");
    assert_valid(&with(1, |stream| {
        split(stream);
        stream.fragment = true;
        stream.responses[3].fragment = true;
    }));
    caught(
        |stream| {
            split(stream);
            stream.responses[3].fragment = true;
        },
        "a fragment, which it had not allowed",
    );
}

#[test]
fn an_event_that_never_happened_is_found() {
    caught(
        |stream| stream.responses[2].events[0] = event("w/9", "x", 4),
        "which never happened",
    );
    caught(
        |stream| stream.responses[2].events.push(event("w/9", "x", 99)),
        "which never happened",
    );
}

#[test]
fn an_event_of_another_key_or_before_the_start_is_found() {
    caught(
        |stream| stream.responses[1].events.push(event("other", "b", 3)),
        "which is none of its keys",
    );
    let early = with(4, |stream| {
        let mut early = stream.responses[1].clone();
        early.events = vec![event("w/1", "a", 2)];
        stream.responses.insert(1, early);
    });
    assert_caught(&early, Checker::Watch, "older than it asked for");
}

#[test]
fn filters_are_honoured() {
    let without = |kind: EventKind| {
        move |stream: &mut WatchStream| {
            for response in &mut stream.responses {
                response.events.retain(|event| event.kind != kind);
            }
            stream
                .responses
                .retain(|response| response.created || !response.events.is_empty());
        }
    };
    assert_valid(&with(1, |stream| {
        without(EventKind::Delete)(stream);
        stream.no_delete = true;
    }));
    assert_valid(&with(1, |stream| {
        without(EventKind::Put)(stream);
        stream.no_put = true;
    }));
    caught(
        |stream| stream.no_delete = true,
        "which it had filtered out",
    );
    caught(without(EventKind::Delete), "was not sent the delete");
}

#[test]
fn false_contents_are_found() {
    caught(
        |stream| stream.responses[1].events[0].kv.value = "x".into(),
        "was sent w/1 = “x”",
    );
    caught(
        |stream| stream.responses[2].events[0].kv.version = 1,
        "version 1) where it was",
    );
    caught(
        |stream| stream.responses[5].events[0].kv.create_revision = Revision(2),
        "create 2",
    );
    caught(
        |stream| stream.responses[4].events[0].kv.value = "left over".into(),
        "where it was w/1 = “”",
    );
}

#[test]
fn false_previous_values_are_found() {
    caught(
        |stream| stream.responses[2].events[0].prev_kv = None,
        "there was nothing, but there was w/1 = “a”",
    );
    caught(
        |stream| {
            let prev = stream.responses[2].events[0].prev_kv.as_mut().unwrap();
            prev.value = "x".into();
        },
        "there was w/1 = “x”",
    );
    caught(|stream| stream.prev_kv = false, "had not asked for it");
}

#[test]
fn a_previous_value_may_be_missing_where_it_was_compacted() {
    let history = |compacted: i64| {
        let mut build = busy();
        build.call(1, compact(compacted));
        let mut stream = build.watch("w", "w/", "w0", 4);
        stream.start = build.now;
        for response in &mut stream.responses {
            response.at = build.now;
        }
        stream.responses[1].events[0].prev_kv = None;
        build.history.watches.push(stream);
        build.finish()
    };
    assert_valid(&history(4));
    assert_caught(&history(3), Checker::Watch, "there was nothing");
}

#[test]
fn progress_ahead_of_what_was_sent_is_found() {
    caught(
        |stream| stream.responses.insert(2, progress(4)),
        "has everything up to revision 4, but was never sent the put of w/1 at revision 4",
    );
}

#[test]
fn a_header_behind_its_events_is_found() {
    caught(
        |stream| stream.responses[2].revision = Revision(3),
        "under a header of revision 3",
    );
}

#[test]
fn events_before_created_and_after_cancelled_are_found() {
    let early = with(4, |stream| {
        stream.start_revision = Revision(0);
        stream.responses.remove(0);
    });
    assert_caught(&early, Checker::Watch, "before it was created");
    caught(
        |stream| {
            let created = stream.responses[0].clone();
            stream.responses.insert(1, created);
        },
        "was created twice",
    );
    caught(
        |stream| stream.responses[1].canceled = true,
        "after it was cancelled",
    );
}

/// A stream that starts at `start` and is cancelled at once by a compaction at 4.
fn cancelled(start: i64, compacted: bool) -> History {
    let mut build = busy();
    if compacted {
        build.call(1, compact(4));
    }
    let mut stream = build.watch("w", "w/", "w0", start);
    stream.responses.truncate(1);
    stream.responses.push(WatchResponse {
        at: build.now,
        canceled: true,
        compact_revision: Revision(4),
        ..WatchResponse::default()
    });
    stream.ended = Some("cancelled".to_owned());
    build.history.watches.push(stream);
    // The watcher goes on where it can.
    let again = build.watch("w", "w/", "w0", 4);
    build.history.watches.push(again);
    build.finish()
}

#[test]
fn a_watch_is_cancelled_by_a_compaction_only_if_it_starts_below_one() {
    assert_valid(&cancelled(3, true));
    assert_caught(
        &cancelled(3, false),
        Checker::Watch,
        "which nobody had asked for",
    );
    assert_caught(
        &cancelled(4, true),
        Checker::Watch,
        "needed nothing older than 4",
    );
}

#[test]
fn a_second_recorder_fills_what_the_first_one_missed() {
    let mut history = busy().finish();
    let mut second = history.watches[0].clone();
    second.id.0 += 1;
    second.watcher = "recorder-2".to_owned();
    history.watches.push(second);
    assert_valid(&history);
    history.watches[0].responses.remove(3);
    assert_caught(&history, Checker::Watch, "The watcher recorder");
}

#[test]
fn watchers_that_saw_different_things_are_found() {
    let mut history = busy().finish();
    let mut second = history.watches[0].clone();
    second.id.0 += 1;
    second.responses[3].events[0].kv.value = "other".into();
    history.watches.push(second);
    assert_caught(&history, Checker::Watch, "was sent w/1 = “other” (mod 4");
}

#[test]
fn a_revision_that_nobody_tells_of_is_found_if_a_recorder_went_over_it() {
    let mut build = busy();
    build.unanswered(1, put("w/1", "g"));
    build.call(1, put("w/1", "h"));
    let mut history = build.finish();
    history.watches[0].responses.remove(7);
    assert_caught(&history, Checker::Watch, "was sent nothing for revision 8");
}
