//! Random requests, steps, crashes and reopenings against a naive model: a list of what was asked,
//! and the certainty that what survives is what some prefix of the list leaves, at least as long as
//! what was acknowledged.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use common::{Content, content, payload};
use keelson_log::{Done, LogError, LogId, Opened, Options, RaftLog, SimDir, Vote};
use proptest::prelude::*;

/// One record of the stream, as the model sees it.
#[derive(Debug, Clone)]
enum Op {
    Entry(LogId, Bytes),
    Vote(Vote),
    Committed(Option<LogId>),
    Truncate(Option<u64>),
    Purge(LogId),
}

fn apply(content: &mut Content, op: &Op) {
    match op {
        Op::Entry(id, payload) => content.entries.push((*id, payload.clone())),
        Op::Vote(vote) => content.vote = Some(*vote),
        Op::Committed(id) => content.committed = *id,
        Op::Truncate(last) => content
            .entries
            .retain(|(id, _)| last.is_some_and(|last| id.index <= last)),
        Op::Purge(upto) => {
            content.entries.retain(|(id, _)| id.index > upto.index);
            content.purged = Some(*upto);
        }
    }
    content.last = content.entries.last().map(|(id, _)| *id).or(content.purged);
}

const EMPTY: Content = Content {
    vote: None,
    committed: None,
    purged: None,
    last: None,
    entries: Vec::new(),
};

#[derive(Debug, Clone)]
enum Action {
    Append {
        count: u64,
        new_term: bool,
        bytes: usize,
    },
    Vote,
    Committed,
    Truncate {
        back: u64,
    },
    Purge {
        ahead: u64,
    },
    PurgeBeyondEnd {
        by: u64,
    },
    Step,
    /// A step whose completions are lost with the process.
    StepUntold,
    FailNextSync,
    FailNextWrite,
    FailAfter(u64),
    Crash(u64),
    /// A crash, and another one while the log is being opened.
    CrashTwice(u64, u64),
    Kill,
    Look,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (1..6u64, proptest::bool::weighted(0.2), prop_oneof![9 => 0..300usize, 1 => 900..2500usize])
            .prop_map(|(count, new_term, bytes)| Action::Append { count, new_term, bytes }),
        2 => Just(Action::Vote),
        2 => Just(Action::Committed),
        2 => (0..8u64).prop_map(|back| Action::Truncate { back }),
        2 => (0..8u64).prop_map(|ahead| Action::Purge { ahead }),
        1 => (0..4u64).prop_map(|by| Action::PurgeBeyondEnd { by }),
        8 => Just(Action::Step),
        1 => Just(Action::StepUntold),
        1 => Just(Action::FailNextSync),
        1 => Just(Action::FailNextWrite),
        3 => (0..12u64).prop_map(Action::FailAfter),
        3 => any::<u64>().prop_map(Action::Crash),
        1 => (any::<u64>(), 0..8u64).prop_map(|(seed, after)| Action::CrashTwice(seed, after)),
        2 => Just(Action::Kill),
        2 => Just(Action::Look),
    ]
}

struct Machine {
    dir: SimDir,
    options: Options,
    log: RaftLog<SimDir>,
    term: u64,
    /// What the log was when it was opened. All of it is durable.
    base: Content,
    /// What was asked since then.
    ops: Vec<Op>,
    /// How many of `ops` were acknowledged.
    acknowledged: Arc<AtomicUsize>,
}

impl Machine {
    fn new(options: Options) -> Self {
        let dir = SimDir::new();
        let (log, opened) = RaftLog::open(dir.clone(), options.clone()).expect("created");
        assert!(opened.fresh);
        Machine {
            dir,
            options,
            log,
            term: 1,
            base: EMPTY,
            ops: Vec::new(),
            acknowledged: Arc::default(),
        }
    }

    fn now(&self) -> Content {
        let mut content = self.base.clone();
        self.ops.iter().for_each(|op| apply(&mut content, op));
        content
    }

    /// Notes `ops` as asked; returns the callback that acknowledges all up to here.
    fn ask(&mut self, ops: impl IntoIterator<Item = Op>) -> Done {
        self.ops.extend(ops);
        let (acknowledged, upto) = (Arc::clone(&self.acknowledged), self.ops.len());
        Box::new(move |result| {
            if result.is_ok() {
                acknowledged.fetch_max(upto, Ordering::Relaxed);
            }
        })
    }

