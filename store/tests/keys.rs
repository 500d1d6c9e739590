//! Puts, deletes and ranges, rule by rule.

mod common;

use common::*;

#[test]
fn an_empty_store_is_at_revision_1_and_the_first_put_makes_2() {
    let mut f = fixture();
    assert_eq!(f.revision(), 1);
    f.run(put("a", "1")).unwrap();
    assert_eq!(f.revision(), 2);
    let kv = f.now().get(b"a").unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 2, 1));
}

#[test]
fn a_put_of_the_same_value_makes_a_revision_and_keeps_the_creation() {
    let mut f = fixture();
    f.apply([put("a", "1"), put("a", "1"), put("a", "1")]);
    let kv = f.now().get(b"a").unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 4, 3));
}

#[test]
fn a_delete_ends_a_life_and_one_that_matches_nothing_makes_no_revision() {
    let mut f = fixture();
    f.apply([put("a", "1"), delete("a", ""), delete("a", "")]);
    assert_eq!(f.revision(), 3);
    f.run(put("a", "2")).unwrap();
    let kv = f.now().get(b"a").unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.version), (4, 1));
}

#[test]
fn every_revision_that_is_not_compacted_can_be_read() {
    let mut f = fixture();
    f.apply([
        put("a", "1"),
        put("b", "1"),
        put("a", "2"),
        delete("b", ""),
        put("b", "3"),
    ]);
    let at = |revision| {
        let all = f.list(&range_at("a", "\0", revision));
        all.iter()
            .map(|(key, value)| format!("{key}{value}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let history: Vec<String> = (2..=6).map(at).collect();
    assert_eq!(history, ["a1", "a1 b1", "a2 b1", "a2", "a2 b3"]);
    assert_eq!(
        (at(0), at(1)),
        ("a2 b3".into(), "".into()),
        "0 is now, and the first revision is empty"
    );
}
