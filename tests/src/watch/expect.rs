//! What a watch must bring of a known history.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::{Event, KeyValue, event::EventType};
use pb::watch_create_request::FilterType;

use super::mod_revision;

/// A watch that sees everything from `start_revision` on, with all that can be told of it.
pub fn everything(start_revision: i64) -> pb::WatchCreateRequest {
    let every_key = Bytes::from_static(b"\0");
    let (key, range_end) = (every_key.clone(), every_key);
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        prev_kv: true,
        fragment: true,
        ..Default::default()
    }
}

/// What a watch that asked for `request`, and was created at `created_at`, must bring of `history`.
pub fn expected(
    history: &[Event],
    request: &pb::WatchCreateRequest,
    created_at: i64,
) -> Vec<Event> {
    let start = if request.start_revision == 0 {
        created_at + 1
    } else {
        request.start_revision
    };
    let selected = history
        .iter()
        .filter(|event| mod_revision(event) >= start && selects(request, event));
    selected
        .map(|event| Event {
            prev_kv: event.prev_kv.clone().filter(|_| request.prev_kv),
            ..event.clone()
        })
        .collect()
}

fn selects(request: &pb::WatchCreateRequest, event: &Event) -> bool {
    let filter = match event.r#type() {
        EventType::Put => FilterType::Noput,
        EventType::Delete => FilterType::Nodelete,
    };
    let key = event
        .kv
        .as_ref()
        .map_or(&b""[..], |KeyValue { key, .. }| key);
    // No key means the first one there can be.
    let from = if request.key.is_empty() {
        &b"\0"[..]
    } else {
        &request.key[..]
    };
    in_range(key, from, &request.range_end) && !request.filters().any(|known| known == filter)
}

/// Whether `key` lies in the range that begins with `from`, as the API understands `range_end`.
pub fn in_range(key: &[u8], from: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        b"" => key == from,
        b"\0" => key >= from,
        end => key >= from && key < end,
    }
}
