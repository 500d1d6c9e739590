//! Answers to single operations: each fits the final history at its revision, and revisions fit real time.
//!
//! A history is linearizable if each acknowledged write is in the final history at the revision that it was told; each
//! read saw what the final history holds at the revision it was told; and an operation that began after another had
//! ended was told no earlier revision. What one member says of itself need only fit the history.

use keelson_proto::mvccpb::{KeyValue, event::EventType};
use keelson_store::Refusal;

use crate::history::{History, text};
use crate::operation::{Ask, Keys, Operation, Read, Told, Txn};
use crate::truth::{Committed, Meaning};

/// Checks operations; gives what contradicts the history.
pub fn check(
    operations: &[Operation],
    history: &History,
    committed: &[Committed],
) -> Result<(), String> {
    for operation in operations {
        check_one(operation, history, committed).map_err(|why| format!("{why}: {operation:?}"))?;
    }
    check_times(operations)?;
    check_compactions(operations)
}

fn check_one(
    operation: &Operation,
    history: &History,
    committed: &[Committed],
) -> Result<(), String> {
    if let Some((revision, _)) = operation.revision()
        && revision > history.revision()
    {
        return Err("a revision that the store never reached".into());
    }
    match (&operation.told, &operation.ask) {
        (Told::Unknown, _) => Ok(()),
        (Told::Refused { revision, why }, ask) => {
            let by = |time| committed.iter().filter(move |entry| entry.at <= time);
            let before = by(operation.start).collect::<Vec<_>>();
            let seen = by(operation.end).collect::<Vec<_>>();
            check_refusal(ask, *why, *revision, &before, &seen)
        }
        (Told::Done { revision }, Ask::Put { key, value, lease }) => {
            let kept = history.changes(*revision).iter().any(|event| {
                event.kv.as_ref().is_some_and(|kv| {
                    event.r#type == EventType::Put as i32
                        && (text(&kv.key), text(&kv.value), kv.lease)
                            == (key.clone(), value.clone(), *lease)
                })
            });
            held(kept, "an acknowledged put that is not there")
        }
        (Told::Deleted { revision, count }, Ask::Delete { keys }) => {
            check_delete(keys, *revision, *count, history)
        }
        (
            Told::Txn {
                revision,
                succeeded,
                before,
                after,
            },
            Ask::Txn(txn),
        ) => check_txn(txn, *revision, *succeeded, (before, after), history),
        (
            Told::Read {
                revision,
                kvs,
                count,
                more,
            },
            Ask::Read(read),
        ) => check_read(read, *revision, (kvs, *count, *more), history),
        // What else they do, the checks of leases and compactions ask.
        (Told::Done { .. }, Ask::Compact { .. } | Ask::Grant { .. } | Ask::Revoke { .. })
        | (Told::Renewed { .. }, Ask::Renew { .. }) => Ok(()),
        _ => Err("an answer to another question".into()),
    }
}

fn held(condition: bool, otherwise: &str) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err(otherwise.to_string())
    }
}

fn check_delete(keys: &Keys, revision: i64, count: i64, history: &History) -> Result<(), String> {
    if count == 0 {
        let missed = history.at(keys, revision);
        return held(
            missed.is_empty(),
            &format!("a delete that missed {missed:?}"),
        );
    }
    let before = history.at(keys, revision - 1);
    let changes = history.changes(revision);
    let whole = before.len() as i64 == count
        && changes.len() as i64 == count
        && history.at(keys, revision).is_empty();
    held(
        whole,
        &format!("a delete that should have taken {before:?}, and took {changes:?}"),
    )
}

fn check_txn(
    txn: &Txn,
    revision: i64,
    succeeded: bool,
    (before, after): (&[KeyValue], &[KeyValue]),
    history: &History,
) -> Result<(), String> {
    let changed = succeeded && !txn.puts.is_empty();
    let earlier = if changed { revision - 1 } else { revision };
    let matches = |(key, at): &(String, i64)| history.changed_at(key, earlier) == *at;
    held(
        txn.guards.iter().all(matches) == succeeded,
        "a txn whose comparison went wrong",
    )?;
    let expected = history.at(&txn.reads, earlier);
    held(
        before == expected,
        &format!("a txn that should have seen {expected:?}"),
    )?;
    if !succeeded {
        return held(after.is_empty(), "a txn that took both branches");
    }
    let expected = history.at(&txn.reads, revision);
    held(
        after == expected,
        &format!("a txn that should have seen {expected:?} after its writes"),
    )?;
    let puts = txn.puts.iter().all(|key| {
        let kept = history.at(&Keys::one(key), revision);
        kept.iter()
            .any(|kv| kv.mod_revision == revision && text(&kv.value) == txn.value)
    });
    let delete = txn
        .delete
        .as_deref()
        .filter(|key| history.changed_at(key, earlier) > 0);
    let deleted = delete.is_none_or(|key| history.changed_at(key, revision) == 0);
    let alone = history.changes(revision).len() == txn.puts.len() + usize::from(delete.is_some());
    held(
        !changed || puts && deleted && alone,
        "an acknowledged txn that is not there, or not whole",
    )
}

