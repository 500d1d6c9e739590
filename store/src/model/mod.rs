//! The store against a naive model: random commands in random batches, reads of now and of the past, states held while
//! others are published, flushes and crashes. Generic over the engine: each runs it.
//!
//! **What must hold**: every outcome, event and read is the model's; a second store that is given the same entries one by
//! one, without a cache and without crashes, is in the same state; entries that are applied again after a crash give what they gave before;
//! a state that a reader holds never changes, whatever is compacted meanwhile.
#![expect(missing_docs, reason = "a test, for the tests of other crates")]

mod commands;
mod naive;

use bytes::Bytes;
use keelson_proto::commandpb::{Command, Membership, State, Voters};
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keelson_proto::mvccpb;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRunner};
use prost::Message;
use std::sync::Arc;

use crate::engine::Engine;
use crate::memory::MemoryEngine;
use crate::{
    Applied, EncodedRange, Entry, Event, EventKind, LogId, Options, Outcome, Payload, Published,
    RangeStream, ReadError, Refusal, Revision, Store,
};
use commands::{Read, Step, resolve_command, resolve_range, revision};
use naive::{Change, Naive};

/// How the model test gets at an engine.
pub trait Subject {
    type Engine: Engine;

    /// The engine, empty at first.
    fn open(&mut self) -> Arc<Self::Engine>;

    /// Loses what was not flushed. Nothing of what [`Subject::open`] gave is alive.
    fn crash(&mut self);
}

