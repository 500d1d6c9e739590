//! What the unit tests of this crate share.

use bytes::Bytes;
use keelson_proto::mvccpb;
use keelson_store::{Event, EventKind, Revision};
use prost::Message;

/// A put, encoded as the store encodes it.
pub(crate) fn put(key: &str, revision: i64, value: &str) -> Event {
    event(key, revision, value, EventKind::Put)
}

/// A delete with a previous version.
pub(crate) fn delete(key: &str, revision: i64) -> Event {
    event(key, revision, "", EventKind::Delete)
}

fn event(key: &str, revision: i64, value: &str, kind: EventKind) -> Event {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let kv = mvccpb::KeyValue {
        key: key.clone(),
        mod_revision: revision,
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    };
    let previous = mvccpb::KeyValue {
        key: key.clone(),
        mod_revision: revision - 1,
        ..Default::default()
    };
    let mut whole = mvccpb::Event {
        r#type: (kind == EventKind::Delete) as i32,
        kv: Some(kv),
        prev_kv: None,
    };
    let plain_len = whole.encoded_len();
    whole.prev_kv = Some(previous);
    Event {
        key,
        revision: Revision(revision),
        sub: 0,
        kind,
        encoded: whole.encode_to_vec().into(),
        plain_len,
    }
}
