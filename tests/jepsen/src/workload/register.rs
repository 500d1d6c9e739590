//! Few keys, each read, written, deleted and swapped by all clients.

use std::time::Duration;

use keelson_jepsen::history::{
    Call, Compare, CompareResult, Data, Delete, Range, Reply, Step, Target,
};
use rand::Rng;

use super::session::{Session, get, put, txn};
use super::{generation, unchanged};

const KEYS: u32 = 4;
const GENERATION: Duration = Duration::from_secs(5);

pub async fn run(mut session: Session) {
    // What it last saw of a key, to swap it.
    let mut seen: Option<keelson_jepsen::history::Kv> = None;
    while session.turn().await {
        let key = format!(
            "register/{}-{}",
            generation(&session, GENERATION),
            session.random.random_range(0..KEYS)
        );
        let call = match session.random.random_range(0..100) {
            0..30 => Call::Range(get(&key)),
            30..45 => Call::Range(Range {
                serializable: true,
                ..get(&key)
            }),
            45..65 => {
                let mut put = put(&key, session.value("put"));
                put.prev_kv = session.random.random();
                Call::Put(put)
            }
            65..92 => {
                let value = session.value("swap");
                let known = seen.as_ref().filter(|kv| kv.key == Data::from(&*key));
                let guard = match known {
                    Some(kv) if session.random.random() => Compare {
                        key: key.as_str().into(),
                        range_end: Data::default(),
                        result: CompareResult::Equal,
                        target: Target::Value(kv.value.clone()),
                    },
                    Some(kv) => unchanged(&key, kv.mod_revision),
                    None => unchanged(&key, Default::default()),
                };
                txn(
                    vec![guard],
                    vec![Step::Put(put(&key, value))],
                    vec![Step::Range(get(&key))],
                )
            }
            _ => Call::Delete(Delete {
                key: key.as_str().into(),
                prev_kv: session.random.random(),
                ..Delete::default()
            }),
        };
        let Some(answer) = session.ask(call).await else {
            continue;
        };
        let read = match &answer.reply {
            Reply::Range { kvs, .. } => kvs.first(),
            Reply::Txn { responses, .. } => match responses.first() {
                Some(Reply::Range { kvs, .. }) => kvs.first(),
                _ => None,
            },
            _ => continue,
        };
        seen = read.cloned();
    }
}
