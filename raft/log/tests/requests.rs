//! What the log takes and refuses, and what reads give.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use common::{append, content, done, entries, entry, id, open, purge, truncate};
use keelson_log::{
    DiskDir, LogDir, LogError, LogId, Options, PAYLOAD_BYTES_MAX, RaftLog, SimDir, ThreadedLog,
};

fn filled(count: u64) -> (SimDir, RaftLog<SimDir>) {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(
        &log,
        (0..count)
            .map(|index| entry(1 + index / 4, index, 120))
            .collect(),
    );
    (dir, log)
}

fn refused(log: &RaftLog<SimDir>, entries: Vec<(LogId, Bytes)>) -> io::Error {
    let (done, outcome) = done();
    log.append(entries, done);
    outcome
        .try_recv()
        .expect("told at once")
        .expect_err("refused")
}

#[test]
fn entries_read_back_from_memory_and_disk_alike() {
    for cache_bytes in [0, 500, 1 << 20] {
        let options = Options {
            cache_bytes,
            ..common::small()
        };
        let (log, _) = RaftLog::open(SimDir::new(), options).expect("created");
        let all: Vec<_> = (0..40)
            .map(|index| entry(1, index, index as usize * 5))
            .collect();
        append(&log, all.clone());
        for from in 0..40u64 {
            for to in from..42 {
                let expected = &all[from as usize..to.min(40) as usize];
                assert_eq!(log.read(from..to, u64::MAX).expect("readable"), expected);
            }
        }
    }
}

#[test]
fn a_read_stops_at_its_bytes_but_gives_one_entry() {
    let (_, log) = filled(20);
    assert_eq!(log.read(3..9, 0).expect("readable"), vec![entry(1, 3, 120)]);
    assert_eq!(log.read(3..9, 120).expect("readable").len(), 1);
    assert_eq!(log.read(3..9, 359).expect("readable").len(), 2);
    assert_eq!(log.read(3..9, 360).expect("readable").len(), 3);
    assert!(log.read(5..5, 100).expect("readable").is_empty());
    assert!(log.read(20..30, 100).expect("readable").is_empty());
}

#[test]
fn reading_what_was_purged_is_an_error_that_says_what_is_left() {
    let (_, log) = filled(20);
    purge(&log, log.id_at(9).expect("present"));
    match log.read(9..12, 100).expect_err("purged") {
        LogError::Purged {
            index: 9,
            first: 10,
        } => {}
        other => panic!("{other}"),
    }
    assert_eq!(log.read(10..12, 1000).expect("present").len(), 2);
    assert_eq!(
        (log.term_at(9), log.term_at(8), log.term_at(10)),
        (Some(3), None, Some(3))
    );
}

#[test]
fn holes_repeats_and_terms_that_go_back_are_refused_and_change_nothing() {
    let (_, log) = filled(5);
    let before = content(&log);
    for bad in [
        vec![entry(9, 6, 1)],
        vec![entry(9, 4, 1)],
        vec![entry(1, 5, 1)],
        vec![entry(9, 5, 1), entry(9, 7, 1)],
        vec![entry(9, 5, 1), entry(8, 6, 1)],
        vec![(id(9, 5), Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]))],
    ] {
        let error = refused(&log, bad);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(content(&log), before);
    assert!(log.failure().is_none());
    append(&log, vec![entry(9, 5, 1)]);
}

#[test]
fn the_first_entry_has_index_zero() {
    let (log, _) = open(&SimDir::new());
    refused(&log, vec![entry(1, 1, 1)]);
    append(&log, vec![entry(1, 0, 1)]);
}

