//! Nobody is told before the sync returned; a failed write or sync stops the log for good; a kill
//! leaves nothing that is vouched for without a sync.

mod common;

use std::io;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{append, content, done, entries, entry, id, open, purge, settle, vote};
use keelson_log::{LogDir, LogError, Options, RaftLog, SimDir, ThreadedLog, Vote};

/// Longer than anything here takes. Only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever is told looks at once at what a crash would leave that takes all that is not synced.
/// Without the sync this fails.
#[test]
fn when_done_is_told_the_disk_without_its_cache_has_the_request() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    let told = Arc::new(Mutex::new(0));
    let durable = |check: fn(&RaftLog<SimDir>, u64), index: u64| -> keelson_log::Done {
        let (dir, told) = (dir.clone(), Arc::clone(&told));
        Box::new(move |result: io::Result<()>| {
            result.expect("durable");
            let (log, _) = open(&dir.durable_copy());
            check(&log, index);
            *told.lock().expect("no panic") += 1;
        })
    };
    for index in 0..40 {
        log.append(
            vec![entry(1, index, 60)],
            durable(
                |log, index| assert!(log.last() >= Some(id(1, index))),
                index,
            ),
        );
        let cast = Vote {
            term: index,
            node: 1,
            committed: false,
        };
        log.save_vote(
            cast,
            durable(
                |log, index| assert!(log.vote().is_some_and(|v| v.term >= index)),
                index,
            ),
        );
        if index % 7 == 6 {
            log.purge(
                id(1, index - 3),
                durable(
                    |log, index| assert!(log.purged() >= Some(id(1, index - 3))),
                    index,
                ),
            );
            log.truncate_after(
                Some(index - 1),
                durable(
                    |log, index| assert!(log.id_at(index).is_none_or(|id| id.term == 1)),
                    index,
                ),
            );
            log.append(
                vec![entry(1, index, 9)],
                durable(
                    |log, index| assert!(log.last() >= Some(id(1, index))),
                    index,
                ),
            );
        }
        if index % 3 == 0 {
            log.step().run();
        }
    }
    log.step().run();
    assert_eq!(*told.lock().expect("no panic"), 40 * 2 + 5 * 3);
}

#[test]
fn nobody_is_told_while_the_sync_is_under_way() {
    let dir = SimDir::new();
    let (log, _) = RaftLog::open(dir.clone(), Options::default()).expect("created");
    let (entered, in_sync) = sync_channel(64);
    let (release, released) = sync_channel::<()>(64);
    let (entered, released) = (Mutex::new(entered), Mutex::new(released));
    dir.on_sync(move |_| {
        entered
            .lock()
            .expect("no panic")
            .send(())
            .expect("listened to");
        // A dropped sender means that the test is over.
        let _ = released.lock().expect("no panic").recv();
    });
    let log = ThreadedLog::start(log).expect("started");
    // Dropped before the log, whose thread would wait for it for ever if an assertion failed.
    let release = release;
    let (first, first_outcome) = done();
    log.append(vec![entry(1, 0, 10)], first);
    in_sync.recv_timeout(PATIENCE).expect("the sync began");
    // These come while the sync is under way, and will share the next one.
    let rest: Vec<_> = (1..50)
        .map(|index| {
            let (done, outcome) = done();
            log.append(vec![entry(1, index, 10)], done);
            outcome
        })
        .collect();
    assert_eq!(entries(&log).len(), 50, "readable at once");
    assert!(matches!(first_outcome.try_recv(), Err(TryRecvError::Empty)));
    release.send(()).expect("waits");
    first_outcome.recv().expect("told").expect("durable");
    in_sync
        .recv_timeout(PATIENCE)
        .expect("the second sync began");
    assert!(
        rest.iter()
            .all(|outcome| matches!(outcome.try_recv(), Err(TryRecvError::Empty)))
    );
    release.send(()).expect("waits");
    for outcome in rest {
        outcome.recv().expect("told").expect("durable");
    }
    assert_eq!(
        dir.sync_count(),
        1 + 2,
        "one to create the segment, and two for fifty requests"
    );
    drop(release);
    log.shutdown().expect("clean");
}

