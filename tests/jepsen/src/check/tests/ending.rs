use super::build::put;
use super::{Build, Checker, assert_caught, assert_valid};
use crate::history::{History, Revision};

fn ended() -> History {
    let mut build = Build::new();
    build.call(1, put("a", "1"));
    build.call(1, put("b", "2"));
    build.finish()
}

#[test]
fn members_that_hold_the_same_are_valid() {
    assert_valid(&ended());
}

#[test]
fn members_that_differ_are_found() {
    let mut history = ended();
    history.endings[1].kvs[0].value = "other".into();
    assert_caught(&history, Checker::Ending, "At the end m1 has a = “1”");
    let mut history = ended();
    history.endings[1].kvs.pop();
    assert_caught(&history, Checker::Ending, "m2 has nothing there");
}

#[test]
fn hashes_that_differ_are_found_unless_they_are_of_different_compactions() {
    let mut history = ended();
    history.endings[1].hash.hash = 8;
    assert_caught(&history, Checker::Ending, "HashKV at revision 3");
    history.endings[1].hash.compact_revision = Revision(2);
    assert_valid(&history);
}

#[test]
fn members_that_agree_on_something_else_than_was_written_are_found() {
    let mut history = ended();
    for ending in &mut history.endings {
        ending.kvs[0].version = 9;
    }
    assert_caught(
        &history,
        Checker::Ending,
        "where all that was written makes",
    );
}

#[test]
fn a_member_that_ended_elsewhere_is_found() {
    let mut history = ended();
    history.endings[1].revision = Revision(9);
    assert_caught(&history, Checker::Ending, "m2 at 9");
}

#[test]
fn a_cluster_that_could_not_be_asked_is_not_called_valid() {
    let mut history = ended();
    history.endings.clear();
    let verdict = super::judge(&history);
    assert!(verdict.violations.is_empty() && !verdict.is_valid());
}
