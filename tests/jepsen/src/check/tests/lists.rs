use super::build::{get, put};
use super::{Build, Checker, assert_caught, assert_valid};
use crate::history::{Deed, ListStep, Micros, Settled, Workload};

fn r(key: &str, list: &[u64]) -> ListStep {
    ListStep::Read {
        key: key.to_owned(),
        list: list.to_vec(),
    }
}

fn a(key: &str, element: u64) -> ListStep {
    ListStep::Append {
        key: key.to_owned(),
        element,
    }
}

/// Transactions with their starts, ends and fates.
fn history(acts: &[(u64, u64, Settled, Vec<ListStep>)]) -> crate::history::History {
    let mut build = Build::new();
    build.workload = Workload::Append;
    for (client, (start, end, settled, steps)) in acts.iter().enumerate() {
        let call = if client == 0 { put("k", "v") } else { get("k") };
        let id = build.call(client as u32, call);
        build.act(&[id], Deed::Lists(steps.clone()), *settled);
        let act = build.history.acts.last_mut().unwrap();
        (act.start, act.end) = (Micros(*start), Micros(*end));
    }
    build.finish()
}

use Settled::{Done, Not, Unknown};

#[test]
fn transactions_one_after_another_are_valid() {
    assert_valid(&history(&[
        (0, 10, Done, vec![r("x", &[]), a("x", 1), a("y", 1)]),
        (
            20,
            30,
            Done,
            vec![r("x", &[1]), a("x", 2), a("x", 3), r("x", &[1, 2, 3])],
        ),
        (40, 50, Unknown, vec![a("x", 4)]),
        (40, 50, Unknown, vec![a("x", 5)]),
        (45, 60, Not, vec![a("x", 6)]),
        (60, 70, Done, vec![r("x", &[1, 2, 3, 4]), r("y", &[1])]),
        (80, 90, Done, vec![a("y", 2)]),
    ]));
}

#[test]
fn concurrent_transactions_may_be_ordered_either_way() {
    assert_valid(&history(&[
        (0, 100, Done, vec![a("x", 1)]),
        (0, 100, Done, vec![a("x", 2), r("y", &[])]),
        (0, 100, Done, vec![r("x", &[2, 1])]),
        (0, 100, Done, vec![r("x", &[2]), a("y", 1)]),
    ]));
}

#[test]
fn reads_of_two_orders_are_found() {
    let history = history(&[
        (0, 10, Done, vec![a("x", 1)]),
        (0, 10, Done, vec![a("x", 2)]),
        (20, 30, Done, vec![r("x", &[1, 2])]),
        (20, 30, Done, vec![r("x", &[2])]),
    ]);
    assert_caught(&history, Checker::Lists, "neither is the beginning");
}

#[test]
fn a_lost_append_is_found() {
    let history = history(&[
        (0, 10, Done, vec![a("x", 1)]),
        (20, 30, Done, vec![a("x", 2)]),
        (40, 50, Done, vec![r("x", &[1])]),
    ]);
    let violation = assert_caught(&history, Checker::Lists, "in a circle");
    assert_eq!(violation.operations.len(), 2);
}

#[test]
fn a_stale_read_is_found() {
    let history = history(&[
        (0, 10, Done, vec![a("x", 1)]),
        (20, 30, Done, vec![r("x", &[])]),
        (40, 50, Done, vec![r("x", &[1])]),
    ]);
    assert_caught(&history, Checker::Lists, "ended before");
}

#[test]
fn write_skew_is_found() {
    // Each read the other's list before the other appended; together they are in no order.
    let history = history(&[
        (0, 100, Done, vec![r("x", &[]), a("y", 1)]),
        (0, 100, Done, vec![r("y", &[]), a("x", 1)]),
        (200, 210, Done, vec![r("x", &[1]), r("y", &[1])]),
    ]);
    let violation = assert_caught(&history, Checker::Lists, "without what");
    assert_eq!(violation.operations.len(), 2);
}

#[test]
fn a_transaction_that_is_seen_half_is_found() {
    let history = history(&[
        (0, 100, Done, vec![a("x", 1), a("y", 1)]),
        (0, 100, Done, vec![r("x", &[1]), r("y", &[])]),
        (200, 210, Done, vec![r("y", &[1])]),
    ]);
    assert_caught(
        &history,
        Checker::Lists,
        "2 transactions each come before the next",
    );
}

#[test]
fn two_appends_of_one_transaction_that_are_seen_half_are_found() {
    let history = history(&[
        (0, 100, Done, vec![a("x", 1), a("x", 2)]),
        (0, 100, Done, vec![r("x", &[1])]),
        (200, 210, Done, vec![r("x", &[1, 2])]),
    ]);
    assert_caught(&history, Checker::Lists, "in a circle");
}

#[test]
fn what_did_not_happen_and_what_nobody_did_is_found() {
    let refused = history(&[
        (0, 10, Not, vec![a("x", 1)]),
        (20, 30, Done, vec![r("x", &[1])]),
    ]);
    assert_caught(&refused, Checker::Lists, "did not happen");
    let nobody = history(&[(20, 30, Done, vec![r("x", &[7])])]);
    assert_caught(&nobody, Checker::Lists, "which nobody appended");
}

#[test]
fn an_append_that_was_done_twice_is_found() {
    let history = history(&[
        (0, 10, Done, vec![a("x", 1)]),
        (20, 30, Done, vec![r("x", &[1, 1])]),
    ]);
    assert_caught(&history, Checker::Lists, "twice");
}

#[test]
fn a_transaction_that_does_not_see_its_own_append_is_found() {
    let history = history(&[
        (0, 10, Done, vec![a("x", 1), r("x", &[])]),
        (20, 30, Done, vec![r("x", &[1])]),
    ]);
    assert_caught(&history, Checker::Lists, "does not follow");
}