#[test]
fn one_step_syncs_once_for_all_that_waited() {
    let dir = SimDir::new();
    let (log, _) = RaftLog::open(dir.clone(), Options::default()).expect("created");
    let before = (dir.sync_count(), dir.write_count());
    let outcomes: Vec<_> = (0..100)
        .map(|index| {
            let (done, outcome) = done();
            log.append(vec![entry(1, index, 300)], done);
            outcome
        })
        .collect();
    let completions = log.step();
    assert_eq!(completions.len(), 100);
    assert!(
        outcomes.iter().all(|outcome| outcome.try_recv().is_err()),
        "told by whoever runs them"
    );
    completions.run();
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.try_recv().is_ok_and(|result| result.is_ok()))
    );
    // The second write is the mark that the sync returned.
    assert_eq!(
        (dir.sync_count(), dir.write_count()),
        (before.0 + 1, before.1 + 2)
    );
}

#[test]
fn a_committed_id_costs_no_sync_and_rides_along() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(&log, vec![entry(1, 0, 10)]);
    let syncs = dir.sync_count();
    log.save_committed(Some(id(1, 0)));
    log.step().run();
    assert_eq!(dir.sync_count(), syncs);
    assert_eq!(open(&dir.durable_copy()).1.committed, None);
    append(&log, vec![entry(1, 1, 10)]);
    assert_eq!(open(&dir.durable_copy()).1.committed, Some(id(1, 0)));
}

/// What `fail` does to the disk stops the log: all who wait and all who come later get the error.
fn assert_poisoned_by(fail: fn(&SimDir), says: &str) {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(&log, vec![entry(1, 0, 10)]);
    let (dones, outcomes): (Vec<_>, Vec<_>) = (1..6).map(|_| done()).unzip();
    for (index, done) in (1..).zip(dones) {
        log.append(vec![entry(1, index, 30)], done);
    }
    fail(&dir);
    let writes = dir.write_count();
    log.step().run();
    for outcome in outcomes {
        let error = outcome.try_recv().expect("told").expect_err("not durable");
        assert!(error.to_string().contains(says), "{error}");
    }
    let (late, outcome) = done();
    log.save_vote(
        Vote {
            term: 9,
            node: 9,
            committed: false,
        },
        late,
    );
    let error = outcome
        .try_recv()
        .expect("told at once")
        .expect_err("stopped");
    assert!(error.to_string().contains(says), "{error}");
    assert!(matches!(log.failure(), Some(LogError::Failed { .. })));
    let (syncs, written) = (dir.sync_count(), dir.write_count());
    log.step().run();
    assert_eq!(
        (dir.sync_count(), dir.write_count()),
        (syncs, written),
        "nothing is retried"
    );
    assert!(written <= writes + 1);
    assert_eq!(log.vote(), None, "what was refused changed nothing");
    assert_eq!(
        log.read(0..9, u64::MAX).expect("readable").len(),
        6,
        "readers go on until the member stops"
    );
    // The disk that failed came back: what was acknowledged is there.
    let (log, opened) = open(&dir.crash(1));
    assert!(opened.last >= Some(id(1, 0)));
    append(
        &log,
        vec![entry(2, opened.last.map_or(0, |last| last.index + 1), 10)],
    );
}

#[test]
fn a_failed_sync_stops_the_log_and_is_not_retried() {
    assert_poisoned_by(SimDir::fail_next_sync, "simulated failure of a sync");
}

#[test]
fn a_failed_write_stops_the_log_and_is_not_retried() {
    assert_poisoned_by(SimDir::fail_next_write, "simulated failure of a write");
}

#[test]
fn a_failed_rotation_stops_the_log() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    dir.fail_after(0);
    let (done, outcome) = done();
    log.append((0..10).map(|index| entry(1, index, 200)).collect(), done);
    log.step().run();
    outcome
        .try_recv()
        .expect("told")
        .expect_err("no new segment");
    assert!(
        log.failure()
            .is_some_and(|error| error.to_string().contains("0000000002"))
    );
}

#[test]
fn a_threaded_log_that_fails_tells_everybody_and_says_so_at_shutdown() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    let log = ThreadedLog::start(log).expect("started");
    dir.fail_next_sync();
    let (first, outcome) = done();
    log.append(vec![entry(1, 0, 10)], first);
    outcome.recv().expect("told").expect_err("not durable");
    let (late, outcome) = done();
    log.append(vec![entry(1, 1, 10)], late);
    outcome.recv().expect("told").expect_err("stopped");
    assert!(matches!(log.shutdown(), Err(LogError::Failed { .. })));
}

