//! Random histories of a correct store are valid, and with one lie in them they are not.
//!
//! The store here is a list of states, and chance decides when each operation was asked for, took effect and was answered,
//! what serializable reads are served from, whose answers are lost, and how watches are cut into responses.

use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{Rng, SeedableRng};

use super::build::{Build, all, at, delete, get, is, peek, put, step, swap, txn};
use super::{assert_valid, judge};
use crate::check::Findings;
use crate::check::truth::Truth;
use crate::history::{
    Call, Delete, Header, History, Kv, Micros, Operation, Outcome, Range, Reply, Revision, Target,
    WatchResponse, WatchStream,
};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const CLIENTS: u32 = 5;
/// What an operation of a history by hand takes.
const STEP: u64 = 10;

fn key(random: &mut StdRng) -> &'static str {
    KEYS.choose(random).unwrap()
}

fn call(random: &mut StdRng, number: usize, now: Revision) -> Call {
    let (a, b) = (key(random), key(random));
    let value = format!("value {number}");
    match random.random_range(0..12) {
        0 | 1 => put(a, &value),
        2 => get(a),
        3 => peek(a),
        4 => Call::Range(Range {
            limit: random.random_range(0..3),
            keys_only: random.random(),
            ..all()
        }),
        5 => Call::Range(Range {
            count_only: true,
            ..all()
        }),
        6 if now.0 > 2 => at(all(), random.random_range(2..now.0)),
        7 => delete(a),
        8 => Call::Delete(Delete {
            key: "a".into(),
            range_end: "c".into(),
            prev_kv: true,
        }),
        9 => swap(a, &format!("value {}", number.saturating_sub(9)), &value),
        10 => txn(
            vec![is(a, Target::Version(random.random_range(0..3)))],
            vec![step(put(a, &value)), step(Call::Range(all()))],
            vec![step(get(b))],
        ),
        _ if a != b => txn(
            vec![],
            vec![step(put(a, &value)), step(delete(b)), step(get(a))],
            vec![],
        ),
        _ => put(a, &value),
    }
}

/// One of those that concern a single key and its value.
fn simple(random: &mut StdRng, number: usize) -> Call {
    let a = key(random);
    let value = format!("value {number}");
    match random.random_range(0..6) {
        0 => put(a, &value),
        1 | 2 => get(a),
        3 => peek(a),
        4 => delete(a),
        _ => swap(a, &format!("value {}", number.saturating_sub(4)), &value),
    }
}

/// A history of so many operations.
fn random(seed: u64, operations: usize) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    let random = &mut random;
    let mut build = Build::new();
    // Up to what each client's connection was told, below which its serializable reads must not fall.
    let mut told = [Revision(1); CLIENTS as usize];
    // When each client may ask again.
    let mut free = [Micros(0); CLIENTS as usize];
    let mut clock = Micros(1000);
    for number in 0..operations {
        let client = random.random_range(0..CLIENTS);
        let place = client as usize;
        clock = Micros(clock.0 + random.random_range(1..12)).max(free[place]);
        // It takes effect now; it was asked for somewhat earlier, and is answered somewhat later.
        build.now = Micros(clock.0 - STEP);
        // Registers can be searched only if nothing touches several at once.
        let call = match seed % 2 {
            0 => call(random, number, build.revision()),
            _ => simple(random, number),
        };
        let id = match random.random_range(0..40) {
            0 => build.vanished(client, call),
            1 => build.unanswered(client, call),
            2 => build.refused(client, call, "etcdserver: request is too large"),
            _ => build.call(client, call),
        };
        let asked = Micros(clock.0.saturating_sub(random.random_range(0..60)));
        let operation = build.operation(id);
        operation.start = asked.max(free[place]);
        operation.end = Micros(clock.0 + random.random_range(0..60));
        free[place] = Micros(operation.end.0 + 1);
        let operation = operation.clone();
        if let (Call::Range(range), Some((header, _))) = (&operation.call, operation.done())
            && range.serializable
            && operations < 1000
        {
            let old = Revision(random.random_range(told[place].0..=header.revision.0));
            let state = build.state_at(old);
            build.lie(id, |header, reply| {
                header.revision = old;
                *reply = state.read(range);
            });
        }
        if let Some((header, _)) = build.operation(id).done() {
            told[place] = header.revision.max(told[place]);
        }
    }
    build.now = Micros(clock.0 + 100);
    for number in 0..6 {
        let start = random.random_range(1..=build.revision().0);
        let (first, end) = [("\0", "\0"), ("a", "c"), ("b", "")]
            .choose(random)
            .unwrap();
        let mut stream = build.watch(&format!("watcher {number}"), first, end, start);
        shape(random, &mut stream, build.revision());
        build.history.watches.push(stream);
    }
    build.finish()
}

