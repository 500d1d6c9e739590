//! A list that was read page by page at one revision is the whole list at that revision: what kube-apiserver builds on.

use super::{Case, Checker, Findings, Violation, words};
use crate::history::{Deed, Settled};

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let mut lists = Vec::new();
    for act in &case.history.acts {
        if let (Deed::Pages { revision, .. }, Settled::Done) = (&act.deed, act.settled) {
            lists.push((*revision, act));
        }
    }
    let count = lists.len();
    case.truth.visit(lists, |state, revision, act| {
        let Deed::Pages {
            key,
            range_end,
            kvs,
            ..
        } = &act.deed
        else {
            return;
        };
        let mut should = state.range(key, range_end);
        let mut is = kvs.iter();
        let difference = loop {
            break match (should.next(), is.next()) {
                (None, None) => return,
                (Some(should), Some(is)) if should == is => continue,
                (Some(should), Some(is)) if should.key == is.key => {
                    format!("has {} where it was {}", words::kv(is), words::kv(should))
                }
                (Some(should), Some(is)) if should.key < is.key => {
                    format!("leaves out {}", words::kv(should))
                }
                (Some(should), None) => format!("leaves out {}", words::kv(should)),
                (_, Some(is)) => format!(
                    "has {}, which is not there or was listed before",
                    words::kv(is)
                ),
            };
        };
        findings.add(Violation {
            checker: Checker::Pages,
            sentence: format!(
                "The list of {} at revision {} that client {} read in {} pages {difference}.",
                words::keys(key, range_end),
                revision.0,
                act.client.0,
                act.operations.len(),
            ),
            operations: act.operations.clone(),
            watches: Vec::new(),
            at: act.end,
        });
    });
    findings.judged(Checker::Pages, format!("{count} lists in pages"));
}