/// Runs `cases` random runs of at most `steps_max` steps, each on a subject of its own.
pub fn run_model<S: Subject>(cases: u32, steps_max: usize, make: impl Fn() -> S) {
    let mut runner = TestRunner::new(Config {
        cases,
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    });
    let result = runner.run(&commands::steps(steps_max), |steps| {
        let mut run = Run::new(make());
        for step in steps {
            run.step(step)?;
        }
        run.check_held()
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

type Check = Result<(), TestCaseError>;

/// A state that a reader keeps, and what the model says of it.
type Held<S> = (
    Arc<Published<<<S as Subject>::Engine as Engine>::View>>,
    Naive,
);

/// A run: the store, its model, and the second store.
struct Run<S: Subject> {
    subject: S,
    /// None only while it crashes.
    store: Option<Store<S::Engine>>,
    model: Naive,
    second: Store<MemoryEngine>,
    entries: Vec<Entry>,
    /// What each entry gave when it was applied first.
    outcomes: Vec<(Outcome, Vec<Event>)>,
    /// How many entries the last flush has put on disk.
    flushed: usize,
    held: Vec<Held<S>>,
}

const OPTIONS: Options = Options {
    cache_bytes: 8 * 1024,
};

impl<S: Subject> Run<S> {
    fn new(mut subject: S) -> Run<S> {
        let store = Store::open(subject.open(), OPTIONS).expect("an empty engine opens");
        let second = Store::open(Arc::new(MemoryEngine::new()), Options { cache_bytes: 0 });
        Run {
            subject,
            store: Some(store),
            model: Naive::new(),
            second: second.expect("an empty engine opens"),
            entries: Vec::new(),
            outcomes: Vec::new(),
            flushed: 0,
            held: Vec::new(),
        }
    }

    fn store(&mut self) -> &mut Store<S::Engine> {
        self.store.as_mut().expect("open but while it crashes")
    }

    fn step(&mut self, step: Step) -> Check {
        match step {
            Step::Apply(entries) => self.apply(entries),
            Step::Read(read) => {
                let now = self.store().reader().now();
                self.read(read.clone(), &now, &self.model)?;
                if let Read::Range(r) = &read {
                    self.stream(r.clone())?;
                }
                // Those that are held are asked the same.
                for (published, model) in &self.held {
                    self.read(read.clone(), published, model)?;
                }
                Ok(())
            }
            Step::Hold => {
                let now = self.store().reader().now();
                self.held.push((now, self.model.clone()));
                Ok(())
            }
            Step::Release => self.check_held(),
            Step::Flush => {
                self.store().engine().flush().expect("the engine flushes");
                self.flushed = self.entries.len();
                Ok(())
            }
            Step::CompactFiles => {
                self.store()
                    .engine()
                    .compact_files()
                    .expect("the engine compacts");
                Ok(())
            }
            Step::Crash(batch) => self.crash(batch),
        }
    }

    fn apply(&mut self, steps: Vec<commands::Entry>) -> Check {
        let first = self.entries.len();
        let mut expected_leases = Vec::new();
        let mut expected = Vec::new();
        for step in steps {
            let (payload, outcome, leases, changes) = self.expect(step);
            let id = LogId {
                term: 1,
                index: self.entries.len() as u64 + 1,
            };
            self.entries.push(Entry { id, payload });
            expected_leases.extend(leases);
            expected.push((outcome, changes));
        }
        let entries = self.entries[first..].to_vec();
        let mut applied = self
            .store()
            .apply(&entries)
            .expect("the engine takes a batch");
        prop_assert_eq!(&applied.leases, &expected_leases);
        prop_assert_eq!(applied.outcomes.len(), expected.len());
        let mut events = std::mem::take(&mut applied.events).into_iter();
        for (outcome, (expected, changes)) in applied.outcomes.iter().zip(expected) {
            prop_assert_eq!(outcome, &expected);
            let events: Vec<Event> = events.by_ref().take(changes.len()).collect();
            same_events(&events, &changes)?;
            self.outcomes.push((outcome.clone(), events));
        }
        prop_assert_eq!(events.next(), None, "no more events than changes");
        self.check_state(&applied)?;
        self.apply_second(&entries)
    }

    /// The payload of a step's entry, and what the model says that it gives.
    fn expect(
        &mut self,
        step: commands::Entry,
    ) -> (Payload, Outcome, Vec<crate::LeaseChange>, Vec<Change>) {
        let changes_before = self.model.changes.len();
        let done = Ok(crate::Reply::Done(keelson_proto::commandpb::Done {}));
        let (payload, result, leases) = match step {
            commands::Entry::Blank => (Payload::Blank, done, Vec::new()),
            commands::Entry::Membership(ids) => {
                self.model.membership(&ids.iter().copied().collect());
                let membership = Membership {
                    configs: vec![Voters { ids }],
                    nodes: Vec::new(),
                };
                (Payload::Membership(membership), done, Vec::new())
            }
            commands::Entry::Garbage(bytes) => {
                // Random bytes may be a command after all.
                let command = Command::decode(&bytes[..]).unwrap_or_default();
                let (result, leases) = self.model.apply(&command, bytes.len());
                (Payload::Command(bytes.into()), result, leases)
            }
            commands::Entry::Command(mut command) => {
                resolve_command(&mut command, self.model.revision);
                let bytes = command.encode_to_vec();
                let (result, leases) = self.model.apply(&command, bytes.len());
                (Payload::Command(bytes.into()), result, leases)
            }
        };
        let outcome = Outcome {
            revision: Revision(self.model.revision),
            result,
        };
        (
            payload,
            outcome,
            leases,
            self.model.changes[changes_before..].to_vec(),
        )
    }

    fn check_state(&mut self, applied: &Applied) -> Check {
        let now = self.store().reader().now();
        prop_assert_eq!(
            (applied.revision, applied.compacted),
            (now.revision, now.compacted)
        );
        prop_assert_eq!(
            (now.revision.0, now.compacted.0),
            (self.model.revision, self.model.compacted)
        );
        prop_assert_eq!(now.applied.0, self.entries.len() as u64);
        let state = now.state();
        prop_assert_eq!(state.keys, self.model.at(i64::MAX).len() as u64);
        prop_assert_eq!(state.logical_bytes, self.model.logical_bytes());
        prop_assert_eq!(state.cluster_id, self.model.cluster_id);
        Ok(())
    }

    /// One entry a call gives the same.
    fn apply_second(&mut self, entries: &[Entry]) -> Check {
        for entry in entries {
            let mut applied = self
                .second
                .apply(std::slice::from_ref(entry))
                .expect("memory takes a batch");
            let (outcome, events) = &self.outcomes[entry.id.index as usize - 1];
            prop_assert_eq!(&applied.outcomes.remove(0), outcome);
            prop_assert_eq!(&applied.events, events);
        }
        self.check_second()
    }

    /// Both stores are in the same state, but for when the counts were written: that depends on the batches.
    fn check_second(&mut self) -> Check {
        let but_that = |state: &State| State {
            counted: 0,
            ..state.clone()
        };
        let first = self.store().reader().now();
        let second = self.second.reader().now();
        prop_assert_eq!(but_that(first.state()), but_that(second.state()));
        Ok(())
    }

    /// Loses what was not flushed, and applies it again.
    fn crash(&mut self, batch: usize) -> Check {
        self.check_held()?;
        self.store = None;
        self.subject.crash();
        self.store =
            Some(Store::open(self.subject.open(), OPTIONS).expect("what a crash leaves opens"));
        let applied = self.store().applied().0.map_or(0, |id| id.index as usize);
        prop_assert!(
            applied >= self.flushed,
            "what was flushed is there: {applied} of {}",
            self.flushed
        );
        for start in (applied..self.entries.len()).step_by(batch) {
            let end = self.entries.len().min(start + batch);
            let entries = self.entries[start..end].to_vec();
            let again = self
                .store()
                .apply(&entries)
                .expect("the engine takes a batch");
            let before = &self.outcomes[start..end];
            let outcomes: Vec<&Outcome> = before.iter().map(|(outcome, _)| outcome).collect();
            prop_assert_eq!(again.outcomes.iter().collect::<Vec<_>>(), outcomes);
            let events: Vec<&Event> = before.iter().flat_map(|(_, events)| events).collect();
            prop_assert_eq!(again.events.iter().collect::<Vec<_>>(), events);
        }
        self.check_second()
    }

    /// Reads everything that the states kept let one read, and lets go of them.
    fn check_held(&mut self) -> Check {
        for (published, model) in std::mem::take(&mut self.held) {
            for at in model.compacted.max(1)..=model.revision {
                let all = RangeRequest {
                    key: vec![0].into(),
                    range_end: vec![0].into(),
                    revision: at,
                    ..Default::default()
                };
                same_reads(published.range(&all), model.range(&all))?;
            }
        }
        Ok(())
    }

    fn read(
        &self,
        read: Read,
        published: &Published<<S::Engine as Engine>::View>,
        model: &Naive,
    ) -> Check {
        match read {
            Read::Range(mut r) => {
                resolve_range(&mut r, model.revision);
                same_reads(published.range(&r), model.range(&r))?;
                same_reads(published.range_encoded(&r).map(decoded), model.range(&r))?;
                let single = published
                    .get(&r.key)
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(single, model.at(i64::MAX).remove(&r.key));
            }
            Read::Events {
                from,
                bytes,
                revisions,
            } => {
                let from = revision(from, model.revision);
                let found = published.events_from(Revision(from), bytes, revisions);
                if from < model.compacted {
                    prop_assert!(matches!(found, Err(ReadError::Refused(Refusal::Compacted))));
                    return Ok(());
                }
                let found = found.map_err(|error| TestCaseError::fail(error.to_string()))?;
                check_events(&found, model, from, bytes, revisions)?;
            }
            Read::Hash(at) => {
                let at = revision(at, model.revision);
                let found = published.hash_kv((at != 0).then_some(Revision(at)));
                match at {
                    _ if at > model.revision => {
                        prop_assert!(matches!(
                            found,
                            Err(ReadError::Refused(Refusal::FutureRevision))
                        ));
                    }
                    1.. if at < model.compacted => {
                        prop_assert!(matches!(found, Err(ReadError::Refused(Refusal::Compacted))));
                    }
                    _ => {
                        let at = if at > 0 { at } else { model.revision };
                        let found =
                            found.map_err(|error| TestCaseError::fail(error.to_string()))?;
                        prop_assert_eq!(
                            (found.hash_revision.0, found.compact_revision.0),
                            (at, model.compacted)
                        );
                        prop_assert_eq!(found.hash, model.hash(at));
                    }
                }
            }
            Read::Leases => {
                let leases = published.leases().expect("the engine can be read");
                let mut leases: Vec<(i64, i64)> =
                    leases.into_iter().map(|(id, ttl)| (id.0, ttl)).collect();
                leases.sort();
                prop_assert_eq!(leases, model.leases.clone().into_iter().collect::<Vec<_>>());
                for id in -1..4 {
                    let lease = crate::LeaseId(id);
                    prop_assert_eq!(
                        published.lease(lease).expect("readable"),
                        model.leases.get(&id).copied()
                    );
                    if id != 0 {
                        prop_assert_eq!(
                            published.lease_keys(lease).expect("readable"),
                            model.lease_keys(id)
                        );
                    }
                }
            }
            Read::Admin => {
                let alarms = published.alarms().expect("readable");
                let alarms: Vec<_> = alarms
                    .into_iter()
                    .map(|alarm| (alarm.alarm, alarm.member_id))
                    .collect();
                prop_assert_eq!(alarms, model.alarms.iter().copied().collect::<Vec<_>>());
                let attributes = published.attributes().expect("readable");
                prop_assert_eq!(
                    attributes,
                    model.attributes.values().cloned().collect::<Vec<_>>()
                );
                let removed: Vec<u64> = published
                    .removed_members()
                    .expect("readable")
                    .iter()
                    .map(|id| id.0)
                    .collect();
                prop_assert_eq!(removed, model.removed.iter().copied().collect::<Vec<_>>());
            }
        }
        Ok(())
    }

    /// A stream gives what the range gives, in chunks.
    fn stream(&mut self, mut r: RangeRequest) -> Check {
        resolve_range(&mut r, self.model.revision);
        if !RangeStream::<S::Engine>::can(&r) || r.limit < 0 {
            return Ok(());
        }
        (r.sort_order, r.sort_target) = (0, 0);
        let stream = self.store().reader().range_stream(&r);
        let whole = stream.and_then(|mut stream| {
            let (mut whole, mut last_of) = (RangeResponse::default(), None);
            while let Some(chunk) = stream.next_chunk()? {
                assert_eq!(last_of, None, "nothing comes after the last chunk");
                last_of = chunk.last_of;
                let chunk = decoded(chunk.range);
                whole.kvs.extend(chunk.kvs);
                (whole.more, whole.count) = (chunk.more, chunk.count);
            }
            assert_eq!(last_of, Some(Revision(self.model.revision)));
            Ok(whole)
        });
        same_reads(whole, self.model.range(&r))
    }
}

/// What a client makes of a range.
fn decoded(range: EncodedRange) -> RangeResponse {
    let pieces: Vec<Bytes> = range.into_pieces(&[]).collect();
    RangeResponse::decode(pieces.concat().as_slice()).expect("a message")
}

fn same_reads<T: PartialEq + std::fmt::Debug>(
    found: Result<T, ReadError>,
    expected: Result<T, Refusal>,
) -> Check {
    let found = match found {
        Ok(found) => Ok(found),
        Err(ReadError::Refused(refusal)) => Err(refusal),
        Err(ReadError::Engine(error)) => {
            return Err(TestCaseError::fail(format!("{error}: {:?}", error.source)));
        }
    };
    prop_assert_eq!(found, expected);
    Ok(())
}

fn same_events(found: &[Event], expected: &[Change]) -> Check {
    prop_assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        prop_assert_eq!((found.revision.0, found.sub), (expected.main, expected.sub));
        let whole = mvccpb::Event::decode(found.bytes(true)).expect("an event");
        prop_assert_eq!(&whole, &expected.event);
        let plain = mvccpb::Event::decode(found.bytes(false)).expect("an event");
        prop_assert_eq!(
            plain,
            mvccpb::Event {
                prev_kv: None,
                ..expected.event.clone()
            }
        );
        let is_put = expected.event.r#type() == mvccpb::event::EventType::Put;
        prop_assert_eq!(found.kind == EventKind::Put, is_put);
        prop_assert_eq!(
            Some(&found.key),
            expected.event.kv.as_ref().map(|kv| &kv.key)
        );
    }
    Ok(())
}

/// Events are the model's, from the start, in whole revisions, as many as the limits allow and at least one.
fn check_events(
    found: &[Event],
    model: &Naive,
    from: i64,
    bytes_max: usize,
    revisions_max: usize,
) -> Check {
    let all: Vec<&Change> = model
        .changes
        .iter()
        .filter(|change| change.main >= from)
        .collect();
    let expected: Vec<Change> = all.iter().take(found.len()).copied().cloned().collect();
    same_events(found, &expected)?;
    let revisions = |changes: &[&Change]| {
        let mut mains: Vec<i64> = changes.iter().map(|change| change.main).collect();
        mains.dedup();
        mains.len()
    };
    let bytes = |changes: &[&Change]| {
        changes
            .iter()
            .map(|change| change.event.encoded_len())
            .sum::<usize>()
    };
    let (taken, left) = all.split_at(found.len());
    if let (Some(last), Some(next)) = (taken.last(), left.first()) {
        prop_assert!(last.main != next.main, "revision {} is split", last.main);
        let more = all
            .iter()
            .position(|change| change.main > next.main)
            .unwrap_or(all.len());
        let fits = revisions(&all[..more]) <= revisions_max && bytes(&all[..more]) <= bytes_max;
        prop_assert!(!fits, "one more revision would have fitted");
    }
    prop_assert!(all.is_empty() || !taken.is_empty(), "at least one revision");
    prop_assert!(revisions(taken) <= revisions_max.max(1));
    prop_assert!(revisions(taken) <= 1 || bytes(taken) <= bytes_max);
    Ok(())
}