#[test]
fn a_callback_that_panics_stops_the_log_instead_of_leaving_others_to_wait() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    let log = ThreadedLog::start(log).expect("started");
    log.append(
        vec![entry(1, 0, 10)],
        Box::new(|_| panic!("a panic that this test wants")),
    );
    // Whether it comes before or after the panic, it is told, or dropped with the batch.
    let outcomes: Vec<_> = (0..20)
        .map(|_| {
            let (done, outcome) = done();
            log.append(Vec::new(), done);
            outcome
        })
        .collect();
    for outcome in outcomes {
        let _ = outcome.recv_timeout(PATIENCE).map_err(|error| {
            assert_ne!(
                error,
                std::sync::mpsc::RecvTimeoutError::Timeout,
                "nobody waits for a thread that is gone"
            )
        });
    }
    assert!(matches!(log.shutdown(), Err(LogError::Failed { .. })));
}

#[test]
fn a_callback_that_panics_where_it_was_appended_through_stops_the_log_too() {
    let (log, _) = open(&SimDir::new());
    let log = ThreadedLog::start(log).expect("started");
    let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        log.append_through(
            vec![entry(1, 0, 10)],
            Box::new(|_| panic!("a panic that this test wants")),
        );
    }));
    assert!(appended.is_err(), "who appended hears of it");
    let (late, outcome) = done();
    log.append(vec![entry(1, 1, 10)], late);
    outcome.recv().expect("told").expect_err("stopped");
    assert!(matches!(log.shutdown(), Err(LogError::Failed { .. })));
}

/// One appends and steps, while the thread does, and somebody else asks for what only the thread does: each is told once, and
/// what was promised is there after a crash, wherever the disk fails.
#[test]
fn both_ways_of_stepping_go_together() {
    for fails_after in [20, 200, 700, u64::MAX] {
        let dir = SimDir::new();
        let (log, _) = open(&dir);
        let log = ThreadedLog::start(log).expect("started");
        dir.fail_after(fails_after);
        let mut outcomes = Vec::new();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let ask = |term| {
                    let (done, outcome) = done();
                    let vote = Vote {
                        term,
                        node: 1,
                        committed: false,
                    };
                    log.save_vote(vote, done);
                    outcome
                };
                (1..200).map(ask).collect::<Vec<_>>()
            });
            for index in 0..300 {
                let (done, outcome) = done();
                if index % 3 == 0 {
                    log.append(vec![entry(1, index, 40)], done);
                } else {
                    log.append_through(vec![entry(1, index, 40)], done);
                }
                outcomes.push(outcome);
                if index == 150 {
                    let (done, outcome) = common::done();
                    log.purge(id(1, 100), done);
                    outcomes.push(outcome);
                }
            }
            outcomes.extend(other.join().expect("no panic"));
        });
        let told: Vec<_> = outcomes
            .iter()
            .map(|outcome| outcome.recv_timeout(PATIENCE).expect("told"))
            .collect();
        for outcome in &outcomes {
            assert!(outcome.recv().is_err(), "told once");
        }
        let appended = told.iter().take(151).filter(|told| told.is_ok()).count();
        let all_well = told.iter().all(Result::is_ok);
        // Shutting down writes once more, which may be what fails.
        assert!(log.shutdown().is_err() || all_well);
        // How many changes of the disk it takes depends on who comes together.
        match fails_after {
            20 => assert!(!all_well),
            u64::MAX => assert!(all_well),
            _ => {}
        }
        let (_, opened) = open(&dir.durable_copy());
        let kept = opened.last.map_or(0, |last| last.index + 1);
        assert!(kept >= appended as u64, "{kept} of {appended}");
    }
}

/// A kill leaves records in the page cache. Opening vouches for them, so it must sync them.
#[test]
fn what_was_found_when_the_log_opened_survives_the_next_crash() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(&log, vec![entry(1, 0, 10)]);
    log.append(
        (1..12).map(|index| entry(1, index, 100)).collect(),
        Box::new(drop),
    );
    // The name of the next segment is durable; the seal is written, and not synced.
    dir.fail_after(6);
    drop(log.step());
    assert!(log.failure().is_some());
    let (log, opened) = open(&dir.kill());
    assert!(opened.last > Some(id(1, 0)), "{opened:?}");
    let (after, again) = open(&dir.durable_copy());
    assert_eq!((content(&after), again.last), (content(&log), opened.last));
}

/// After a failed sync the page cache shows records that the disk lacks, and takes them for clean:
/// syncing again writes nothing.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again_when_the_log_opens() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(&log, vec![entry(1, 0, 10)]);
    log.append(vec![entry(1, 1, 10), entry(1, 2, 10)], Box::new(drop));
    dir.fail_next_sync();
    log.step().run();
    assert!(log.failure().is_some());
    let (_, opened) = open(&dir.kill());
    assert_eq!(opened.last, Some(id(1, 2)), "the cache shows it");
    assert_eq!(open(&dir.durable_copy()).1.last, Some(id(1, 2)));
}

