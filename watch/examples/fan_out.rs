//! What fanning out costs: nanoseconds for each message queued by publishing, and for each one taken and encoded.
//!
//! `cargo run --release -p keelson-watch --example fan_out`

use bytes::{Bytes, BytesMut};
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, watch_request::RequestUnion};
use keelson_proto::mvccpb::{self, KeyValue};
use keelson_store::memory::MemoryEngine;
use keelson_store::{Event, EventKind, MemberId, Revision, Store};
use keelson_watch::{Hub, Options, WatchStream};
use prost::Message;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Events in one measurement.
const EVENTS_MAX: u64 = 200_000;

struct Bench {
    hub: Arc<Hub<MemoryEngine>>,
    revision: i64,
}

impl Bench {
    fn new() -> Bench {
        let engine = Arc::new(MemoryEngine::default());
        let store = Store::open(engine, Default::default()).expect("an empty store opens");
        let hub = Hub::new(store.reader(), Options::new(1, MemberId(1)));
        Bench { hub, revision: 1 }
    }

    /// What the store gives for puts of these keys, each in a revision of its own. The store itself is left out: what it
    /// costs is not measured here.
    fn puts(&mut self, keys: Vec<String>, value_bytes: usize) -> Vec<Event> {
        let value = Bytes::from("v".repeat(value_bytes));
        let event = |key: String| {
            self.revision += 1;
            let (key, mod_revision) = (Bytes::from(key), self.revision);
            let kv = KeyValue {
                key: key.clone(),
                mod_revision,
                value: value.clone(),
                ..Default::default()
            };
            let event = mvccpb::Event {
                kv: Some(kv.clone()),
                prev_kv: Some(kv),
                ..Default::default()
            };
            let plain_len = mvccpb::Event {
                prev_kv: None,
                ..event.clone()
            }
            .encoded_len();
            let (revision, encoded) = (Revision(mod_revision), event.encode_to_vec().into());
            Event {
                key,
                revision,
                sub: 0,
                kind: EventKind::Put,
                encoded,
                plain_len,
            }
        };
        keys.into_iter().map(event).collect()
    }

    fn streams(
        &self,
        count: usize,
        watches: impl Iterator<Item = (String, String)>,
    ) -> Vec<WatchStream> {
        let mut streams: Vec<WatchStream> = (0..count).map(|_| self.hub.stream()).collect();
        for (number, (key, range_end)) in watches.enumerate() {
            let create = WatchCreateRequest {
                key: key.into(),
                range_end: range_end.into(),
                ..Default::default()
            };
            let request = WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            };
            streams[number % count].request(request);
        }
        streams
    }
}

/// Takes everything that is queued into a buffer, as a connection does; returns the number of messages.
fn drain(streams: &mut [WatchStream]) -> u64 {
    let mut buffer = BytesMut::with_capacity(1 << 20);
    let mut messages = 0;
    for stream in streams {
        while let Poll::Ready(Some(frame)) =
            stream.poll_next(&mut Context::from_waker(Waker::noop()))
        {
            frame.write_to(&mut buffer);
            messages += 1;
        }
        buffer.clear();
    }
    messages
}

fn measure(
    what: &str,
    value_bytes: usize,
    streams: usize,
    keys: impl Fn() -> Vec<String>,
    watches: Vec<(String, String)>,
) {
    let mut bench = Bench::new();
    let mut streams = bench.streams(streams, watches.into_iter());
    drain(&mut streams);
    let (mut publishing, mut taking, mut messages) = (Duration::ZERO, Duration::ZERO, 0);
    let rounds = (EVENTS_MAX / keys().len() as u64).min(200);
    for _ in 0..rounds {
        let events = bench.puts(keys(), value_bytes);
        let start = Instant::now();
        bench
            .hub
            .publish(&events, Revision(bench.revision), Revision(-1));
        publishing += start.elapsed();
        let start = Instant::now();
        messages += drain(&mut streams);
        taking += start.elapsed();
        while bench.hub.catch_up().expect("memory does not fail") {}
    }
    let each = |time: Duration| time.as_nanos() as u64 / messages.max(1);
    println!(
        "{what:<66} {:>6} messages a round: {:>5} ns each to publish, {:>5} ns to take",
        messages / rounds,
        each(publishing),
        each(taking)
    );
}

fn main() {
    let one = || vec!["/registry/pods/a".to_owned()];
    let prefix = || ("/registry/pods/".to_owned(), "/registry/pods0".to_owned());
    for value_bytes in [100, 4096] {
        println!("values of {value_bytes} bytes");
        measure(
            "one event, 1,000 watches of one prefix on 1,000 streams",
            value_bytes,
            1000,
            one,
            vec![prefix(); 1000],
        );
        measure(
            "one event, 200 watches of one prefix on one stream",
            value_bytes,
            1,
            one,
            vec![prefix(); 200],
        );
        let ten = || {
            (0..10)
                .map(|number| format!("/registry/pods/{number}"))
                .collect()
        };
        measure(
            "ten events, 1,000 watches of one prefix on 1,000 streams",
            value_bytes,
            1000,
            ten,
            vec![prefix(); 1000],
        );
        let single = |number: usize| format!("/registry/leases/{number:05}");
        let thousands = (0..10_000)
            .map(|number| (single(number), String::new()))
            .collect();
        let all = || {
            (0..10_000)
                .map(|number| format!("/registry/leases/{number:05}"))
                .collect()
        };
        measure(
            "10,000 events, one single-key watch for each, on 1,000 streams",
            value_bytes,
            1000,
            all,
            thousands,
        );
        let thousands = (0..10_000)
            .map(|number| (single(number), String::new()))
            .collect();
        let other = || vec!["/registry/leases/05000".to_owned()];
        measure(
            "one event, 10,000 single-key watches, one of which matches",
            value_bytes,
            1000,
            other,
            thousands,
        );
    }
}
