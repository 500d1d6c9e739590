//! Revisions follow real time.
//!
//! What etcd promises, and so what is judged:
//! - A write that began after someone had been told revision r makes a later one; a linearizable read that began then is
//!   told r or later. "Someone" is anyone: another client, a serializable read, a watcher. The same rule read backwards
//!   says that nobody is told of a revision whose write was not yet asked for: nothing comes from the future.
//! - A serializable read may be old, but on one connection, which is one life of one member, it never goes back: neither
//!   behind another read, nor behind a write that this member acknowledged. No document of etcd's says the latter, but an
//!   etcd answers a write when it has applied it itself, so that its clients read what they wrote.
//! - A linearizable read of a revision that someone had been told before it began is not refused as of the future.

use std::collections::HashMap;

use super::{Case, Checker, Findings, Violation, words};
use crate::history::{Call, ConnectionId, Micros, Operation, OperationId, Revision, StreamId};

/// Someone was told that a revision exists.
#[derive(Clone, Copy)]
struct Told {
    at: Micros,
    revision: Revision,
    by: By,
}

#[derive(Clone, Copy)]
enum By {
    Operation(OperationId),
    Watch(StreamId),
}

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let told = told(case);
    let mut judged = 0;
    for operation in &case.history.operations {
        let writes = operation
            .wrote()
            .or_else(|| case.causes.settled(operation.id));
        let Some(before) = latest(&told, operation.start) else {
            continue;
        };
        if let Some(revision) = writes {
            judged += 1;
            if revision <= before.revision {
                out_of_order(case, operation, revision, before, true, findings);
            }
            continue;
        }
        if future(operation, before) {
            refused_as_future(case, operation, before, findings);
        }
        let Some((header, _)) = operation.done() else {
            continue;
        };
        if let Call::Range(range) = &operation.call
            && range.revision > header.revision
        {
            let sentence = format!(
                "{} was answered of revision {}, which its own header ({}) says is yet to come.",
                words::capital(&words::operation(operation)),
                range.revision.0,
                header.revision.0
            );
            findings.by(Checker::RealTime, &[operation], sentence);
        }
        let reads = matches!(
            operation.call,
            Call::Range(_) | Call::Delete(_) | Call::Txn(_)
        );
        if reads && !operation.is_serializable() {
            judged += 1;
            if header.revision < before.revision {
                out_of_order(case, operation, header.revision, before, false, findings);
            }
        }
    }
    let connections = backwards(case, findings);
    findings.judged(
        Checker::RealTime,
        format!("{judged} operations against real time, {connections} connections"),
    );
}

/// Everything that anyone was told, by time, each with the latest revision told until then.
fn told(case: &Case<'_>) -> Vec<Told> {
    let operations = case.history.operations.iter().filter_map(|operation| {
        let (header, _) = operation.done()?;
        Some(Told {
            at: operation.end,
            revision: header.revision,
            by: By::Operation(operation.id),
        })
    });
    let watches = case.history.watches.iter().flat_map(|stream| {
        stream.responses.iter().map(|response| {
            let events = response.events.iter().map(|event| event.kv.mod_revision);
            Told {
                at: response.at,
                revision: events.max().unwrap_or(response.revision),
                by: By::Watch(stream.id),
            }
        })
    });
    let mut told: Vec<Told> = operations.chain(watches).collect();
    told.sort_by_key(|told| told.at);
    let mut latest: Option<Told> = None;
    for told in &mut told {
        match latest {
            Some(latest) if latest.revision >= told.revision => {
                told.revision = latest.revision;
                told.by = latest.by;
            }
            _ => latest = Some(*told),
        }
    }
    told
}

/// The latest revision that anyone had been told before a time.
fn latest(told: &[Told], before: Micros) -> Option<Told> {
    let known = told.partition_point(|told| told.at < before);
    told.get(known.checked_sub(1)?).copied()
}

