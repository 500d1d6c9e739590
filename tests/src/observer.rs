//! A watcher that goes on whatever happens to the members, as a client library would: when its stream breaks, it
//! resumes at another member, right after the last revision that it has seen.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::Event;
use pb::watch_request::RequestUnion;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::Status;

use crate::client::{Client, prefix_end};
use crate::wait;
use crate::watch::mod_revision;

/// A stream that has been silent for so long is given up: its member may be paused.
const SILENCE: Duration = Duration::from_secs(2);
const BACK_OFF: Duration = Duration::from_millis(20);

/// Watches a prefix from revision 1 on, until it is dropped. Panics, when asked for what it has seen, if an event came twice or out of order.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    streams: usize,
    /// What no server may do.
    wrong: Option<String>,
}

impl Observer {
    /// Starts to watch everything under `prefix`, through any of `urls`.
    pub fn start(prefix: &str, urls: &[String]) -> Observer {
        let clients: Vec<Client> = urls.iter().map(|url| Client::new(url)).collect();
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn(observe(prefix.to_owned(), clients, Arc::clone(&seen)));
        Observer { seen, task }
    }

    /// How many streams it has had to open by now.
    pub fn streams(&self) -> usize {
        self.seen
            .lock()
            .expect("the watcher does not panic")
            .streams
    }

    /// What it has seen by now.
    pub fn events(&self) -> Vec<Event> {
        let seen = self.seen.lock().expect("the watcher does not panic");
        assert!(seen.wrong.is_none(), "{:?}", seen.wrong);
        seen.events.clone()
    }

    /// Waits until an event of `revision` or a later one has come, and gives all of them.
    pub async fn wait_revision(&self, revision: i64) -> Vec<Event> {
        wait::until("the watcher to see the last write", async || {
            let seen = self.seen.lock().expect("the watcher does not panic");
            assert!(seen.wrong.is_none(), "{seen:?}");
            let last = seen.events.last().map_or(0, mod_revision);
            if last >= revision {
                Ok(seen.events.clone())
            } else {
                Err(format!("it is at {last} of {revision}"))
            }
        })
        .await
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn key(event: &Event) -> &[u8] {
    event.kv.as_ref().map_or(&[], |kv| &kv.key)
}

async fn observe(prefix: String, clients: Vec<Client>, seen: Arc<Mutex<Seen>>) {
    for member in 0usize.. {
        let client = &clients[member % clients.len()];
        // Why a stream ended does not matter: the next one goes on where it stopped.
        let _ = follow(&prefix, client, &seen).await;
        tokio::time::sleep(BACK_OFF).await;
    }
}

async fn follow(prefix: &str, client: &Client, seen: &Mutex<Seen>) -> Result<(), Status> {
    let lock = || seen.lock().expect("the watcher does not panic");
    let next = lock().events.last().map_or(0, mod_revision) + 1;
    let create = pb::WatchCreateRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix),
        start_revision: next,
        ..Default::default()
    };
    let create = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // The request half stays open: closing it would end the watch.
    let requests = tokio_stream::once(create).chain(tokio_stream::pending());
    let silent = |_| Status::deadline_exceeded("the stream is silent");
    let opened = tokio::time::timeout(SILENCE, async { client.watch().watch(requests).await });
    let mut responses = opened.await.map_err(silent)??.into_inner();
    lock().streams += 1;
    loop {
        let response = tokio::time::timeout(SILENCE, responses.message())
            .await
            .map_err(silent)??;
        let Some(response) = response.filter(|response| !response.canceled) else {
            return Ok(());
        };
        let mut seen = lock();
        // A revision is never split between responses. Within one, the writes of a transaction share theirs.
        let seen_before = seen.events.len();
        for event in response.events {
            let revision = mod_revision(&event);
            let is_next = seen.events.last().is_none_or(|last| {
                let of_one = seen.events.len() > seen_before && key(last) != key(&event);
                revision > mod_revision(last) || (revision == mod_revision(last) && of_one)
            });
            if !is_next && seen.wrong.is_none() {
                seen.wrong = Some(format!("{event:?} came after {:?}", seen.events.last()));
            }
            seen.events.push(event);
        }
    }
}