/// Joins some responses, and puts notes on progress where they are true.
fn shape(random: &mut StdRng, stream: &mut WatchStream, end: Revision) {
    stream.no_delete = random.random_ratio(1, 4);
    let mut shaped: Vec<WatchResponse> = Vec::new();
    let responses = std::mem::take(&mut stream.responses);
    for mut response in responses {
        if stream.no_delete {
            response
                .events
                .retain(|event| event.kind == crate::history::EventKind::Put);
            if response.events.is_empty() && !response.created {
                continue;
            }
        }
        match shaped.last_mut() {
            Some(last) if !last.created && !last.is_progress() && random.random_ratio(1, 4) => {
                last.at = response.at;
                last.revision = response.revision;
                last.events.extend(response.events);
            }
            Some(last) if !last.created && random.random_ratio(1, 5) => {
                let progress = WatchResponse {
                    at: response.at,
                    revision: last.revision,
                    ..WatchResponse::default()
                };
                shaped.extend([progress, response]);
            }
            _ => shaped.push(response),
        }
    }
    shaped.push(WatchResponse {
        at: stream.end,
        revision: end,
        ..WatchResponse::default()
    });
    stream.responses = shaped;
}

/// Makes one reply or response untrue, if the history has one of the kind; says what.
fn lie(history: &mut History, random: &mut StdRng) -> Option<&'static str> {
    let kind = random.random_range(0..10);
    let operation = |history: &mut History, random: &mut StdRng, fits: fn(&Operation) -> bool| {
        let mut fitting: Vec<usize> = (0..history.operations.len()).collect();
        fitting.retain(|index| fits(&history.operations[*index]));
        fitting.choose(random).copied()
    };
    let found = |operation: &Operation| matches!(operation.done(), Some((_, Reply::Range { kvs, .. })) if !kvs.is_empty());
    match kind {
        0 => {
            let index = operation(history, random, found)?;
            kvs(&mut history.operations[index]).pop();
            Some("a read lost a key")
        }
        1 => {
            let index = operation(history, random, found)?;
            let kv = kvs(&mut history.operations[index]).choose_mut(random)?;
            kv.version += 1;
            Some("a read told another version")
        }
        2 => {
            let index = operation(history, random, |operation| operation.wrote().is_some())?;
            header(&mut history.operations[index]).revision.0 -= 1;
            Some("a write told the revision before its own")
        }
        3 => {
            let index = operation(history, random, |operation| operation.wrote().is_some())?;
            header(&mut history.operations[index]).revision.0 += 1;
            Some("a write told the revision after its own")
        }
        4 => {
            // A delete could as well be another one's, whose answer was lost.
            let index = operation(history, random, |operation| {
                matches!(operation.call, Call::Put(_)) && operation.done().is_some()
            })?;
            history.operations[index].outcome = Outcome::Refused {
                error: "etcdserver: too many requests".to_owned(),
            };
            Some("a write was done though it was refused")
        }
        5 => {
            let response = response(history, random)?;
            response
                .events
                .remove(random.random_range(0..response.events.len()));
            Some("a watcher missed an event")
        }
        6 => {
            let response = response(history, random)?;
            let again = response.events.choose(random)?.clone();
            response.events.push(again);
            Some("a watcher got an event again")
        }
        7 => {
            let response = response(history, random)?;
            response.events.choose_mut(random)?.kv.value = "something else".into();
            Some("a watcher got another value")
        }
        8 => {
            let index = operation(history, random, |operation| {
                matches!(&operation.call, Call::Range(range)
                    if !range.serializable && range.revision.is_zero() && operation.done().is_some())
            })?;
            stale(history, index)?;
            Some("a linearizable read was answered from what was before")
        }
        _ => {
            let mut streams: Vec<&mut WatchStream> = history
                .watches
                .iter_mut()
                .filter(|stream| stream.responses.len() > 4)
                .collect();
            let stream = streams.choose_mut(random)?;
            let at = (1..stream.responses.len() - 1).find(|at| {
                let sent = &stream.responses[*at..*at + 2];
                sent.iter().all(|response| !response.events.is_empty())
            })?;
            let (a, b) = (stream.responses[at].at, stream.responses[at + 1].at);
            stream.responses.swap(at, at + 1);
            (stream.responses[at].at, stream.responses[at + 1].at) = (a, b);
            Some("a watcher got two responses in the wrong order")
        }
    }
}