fn check_read(
    read: &Read,
    revision: i64,
    (kvs, count, more): (&[KeyValue], i64, bool),
    history: &History,
) -> Result<(), String> {
    let at = if read.revision == 0 {
        revision
    } else {
        read.revision
    };
    held(at <= revision, "a read of the future")?;
    let mut expected = history.at(&read.keys, at);
    let whole = expected.len();
    if read.limit > 0 {
        expected.truncate(read.limit as usize);
    }
    let right = kvs == expected && count == whole as i64 && more == (expected.len() < whole);
    held(
        right,
        &format!("a read that should have seen {expected:?}, {whole} in all"),
    )
}

fn check_refusal(
    ask: &Ask,
    why: Refusal,
    revision: i64,
    before: &[&Committed],
    seen: &[&Committed],
) -> Result<(), String> {
    let compacted = seen
        .iter()
        .filter_map(|entry| match entry.meaning {
            Meaning::Compact(at) => Some(at),
            _ => None,
        })
        .max()
        .unwrap_or(-1);
    let ended = |lease: i64| {
        seen.iter().any(|entry| match &entry.meaning {
            Meaning::Revoke(id) => *id == lease,
            Meaning::Expire(ids) => ids.contains(&lease),
            _ => false,
        })
    };
    // A grant whose outcome nobody was told may take effect at any time.
    let granted = |lease: i64| {
        before
            .iter()
            .any(|entry| matches!(entry.meaning, Meaning::Grant(id, _) if id == lease))
    };
    let may_be = match (ask, why) {
        (Ask::Read(read), Refusal::Compacted) => read.revision > 0 && read.revision < compacted,
        (Ask::Compact { revision }, Refusal::Compacted) => *revision <= compacted,
        (
            Ask::Read(Read { revision: at, .. }) | Ask::Compact { revision: at },
            Refusal::FutureRevision,
        ) => *at > revision,
        (Ask::Put { lease, .. } | Ask::Revoke { lease }, Refusal::LeaseNotFound) => {
            !granted(*lease) || ended(*lease)
        }
        _ => false,
    };
    held(may_be, "a refusal without reason")
}

/// What began after something had ended saw at least as much.
fn check_times(operations: &[Operation]) -> Result<(), String> {
    let mut starts: Vec<(&Operation, i64, bool)> = operations
        .iter()
        .filter(|operation| operation.is_linearizable())
        .filter_map(|operation| {
            let (revision, own) = operation.revision()?;
            Some((operation, revision, own))
        })
        .collect();
    let mut ends = starts.clone();
    starts.sort_by_key(|(operation, ..)| operation.start);
    ends.sort_by_key(|(operation, ..)| operation.end);
    let mut ended = ends.into_iter().peekable();
    let mut newest: Option<(i64, &Operation)> = None;
    for (operation, revision, own) in starts {
        while let Some((earlier, revision, _)) =
            ended.next_if(|(earlier, ..)| earlier.end < operation.start)
        {
            if newest.is_none_or(|(newest, _)| revision > newest) {
                newest = Some((revision, earlier));
            }
        }
        if let Some((seen, earlier)) = newest
            && (revision < seen || own && revision == seen)
        {
            return Err(format!(
                "{operation:?} began after {earlier:?} had ended, and was told an earlier revision"
            ));
        }
    }
    Ok(())
}

/// Who asks for what was compacted before gets nothing.
fn check_compactions(operations: &[Operation]) -> Result<(), String> {
    let done: Vec<(&Operation, i64)> = operations
        .iter()
        .filter_map(|operation| match (&operation.ask, &operation.told) {
            (Ask::Compact { revision }, Told::Done { .. }) => Some((operation, *revision)),
            _ => None,
        })
        .collect();
    for operation in operations
        .iter()
        .filter(|operation| operation.is_linearizable())
    {
        let (Ask::Read(read), Told::Read { .. }) = (&operation.ask, &operation.told) else {
            continue;
        };
        let before = done.iter().find(|(compaction, at)| {
            compaction.end < operation.start && read.revision > 0 && read.revision < *at
        });
        if let Some((compaction, _)) = before {
            return Err(format!(
                "{operation:?} read what {compaction:?} had compacted away"
            ));
        }
    }
    Ok(())
}
