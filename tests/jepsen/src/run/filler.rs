//! Bulk that makes members drop their logs, so that one which was away has to be sent a snapshot.
//!
//! A megabyte a value would drown the history, so these values are recorded by their first bytes alone: they are a token,
//! blown up in a way that can be checked when they come back. One that comes back otherwise is recorded whole, and so
//! contradicts what was written.

use std::time::Duration;

use bytes::Bytes;
use keelson_jepsen::history::{
    Call, ClientId, Data, Event, Kv, Operation, Outcome, Put, WatchResponse, Workload,
};

use super::World;
use crate::client::Connection;

const PREFIX: &[u8] = b"fill/";
const VALUE_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(8);

/// Writes one value.
pub async fn put(world: &World, client: ClientId, connection: &Connection) -> Operation {
    let number = world.new_value();
    let short = Put {
        key: format!("fill/{number:08}").into(),
        value: format!("fill #{number}").into(),
        ..Put::default()
    };
    let long = Put {
        value: blown_up(&short.value),
        ..short.clone()
    };
    let (sent, recorded) = (Call::Put(long), Call::Put(short));
    world
        .operate_as(
            Workload::Runner,
            client,
            connection,
            sent,
            recorded,
            PATIENCE,
        )
        .await
}

fn blown_up(token: &Data) -> Data {
    let mut value = token.0.to_vec();
    value.resize(VALUE_BYTES, b'.');
    Data(value.into())
}

/// Takes the air out of the values in a response of a watch.
pub fn shorten_events(response: &mut WatchResponse) {
    for Event { kv, prev_kv, .. } in &mut response.events {
        shorten(kv);
        if let Some(kv) = prev_kv {
            shorten(kv);
        }
    }
}

/// The same of the keys of a range.
pub fn shorten_outcome(outcome: &mut Outcome) {
    if let Outcome::Done {
        reply: keelson_jepsen::history::Reply::Range { kvs, .. },
        ..
    } = outcome
    {
        kvs.iter_mut().for_each(shorten);
    }
}

fn shorten(kv: &mut Kv) {
    let Data(value) = &kv.value;
    if !kv.key.0.starts_with(PREFIX) || value.len() != VALUE_BYTES {
        return;
    }
    let token = value.iter().rposition(|byte| *byte != b'.');
    let Some(last) = token else { return };
    // A copy, so that the megabyte is let go.
    let token = Data(Bytes::copy_from_slice(&value[..=last]));
    if blown_up(&token) == kv.value {
        kv.value = token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(value: Data) -> Kv {
        Kv {
            key: "fill/1".into(),
            value,
            ..Kv::default()
        }
    }

    #[test]
    fn a_value_is_recorded_by_its_token_and_one_that_changed_on_the_way_whole() {
        let mut kv = filled(blown_up(&"fill #1".into()));
        shorten(&mut kv);
        assert_eq!(kv.value, "fill #1".into());

        let Data(whole) = blown_up(&"fill #1".into());
        let mut damaged = whole.to_vec();
        damaged[VALUE_BYTES / 2] = b'x';
        let mut kv = filled(Data(damaged.clone().into()));
        shorten(&mut kv);
        assert_ne!(kv.value, "fill #1".into());
        damaged.truncate(VALUE_BYTES - 1);
        let mut kv = filled(Data(damaged.clone().into()));
        shorten(&mut kv);
        assert_eq!(kv.value, Data(damaged.into()));
    }
}
