//! What clients do, and what they mean by it.
//!
//! Each workload has keys of its own, so that any number of them run in one cluster at a time. Whatever they write is
//! written once only: a value that is seen tells which write it came from.

mod append;
mod bank;
mod kubernetes;
mod lease;
mod membership;
mod register;
mod session;
mod set;
mod watch;

use std::time::Duration;

use anyhow::bail;
use keelson_jepsen::history::{Compare, CompareResult, Revision, Target, Workload};

pub use session::Session;

/// All workloads, in the order in which they are listed: by name, with what they do in a sentence.
pub const ALL: [(Workload, &str, &str); 8] = [
    (
        Workload::Register,
        "register",
        "reads (linearizable and serializable), writes and compare-and-sets of few keys",
    ),
    (
        Workload::Append,
        "append",
        "transactions that read and append to several lists",
    ),
    (
        Workload::Bank,
        "bank",
        "transfers between accounts, by guarded transactions, and reads of all of them",
    ),
    (
        Workload::Set,
        "set",
        "adding elements, of which none that was acknowledged may be lost",
    ),
    (
        Workload::Watch,
        "watch",
        "watchers of keys, prefixes and ranges, with and without filters, that leave, come back and go on",
    ),
    (
        Workload::Lease,
        "lease",
        "leases with keys, and locks made of them, whose holders write with a fence",
    ),
    (
        Workload::Membership,
        "membership",
        "reads and writes while members are added, removed and replaced",
    ),
    (
        Workload::Kubernetes,
        "kubernetes",
        "create, guarded update and delete, paged lists, informers and compaction, as kube-apiserver does",
    ),
];

/// Its name, as the command line has it.
pub fn name(workload: Workload) -> &'static str {
    let found = ALL.iter().find(|(known, _, _)| *known == workload);
    found.map_or("runner", |(_, name, _)| name)
}

/// Those that are meant by names separated by commas, or by `all`.
pub fn named(names: &str) -> anyhow::Result<Vec<Workload>> {
    if names == "all" {
        return Ok(ALL.iter().map(|(workload, ..)| *workload).collect());
    }
    let mut chosen = Vec::new();
    for wanted in names.split(',').map(str::trim) {
        let found = ALL.iter().find(|(_, name, _)| *name == wanted);
        let Some((workload, ..)) = found else {
            bail!("--workload {wanted}: there is no such workload; `jepsen list` names them");
        };
        if !chosen.contains(workload) {
            chosen.push(*workload);
        }
    }
    Ok(chosen)
}

/// Does what has to be done before the clients of the workload start.
pub async fn prepare(session: &mut Session) {
    if session.workload == Workload::Bank {
        bank::open_accounts(session).await;
    }
}

/// Is one client of the workload until it is time to stop.
pub async fn run(session: Session) {
    match session.workload {
        Workload::Register => register::run(session).await,
        Workload::Append => append::run(session).await,
        Workload::Bank => bank::run(session).await,
        Workload::Set => set::run(session).await,
        Workload::Watch => watch::run(session).await,
        Workload::Lease => lease::run(session).await,
        Workload::Membership => membership::run(session).await,
        Workload::Kubernetes => kubernetes::run(session).await,
        Workload::Runner => {}
    }
}

/// The watches that the workload needs beside its clients.
pub fn watchers(workload: Workload) -> Vec<crate::run::Watcher> {
    match workload {
        Workload::Watch => watch::watchers(),
        Workload::Kubernetes => kubernetes::informers(),
        _ => Vec::new(),
    }
}

/// Does what the workload does last, when the cluster is well again.
pub async fn finish(session: &mut Session) {
    match session.workload {
        Workload::Bank => drop(bank::read(session).await),
        Workload::Set => set::read(session, true).await,
        _ => {}
    }
}

/// Keys are left after so long, and new ones taken: what can be said of a key gets dearer to check with each operation.
fn generation(session: &Session, every: Duration) -> u64 {
    session.world.elapsed().as_secs() / every.as_secs().max(1)
}

/// The key's last put must have been at this revision; 0: there must be no such key.
fn unchanged(key: &str, revision: Revision) -> Compare {
    Compare {
        key: key.into(),
        range_end: Default::default(),
        result: CompareResult::Equal,
        target: Target::Mod(revision),
    }
}
