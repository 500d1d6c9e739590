//! A store in memory with a hub behind it, driven by one thread.

#![allow(dead_code, reason = "each test program uses its part")]

use keelson_proto::commandpb::{Command, command::Request};
use keelson_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, request_op,
    watch_request::RequestUnion,
};
use keelson_store::memory::MemoryEngine;
use keelson_store::{Entry, LogId, MemberId, Payload, Revision, Store};
use keelson_watch::{Hub, Options, WatchStream};
use prost::Message;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub const CLUSTER: u64 = 0xc1;
pub const MEMBER: u64 = 0x3e;
pub const TERM: u64 = 5;

/// The default options, as every test begins with.
pub fn options() -> Options {
    Options::new(CLUSTER, MemberId(MEMBER))
}

pub struct Rig {
    pub store: Store<MemoryEngine>,
    pub hub: Arc<Hub<MemoryEngine>>,
    index: u64,
}

pub fn open_store() -> Store<MemoryEngine> {
    Store::open(Arc::new(MemoryEngine::default()), Default::default())
        .expect("an empty store opens")
}

pub fn entry(index: u64, request: Request) -> Entry {
    let command = Command {
        request: Some(request),
        ..Default::default()
    };
    Entry {
        id: LogId { term: TERM, index },
        payload: Payload::Command(command.encode_to_vec().into()),
    }
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub fn put_op(key: &str, value: &str) -> RequestOp {
    RequestOp {
        request: Some(request_op::Request::RequestPut(put(key, value))),
    }
}

impl Rig {
    pub fn new(options: Options) -> Rig {
        let store = open_store();
        let hub = Hub::new(store.reader(), options);
        hub.set_term(TERM);
        Rig {
            store,
            hub,
            index: 0,
        }
    }

    /// Applies requests as one batch, without telling the hub.
    pub fn apply_unpublished(&mut self, requests: Vec<Request>) -> keelson_store::Applied {
        let entries: Vec<Entry> = requests
            .into_iter()
            .map(|request| {
                self.index += 1;
                entry(self.index, request)
            })
            .collect();
        self.store.apply(&entries).expect("memory does not fail")
    }

    /// Applies requests as one batch and publishes it.
    pub fn apply(&mut self, requests: Vec<Request>) -> Revision {
        let applied = self.apply_unpublished(requests);
        self.hub
            .publish(&applied.events, applied.revision, applied.compacted);
        applied.revision
    }

    pub fn put(&mut self, key: &str, value: &str) -> Revision {
        self.apply(vec![Request::Put(put(key, value))])
    }

    pub fn delete(&mut self, key: &str) -> Revision {
        self.apply(vec![Request::DeleteRange(DeleteRangeRequest {
            key: key.to_owned().into(),
            ..Default::default()
        })])
    }

    pub fn txn(&mut self, ops: Vec<RequestOp>) -> Revision {
        self.apply(vec![Request::Txn(TxnRequest {
            success: ops,
            ..Default::default()
        })])
    }

    pub fn compact(&mut self, revision: i64) {
        self.apply(vec![Request::Compact(CompactionRequest {
            revision,
            physical: false,
        })]);
    }

    /// Catches up until there is no more to do; returns the number of batches.
    pub fn catch_up(&self) -> usize {
        let mut batches = 1;
        while self.hub.catch_up().expect("memory does not fail") {
            batches += 1;
        }
        batches
    }

    pub fn client(&self) -> Client {
        Client {
            stream: self.hub.stream(),
        }
    }
}

/// A client's stream, without a wire.
pub struct Client {
    pub stream: WatchStream,
}

pub fn create(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

/// Watches every key that begins with a letter.
pub fn create_range(key: &str, range_end: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

impl Client {
    pub fn create(&mut self, request: WatchCreateRequest) {
        self.stream.request(WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(request)),
        });
    }

    pub fn cancel(&mut self, watch_id: i64) {
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
        self.stream.request(WatchRequest {
            request_union: Some(cancel),
        });
    }

    pub fn progress(&mut self) {
        let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
        self.stream.request(WatchRequest {
            request_union: Some(progress),
        });
    }

    /// The next message that is queued; none when there is none.
    pub fn next(&mut self) -> Option<WatchResponse> {
        match self
            .stream
            .poll_next(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Some(frame)) => {
                Some(WatchResponse::decode(frame.to_bytes()).expect("a valid message"))
            }
            Poll::Ready(None) | Poll::Pending => None,
        }
    }

    /// All messages that are queued.
    pub fn all(&mut self) -> Vec<WatchResponse> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Creates a watch and takes its `created`.
    pub fn created(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.create(request);
        let created = self.next().expect("an answer to create");
        assert!(created.created, "{created:?}");
        created
    }

    pub fn is_ended(&mut self) -> bool {
        matches!(
            self.stream
                .poll_next(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(None)
        )
    }
}

/// "watch id@header revision: key=value(revision) -key(revision) …" of a message with events.
pub fn show(response: &WatchResponse) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut shown = format!(
        "{}@{}:",
        response.watch_id,
        response.header.as_ref().map_or(0, |header| header.revision)
    );
    for event in &response.events {
        let kv = event.kv.as_ref().expect("every event has a key");
        match event.r#type {
            0 => {
                shown += &format!(
                    " {}={}({})",
                    text(&kv.key),
                    text(&kv.value),
                    kv.mod_revision
                )
            }
            _ => shown += &format!(" -{}({})", text(&kv.key), kv.mod_revision),
        }
    }
    shown
}

pub fn shown(responses: &[WatchResponse]) -> Vec<String> {
    responses.iter().map(show).collect()
}
