//! Histories written by hand: a store that answers as it should, one operation after another, until a test makes it lie.

use std::collections::BTreeMap;

use crate::check::state::{State, deletion, within};
use crate::history::{
    Act, Call, ClientId, Compact, Compare, CompareResult, ConnectionId, Data, Deed, Delete, Ending,
    Event, EventKind, Hashed, Header, History, Lease, LeaseId, MemberIndex, Micros, Operation,
    OperationId, Outcome, Put, Range, Reply, Revision, Settled, Step, StreamId, Target, Txn,
    WatchResponse, WatchStream, Workload,
};

/// Each operation takes ten of these, and the next begins ten later.
const STEP: u64 = 10;

pub struct Build {
    pub history: History,
    pub workload: Workload,
    pub now: Micros,
    state: State,
    revision: Revision,
    changes: BTreeMap<Revision, (Micros, Vec<Event>)>,
}

impl Build {
    pub fn new() -> Build {
        Build {
            history: History::default(),
            workload: Workload::Register,
            now: Micros(1000),
            state: State::default(),
            revision: Revision(1),
            changes: BTreeMap::new(),
        }
    }

    /// The state as it was at a revision.
    pub fn state_at(&self, revision: Revision) -> State {
        let mut state = State::default();
        for (_, events) in self.changes.range(..=revision).map(|(_, it)| it) {
            events.iter().for_each(|event| state.apply(event));
        }
        state
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// An operation that is done and acknowledged. Each client has a connection of its own to the one member.
    pub fn call(&mut self, client: u32, call: Call) -> OperationId {
        let (start, end) = self.tick();
        let outcome = self.run(&call, end);
        self.record(client, call, start, end, outcome)
    }

    /// One that was done, but nobody was told.
    pub fn unanswered(&mut self, client: u32, call: Call) -> OperationId {
        let (start, end) = self.tick();
        self.run(&call, end);
        self.unknown(client, call, start, end)
    }

    /// One that was not done, and nobody was told.
    pub fn vanished(&mut self, client: u32, call: Call) -> OperationId {
        let (start, end) = self.tick();
        self.unknown(client, call, start, end)
    }

    pub fn refused(&mut self, client: u32, call: Call, error: &str) -> OperationId {
        let (start, end) = self.tick();
        let outcome = Outcome::Refused {
            error: error.to_owned(),
        };
        self.record(client, call, start, end, outcome)
    }

    /// Changes what the store holds without any operation.
    pub fn make_up(&mut self, events: Vec<Event>) {
        let (_, end) = self.tick();
        self.revision.0 += 1;
        self.change(events, end);
    }

    pub fn expire(&mut self, lease: LeaseId, at: Micros) {
        self.now = at;
        self.end_lease(lease, at);
    }

    pub fn act(&mut self, operations: &[OperationId], deed: Deed, settled: Settled) {
        let of = |id: &OperationId| self.operation_of(*id).clone();
        let (first, last) = (of(&operations[0]), of(operations.last().unwrap()));
        self.history.acts.push(Act {
            operations: operations.to_vec(),
            workload: self.workload,
            client: first.client,
            start: first.start,
            end: last.end,
            deed,
            settled,
        });
    }

    pub fn operation(&mut self, id: OperationId) -> &mut Operation {
        let mut operations = self.history.operations.iter_mut().rev();
        operations.find(|operation| operation.id == id).unwrap()
    }

    fn operation_of(&self, id: OperationId) -> &Operation {
        let mut operations = self.history.operations.iter().rev();
        operations.find(|operation| operation.id == id).unwrap()
    }

    pub fn lie(&mut self, id: OperationId, lie: impl FnOnce(&mut Header, &mut Reply)) {
        match &mut self.operation(id).outcome {
            Outcome::Done { header, reply } => lie(header, reply),
            other => panic!("{other:?}"),
        }
    }

    /// A watch as a correct store serves it, one response a revision, from `start` on; 0 is from the first.
    pub fn watch(&self, name: &str, key: &str, range_end: &str, start: i64) -> WatchStream {
        let mut stream = WatchStream {
            id: StreamId(self.history.watches.len() as u64 + 1),
            watcher: name.to_owned(),
            workload: Workload::Watch,
            recorder: false,
            member: MemberIndex(1),
            connection: ConnectionId(900),
            key: key.into(),
            range_end: range_end.into(),
            start_revision: Revision(start),
            prev_kv: true,
            no_put: false,
            no_delete: false,
            progress_notify: false,
            fragment: false,
            start: Micros(0),
            end: self.now,
            ended: None,
            responses: vec![WatchResponse {
                at: Micros(1),
                revision: Revision(1),
                created: true,
                ..WatchResponse::default()
            }],
        };
        for (revision, (at, events)) in self.changes.range(Revision(start)..) {
            let mine = |event: &&Event| within(&event.kv.key, &stream.key, &stream.range_end);
            let events: Vec<Event> = events.iter().filter(mine).cloned().collect();
            if !events.is_empty() {
                stream.responses.push(WatchResponse {
                    at: *at,
                    revision: *revision,
                    events,
                    ..WatchResponse::default()
                });
            }
        }
        stream
    }

    /// The history with a recorder, and with what two members hold in the end.
    pub fn finish(self) -> History {
        self.history_so_far()
    }

    /// The same, to go on afterwards.
    pub fn history_so_far(&self) -> History {
        let mut history = self.history.clone();
        let mut recorder = self.watch("recorder", "\0", "\0", 1);
        recorder.recorder = true;
        history.watches.push(recorder);
        history.endings = (1..=2).map(|member| self.ending(member)).collect();
        history
    }

    pub fn ending(&self, member: u32) -> Ending {
        Ending {
            member: MemberIndex(member),
            revision: self.revision,
            hash: Hashed {
                hash: 7,
                compact_revision: Revision(0),
                hash_revision: self.revision,
            },
            kvs: self.state.iter().cloned().collect(),
        }
    }

    pub fn tick(&mut self) -> (Micros, Micros) {
        let start = self.now;
        let end = Micros(start.0 + STEP);
        self.now = Micros(end.0 + STEP);
        (start, end)
    }

    fn unknown(&mut self, client: u32, call: Call, start: Micros, end: Micros) -> OperationId {
        let outcome = Outcome::Unknown {
            error: "timed out".to_owned(),
        };
        self.record(client, call, start, end, outcome)
    }

    fn record(
        &mut self,
        client: u32,
        call: Call,
        start: Micros,
        end: Micros,
        outcome: Outcome,
    ) -> OperationId {
        let id = OperationId(self.history.operations.len() as u64 + 1);
        self.history.operations.push(Operation {
            id,
            workload: self.workload,
            client: ClientId(client),
            member: MemberIndex(1),
            connection: ConnectionId(client),
            call,
            start,
            end,
            outcome,
        });
        id
    }

    fn run(&mut self, call: &Call, at: Micros) -> Outcome {
        let next = Revision(self.revision.0 + 1);
        let reply = match (self.state.run(call, next), call) {
            (Some(ran), _) => {
                if !ran.events.is_empty() {
                    self.revision = next;
                    self.change(ran.events, at);
                }
                let mut reply = ran.reply;
                self.read_the_past(call, &mut reply);
                reply
            }
            (None, Call::Lease(Lease::Grant { id, ttl })) => lease(*id, *ttl),
            (None, Call::Lease(Lease::KeepAlive { id })) => lease(*id, 2),
            (None, Call::Lease(Lease::Revoke { id })) => {
                self.end_lease(*id, at);
                Reply::Revoked
            }
            (None, Call::Compact(_)) => Reply::Compact,
            (None, other) => panic!("{other:?}"),
        };
        Outcome::Done {
            header: Header {
                revision: self.revision,
                member_id: 1,
                term: 2,
            },
            reply,
        }
    }

    fn read_the_past(&self, call: &Call, reply: &mut Reply) {
        match (call, reply) {
            (Call::Range(range), reply) if range.revision.0 > 0 => {
                *reply = self.state_at(range.revision).read(range);
            }
            (
                Call::Txn(txn),
                Reply::Txn {
                    succeeded,
                    responses,
                },
            ) => {
                let steps = if *succeeded {
                    &txn.success
                } else {
                    &txn.failure
                };
                for (step, reply) in steps.iter().zip(responses) {
                    if let Step::Range(range) = step {
                        self.read_the_past(&Call::Range(range.clone()), reply);
                    }
                }
            }
            _ => {}
        }
    }

    fn end_lease(&mut self, lease: LeaseId, at: Micros) {
        let keys: Vec<Data> = self.state.of_lease(lease).cloned().collect();
        if keys.is_empty() {
            return;
        }
        self.revision.0 += 1;
        let gone = keys
            .iter()
            .map(|key| deletion(self.state.get(key).unwrap(), self.revision));
        let gone = gone.collect();
        self.change(gone, at);
    }

    fn change(&mut self, events: Vec<Event>, at: Micros) {
        events.iter().for_each(|event| self.state.apply(event));
        self.changes.insert(self.revision, (at, events));
    }
}

fn lease(id: LeaseId, ttl: i64) -> Reply {
    Reply::Lease {
        id,
        ttl,
        granted_ttl: ttl,
        keys: Vec::new(),
    }
}

pub fn put(key: &str, value: &str) -> Call {
    Call::Put(Put {
        key: key.into(),
        value: value.into(),
        prev_kv: true,
        ..Put::default()
    })
}

pub fn put_on(key: &str, value: &str, lease: i64) -> Call {
    Call::Put(Put {
        key: key.into(),
        value: value.into(),
        lease: LeaseId(lease),
        ..Put::default()
    })
}

pub fn get(key: &str) -> Call {
    Call::Range(one(key))
}

pub fn peek(key: &str) -> Call {
    Call::Range(Range {
        serializable: true,
        ..one(key)
    })
}

pub fn one(key: &str) -> Range {
    Range {
        key: key.into(),
        ..Range::default()
    }
}

pub fn all() -> Range {
    Range {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Range::default()
    }
}

pub fn at(range: Range, revision: i64) -> Call {
    Call::Range(Range {
        revision: Revision(revision),
        ..range
    })
}

pub fn delete(key: &str) -> Call {
    Call::Delete(Delete {
        key: key.into(),
        prev_kv: true,
        ..Delete::default()
    })
}

pub fn compact(revision: i64) -> Call {
    Call::Compact(Compact {
        revision: Revision(revision),
        physical: false,
    })
}

pub fn swap(key: &str, from: &str, to: &str) -> Call {
    txn(
        vec![is(key, Target::Value(from.into()))],
        vec![step(put(key, to))],
        vec![step(get(key))],
    )
}

pub fn is(key: &str, target: Target) -> Compare {
    Compare {
        key: key.into(),
        range_end: Data::default(),
        result: CompareResult::Equal,
        target,
    }
}

pub fn txn(compares: Vec<Compare>, success: Vec<Step>, failure: Vec<Step>) -> Call {
    Call::Txn(Txn {
        compares,
        success,
        failure,
    })
}

pub fn step(call: Call) -> Step {
    match call {
        Call::Range(range) => Step::Range(range),
        Call::Put(put) => Step::Put(put),
        Call::Delete(delete) => Step::Delete(delete),
        Call::Txn(txn) => Step::Txn(txn),
        other => panic!("{other:?}"),
    }
}

/// The event of a put of a new key.
pub fn event(key: &str, value: &str, revision: i64) -> Event {
    Event {
        kind: EventKind::Put,
        kv: crate::history::Kv {
            key: key.into(),
            value: value.into(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: LeaseId(0),
        },
        prev_kv: None,
    }
}
