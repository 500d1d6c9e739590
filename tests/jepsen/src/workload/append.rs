//! Transactions that read several lists and append to some.
//!
//! etcd has no append, so a client reads the lists in one transaction and writes them, longer by its elements, in a second
//! one that succeeds only if none of them has changed. Together the two are one transaction, at the revision of the second.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_jepsen::history::{
    Call, Deed, Kv, ListStep, Operation, Outcome, Reply, Revision, Settled, Step, Txn,
};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::session::{Session, get, put, settled_txn};
use super::{generation, unchanged};

const LISTS: u32 = 5;
const STEPS: std::ops::RangeInclusive<usize> = 1..=4;
const GENERATION: Duration = Duration::from_secs(8);

pub async fn run(mut session: Session) {
    while session.turn().await {
        let steps = plan(&mut session);
        attempt(&mut session, steps).await;
    }
}

fn plan(session: &mut Session) -> Vec<ListStep> {
    let generation = generation(session, GENERATION);
    let count = session.random.random_range(STEPS);
    let only_reads = session.random.random_bool(0.25);
    (0..count)
        .map(|_| {
            let key = format!(
                "append/{generation}-{}",
                session.random.random_range(0..LISTS)
            );
            if only_reads || session.random.random_bool(0.4) {
                let list = Vec::new();
                ListStep::Read { key, list }
            } else {
                let element = session.world.new_value();
                ListStep::Append { key, element }
            }
        })
        .collect()
}

/// What a list holds, and when it last changed.
type Lists = BTreeMap<String, (Vec<u64>, Revision)>;

async fn attempt(session: &mut Session, mut steps: Vec<ListStep>) {
    let keys: Vec<String> = {
        let mut keys: Vec<String> = steps.iter().map(|step| key(step).to_owned()).collect();
        keys.sort();
        keys.dedup();
        keys
    };
    let reads = keys.iter().map(|key| Step::Range(get(key))).collect();
    let read = Call::Txn(Txn {
        success: reads,
        ..Txn::default()
    });
    let Some(read) = session.call(read).await else {
        return;
    };
    let Some(before) = lists(&keys, &read) else {
        return;
    };
    let mut after = before.clone();
    let mut appends = false;
    for step in &mut steps {
        match step {
            ListStep::Read { key, list } => *list = after[key.as_str()].0.clone(),
            ListStep::Append { key, element } => {
                appends = true;
                if let Some((list, _)) = after.get_mut(key) {
                    list.push(*element);
                }
            }
        }
    }
    if !appends {
        session.act(&[&read], Deed::Lists(steps), Settled::Done);
        return;
    }
    let compares = before
        .iter()
        .map(|(key, (_, changed))| unchanged(key, *changed));
    let changed = after.iter().filter(|(key, now)| before[*key] != **now);
    let puts = changed.map(|(key, (list, _))| Step::Put(put(key, written(list).into())));
    let write = Call::Txn(Txn {
        compares: compares.collect(),
        success: puts.collect(),
        failure: Vec::new(),
    });
    let Some(write) = session.call(write).await else {
        return;
    };
    let settled = settled_txn(&write.outcome);
    session.act(&[&read, &write], Deed::Lists(steps), settled);
    // Who lost to another waits a little, now and then, so that not everybody tries again at once.
    if settled == Settled::Not {
        let pauses = [0, 5, 20].map(Duration::from_millis);
        let pause = *pauses.choose(&mut session.random).expect("there are some");
        session.world.pause(pause).await;
    }
}

fn key(step: &ListStep) -> &str {
    match step {
        ListStep::Read { key, .. } | ListStep::Append { key, .. } => key,
    }
}

fn lists(keys: &[String], read: &Operation) -> Option<Lists> {
    let Outcome::Done {
        reply: Reply::Txn { responses, .. },
        ..
    } = &read.outcome
    else {
        return None;
    };
    let list = |reply: &Reply| match reply {
        Reply::Range { kvs, .. } => Some(kvs.first().map(parsed).unwrap_or_default()),
        _ => None,
    };
    let lists: Option<Vec<_>> = responses.iter().map(list).collect();
    let lists = lists.filter(|lists| lists.len() == keys.len())?;
    Some(keys.iter().cloned().zip(lists).collect())
}

/// What is no number there was not written by this workload; the checkers find it by the replies.
fn parsed(kv: &Kv) -> (Vec<u64>, Revision) {
    let list = kv.value.text();
    let list = list.split(' ').filter_map(|element| element.parse().ok());
    (list.collect(), kv.mod_revision)
}

fn written(list: &[u64]) -> String {
    let list: Vec<String> = list.iter().map(u64::to_string).collect();
    list.join(" ")
}
