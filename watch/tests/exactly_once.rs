//! Whatever clients, the store and the schedule do: every watch sees every event that it asked for exactly once, in order,
//! no revision split, with the right previous value, and no header promises more than was sent.

mod support;

use bytes::Bytes;
use keelson_proto::commandpb::command::Request;
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchResponse, request_op,
};
use keelson_proto::mvccpb::{Event, KeyValue};
use keelson_store::Revision;
use keelson_watch::Options;
use proptest::prelude::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use support::*;

#[derive(Clone, Debug)]
enum Op {
    Put(u8, usize),
    Delete(u8),
    DeleteRange(u8, u8),
    Txn(BTreeSet<u8>, usize),
    /// To the revision that many below the present one.
    Compact(i64),
}

#[derive(Clone, Debug)]
enum Start {
    Now,
    Back(i64),
    Ahead(i64),
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Op>),
    /// Readers see it, but it is published only by a later step.
    ApplyAhead(Vec<Op>),
    /// As a snapshot brings it: the store is ahead, and the hub is told to begin anew.
    Snapshot(Vec<Op>),
    Create {
        stream: usize,
        key: u8,
        range_end: Option<u8>,
        start: Start,
        prev_kv: bool,
        filters: Vec<i32>,
        fragment: bool,
        progress: bool,
    },
    Cancel {
        stream: usize,
        watch: usize,
    },
    Progress {
        stream: usize,
    },
    Poll {
        stream: usize,
        messages: usize,
    },
    CatchUp,
    Tick(u64),
    Reopen {
        stream: usize,
    },
}

const STREAMS: usize = 3;

fn key(number: u8) -> String {
    format!("k{number}")
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0u8..8, 0usize..200).prop_map(|(key, size)| Op::Put(key, size)),
        4 => (0u8..8).prop_map(Op::Delete),
        2 => (0u8..8, 0u8..9).prop_map(|(key, end)| Op::DeleteRange(key, end)),
        6 => (proptest::collection::btree_set(0u8..8, 1..6), 0usize..200).prop_map(|(keys, size)| Op::Txn(keys, size)),
        1 => (0i64..40).prop_map(Op::Compact),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 1..5)
}

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![
        3 => Just(Start::Now),
        4 => (0i64..30).prop_map(Start::Back),
        1 => (1i64..6).prop_map(Start::Ahead),
    ];
    let filters = prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![FilterType::Noput as i32]),
        1 => Just(vec![FilterType::Nodelete as i32]),
    ];
    let range_end = prop_oneof![
        2 => Just(None),
        4 => (4u8..10).prop_map(Some),
        1 => (0u8..4).prop_map(Some),
    ];
    let create = (
        0..STREAMS,
        0u8..8,
        range_end,
        start,
        any::<bool>(),
        filters,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(stream, key, range_end, start, prev_kv, filters, fragment, progress)| Step::Create {
                stream,
                key,
                range_end,
                start,
                prev_kv,
                filters,
                fragment,
                progress,
            },
        );
    prop_oneof![
        8 => ops().prop_map(Step::Apply),
        2 => ops().prop_map(Step::ApplyAhead),
        1 => ops().prop_map(Step::Snapshot),
        5 => create,
        1 => (0..STREAMS, 0usize..8).prop_map(|(stream, watch)| Step::Cancel { stream, watch }),
        2 => (0..STREAMS).prop_map(|stream| Step::Progress { stream }),
        6 => (0..STREAMS, 1usize..6).prop_map(|(stream, messages)| Step::Poll { stream, messages }),
        5 => Just(Step::CatchUp),
        2 => (1u64..200).prop_map(Step::Tick),
        1 => (0..STREAMS).prop_map(|stream| Step::Reopen { stream }),
    ]
}

fn small_options() -> impl Strategy<Value = Options> {
    let ring = prop_oneof![Just(0usize), Just(1500), Just(1 << 20)];
    let stream = prop_oneof![Just(300usize), Just(1500), Just(64 << 10)];
    let queued = prop_oneof![Just(300usize), Just(1 << 20)];
    (ring, stream, queued, 1usize..5, 1usize..4, any::<u64>()).prop_map(
        |(ring_bytes, stream_bytes, queued_bytes, batch_revisions, batch_watches, seed)| Options {
            ring_bytes,
            stream_bytes,
            queued_bytes,
            batch_revisions,
            batch_watches,
            seed,
            fragment_bytes: 250,
            progress_interval_ms: 200,
            ..options()
        },
    )
}

/// What a client knows of one of its watches.
struct Watch {
    request: WatchCreateRequest,
    /// The first revision whose events it is to get.
    from: i64,
    got: Vec<Event>,
    /// The revision of the last header.
    header: i64,
    /// The last message was a fragment, and more of it follows.
    within_fragments: bool,
}

struct Session {
    client: Client,
    /// Requests whose `created` has not come yet.
    asked: Vec<WatchCreateRequest>,
    watches: BTreeMap<i64, Watch>,
}

