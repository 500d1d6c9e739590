//! What kube-apiserver does: objects are created if absent, updated and deleted if unchanged; lists come in pages, all at
//! the revision of the first; informers watch from there; and history is compacted behind everybody.

use std::time::Duration;

use keelson_jepsen::history::{
    Call, Compact, Compare, CompareResult, Data, Deed, Delete, Kv, Operation, Outcome, Range,
    Reply, Revision, Settled, Step, Target, Workload, prefix_end,
};
use rand::Rng;
use tokio::time::Instant;

use super::session::{Session, get, list, put, txn};
use super::unchanged;
use crate::run::{Interest, Watcher};

const PREFIX: &str = "registry/pods/";
const NAMESPACES: u32 = 2;
const PODS: u32 = 12;
const PAGE: i64 = 5;
/// The key by which API servers agree on who compacts.
const COMPACT_KEY: &str = "registry/compact_rev_key";
/// kube-apiserver takes five minutes.
const BETWEEN_COMPACTIONS: Duration = Duration::from_secs(5);

pub async fn run(mut session: Session) {
    let mut compactor = Compactor::new();
    while session.turn().await {
        if session.index == 0 && compactor.due() {
            compactor.compact(&mut session).await;
            continue;
        }
        let name = format!(
            "{PREFIX}{}/pod-{:02}",
            session.random.random_range(0..NAMESPACES),
            session.random.random_range(0..PODS)
        );
        match session.random.random_range(0..100) {
            0..25 => create(&mut session, &name).await,
            25..55 => update(&mut session, &name).await,
            55..70 => remove(&mut session, &name).await,
            70..85 => list_in_pages(&mut session).await,
            85..90 => count(&mut session).await,
            _ => drop(read(&mut session, &name).await),
        }
    }
}

/// Watches of all objects, as informers have them.
pub fn informers() -> Vec<Watcher> {
    let all = list(PREFIX);
    let informer = |number: u32| Watcher {
        name: format!("informer-{number}"),
        workload: Workload::Kubernetes,
        key: all.key.clone(),
        range_end: all.range_end.clone(),
        interest: Interest {
            prev_kv: true,
            progress_notify: true,
            ..Interest::default()
        },
        from_the_beginning: false,
        stays: Some(Duration::from_secs(10)),
    };
    (1..=2).map(informer).collect()
}

async fn create(session: &mut Session, name: &str) {
    let value = session.value("created");
    let create = txn(
        vec![unchanged(name, Revision(0))],
        vec![Step::Put(put(name, value))],
        Vec::new(),
    );
    session.call(create).await;
}

async fn read(session: &mut Session, name: &str) -> Option<Kv> {
    match session.ask(Call::Range(get(name))).await?.reply {
        Reply::Range { kvs, .. } => kvs.into_iter().next(),
        _ => None,
    }
}

async fn update(session: &mut Session, name: &str) {
    let Some(mut current) = read(session, name).await else {
        return;
    };
    // As guaranteedUpdate: what the failed guard has read is what is tried next.
    for _ in 0..3 {
        let value = session.value("updated");
        let update = txn(
            vec![unchanged(name, current.mod_revision)],
            vec![Step::Put(put(name, value))],
            vec![Step::Range(get(name))],
        );
        let Some(answer) = session.ask(update).await else {
            return;
        };
        match newest(answer.reply) {
            Some(kv) => current = kv,
            None => return,
        }
    }
}

async fn remove(session: &mut Session, name: &str) {
    let Some(mut current) = read(session, name).await else {
        return;
    };
    for _ in 0..3 {
        let delete = txn(
            vec![unchanged(name, current.mod_revision)],
            vec![Step::Delete(Delete {
                key: name.into(),
                prev_kv: true,
                ..Delete::default()
            })],
            vec![Step::Range(get(name))],
        );
        let Some(answer) = session.ask(delete).await else {
            return;
        };
        match newest(answer.reply) {
            Some(kv) => current = kv,
            None => return,
        }
    }
}

