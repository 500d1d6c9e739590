//! Writes for watchers, and the watchers: each asks for something else, leaves now and then, and goes on where it was.

use std::time::Duration;

use keelson_jepsen::history::{Call, Data, Delete, Step, Workload};
use rand::Rng;
use rand::seq::index;

use super::session::{Session, list, put, txn};
use crate::run::{Interest, Watcher};

const PREFIX: &str = "watch/";
const KEYS: usize = 8;
/// A response larger than this is cut, for those who allow it: etcd's limit is what a request may hold.
const LARGE_VALUE_BYTES: usize = 400 << 10;

fn key(number: usize) -> String {
    format!("{PREFIX}{number}")
}

pub async fn run(mut session: Session) {
    while session.turn().await {
        let number = session.random.random_range(0..KEYS);
        let call = match session.random.random_range(0..1000) {
            0..550 => Call::Put(put(&key(number), session.value("put"))),
            550..700 => Call::Delete(Delete {
                key: key(number).into(),
                prev_kv: session.random.random(),
                ..Delete::default()
            }),
            700..720 => delete_some(&mut session),
            // Seldom, since watchers keep whatever they are sent.
            720..723 => many_large(&mut session),
            _ => many(&mut session),
        };
        session.call(call).await;
    }
}

/// Deletes a range of keys: as many events in one revision as there were keys.
fn delete_some(session: &mut Session) -> Call {
    let from = session.random.random_range(0..KEYS / 2);
    Call::Delete(Delete {
        key: key(from).into(),
        range_end: key(from + KEYS / 2).into(),
        prev_kv: session.random.random(),
    })
}

/// Changes several keys in one revision.
fn many(session: &mut Session) -> Call {
    let count = session.random.random_range(2..=5);
    let numbers = index::sample(&mut session.random, KEYS, count);
    let mut steps = Vec::new();
    for number in numbers {
        steps.push(if session.random.random_bool(0.8) {
            Step::Put(put(&key(number), session.value("txn")))
        } else {
            Step::Delete(Delete {
                key: key(number).into(),
                ..Delete::default()
            })
        });
    }
    txn(Vec::new(), steps, Vec::new())
}

/// The same with values so large that the event of one revision do not fit into one response.
fn many_large(session: &mut Session) -> Call {
    let steps = (0..3).map(|number| {
        let Data(head) = session.value("large");
        let mut value = head.to_vec();
        value.resize(LARGE_VALUE_BYTES, b'.');
        Step::Put(put(&key(number), Data(value.into())))
    });
    txn(Vec::new(), steps.collect(), Vec::new())
}

/// One for each kind of interest that a client can have.
pub fn watchers() -> Vec<Watcher> {
    let all = list(PREFIX);
    let watch_all = |name: &str, interest: Interest| Watcher {
        name: name.to_owned(),
        workload: Workload::Watch,
        key: all.key.clone(),
        range_end: all.range_end.clone(),
        interest,
        from_the_beginning: false,
        stays: Some(Duration::from_secs(4)),
    };
    let plain = Interest::default();
    vec![
        watch_all("prefix", plain),
        Watcher {
            from_the_beginning: true,
            ..watch_all(
                "prefix-from-the-beginning",
                Interest {
                    prev_kv: true,
                    ..plain
                },
            )
        },
        watch_all(
            "prefix-progress",
            Interest {
                progress_notify: true,
                ..plain
            },
        ),
        watch_all(
            "prefix-fragments",
            Interest {
                fragment: true,
                prev_kv: true,
                ..plain
            },
        ),
        watch_all(
            "prefix-no-deletes",
            Interest {
                no_delete: true,
                prev_kv: true,
                ..plain
            },
        ),
        watch_all(
            "prefix-no-puts",
            Interest {
                no_put: true,
                prev_kv: true,
                ..plain
            },
        ),
        Watcher {
            key: key(0).into(),
            range_end: Data::default(),
            ..watch_all("key", plain)
        },
        Watcher {
            key: key(2).into(),
            range_end: key(5).into(),
            ..watch_all(
                "range",
                Interest {
                    prev_kv: true,
                    ..plain
                },
            )
        },
        // One that never leaves by itself.
        Watcher {
            stays: None,
            ..watch_all(
                "prefix-loyal",
                Interest {
                    prev_kv: true,
                    progress_notify: true,
                    ..plain
                },
            )
        },
    ]
}
