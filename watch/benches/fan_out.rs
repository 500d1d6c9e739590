//! What events cost on their way to the watchers: `make micro`.
//!
//! *Publish* is what the thread that applies does: it makes a message of what the store has encoded, and queues it for
//! whom it concerns. *Take* is what the connections do: each takes its messages and writes them into a buffer. The store
//! itself is left out.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use keelson_proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use keelson_proto::mvccpb::{self, KeyValue};
use keelson_store::memory::MemoryEngine;
use keelson_store::{Event, EventKind, MemberId, Revision, Store};
use keelson_watch::{Hub, Options, WatchStream};
use prost::Message;

const STREAMS: usize = 1_000;
const VALUE_BYTES: usize = 256;

fn main() {
    divan::main();
}

/// Who watches, and what is put in a round.
#[derive(Clone, Copy, Debug)]
enum Case {
    /// A thousand watchers of one prefix, and puts of so many keys under it.
    Prefix { puts: usize },
    /// Ten thousand watchers of a key each, and puts of so many of these keys.
    Keys { puts: usize },
}

const CASES: [Case; 4] = [
    Case::Prefix { puts: 1 },
    Case::Prefix { puts: 10 },
    Case::Keys { puts: 1 },
    Case::Keys { puts: 10_000 },
];

#[divan::bench(args = CASES, sample_size = 1)]
fn publish(bencher: Bencher<'_, '_>, case: Case) {
    let watched = RefCell::new(Watched::new(case));
    let begin = || {
        let mut watched = watched.borrow_mut();
        watched.take();
        watched.puts()
    };
    bencher
        .counter(ItemsCount::new(case.deliveries()))
        .with_inputs(begin)
        .bench_local_refs(|events| watched.borrow().publish(black_box(events)));
}

#[divan::bench(args = CASES, sample_size = 1)]
fn take(bencher: Bencher<'_, '_>, case: Case) {
    let watched = RefCell::new(Watched::new(case));
    let begin = || {
        let mut watched = watched.borrow_mut();
        let events = watched.puts();
        watched.publish(&events);
    };
    bencher
        .counter(ItemsCount::new(case.deliveries()))
        .with_inputs(begin)
        .bench_local_values(|()| {
            let bytes = watched.borrow_mut().take();
            assert!(bytes > case.deliveries() * VALUE_BYTES);
        });
}

impl Case {
    fn keys(self) -> Vec<String> {
        match self {
            Case::Prefix { puts } => (0..puts).map(|n| format!("/registry/pods/{n}")).collect(),
            Case::Keys { puts } => (0..puts).map(lease).collect(),
        }
    }

    /// What is watched: (key, end of the range).
    fn watches(self) -> Vec<(String, String)> {
        match self {
            Case::Prefix { .. } => {
                vec![("/registry/pods/".to_owned(), "/registry/pods0".to_owned()); 1_000]
            }
            Case::Keys { .. } => (0..10_000).map(|n| (lease(n), String::new())).collect(),
        }
    }

    /// How often an event comes to a watcher in a round.
    fn deliveries(self) -> usize {
        match self {
            Case::Prefix { puts } => 1_000 * puts,
            Case::Keys { puts } => puts,
        }
    }
}

fn lease(n: usize) -> String {
    format!("/registry/leases/{n:05}")
}

/// A hub with watchers, and what is put again and again.
struct Watched {
    hub: Arc<Hub<MemoryEngine>>,
    streams: Vec<WatchStream>,
    keys: Vec<String>,
    /// Of the last put. The store knows nothing of it.
    revision: i64,
    /// What a connection writes into.
    buffer: BytesMut,
}

impl Watched {
    /// The watches are spread over the streams.
    fn new(case: Case) -> Watched {
        let engine = Arc::new(MemoryEngine::default());
        let store = Store::open(engine, Default::default()).expect("an empty store opens");
        let hub = Hub::new(store.reader(), Options::new(1, MemberId(1)));
        let mut streams: Vec<WatchStream> = (0..STREAMS).map(|_| hub.stream()).collect();
        for (number, (key, range_end)) in case.watches().into_iter().enumerate() {
            let create = WatchCreateRequest {
                key: key.into(),
                range_end: range_end.into(),
                ..Default::default()
            };
            streams[number % STREAMS].request(WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            });
        }
        let mut watched = Watched {
            hub,
            streams,
            keys: case.keys(),
            revision: 1,
            buffer: BytesMut::with_capacity(1 << 20),
        };
        // That the watches were created.
        watched.take();
        let events = watched.puts();
        watched.publish(&events);
        assert_eq!(watched.take_and_decode(), case.deliveries());
        watched
    }

    /// What the store gives for puts of the keys, each in a revision of its own.
    fn puts(&mut self) -> Vec<Event> {
        let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
        let first = self.revision + 1;
        self.revision += self.keys.len() as i64;
        (first..)
            .zip(&self.keys)
            .map(|(revision, key)| put(key.clone().into(), value.clone(), revision))
            .collect()
    }

    fn publish(&self, events: &[Event]) {
        self.hub
            .publish(events, Revision(self.revision), Revision(-1));
    }

    /// Writes all that is queued into the buffer, stream by stream, and says how many bytes that were.
    fn take(&mut self) -> usize {
        let mut bytes = 0;
        let mut context = Context::from_waker(Waker::noop());
        for stream in &mut self.streams {
            while let Poll::Ready(Some(frame)) = stream.poll_next(&mut context) {
                frame.write_to(&mut self.buffer);
            }
            bytes += black_box(&self.buffer).len();
            self.buffer.clear();
        }
        bytes
    }

    /// The same, and how many events were in it.
    fn take_and_decode(&mut self) -> usize {
        let mut events = 0;
        let mut context = Context::from_waker(Waker::noop());
        for stream in &mut self.streams {
            while let Poll::Ready(Some(frame)) = stream.poll_next(&mut context) {
                let message = WatchResponse::decode(frame.to_bytes());
                events += message.expect("a whole message").events.len();
            }
        }
        events
    }
}

fn put(key: Bytes, value: Bytes, mod_revision: i64) -> Event {
    let kv = KeyValue {
        key: key.clone(),
        mod_revision,
        value,
        ..Default::default()
    };
    let plain = mvccpb::Event {
        kv: Some(kv.clone()),
        ..Default::default()
    };
    let plain_len = plain.encoded_len();
    let event = mvccpb::Event {
        prev_kv: Some(kv),
        ..plain
    };
    Event {
        key,
        revision: Revision(mod_revision),
        sub: 0,
        kind: EventKind::Put,
        encoded: event.encode_to_vec().into(),
        plain_len,
    }
}