#[test]
fn shutdown_writes_and_syncs_what_is_queued_the_committed_id_too() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    let log = ThreadedLog::start(log).expect("started");
    let handle = log.log().clone();
    for index in 0..30 {
        log.append(vec![entry(1, index, 100)], Box::new(drop));
    }
    log.save_committed(Some(id(1, 29)));
    log.shutdown().expect("clean");
    let (late, outcome) = done();
    handle.append(vec![entry(1, 30, 1)], late);
    let error = outcome.recv().expect("told").expect_err("closed");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let (_, opened) = open(&dir.durable_copy());
    assert_eq!(
        (opened.last, opened.committed, opened.cut),
        (Some(id(1, 29)), Some(id(1, 29)), None)
    );
}

#[test]
fn appending_waits_while_the_queue_is_full_and_goes_on_when_it_drains() {
    let dir = SimDir::new();
    let options = Options {
        queue_bytes_max: 1000,
        ..common::small()
    };
    let (log, _) = RaftLog::open(dir.clone(), options).expect("created");
    let (release, released) = sync_channel::<()>(64);
    let released = Mutex::new(released);
    dir.on_sync(move |_| {
        let _ = released.lock().expect("no panic").recv();
    });
    let log = ThreadedLog::start(log).expect("started");
    // Dropped before the log, whose thread would wait for it for ever if an assertion failed.
    let release = release;
    let (appended, progress) = sync_channel(64);
    let appender = std::thread::spawn({
        let log = log.log().clone();
        move || {
            for index in 0..40 {
                log.append(vec![entry(1, index, 200)], Box::new(drop));
                appended.send(index).expect("listened to");
            }
        }
    });
    // 248 bytes each: the sixth waits, as five are more than a thousand bytes.
    for expected in 0..5 {
        assert_eq!(progress.recv(), Ok(expected));
    }
    assert!(log.queued_bytes() > 1000);
    assert_eq!(
        progress.recv_timeout(Duration::from_millis(50)).ok(),
        None,
        "it blocks"
    );
    drop(release);
    appender.join().expect("no panic");
    assert_eq!(log.last(), Some(id(1, 39)));
    log.shutdown().expect("clean");
}

#[test]
fn purged_segments_are_removed_only_after_the_purge_is_durable_and_the_state_is_kept() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    vote(
        &log,
        Vote {
            term: 5,
            node: 2,
            committed: true,
        },
    );
    append(&log, (0..3).map(|index| entry(1, index, 300)).collect());
    log.save_committed(Some(id(1, 2)));
    append(&log, (3..30).map(|index| entry(1, index, 300)).collect());
    let (done, outcome) = done();
    log.purge(id(1, 20), done);
    let segments = dir.list().expect("listed").len();
    assert!(dir.contents("0000000001.seg").is_some() && segments > 10);
    assert_eq!(
        (log.first_index(), log.purged()),
        (21, Some(id(1, 20))),
        "readers see it at once"
    );
    settle(&log, outcome);
    let left = dir.list().expect("listed");
    assert!(
        left.len() < segments / 2 && !left.contains(&"0000000001.seg".to_owned()),
        "{left:?}"
    );
    let expected = content(&log);
    assert_eq!(expected.entries.len(), 9);
    // The removals were not synced: they may come undone, which must not matter.
    for seed in 0..20 {
        let copy = dir.durable_copy();
        let (log, _) = open(&copy.crash(seed));
        assert_eq!(content(&log), expected);
        assert_eq!(
            expected.vote,
            Some(Vote {
                term: 5,
                node: 2,
                committed: true
            })
        );
        assert_eq!(expected.committed, Some(id(1, 2)));
        assert_eq!(
            copy.crash(0).list().expect("listed"),
            left,
            "leftovers are removed"
        );
    }
}

#[test]
fn a_purge_beyond_the_end_is_where_the_log_goes_on() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(&log, (0..20).map(|index| entry(1, index, 100)).collect());
    purge(&log, id(4, 1000));
    assert_eq!(
        (log.last(), log.first_index(), log.term_at(1000)),
        (Some(id(4, 1000)), 1001, Some(4))
    );
    assert_eq!(
        dir.list().expect("listed").len(),
        1,
        "only the one being written is left"
    );
    append(&log, vec![entry(4, 1001, 10)]);
    let (log, opened) = open(&dir.crash(3));
    assert_eq!(
        (opened.purged, opened.last),
        (Some(id(4, 1000)), Some(id(4, 1001)))
    );
    assert_eq!(entries(&log), vec![entry(4, 1001, 10)]);
}