#[test]
fn truncated_entries_are_gone_and_their_indexes_free() {
    let (dir, log) = filled(10);
    truncate(&log, Some(6));
    assert_eq!(log.last(), Some(id(2, 6)));
    append(&log, vec![entry(7, 7, 33)]);
    truncate(&log, Some(50));
    assert_eq!(log.last(), Some(id(7, 7)));
    let expected = content(&log);
    let (log, _) = open(&dir.crash(5));
    assert_eq!(content(&log), expected);
    truncate(&log, None);
    assert_eq!((log.last(), log.first_index()), (None, 0));
    let (log, opened) = open(&dir.crash(6));
    assert_eq!((opened.last, entries(&log).len()), (None, 0));
}

/// The entries of a batch must not be taken for those that replaced them while it was written, or
/// while it was still to be.
#[test]
fn an_entry_replaced_before_it_was_written_reads_as_the_new_one() {
    let dir = SimDir::new();
    let options = Options {
        batch_bytes_max: 1,
        cache_bytes: 0,
        ..Options::default()
    };
    let (log, _) = RaftLog::open(dir.clone(), options).expect("created");
    log.append(vec![entry(1, 0, 10), entry(1, 1, 20)], Box::new(drop));
    log.truncate_after(Some(0), Box::new(drop));
    let (replaced, outcome) = done();
    log.append(vec![entry(2, 1, 30), entry(2, 2, 40)], replaced);
    let expected = vec![entry(1, 0, 10), entry(2, 1, 30), entry(2, 2, 40)];
    while log.flush_queue_len() > 0 {
        assert_eq!(entries(&log), expected);
        log.step().run();
    }
    outcome.try_recv().expect("told").expect("durable");
    assert_eq!(entries(&log), expected);

    // And while the first batch is at its sync.
    let asked_meanwhile = std::sync::Mutex::new(Some(log.clone()));
    dir.on_sync(move |_| {
        if let Some(log) = asked_meanwhile.lock().expect("no panic").take() {
            log.truncate_after(Some(2), Box::new(drop));
            log.append(vec![entry(4, 3, 60)], Box::new(drop));
        }
    });
    append(&log, vec![entry(3, 3, 50)]);
    assert_eq!(entries(&log).last(), Some(&entry(4, 3, 60)));
}

#[test]
fn truncating_into_what_was_purged_and_purging_another_history_are_refused() {
    let (_, log) = filled(10);
    purge(&log, log.id_at(4).expect("present"));
    for last in [None, Some(3)] {
        let (done, outcome) = done();
        log.truncate_after(last, done);
        outcome
            .try_recv()
            .expect("told at once")
            .expect_err("refused");
    }
    let (other, outcome) = done();
    log.purge(id(9, 6), other);
    outcome
        .try_recv()
        .expect("told at once")
        .expect_err("refused");
    assert_eq!((log.first_index(), log.last()), (5, Some(id(3, 9))));
    truncate(&log, Some(4));
    assert_eq!((log.last(), log.first_index()), (Some(id(2, 4)), 5));
}

#[test]
fn an_append_of_nothing_is_a_barrier_that_syncs_what_rode_along() {
    let (dir, log) = filled(3);
    log.save_committed(Some(id(1, 2)));
    append(&log, Vec::new());
    assert_eq!(open(&dir.durable_copy()).1.committed, Some(id(1, 2)));
    let syncs = dir.sync_count();
    append(&log, Vec::new());
    assert_eq!(dir.sync_count(), syncs, "nothing is left to sync");
}

#[test]
fn an_entry_larger_than_a_segment_gets_a_segment_of_its_own() {
    let (dir, log) = filled(2);
    let large = entry(1, 2, 50_000);
    append(&log, vec![large.clone(), entry(1, 3, 10)]);
    let (log, _) = open(&dir.crash(0));
    assert_eq!(
        log.read(2..4, u64::MAX).expect("readable"),
        vec![large, entry(1, 3, 10)]
    );
}

#[test]
fn reopening_without_a_crash_adds_nothing() {
    let (dir, log) = filled(12);
    drop(log);
    let before = common::files(&dir);
    for _ in 0..3 {
        let (_, opened) = open(&dir);
        assert_eq!((opened.fresh, opened.cut), (false, None));
    }
    assert_eq!(common::files(&dir), before);
}

