//! A client: one operation after the other, at any member; and another that compacts the history behind them.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

use super::{Site, pause};
use crate::history::text;
use crate::operation::{Ask, Keys, Read, Told, Txn};

/// The keys of all clients: few, so that they meet.
const KEYS: u32 = 10;

/// One of the keys.
pub fn any_key(rng: &mut StdRng) -> String {
    format!("key{}", rng.random_range(0..KEYS))
}

/// Some of the keys: all, a run of them, or one.
pub fn any_keys(rng: &mut StdRng) -> Keys {
    match rng.random_range(0..4) {
        0 => Keys {
            from: "key".into(),
            to: Some("kez".into()),
        },
        1 | 2 => {
            let from = rng.random_range(0..KEYS);
            Keys {
                from: format!("key{from}"),
                to: Some(format!("key{}", rng.random_range(from..=KEYS.min(9)))),
            }
        }
        _ => Keys::one(&any_key(rng)),
    }
}

/// What a client remembers.
#[derive(Default)]
struct Memory {
    number: u64,
    /// Where it last saw each key changed.
    changed_at: BTreeMap<String, i64>,
    /// The newest revision that it was told.
    revision: i64,
}

/// Asks members at random until the site closes.
pub async fn run(site: Site, client: usize, mut rng: StdRng) {
    let mut memory = Memory::default();
    while !site.closing() {
        // Some come close behind each other, and share a batch or a read's proof.
        let at_once = rng.random_ratio(1, 4);
        pause(&mut rng, 0, if at_once { 3 } else { 160 }).await;
        let Some(life) = site.any(&mut rng) else {
            continue;
        };
        let ask = memory.choose(client, &mut rng);
        let told = site.ask(client, &life, ask.clone()).await;
        memory.learn(&ask, &told);
        let wrote = told.revision(&ask).is_some_and(|(_, own)| own);
        if wrote && rng.random_ratio(1, 3) {
            look_at_once(&site, client, &mut rng).await;
        }
    }
}

/// Looks, at any member and right after a write was acknowledged, whether it is there.
async fn look_at_once(site: &Site, client: usize, rng: &mut StdRng) {
    let Some(life) = site.any(rng) else { return };
    let read = Read {
        keys: Keys::one(&any_key(rng)),
        revision: 0,
        limit: 0,
        serializable: false,
    };
    site.ask(client, &life, Ask::Read(read)).await;
}

impl Memory {
    fn choose(&mut self, client: usize, rng: &mut StdRng) -> Ask {
        self.number += 1;
        let mut value = format!("{client}-{}", self.number);
        if rng.random_ratio(1, 16) {
            // Over more than a sector of a disk, of which some may be lost, and more than some queues hold.
            value.push_str(&"-".repeat(rng.random_range(200..1_200)));
        }
        let key = any_key(rng);
        let read = Read {
            keys: Keys::one(&key),
            revision: 0,
            limit: 0,
            serializable: false,
        };
        match rng.random_range(0..20) {
            0..=5 => Ask::Put {
                key,
                value,
                lease: 0,
            },
            6 | 7 => Ask::Txn(Txn {
                guards: vec![self.guard(&key)],
                reads: Keys::one(&key),
                puts: vec![key],
                delete: None,
                value,
            }),
            8 | 9 => self.several(value, rng),
            10 => Ask::Delete {
                keys: Keys::one(&key),
            },
            11 => Ask::Delete {
                keys: any_keys(rng),
            },
            12..=14 => Ask::Read(read),
            15 | 16 => Ask::Read(Read {
                keys: any_keys(rng),
                limit: rng.random_range(0..4),
                ..read
            }),
            17 => Ask::Read(Read {
                keys: any_keys(rng),
                revision: (self.revision - rng.random_range(-1..150)).max(1),
                serializable: rng.random_ratio(1, 3),
                ..read
            }),
            _ => Ask::Read(Read {
                keys: any_keys(rng),
                serializable: true,
                ..read
            }),
        }
    }

    /// A txn of several keys.
    fn several(&self, value: String, rng: &mut StdRng) -> Ask {
        let first = rng.random_range(0..KEYS - 3);
        let key = |offset: u32| format!("key{}", first + offset);
        let guards = (0..rng.random_range(0..3)).map(|offset| self.guard(&key(offset)));
        let puts = rng.random_range(1..=3);
        Ask::Txn(Txn {
            guards: guards.collect(),
            reads: any_keys(rng),
            puts: (0..puts).map(key).collect(),
            delete: rng.random_ratio(1, 2).then(|| key(3)),
            value,
        })
    }

    fn guard(&self, key: &str) -> (String, i64) {
        (
            key.to_owned(),
            self.changed_at.get(key).copied().unwrap_or(0),
        )
    }

    fn learn(&mut self, ask: &Ask, told: &Told) {
        let (revision, kvs, keys) = match (told, ask) {
            (Told::Read { revision, kvs, .. }, Ask::Read(read)) if read.revision == 0 => {
                (*revision, kvs.as_slice(), Some(&read.keys))
            }
            (
                Told::Txn {
                    revision,
                    succeeded,
                    before,
                    after,
                },
                Ask::Txn(txn),
            ) => {
                let seen = if *succeeded { after } else { before };
                (*revision, seen.as_slice(), Some(&txn.reads))
            }
            (Told::Done { revision } | Told::Deleted { revision, .. }, _) => {
                (*revision, &[][..], None)
            }
            _ => return,
        };
        self.revision = self.revision.max(revision);
        if let Some(keys) = keys {
            self.changed_at.retain(|key, _| !keys.has(key));
        }
        for kv in kvs {
            self.changed_at.insert(text(&kv.key), kv.mod_revision);
        }
    }
}

/// Compacts the history now and then, close behind the present or far.
pub async fn compact(site: Site, client: usize, mut rng: StdRng) {
    while !site.closing() {
        pause(&mut rng, 500, 6_000).await;
        let Some(life) = site.any(&mut rng) else {
            continue;
        };
        let read = Ask::Read(Read {
            keys: Keys::one("key0"),
            revision: 0,
            limit: 0,
            serializable: true,
        });
        let Told::Read { revision, .. } = site.ask(client, &life, read).await else {
            continue;
        };
        let behind = if rng.random_ratio(1, 4) { 3 } else { 200 };
        let revision = revision - rng.random_range(-1..behind);
        if revision > 0 {
            site.ask(client, &life, Ask::Compact { revision }).await;
        }
    }
}

/// Writes and reads at one member, until both were answered.
pub async fn prove(site: Site, client: usize, id: u64, mut rng: StdRng) {
    let key = format!("keyproof{id}");
    let read = Ask::Read(Read {
        keys: Keys::one(&key),
        revision: 0,
        limit: 0,
        serializable: false,
    });
    for number in 0.. {
        if let Some(life) = site.member(id) {
            let put = Ask::Put {
                key: key.clone(),
                value: format!("{client}-{number}"),
                lease: 0,
            };
            let written = site.ask(client, &life, put).await;
            let read = site.ask(client, &life, read.clone()).await;
            if written != Told::Unknown && read != Told::Unknown {
                return;
            }
        }
        pause(&mut rng, 50, 200).await;
    }
}
