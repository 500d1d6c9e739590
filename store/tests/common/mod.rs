//! A store over memory, and short ways to say what is applied to it.
#![allow(dead_code)]

use bytes::Bytes;
use keelson_proto::commandpb::{Command, command};
use keelson_proto::etcdserverpb::*;
use keelson_store::engine::Engine;
use keelson_store::memory::{MemoryEngine, MemoryView};
use keelson_store::*;
use prost::Message;
use std::sync::Arc;

pub use keelson_proto::commandpb::command::Request;

/// A store, its engine, and the index of the last entry.
pub struct Fixture {
    pub store: Store<MemoryEngine>,
    pub engine: Arc<MemoryEngine>,
    pub index: u64,
    pub quota_bytes: i64,
}

pub fn fixture() -> Fixture {
    let engine = Arc::new(MemoryEngine::new());
    let store = Store::open(engine.clone(), Options { cache_bytes: 4096 }).unwrap();
    Fixture {
        store,
        engine,
        index: 0,
        quota_bytes: 0,
    }
}

impl Fixture {
    pub fn entry(&mut self, request: Request) -> Entry {
        let command = Command {
            request: Some(request),
            quota_bytes: self.quota_bytes,
            member: 7,
            ..Command::default()
        };
        self.payload(Payload::Command(command.encode_to_vec().into()))
    }

    pub fn payload(&mut self, payload: Payload) -> Entry {
        self.index += 1;
        Entry {
            id: LogId {
                term: 1,
                index: self.index,
            },
            payload,
        }
    }

    /// Applies commands together.
    pub fn apply(&mut self, requests: impl IntoIterator<Item = Request>) -> Applied {
        let entries: Vec<Entry> = requests
            .into_iter()
            .map(|request| self.entry(request))
            .collect();
        self.store.apply(&entries).unwrap()
    }

    /// Applies one command and gives its result.
    pub fn run(&mut self, request: Request) -> Result<Reply, Refusal> {
        self.apply([request]).outcomes.remove(0).result
    }

    pub fn now(&self) -> Arc<Published<MemoryView>> {
        self.store.reader().now()
    }

    pub fn revision(&self) -> i64 {
        self.now().revision.0
    }

    /// The keys and values of a range.
    pub fn list(&self, r: &RangeRequest) -> Vec<(String, String)> {
        let found = self.now().range(r).unwrap();
        found
            .kvs
            .iter()
            .map(|kv| (text(&kv.key), text(&kv.value)))
            .collect()
    }

    /// Goes back to the last flush and opens again. Entries after it are lost.
    pub fn crash(&mut self) {
        self.engine.crash();
        self.store = Store::open(self.engine.clone(), Options { cache_bytes: 4096 }).unwrap();
        self.index = self.store.applied().0.map_or(0, |id| id.index);
    }

    pub fn flush(&self) {
        self.engine.flush().unwrap();
    }
}

/// What a client makes of a range.
pub fn decoded(range: EncodedRange) -> RangeResponse {
    let pieces: Vec<Bytes> = range.into_pieces(&[]).collect();
    RangeResponse::decode(pieces.concat().as_slice()).unwrap()
}

pub fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> Request {
    command::Request::Put(put_request(key, value))
}

pub fn put_request(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: b(key),
        value: b(value),
        ..PutRequest::default()
    }
}

pub fn delete(key: &str, range_end: &str) -> Request {
    command::Request::DeleteRange(delete_request(key, range_end))
}

pub fn delete_request(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: b(key),
        range_end: b(range_end),
        prev_kv: true,
    }
}

pub fn compact(revision: i64) -> Request {
    command::Request::Compact(CompactionRequest {
        revision,
        physical: false,
    })
}

pub fn grant(id: i64, ttl: i64) -> Request {
    command::Request::LeaseGrant(LeaseGrantRequest { ttl, id })
}

pub fn revoke(id: i64) -> Request {
    command::Request::LeaseRevoke(LeaseRevokeRequest { id })
}

pub fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: b(key),
        range_end: b(range_end),
        ..RangeRequest::default()
    }
}

pub fn range_at(key: &str, range_end: &str, revision: i64) -> RangeRequest {
    RangeRequest {
        revision,
        ..range(key, range_end)
    }
}

pub fn op(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub fn put_op(key: &str, value: &str) -> RequestOp {
    op(request_op::Request::RequestPut(put_request(key, value)))
}

pub fn range_op(r: RangeRequest) -> RequestOp {
    op(request_op::Request::RequestRange(r))
}

pub fn delete_op(key: &str, range_end: &str) -> RequestOp {
    op(request_op::Request::RequestDeleteRange(delete_request(
        key, range_end,
    )))
}

pub fn txn_op(txn: TxnRequest) -> RequestOp {
    op(request_op::Request::RequestTxn(txn))
}

pub fn then(ops: impl IntoIterator<Item = RequestOp>) -> TxnRequest {
    TxnRequest {
        success: ops.into_iter().collect(),
        ..TxnRequest::default()
    }
}

pub fn txn(txn: TxnRequest) -> Request {
    command::Request::Txn(txn)
}
