//! The bank, the set, and lists in pages.

use std::collections::BTreeMap;

use super::build::{all, get, peek, put};
use super::{Build, Checker, assert_caught, assert_valid};
use crate::history::{Call, Data, Deed, Kv, Micros, Reply, Settled, Workload};

#[test]
fn a_sum_that_changed_is_found() {
    for (balance, valid) in [(60, true), (50, false)] {
        let mut build = Build::new();
        build.workload = Workload::Bank;
        build.call(1, put("a", "40"));
        let id = build.call(1, get("a"));
        let balances = BTreeMap::from([("a".to_owned(), 40), ("b".to_owned(), balance)]);
        let expected = 100;
        build.act(&[id], Deed::BankRead { balances, expected }, Settled::Done);
        if valid {
            assert_valid(&build.finish());
        } else {
            let violation = assert_caught(&build.finish(), Checker::Bank, "90 instead of 100");
            assert_eq!(violation.operations.len(), 2);
        }
    }
}

fn set(acts: &[(Deed, Settled)]) -> crate::history::History {
    let mut build = Build::new();
    build.workload = Workload::Set;
    for (deed, settled) in acts {
        let id = match deed {
            Deed::SetAdd(element) => build.call(1, put(&element.to_string(), "")),
            _ => build.call(1, get("set")),
        };
        build.act(&[id], deed.clone(), *settled);
    }
    build.finish()
}

fn read(elements: &[u64], last: bool) -> (Deed, Settled) {
    let elements = elements.to_vec();
    (Deed::SetRead { elements, last }, Settled::Done)
}

#[test]
fn a_set_that_keeps_what_was_acknowledged_is_valid() {
    assert_valid(&set(&[
        (Deed::SetAdd(1), Settled::Done),
        read(&[1], false),
        (Deed::SetAdd(2), Settled::Unknown),
        (Deed::SetAdd(3), Settled::Unknown),
        (Deed::SetAdd(4), Settled::Not),
        read(&[1, 2], true),
    ]));
}

#[test]
fn what_a_set_loses_or_makes_up_is_found() {
    let add = (Deed::SetAdd(1), Settled::Done);
    let cases = [
        (vec![add.clone(), read(&[], true)], "it is lost"),
        (
            vec![add.clone(), read(&[], false), read(&[1], true)],
            "it is lost",
        ),
        (vec![add.clone(), read(&[1, 2], true)], "which nobody added"),
        (vec![add.clone(), read(&[1, 1], true)], "twice"),
        (
            vec![(Deed::SetAdd(1), Settled::Not), read(&[1], true)],
            "whose adding was refused",
        ),
        (
            vec![read(&[1], false), add.clone(), read(&[1], true)],
            "added only later",
        ),
    ];
    for (acts, part) in cases {
        assert_caught(&set(&acts), Checker::Set, part);
    }
}

#[test]
fn a_serializable_read_of_the_set_may_be_old() {
    let mut build = Build::new();
    build.workload = Workload::Set;
    let add = build.call(1, put("1", ""));
    build.act(&[add], Deed::SetAdd(1), Settled::Done);
    let old = build.call(2, peek("set"));
    build.act(&[old], read(&[], false).0, Settled::Done);
    let last = build.call(2, get("set"));
    build.act(&[last], read(&[1], true).0, Settled::Done);
    assert_valid(&build.finish());
}

#[test]
fn a_set_that_was_not_read_in_the_end_is_inconclusive() {
    let verdict = super::judge(&set(&[(Deed::SetAdd(1), Settled::Done)]));
    assert!(verdict.violations.is_empty() && !verdict.is_valid());
}

/// A list in pages, changed by `lie`.
fn pages(lie: impl FnOnce(&mut Vec<Kv>)) -> crate::history::History {
    let mut build = Build::new();
    build.workload = Workload::Kubernetes;
    for key in ["p/1", "p/2", "p/3"] {
        build.call(1, put(key, key));
    }
    let id = build.call(2, Call::Range(all()));
    let Some((header, Reply::Range { kvs, .. })) = build.operation(id).done() else {
        panic!()
    };
    let (revision, mut kvs) = (header.revision, kvs.clone());
    lie(&mut kvs);
    build.call(1, put("p/2", "changed"));
    let deed = Deed::Pages {
        key: "p/".into(),
        range_end: Data::from("p0"),
        revision,
        kvs,
    };
    build.act(&[id], deed, Settled::Done);
    build.finish()
}

#[test]
fn a_list_in_pages_is_the_state_at_its_revision() {
    assert_valid(&pages(|_| {}));
}

#[test]
fn a_list_in_pages_that_is_not_whole_or_not_of_one_revision_is_found() {
    type Lie = fn(&mut Vec<Kv>);
    let cases: [(Lie, &str); 4] = [
        (|kvs| drop(kvs.remove(1)), "leaves out p/2"),
        (|kvs| drop(kvs.pop()), "leaves out p/3"),
        (
            |kvs| {
                let again = kvs[1].clone();
                kvs.insert(2, again);
            },
            "was listed before",
        ),
        (|kvs| kvs[1].value = "changed".into(), "has p/2 = “changed”"),
    ];
    for (lie, part) in cases {
        assert_caught(&pages(lie), Checker::Pages, part);
    }
}

#[test]
fn an_act_of_unknown_operations_is_inconclusive() {
    let mut history = set(&[(Deed::SetAdd(1), Settled::Done), read(&[1], true)]);
    history.acts[0].operations.clear();
    history.acts[0].end = Micros(0);
    assert!(!super::judge(&history).inconclusive.is_empty());
}
