//! Accounts whose sum stays, whatever is transferred between them.

use std::collections::BTreeMap;

use keelson_jepsen::history::{
    Call, Deed, Kv, Operation, Outcome, Range, Reply, Revision, Settled, Step,
};
use rand::Rng;
use rand::seq::index;

use super::session::{Session, get, list, put, txn};
use super::unchanged;

const PREFIX: &str = "bank/";
const ACCOUNTS: usize = 8;
const BALANCE: i64 = 100;

fn account(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// Opens all accounts at once. As long as it is not known whether they are open, it is tried again: a second attempt
/// finds the first by its guard.
pub async fn open_accounts(session: &mut Session) {
    while !session.world.stopping() {
        let compares = (0..ACCOUNTS).map(|number| unchanged(&account(number), Revision(0)));
        let puts =
            (0..ACCOUNTS).map(|number| Step::Put(put(&account(number), session.value(BALANCE))));
        let open = txn(compares.collect(), puts.collect(), Vec::new());
        if session.ask(open).await.is_some() {
            return;
        }
    }
}

pub async fn run(mut session: Session) {
    while session.turn().await {
        match session.random.random_range(0..10) {
            0..3 => drop(read(&mut session).await),
            3 => read_past(&mut session).await,
            _ => transfer(&mut session).await,
        }
    }
}

/// Reads all accounts in one request.
pub async fn read(session: &mut Session) -> Option<Revision> {
    let read = session.call(Call::Range(list(PREFIX))).await?;
    note(session, &read);
    match &read.outcome {
        Outcome::Done { header, .. } => Some(header.revision),
        _ => None,
    }
}

/// Reads them as they were a little ago.
async fn read_past(session: &mut Session) {
    let ago = session.random.random_range(0..50);
    let past = Revision(session.world.newest().0 - ago);
    if past < Revision(ACCOUNTS as i64) {
        return;
    }
    let range = Range {
        revision: past,
        serializable: session.random.random(),
        ..list(PREFIX)
    };
    if let Some(read) = session.call(Call::Range(range)).await {
        note(session, &read);
    }
}

fn note(session: &Session, read: &Operation) {
    let Outcome::Done {
        reply: Reply::Range { kvs, .. },
        ..
    } = &read.outcome
    else {
        return;
    };
    let names = kvs.iter().map(|kv| kv.key.text().into_owned());
    let balances: BTreeMap<String, i64> = names.zip(kvs.iter().map(balance)).collect();
    let expected = BALANCE * ACCOUNTS as i64;
    // Before they were opened there were none, and a read of that past says so.
    if !balances.is_empty() {
        let deed = Deed::BankRead { balances, expected };
        session.act(&[read], deed, Settled::Done);
    }
}

async fn transfer(session: &mut Session) {
    let two = index::sample(&mut session.random, ACCOUNTS, 2);
    let [from, to] = [two.index(0), two.index(1)].map(account);
    let reads = vec![Step::Range(get(&from)), Step::Range(get(&to))];
    let Some(answer) = session.ask(txn(Vec::new(), reads, Vec::new())).await else {
        return;
    };
    let Reply::Txn { responses, .. } = &answer.reply else {
        return;
    };
    let [
        Reply::Range { kvs: source, .. },
        Reply::Range { kvs: target, .. },
    ] = responses.as_slice()
    else {
        return;
    };
    let (Some(source), Some(target)) = (source.first(), target.first()) else {
        return;
    };
    let amount = session.random.random_range(1..=10).min(balance(source));
    if amount <= 0 {
        return;
    }
    let guards = vec![
        unchanged(&from, source.mod_revision),
        unchanged(&to, target.mod_revision),
    ];
    let puts = vec![
        Step::Put(put(&from, session.value(balance(source) - amount))),
        Step::Put(put(&to, session.value(balance(target) + amount))),
    ];
    session.call(txn(guards, puts, Vec::new())).await;
}

/// The number that the value begins with.
fn balance(kv: &Kv) -> i64 {
    let value = kv.value.text();
    value
        .split(' ')
        .next()
        .and_then(|balance| balance.parse().ok())
        .unwrap_or_default()
}
