//! What is refused as compacted, and what is answered though it was.

use super::super::{Checker, Findings, words};
use crate::history::{Call, History, Operation, Revision};

/// A read that was refused because its revision is compacted needs a compaction that was asked for by then; and one that
/// began after a compaction had been acknowledged must not be answered from below it, unless it may be old.
pub fn check(history: &History, findings: &mut Findings) {
    let compactions: Vec<(&Operation, Revision)> = history
        .operations
        .iter()
        .filter_map(|operation| match &operation.call {
            Call::Compact(compact) if operation.refused().is_none() => {
                Some((operation, compact.revision))
            }
            _ => None,
        })
        .collect();
    for operation in &history.operations {
        let Call::Range(range) = &operation.call else {
            continue;
        };
        if range.revision.0 <= 0 {
            continue;
        }
        if operation
            .refused()
            .is_some_and(|error| error.contains("has been compacted"))
        {
            let justified = compactions.iter().any(|(compaction, revision)| {
                *revision > range.revision && compaction.start <= operation.end
            });
            if !justified {
                let sentence = format!(
                    "{} was refused as compacted, and nobody had compacted above its revision.",
                    words::capital(&words::operation(operation))
                );
                findings.by(Checker::Replay, &[operation], sentence);
            }
        }
        if operation.done().is_none() || range.serializable {
            continue;
        }
        let above = compactions.iter().find(|(compaction, revision)| {
            compaction.done().is_some()
                && *revision > range.revision
                && compaction.end < operation.start
        });
        if let Some((compaction, _)) = above {
            let sentence = format!(
                "{} was answered, though {} had been acknowledged before.",
                words::capital(&words::operation(operation)),
                words::operation(compaction)
            );
            findings.by(Checker::Replay, &[operation, compaction], sentence);
        }
    }
}
