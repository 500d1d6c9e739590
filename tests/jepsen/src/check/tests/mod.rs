//! Each checker passes what a correct store answers, and finds every kind of lie that it is for.

mod build;
mod ending;
mod lease;
mod lists;
mod random;
mod realtime;
mod register;
mod replay;
mod sums;
mod watch;

use build::Build;

use super::{Checker, Violation, judge};
use crate::history::History;

fn assert_valid(history: &History) {
    let verdict = judge(history);
    assert!(verdict.is_valid(), "{verdict:#?}");
}

/// Asserts that a checker finds something whose sentence has `part` in it.
#[track_caller]
fn assert_caught(history: &History, checker: Checker, part: &str) -> Violation {
    let verdict = judge(history);
    let found = verdict
        .violations
        .iter()
        .find(|violation| violation.checker == checker && violation.sentence.contains(part));
    found
        .cloned()
        .unwrap_or_else(|| panic!("{checker} did not say “{part}”: {:#?}", verdict.violations))
}