#[test]
fn sizes_and_counters_follow_the_log() {
    let (dir, log) = filled(30);
    assert_eq!(log.appended_bytes(), 30 * (120 + 48));
    let full = log.size_bytes();
    assert!(full > 30 * (120 + 48));
    purge(&log, log.id_at(25).expect("present"));
    assert!(log.size_bytes() < full / 3);
    assert_eq!(open(&dir).0.size_bytes(), log.size_bytes());
    log.append(vec![entry(8, 30, 1)], Box::new(drop));
    assert_eq!((log.flush_queue_len(), log.queued_bytes()), (1, 49));
    log.step().run();
    assert_eq!((log.flush_queue_len(), log.queued_bytes()), (0, 0));
}

#[test]
fn real_files_behave_like_the_simulated_ones() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("log");
    let open =
        || RaftLog::open(DiskDir::open(&path).expect("opened"), common::small()).expect("opens");
    let (log, opened) = open();
    assert!(opened.fresh);
    let log = ThreadedLog::start(log).expect("started");
    let outcomes: Vec<_> = (0..200)
        .map(|index| {
            let (done, outcome) = done();
            log.append(vec![entry(1, index, 90)], done);
            outcome
        })
        .collect();
    for outcome in outcomes {
        outcome.recv().expect("told").expect("durable");
    }
    let (purged, outcome) = done();
    log.purge(id(1, 100), purged);
    outcome.recv().expect("told").expect("durable");
    let expected = content(&log);
    log.shutdown().expect("clean");
    assert!(!path.join("0000000001.seg").exists());

    let (log, opened) = open();
    assert_eq!((opened.fresh, opened.cut), (false, None));
    assert_eq!(content(&log), expected);
    let name = DiskDir::open(&path)
        .expect("opened")
        .list()
        .expect("listed")
        .into_iter()
        .max()
        .expect("one");
    assert_eq!(
        std::fs::metadata(path.join(name)).expect("there").len(),
        1024
    );
}

#[test]
fn a_directory_that_cannot_be_is_one_clear_error() {
    let root = tempfile::tempdir().expect("a directory");
    let error = DiskDir::open(root.path().join("no/such/parent")).expect_err("no parent");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn what_is_appended_through_is_on_the_disk_when_it_returns() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    log.save_committed(Some(id(1, 0)));
    let (done, outcome) = done();
    log.append_through(vec![entry(1, 0, 10)], done);
    outcome.try_recv().expect("told by now").expect("written");
    let (log, _) = open(&dir.crash(1));
    assert_eq!(log.last(), Some(id(1, 0)));
    assert_eq!(log.committed(), Some(id(1, 0)), "it went along");
}

#[test]
fn what_needs_more_than_a_write_is_left_to_who_steps() {
    let (dir, log) = filled(40);
    let segments = dir.list().expect("listed").len();
    log.purge(id(9, 35), Box::new(drop));
    let (done, outcome) = done();
    log.append_through(vec![entry(10, 40, 10)], done);
    outcome.try_recv().expect_err("not by the caller");
    log.step().run();
    outcome.try_recv().expect("told").expect("written");
    assert!(
        dir.list().expect("listed").len() < segments,
        "files are gone, too"
    );
}

#[test]
fn who_runs_the_log_without_a_thread_is_woken_when_there_is_something_to_do() {
    #[derive(Default)]
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let (log, _) = open(&SimDir::new());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let cx = &mut Context::from_waker(&waker);
    assert!(log.poll_work(cx).is_pending());
    log.save_committed(Some(id(1, 0)));
    assert!(!woken.0.load(Ordering::Relaxed), "nobody waits for it");
    log.append(Vec::new(), Box::new(drop));
    assert!(woken.0.load(Ordering::Relaxed));
    assert!(log.poll_work(cx).is_ready());
    log.step().run();
    assert!(log.poll_work(cx).is_pending());
}
