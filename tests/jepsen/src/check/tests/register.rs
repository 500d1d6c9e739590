use super::build::{delete, get, is, put, step, swap, txn};
use super::{Build, Checker, assert_caught, assert_valid};
use crate::history::{Micros, OperationId, Reply, Revision, Target};

#[test]
fn reads_writes_swaps_and_deletes_in_turn_are_linearizable() {
    let mut build = Build::new();
    build.call(1, get("r"));
    build.call(1, put("r", "1"));
    build.call(2, get("r"));
    build.call(2, swap("r", "1", "2"));
    build.call(3, swap("r", "1", "3"));
    build.call(1, delete("r"));
    build.call(1, delete("r"));
    build.call(
        2,
        txn(
            vec![is("r", Target::Create(Revision(0)))],
            vec![step(put("r", "4"))],
            vec![],
        ),
    );
    build.call(3, get("r"));
    build.unanswered(1, put("r", "5"));
    build.vanished(1, put("r", "6"));
    build.call(3, get("r"));
    assert_valid(&build.finish());
}

/// Makes a read tell a value as if its header's revision agreed: only the search can see through that.
fn tell(build: &mut Build, id: OperationId, value: &str) {
    build.lie(id, |_, reply| {
        let Reply::Range { kvs, .. } = reply else {
            panic!()
        };
        kvs[0].value = value.into();
    });
}

#[test]
fn a_stale_read_is_found_without_revisions() {
    let mut build = Build::new();
    build.call(1, put("r", "1"));
    build.call(1, put("r", "2"));
    let id = build.call(2, get("r"));
    tell(&mut build, id, "1");
    let violation = assert_caught(
        &build.finish(),
        Checker::Register,
        "no order of the operations",
    );
    assert_eq!(violation.operations[0], id);
}

#[test]
fn reads_that_go_back_and_forth_are_found() {
    // While one write is under way, one reader has seen it, and a later one has not.
    let mut build = Build::new();
    build.call(1, put("r", "1"));
    let write = build.call(1, put("r", "2"));
    build.call(2, get("r"));
    let back = build.call(3, get("r"));
    let end = build.now;
    build.operation(write).end = end;
    let so_far = build.history_so_far();
    assert!(
        !super::judge(&so_far)
            .violations
            .iter()
            .any(|v| v.checker == Checker::Register)
    );
    tell(&mut build, back, "1");
    assert_caught(&build.finish(), Checker::Register, "no order");
}

#[test]
fn a_read_during_a_write_may_see_either() {
    for value in ["1", "2"] {
        let mut build = Build::new();
        build.call(1, put("r", "1"));
        let write = build.call(1, put("r", "2"));
        let read = build.call(2, get("r"));
        let end = build.now;
        build.operation(write).end = end;
        tell(&mut build, read, value);
        let verdict = super::judge(&build.finish());
        assert!(
            !verdict
                .violations
                .iter()
                .any(|v| v.checker == Checker::Register),
            "{verdict:#?}"
        );
    }
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    let mut build = Build::new();
    build.call(1, put("r", "1"));
    let id = build.call(2, get("r"));
    tell(&mut build, id, "made up");
    assert_caught(&build.finish(), Checker::Register, "no order");
}

#[test]
fn two_swaps_from_one_value_that_both_succeed_are_found() {
    let mut build = Build::new();
    build.call(1, put("r", "1"));
    build.call(2, swap("r", "1", "2"));
    let second = build.call(3, swap("r", "1", "3"));
    build.lie(second, |_, reply| {
        *reply = Reply::Txn {
            succeeded: true,
            responses: vec![Reply::Put { prev_kv: None }],
        };
    });
    assert_caught(&build.finish(), Checker::Register, "no order");
}

#[test]
fn a_swap_that_compares_a_revision_is_searched_by_the_value_of_that_revision() {
    let swap = |revision| {
        txn(
            vec![is("r", Target::Mod(Revision(revision)))],
            vec![step(put("r", "2"))],
            vec![step(get("r"))],
        )
    };
    let mut build = Build::new();
    build.call(1, put("r", "1"));
    build.call(2, get("r"));
    build.call(1, put("r", "9"));
    build.call(2, get("r"));
    let id = build.call(2, swap(2));
    assert_valid(&build.history_so_far());
    build.lie(id, |_, reply| {
        *reply = Reply::Txn {
            succeeded: true,
            responses: vec![Reply::Put { prev_kv: None }],
        };
    });
    let violation = assert_caught(&build.finish(), Checker::Register, "no order");
    assert_eq!(violation.operations[0], id);
}

#[test]
fn an_unknown_write_may_take_effect_late_but_not_before_it_was_asked_for() {
    let mut build = Build::new();
    build.call(1, put("r", "1"));
    let write = build.unanswered(1, put("r", "2"));
    let read = build.call(2, get("r"));
    tell(&mut build, read, "2");
    build.call(2, get("r"));
    assert_valid(&build.history_so_far());
    build.operation(write).start = Micros(build.now.0 + 100);
    build.operation(write).end = Micros(build.now.0 + 200);
    assert_caught(&build.finish(), Checker::Register, "no order");
}

#[test]
fn an_unknown_write_takes_effect_once() {
    // 2 is seen, overwritten, and seen again.
    let mut build = Build::new();
    build.unanswered(1, put("r", "2"));
    build.call(2, get("r"));
    build.call(1, put("r", "3"));
    build.call(2, get("r"));
    let again = build.call(2, get("r"));
    tell(&mut build, again, "2");
    assert_caught(&build.finish(), Checker::Register, "no order");
}

#[test]
fn many_unknown_writes_do_not_drown_the_search() {
    let mut build = Build::new();
    for round in 0..200 {
        build.unanswered(1, put("r", &format!("seen {round}")));
        build.vanished(2, put("r", &format!("not seen {round}")));
        build.call(3, get("r"));
        build.call(4, put("r", &format!("told {round}")));
    }
    assert_valid(&build.finish());
}