fn out_of_order(
    case: &Case<'_>,
    operation: &Operation,
    revision: Revision,
    before: Told,
    wrote: bool,
    findings: &mut Findings,
) {
    let (mut operations, watches, who) = who(case, before);
    let sentence = format!(
        "{} {} revision {}, but before it began {who} had been told revision {}{}.",
        words::capital(&words::operation(operation)),
        if wrote { "made" } else { "read" },
        revision.0,
        before.revision.0,
        if wrote { "" } else { ": the read is stale" },
    );
    operations.insert(0, operation.id);
    // What the read missed, where it is known.
    operations.extend(
        case.writer(before.revision)
            .map(|writer| writer.id)
            .filter(|id| !operations.contains(id)),
    );
    findings.add(Violation {
        checker: Checker::RealTime,
        sentence,
        operations,
        watches,
        at: operation.end,
    });
}

fn who(case: &Case<'_>, told: Told) -> (Vec<OperationId>, Vec<StreamId>, String) {
    match told.by {
        By::Operation(id) => {
            let who = case.operations.get(&id).map_or_else(
                || format!("operation {}", id.0),
                |operation| words::operation(operation),
            );
            (vec![id], Vec::new(), who)
        }
        By::Watch(id) => {
            let stream = case.history.watches.iter().find(|stream| stream.id == id);
            let who = stream.map_or_else(
                || format!("watch {}", id.0),
                |stream| format!("the watcher {} on m{}", stream.watcher, stream.member.0),
            );
            (Vec::new(), vec![id], who)
        }
    }
}

/// Whether a linearizable read was refused as of the future, though its revision was known before it began.
fn future(operation: &Operation, before: Told) -> bool {
    let refused = operation
        .refused()
        .is_some_and(|error| error.contains("is a future revision"));
    let Call::Range(range) = &operation.call else {
        return false;
    };
    refused && !range.serializable && range.revision <= before.revision
}

fn refused_as_future(
    case: &Case<'_>,
    operation: &Operation,
    before: Told,
    findings: &mut Findings,
) {
    let (mut operations, watches, who) = who(case, before);
    operations.insert(0, operation.id);
    findings.add(Violation {
        checker: Checker::RealTime,
        sentence: format!(
            "{} was refused as of the future, but before it began {who} had been told revision {}.",
            words::capital(&words::operation(operation)),
            before.revision.0
        ),
        operations,
        watches,
        at: operation.end,
    });
}

/// On one connection no read is told an earlier revision than one that had ended before it began.
fn backwards(case: &Case<'_>, findings: &mut Findings) -> usize {
    let mut connections: HashMap<ConnectionId, Vec<(&Operation, Revision)>> = HashMap::new();
    for operation in &case.history.operations {
        let reads_or_writes = matches!(
            operation.call,
            Call::Range(_) | Call::Put(_) | Call::Delete(_) | Call::Txn(_)
        );
        if let Some((header, _)) = operation.done().filter(|_| reads_or_writes) {
            let own = connections.entry(operation.connection).or_default();
            own.push((operation, header.revision));
        }
    }
    let count = connections.len();
    let mut connections: Vec<_> = connections.into_iter().collect();
    connections.sort_by_key(|(connection, _)| *connection);
    for (_, operations) in connections {
        let mut ended = operations.clone();
        ended.sort_by_key(|(operation, _)| operation.end);
        // The highest revision told by each end, so that one search finds what is contradicted.
        let mut highest: Vec<(Micros, &Operation, Revision)> = Vec::with_capacity(ended.len());
        for (operation, revision) in ended {
            match highest.last().copied() {
                Some((_, other, most)) if most >= revision => {
                    highest.push((operation.end, other, most));
                }
                _ => highest.push((operation.end, operation, revision)),
            }
        }
        for (operation, revision) in operations {
            if !operation.is_serializable() {
                continue;
            }
            let known = highest.partition_point(|(end, _, _)| *end < operation.start);
            let Some((_, other, most)) = known.checked_sub(1).and_then(|at| highest.get(at)) else {
                continue;
            };
            if revision < *most {
                let sentence = format!(
                    "{} read revision {}, but {} on the same connection had been told {} before: the member {}.",
                    words::capital(&words::operation(operation)),
                    revision.0,
                    words::operation(other),
                    most.0,
                    if other.call.may_write() {
                        "answered a write that it had not applied itself"
                    } else {
                        "went back"
                    }
                );
                findings.by(Checker::RealTime, &[operation, other], sentence);
            }
        }
    }
    count
}