struct World {
    rig: Rig,
    sessions: Vec<Session>,
    /// Applied, but not published yet.
    unpublished: Vec<keelson_store::Applied>,
    history: Vec<Event>,
    keys: BTreeMap<Bytes, KeyValue>,
    revision: i64,
    now_ms: u64,
    /// Every message in its order, to compare runs.
    trace: Vec<u8>,
    /// How many deliveries, compaction cancels and fragments a run had: so that the test can be seen to test.
    seen: [usize; 3],
}

fn is_wanted(request: &WatchCreateRequest, event: &Event) -> bool {
    let key = &event.kv.as_ref().expect("a key").key;
    let in_range = match request.range_end.as_ref() {
        [] => *key == request.key,
        [0] => *key >= request.key,
        end => *key >= request.key && key.as_ref() < end,
    };
    let filter = if event.r#type == 0 {
        FilterType::Noput
    } else {
        FilterType::Nodelete
    };
    in_range && !request.filters.contains(&(filter as i32))
}

impl World {
    fn new(options: Options) -> World {
        let rig = Rig::new(options);
        let sessions = (0..STREAMS).map(|_| Session::new(&rig)).collect();
        World {
            rig,
            sessions,
            unpublished: Vec::new(),
            history: Vec::new(),
            keys: BTreeMap::new(),
            revision: 1,
            now_ms: 0,
            trace: Vec::new(),
            seen: [0; 3],
        }
    }

    fn apply(&mut self, ops: &[Op]) {
        let requests = ops.iter().map(|op| match op {
            Op::Put(number, size) => Request::Put(put(&key(*number), &"v".repeat(*size))),
            Op::Delete(number) => Request::DeleteRange(DeleteRangeRequest {
                key: key(*number).into(),
                ..Default::default()
            }),
            Op::DeleteRange(number, end) => Request::DeleteRange(delete_range(*number, *end)),
            Op::Txn(keys, size) => Request::Txn(TxnRequest {
                success: keys.iter().map(|number| txn_op(*number, *size)).collect(),
                ..Default::default()
            }),
            Op::Compact(below) => Request::Compact(CompactionRequest {
                revision: (self.revision - below).max(0),
                physical: false,
            }),
        });
        let applied = self.rig.apply_unpublished(requests.collect());
        for event in &applied.events {
            self.remember(Event::decode(event.encoded.clone()).expect("a valid event"));
        }
        self.revision = applied.revision.0;
        self.unpublished.push(applied);
    }

    fn publish(&mut self) {
        for applied in self.unpublished.drain(..) {
            self.rig
                .hub
                .publish(&applied.events, applied.revision, applied.compacted);
        }
    }

