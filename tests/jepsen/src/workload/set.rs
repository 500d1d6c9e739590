//! Elements are added, each as a key of its own; now and then all are read.

use keelson_jepsen::history::{Call, Data, Deed, Kv, Outcome, Reply, Settled};
use rand::Rng;

use super::session::{Session, list, put, settled};

const PREFIX: &str = "set/";

pub async fn run(mut session: Session) {
    while session.turn().await {
        if session.random.random_ratio(1, 60) {
            read(&mut session, false).await;
        } else {
            add(&mut session).await;
        }
    }
}

async fn add(session: &mut Session) {
    let element = session.world.new_value();
    let put = put(&format!("{PREFIX}{element:08}"), element.to_string().into());
    if let Some(operation) = session.call(Call::Put(put)).await {
        let settled = settled(&operation.outcome);
        session.act(&[&operation], Deed::SetAdd(element), settled);
    }
}

/// Reads all elements; `last` if none is added any more.
pub async fn read(session: &mut Session, last: bool) {
    let mut range = list(PREFIX);
    range.keys_only = !last && session.random.random();
    let Some(operation) = session.call(Call::Range(range)).await else {
        return;
    };
    let Outcome::Done {
        reply: Reply::Range { kvs, .. },
        ..
    } = &operation.outcome
    else {
        return;
    };
    let elements = kvs.iter().filter_map(element).collect();
    let deed = Deed::SetRead { elements, last };
    session.act(&[&operation], deed, Settled::Done);
}

fn element(kv: &Kv) -> Option<u64> {
    let Data(key) = &kv.key;
    let digits = key.strip_prefix(PREFIX.as_bytes())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
