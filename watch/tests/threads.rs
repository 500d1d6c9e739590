//! The hub as a member runs it: one thread applies and publishes, one catches up, and clients come and go on others. The
//! schedule is the machine's, so this looks for what no fixed order of calls reaches.

mod support;

use keelson_proto::commandpb::command::Request;
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use keelson_store::memory::MemoryEngine;
use keelson_watch::{Hub, Options};
use prost::Message;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use support::*;

/// How many puts a round has. They are all of its history: the revisions from 2 to this and one more.
const PUTS: i64 = 60;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The next message, for which the thread sleeps. One that never comes ends the test.
fn wait_for_next(client: &mut Client) -> WatchResponse {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match client.stream.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(frame)) => {
                return WatchResponse::decode(frame.to_bytes()).expect("a valid message");
            }
            Poll::Ready(None) => panic!("the hub was closed before the last event came"),
            Poll::Pending => {
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "a message is missing");
                thread::park_timeout(left);
            }
        }
    }
}

/// A stream that watches every key from a revision on.
fn open(hub: &Hub<MemoryEngine>, start_revision: i64) -> Client {
    let mut client = Client {
        stream: hub.stream(),
    };
    client.create(WatchCreateRequest {
        start_revision,
        ..create_range("", "\0")
    });
    client
}

/// Reads a stream until the last revision has come. Each must come, once, in its place.
fn read(mut client: Client, start_revision: i64) {
    let created = wait_for_next(&mut client);
    assert!(created.created && !created.canceled, "{created:?}");
    let header = |response: &WatchResponse| response.header.as_ref().map_or(0, |h| h.revision);
    let first = match start_revision {
        0 => header(&created) + 1,
        from => from.max(2),
    };
    let mut next = first;
    while next <= PUTS + 1 {
        let response = wait_for_next(&mut client);
        assert!(!response.canceled, "{response:?}");
        for event in &response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            assert_eq!(revision, next, "from {first}");
            next += 1;
        }
        assert_eq!(header(&response), next - 1, "every revision has an event");
    }
}

#[test]
fn every_watch_gets_every_event_once_whatever_the_threads_do() {
    for round in 0..120_u64 {
        let mut rig = Rig::new(Options {
            ring_bytes: [0, 2_000, 1 << 20][round as usize % 3],
            stream_bytes: [400, 64 << 10][round as usize % 2],
            batch_revisions: 7,
            seed: round,
            ..options()
        });
        let hub = rig.hub.clone();
        let catching_up = thread::spawn(move || keelson_watch::run_catch_up(&*hub));
        let mut clients = Vec::new();
        for start in [1, 0, 30, PUTS + 1] {
            let hub = rig.hub.clone();
            clients.push(thread::spawn(move || read(open(&hub, start), start)));
        }
        // These begin to catch up while the first puts come.
        let early = [0, 2, 1].map(|start| (open(&rig.hub, start), start));
        for number in 0..PUTS {
            // Readers see it for a moment before it is published.
            let applied = rig.apply_unpublished(vec![Request::Put(put("a", &number.to_string()))]);
            if number % 8 == 0 {
                thread::yield_now();
            }
            rig.hub
                .publish(&applied.events, applied.revision, applied.compacted);
        }
        for (client, start) in early {
            clients.push(thread::spawn(move || read(client, start)));
        }
        for client in clients {
            client.join().expect("every event came once");
        }
        rig.hub.close();
        let ended = catching_up.join().expect("no panic");
        ended.expect("memory does not fail");
    }
}