    fn run(&mut self, action: &Action) {
        let content = self.now();
        let next = content.last.map_or(0, |last| last.index + 1);
        let failed = self.log.failure().is_some();
        match action {
            Action::Crash(seed) => {
                let dir = self.dir.crash(*seed);
                self.reopen(dir);
            }
            Action::Kill => {
                let dir = self.dir.kill();
                self.reopen(dir);
            }
            Action::CrashTwice(seed, after) => {
                let dir = self.dir.crash(*seed);
                dir.fail_after(*after);
                match RaftLog::open(dir.clone(), self.options.clone()) {
                    Err(LogError::Io { .. }) | Ok(_) => {}
                    Err(other) => panic!("a crash is no damage: {other}"),
                }
                let dir = dir.crash(seed.wrapping_add(1));
                self.reopen(dir);
            }
            _ if failed => {
                let (done, outcome) = common::done();
                self.log.append(Vec::new(), done);
                outcome
                    .try_recv()
                    .expect("told at once")
                    .expect_err("a failed log takes nothing");
            }
            Action::Append {
                count,
                new_term,
                bytes,
            } => {
                self.term += u64::from(*new_term);
                let term = self.term.max(content.last.map_or(0, |last| last.term));
                self.term = term;
                let entries: Vec<_> = (next..next + count)
                    .map(|index| (common::id(term, index), payload(term, index, *bytes)))
                    .collect();
                let done = self.ask(
                    entries
                        .iter()
                        .map(|(id, payload)| Op::Entry(*id, payload.clone())),
                );
                self.log.append(entries, done);
            }
            Action::Vote => {
                self.term += 1;
                let vote = Vote {
                    term: self.term,
                    node: self.term % 5,
                    committed: self.term.is_multiple_of(2),
                };
                let done = self.ask([Op::Vote(vote)]);
                self.log.save_vote(vote, done);
            }
            Action::Committed => {
                drop(self.ask([Op::Committed(content.last)]));
                self.log.save_committed(content.last);
            }
            Action::Truncate { back } => {
                let first = content.purged.map_or(0, |purged| purged.index + 1);
                let keep = next.saturating_sub(*back).max(first);
                let last = keep.checked_sub(1);
                let op = (keep < next).then_some(Op::Truncate(last));
                let done = self.ask(op);
                self.log.truncate_after(last, done);
            }
            Action::Purge { ahead } => {
                if let Some((upto, _)) = content.entries.get(*ahead as usize) {
                    let done = self.ask([Op::Purge(*upto)]);
                    self.log.purge(*upto, done);
                }
            }
            Action::PurgeBeyondEnd { by } => {
                let upto = common::id(
                    self.term.max(content.last.map_or(0, |last| last.term)),
                    next + by,
                );
                let done = self.ask([Op::Purge(upto)]);
                self.log.purge(upto, done);
            }
            Action::Step => self.log.step().run(),
            Action::StepUntold => drop(self.log.step()),
            Action::FailNextSync => self.dir.fail_next_sync(),
            Action::FailNextWrite => self.dir.fail_next_write(),
            Action::FailAfter(changes) => self.dir.fail_after(*changes),
            Action::Look => assert_eq!(common::content(&self.log), content),
        }
    }

    fn reopen(&mut self, dir: SimDir) {
        self.dir = dir;
        let opened: Opened;
        (self.log, opened) =
            RaftLog::open(self.dir.clone(), self.options.clone()).expect("a crash is no damage");
        let found = content(&self.log);
        assert_eq!(
            (opened.vote, opened.committed, opened.purged, opened.last),
            (found.vote, found.committed, found.purged, found.last)
        );
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let mut prefix = self.base.clone();
        self.ops[..acknowledged]
            .iter()
            .for_each(|op| apply(&mut prefix, op));
        let mut rest = self.ops[acknowledged..].iter();
        while prefix != found {
            match rest.next() {
                Some(op) => apply(&mut prefix, op),
                None => panic!(
                    "{found:?}\nis no prefix of the stream from the {acknowledged} acknowledged of {:?}\nafter {:?}",
                    self.ops, self.base
                ),
            }
        }
        self.base = found;
        self.ops.clear();
        self.acknowledged = Arc::default();
    }
}

/// `PROPTEST_CASES` asks for more, in a soak.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(2500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_survives_is_a_prefix_that_holds_all_that_was_acknowledged(
        segment_bytes in prop_oneof![Just(1024u32), Just(2048), Just(8192)],
        cache_bytes in prop_oneof![Just(0usize), Just(500), Just(1 << 20)],
        batch_bytes_max in prop_oneof![Just(400usize), Just(1 << 20)],
        actions in prop::collection::vec(action(), 1..60),
        seed in any::<u64>(),
    ) {
        let options = Options { segment_bytes, cache_bytes, batch_bytes_max, ..Options::default() };
        let mut machine = Machine::new(options);
        for action in &actions {
            machine.run(action);
        }
        machine.run(&Action::Crash(seed));
        machine.run(&Action::Look);
    }
}

/// A fixed script, with the disk gone after every number of changes that it makes.
#[test]
fn a_crash_at_every_single_change_of_the_disk_leaves_a_prefix() {
    let script: Vec<Action> = (0..12)
        .flat_map(|round| {
            [
                Action::Append {
                    count: 3,
                    new_term: round % 4 == 1,
                    bytes: 90,
                },
                Action::Step,
                Action::Committed,
                Action::Truncate { back: round % 3 },
                Action::Append {
                    count: 2,
                    new_term: false,
                    bytes: 200,
                },
                Action::Vote,
                Action::Step,
                Action::Purge { ahead: round % 5 },
                Action::Step,
            ]
        })
        .collect();
    let options = Options {
        segment_bytes: 1024,
        cache_bytes: 0,
        ..Options::default()
    };
    let mut crashes = 0;
    for changes in 0.. {
        let mut finished = false;
        for seed in 0..6 {
            let mut machine = Machine::new(options.clone());
            machine.dir.fail_after(changes);
            script.iter().for_each(|action| machine.run(action));
            finished = machine.log.failure().is_none();
            machine.run(&Action::Crash(seed * 7919 + changes));
            machine.run(&Action::Append {
                count: 2,
                new_term: true,
                bytes: 10,
            });
            machine.run(&Action::Step);
            machine.run(&Action::Crash(seed));
            crashes += 1;
        }
        if finished {
            break;
        }
    }
    assert!(
        crashes > 600,
        "the script makes more changes than that: {crashes}"
    );
}