/// What a transaction whose guard was false has read instead.
fn newest(reply: Reply) -> Option<Kv> {
    match reply {
        Reply::Txn {
            succeeded: false,
            responses,
        } => match responses.into_iter().next()? {
            Reply::Range { kvs, .. } => kvs.into_iter().next(),
            _ => None,
        },
        _ => None,
    }
}

async fn count(session: &mut Session) {
    let range = Range {
        count_only: true,
        ..list(PREFIX)
    };
    session.call(Call::Range(range)).await;
}

async fn list_in_pages(session: &mut Session) {
    let end = prefix_end(PREFIX.as_bytes());
    let mut pages: Vec<Operation> = Vec::new();
    let mut kvs: Vec<Kv> = Vec::new();
    let mut revision = Revision(0);
    let mut next = Data::from(PREFIX);
    let settled = loop {
        let range = Range {
            key: next.clone(),
            range_end: end.clone(),
            revision,
            limit: PAGE,
            ..Range::default()
        };
        let Some(page) = session.call(Call::Range(range)).await else {
            break Settled::Unknown;
        };
        let Outcome::Done {
            header,
            reply: Reply::Range {
                kvs: found, more, ..
            },
        } = &page.outcome
        else {
            pages.push(page);
            break Settled::Unknown;
        };
        if revision.is_zero() {
            revision = header.revision;
        }
        let more = *more;
        kvs.extend(found.iter().cloned());
        pages.push(page);
        match kvs.last() {
            Some(last) if more => next = after(&last.key),
            _ => break Settled::Done,
        }
        if pages.len() > (NAMESPACES * PODS) as usize {
            break Settled::Unknown;
        }
    };
    let pages: Vec<&Operation> = pages.iter().collect();
    let deed = Deed::Pages {
        key: PREFIX.into(),
        range_end: end,
        revision,
        kvs,
    };
    session.act(&pages, deed, settled);
}

/// The next key after one.
fn after(key: &Data) -> Data {
    let mut next = key.0.to_vec();
    next.push(0);
    Data(next.into())
}

/// Compacts as kube-apiserver does: whoever advances the key's version compacts to the revision that was current when
/// the version before was written.
struct Compactor {
    version: i64,
    revision: Revision,
    due: Instant,
}

impl Compactor {
    fn new() -> Compactor {
        Compactor {
            version: 0,
            revision: Revision(0),
            due: Instant::now() + BETWEEN_COMPACTIONS,
        }
    }

    fn due(&self) -> bool {
        Instant::now() >= self.due
    }

    async fn compact(&mut self, session: &mut Session) {
        self.due = Instant::now() + BETWEEN_COMPACTIONS;
        let guard = Compare {
            key: COMPACT_KEY.into(),
            range_end: Data::default(),
            result: CompareResult::Equal,
            target: Target::Version(self.version),
        };
        let value = session.value(self.revision.0);
        let advance = txn(
            vec![guard],
            vec![Step::Put(put(COMPACT_KEY, value))],
            vec![Step::Range(get(COMPACT_KEY))],
        );
        let Some(answer) = session.ask(advance).await else {
            return;
        };
        let behind = std::mem::replace(&mut self.revision, answer.header.revision);
        match answer.reply {
            Reply::Txn {
                succeeded: true, ..
            } => self.version += 1,
            Reply::Txn { responses, .. } => {
                if let Some(Reply::Range { kvs, .. }) = responses.first() {
                    self.version = kvs.first().map_or(0, |kv| kv.version);
                }
                return;
            }
            _ => return,
        }
        // What the watches of everything have not seen yet, nobody could tell afterwards.
        let revision = behind.min(session.world.recorded());
        if revision > Revision(1) {
            let physical = session.random.random_ratio(1, 4);
            session
                .call(Call::Compact(Compact { revision, physical }))
                .await;
        }
    }
}