    /// Enters an event of the store into the model, which knows the previous version by itself.
    fn remember(&mut self, event: Event) {
        let kv = event.kv.clone().expect("a key");
        let previous = if event.r#type == 0 {
            self.keys.insert(kv.key.clone(), kv)
        } else {
            self.keys.remove(&kv.key)
        };
        assert_eq!(event.prev_kv, previous);
        self.history.push(event);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Apply(ops) => {
                self.apply(ops);
                self.publish();
            }
            Step::ApplyAhead(ops) => self.apply(ops),
            Step::Snapshot(ops) => {
                self.publish();
                self.apply(ops);
                self.unpublished.clear();
                self.rig.hub.reset();
            }
            Step::Create {
                stream,
                key: number,
                range_end,
                start,
                prev_kv,
                filters,
                fragment,
                progress,
            } => {
                let request = WatchCreateRequest {
                    key: key(*number).into(),
                    range_end: match range_end {
                        None => Bytes::new(),
                        Some(9) => Bytes::from_static(&[0]),
                        Some(end) => key(*end).into(),
                    },
                    start_revision: match start {
                        Start::Now => 0,
                        Start::Back(by) => (self.revision - by).max(1),
                        Start::Ahead(by) => self.revision + by,
                    },
                    prev_kv: *prev_kv,
                    filters: filters.clone(),
                    fragment: *fragment,
                    progress_notify: *progress,
                    ..Default::default()
                };
                let session = &mut self.sessions[*stream];
                session.client.create(request.clone());
                session.asked.push(request);
            }
            Step::Cancel { stream, watch } => {
                let session = &mut self.sessions[*stream];
                if let Some(&id) = session.watches.keys().nth(*watch) {
                    session.client.cancel(id);
                }
            }
            Step::Progress { stream } => self.sessions[*stream].client.progress(),
            Step::Poll { stream, messages } => {
                for _ in 0..*messages {
                    self.receive(*stream);
                }
            }
            Step::CatchUp => drop(self.rig.hub.catch_up().expect("memory does not fail")),
            Step::Tick(ms) => {
                self.now_ms += ms;
                self.rig.hub.tick(self.now_ms);
            }
            Step::Reopen { stream } => self.sessions[*stream] = Session::new(&self.rig),
        }
    }

    fn receive(&mut self, stream: usize) -> bool {
        let Some(response) = self.sessions[stream].client.next() else {
            return false;
        };
        self.trace.extend(response.encode_to_vec());
        let session = &mut self.sessions[stream];
        let header = response.header.as_ref().expect("a header").revision;
        if response.created {
            let request = session.asked.remove(0);
            if response.canceled {
                assert!(
                    !request.range_end.is_empty() && request.range_end <= request.key,
                    "{response:?}"
                );
                return true;
            }
            let from = if request.start_revision == 0 {
                header + 1
            } else {
                request.start_revision
            };
            let watch = Watch {
                request,
                from,
                got: Vec::new(),
                header: 0,
                within_fragments: false,
            };
            assert!(session.watches.insert(response.watch_id, watch).is_none());
        } else if response.canceled {
            let watch = session
                .watches
                .remove(&response.watch_id)
                .expect("a watch to cancel");
            self.check_canceled(watch, &response);
        } else if response.watch_id == -1 {
            assert!(response.events.is_empty());
            for watch in self.sessions[stream].watches.values() {
                check_complete(&self.history, watch, header);
            }
        } else {
            let watch = session
                .watches
                .get_mut(&response.watch_id)
                .expect("events come after created");
            assert!(header >= watch.header, "headers go forward");
            watch.header = header;
            watch.within_fragments = response.fragment;
            self.seen[0] += response.events.len();
            self.seen[2] += usize::from(response.fragment);
            watch.got.extend(response.events);
            if !response.fragment {
                check_complete(&self.history, watch, header);
            }
        }
        true
    }

    fn check_canceled(&mut self, watch: Watch, response: &WatchResponse) {
        assert!(!watch.within_fragments);
        let got = watch
            .got
            .last()
            .and_then(|event| event.kv.as_ref())
            .map_or(0, |kv| kv.mod_revision);
        check_complete(&self.history, &watch, got);
        if response.compact_revision != 0 {
            self.seen[1] += 1;
            assert_eq!(response.header.as_ref().expect("a header").revision, 0);
            assert!(watch.from.max(got + 1).max(watch.header + 1) < response.compact_revision);
        }
    }

    /// Lets everybody receive everything, and checks that nobody misses anything.
    fn finish(&mut self) {
        self.publish();
        loop {
            self.rig.catch_up();
            let received: Vec<bool> = (0..STREAMS).map(|stream| self.receive(stream)).collect();
            if !received.contains(&true) {
                break;
            }
        }
        let mut live = 0;
        for session in &self.sessions {
            assert!(session.asked.is_empty());
            for watch in session.watches.values() {
                check_complete(&self.history, watch, self.revision);
            }
            live += session.watches.len();
        }
        let stats = self.rig.hub.stats();
        assert_eq!(
            (stats.watchers, stats.slow_watchers, stats.queued_bytes),
            (live, 0, 0)
        );
        let now = self.rig.store.reader().now();
        assert_eq!(now.revision, Revision(self.revision));
    }
}

/// The watch has been given exactly the events up to `through`.
fn check_complete(history: &[Event], watch: &Watch, through: i64) {
    let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    let expected: Vec<Event> = history
        .iter()
        .filter(|event| {
            (watch.from..=through).contains(&revision(event)) && is_wanted(&watch.request, event)
        })
        .map(|event| {
            if watch.request.prev_kv {
                event.clone()
            } else {
                Event {
                    prev_kv: None,
                    ..event.clone()
                }
            }
        })
        .collect();
    assert_eq!(watch.got, expected, "through {through}");
}

fn delete_range(number: u8, end: u8) -> DeleteRangeRequest {
    let range_end = if end <= number {
        Bytes::from_static(&[0])
    } else {
        key(end).into()
    };
    DeleteRangeRequest {
        key: key(number).into(),
        range_end,
        ..Default::default()
    }
}

fn txn_op(number: u8, size: usize) -> RequestOp {
    if size.is_multiple_of(5) {
        let delete = DeleteRangeRequest {
            key: key(number).into(),
            ..Default::default()
        };
        RequestOp {
            request: Some(request_op::Request::RequestDeleteRange(delete)),
        }
    } else {
        put_op(&key(number), &"t".repeat(size))
    }
}

impl Session {
    fn new(rig: &Rig) -> Session {
        Session {
            client: rig.client(),
            asked: Vec::new(),
            watches: BTreeMap::new(),
        }
    }
}

fn run(options: &Options, steps: &[Step]) -> World {
    let mut world = World::new(options.clone());
    for step in steps {
        world.step(step);
    }
    world.finish();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 20_000, ..Default::default() })]

    #[test]
    fn every_watch_sees_every_event_once_and_in_order(
        options in small_options(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        run(&options, &steps);
    }
}

#[test]
fn the_same_calls_give_the_same_messages_and_the_steps_reach_what_they_are_to_test() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = (small_options(), proptest::collection::vec(step(), 200));
    let mut seen = [0; 3];
    for _ in 0..30 {
        let (options, steps) = strategy.new_tree(&mut runner).expect("steps").current();
        let (first, second) = (run(&options, &steps), run(&options, &steps));
        assert_eq!(first.trace, second.trace);
        seen = std::array::from_fn(|kind| seen[kind] + first.seen[kind]);
    }
    assert!(seen.iter().all(|&count| count > 30), "{seen:?}");
}