/// Answers a read truly, but from the revision before the one that somebody had been told when it began.
fn stale(history: &mut History, index: usize) -> Option<()> {
    let start = history.operations[index].start;
    let before = history.operations.iter().filter(|other| other.end < start);
    let told = before
        .filter_map(|other| Some(other.done()?.0.revision))
        .max()?;
    let old = Revision(told.0 - 1);
    let truth = Truth::of(history, &mut Findings::default());
    let Call::Range(range) = history.operations[index].call.clone() else {
        return None;
    };
    truth.visit(vec![(old, ())], |state, _, ()| {
        history.operations[index].outcome = Outcome::Done {
            header: Header {
                revision: old,
                ..Header::default()
            },
            reply: state.read(&range),
        };
    });
    Some(())
}

fn kvs(operation: &mut Operation) -> &mut Vec<Kv> {
    match &mut operation.outcome {
        Outcome::Done {
            reply: Reply::Range { kvs, .. },
            ..
        } => kvs,
        other => panic!("{other:?}"),
    }
}

fn header(operation: &mut Operation) -> &mut Header {
    match &mut operation.outcome {
        Outcome::Done { header, .. } => header,
        other => panic!("{other:?}"),
    }
}

/// A response with events, of a watcher that is no recorder: what a lone recorder misses, nobody knows.
fn response<'a>(history: &'a mut History, random: &mut StdRng) -> Option<&'a mut WatchResponse> {
    let streams = history.watches.iter_mut().filter(|stream| !stream.recorder);
    let responses = streams.flat_map(|stream| &mut stream.responses);
    let mut responses: Vec<_> = responses
        .filter(|response| !response.events.is_empty())
        .collect();
    if responses.is_empty() {
        return None;
    }
    let at = random.random_range(0..responses.len());
    Some(responses.swap_remove(at))
}

#[test]
fn whatever_a_correct_store_answers_is_valid() {
    for seed in 0..150 {
        println!("seed {seed}");
        assert_valid(&random(seed, 200));
    }
}

#[test]
fn a_long_history_with_many_unknown_outcomes_is_valid() {
    assert_valid(&random(1001, 5_000));
}

#[test]
fn one_lie_among_many_truths_is_found() {
    let mut told = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let mut history = random(seed, 120);
        let mut random = StdRng::seed_from_u64(seed);
        if let Some(what) = lie(&mut history, &mut random) {
            told.insert(what);
            let verdict = judge(&history);
            assert!(
                !verdict.violations.is_empty(),
                "seed {seed}: {what}: {verdict:#?}"
            );
        }
    }
    assert_eq!(told.len(), 10, "{told:?}");
}
