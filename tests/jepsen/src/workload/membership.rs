//! Reads and writes while members come and go, and questions who they are.

use keelson_jepsen::history::{Call, Compare, CompareResult, Data, Range, Step, Target};
use rand::Rng;

use super::session::{Session, get, list, put, txn};

const PREFIX: &str = "membership/";
const KEYS: u32 = 6;

pub async fn run(mut session: Session) {
    while session.turn().await {
        let key = format!("{PREFIX}{}", session.random.random_range(0..KEYS));
        let call = match session.random.random_range(0..100) {
            0..40 => Call::Put(put(&key, session.value("put"))),
            40..65 => Call::Range(get(&key)),
            65..75 => Call::Range(Range {
                serializable: true,
                ..list(PREFIX)
            }),
            75..85 => {
                let exists = Compare {
                    key: key.as_str().into(),
                    range_end: Data::default(),
                    result: CompareResult::Greater,
                    target: Target::Version(0),
                };
                let value = session.value("txn");
                txn(
                    vec![exists],
                    vec![Step::Range(get(&key)), Step::Put(put(&key, value))],
                    vec![Step::Range(list(PREFIX))],
                )
            }
            _ => Call::MemberList {
                linearizable: session.random.random(),
            },
        };
        session.call(call).await;
    }
}
