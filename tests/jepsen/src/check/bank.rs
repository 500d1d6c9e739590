//! Money is neither made nor lost: every read of all accounts sums up to the same.

use super::{Case, Checker, Findings, Violation, words};
use crate::history::{Deed, Settled};

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let mut reads = 0;
    for act in &case.history.acts {
        let (Deed::BankRead { balances, expected }, Settled::Done) = (&act.deed, act.settled)
        else {
            continue;
        };
        reads += 1;
        let sum: i64 = balances.values().sum();
        if sum == *expected {
            continue;
        }
        let mut operations = act.operations.clone();
        let mut sentence = format!(
            "At {} client {} read balances that sum up to {sum} instead of {expected}",
            words::time(act.start),
            act.client.0,
        );
        // The write at the revision of the read is the transfer that was most likely seen half.
        let read = act
            .operations
            .first()
            .and_then(|id| case.operations.get(id));
        let writer = read
            .and_then(|read| read.done())
            .and_then(|(header, _)| case.writer(header.revision));
        if let Some(writer) = writer {
            sentence += &format!(
                "; the latest write that it can have seen is {}",
                words::operation(writer)
            );
            operations.push(writer.id);
        }
        findings.add(Violation {
            checker: Checker::Bank,
            sentence: sentence + ".",
            operations,
            watches: Vec::new(),
            at: act.end,
        });
    }
    findings.judged(Checker::Bank, format!("{reads} sums"));
}
