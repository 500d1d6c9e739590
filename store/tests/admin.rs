//! Alarms, quota, membership, identity, opening and damage, rule by rule.

mod common;

use bytes::Bytes;
use common::*;
use keelson_proto::commandpb::{ClusterInit, MemberAttributes, Membership, Node, Voters};
use keelson_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};
use keelson_store::engine::{Batch, Engine, Family};
use keelson_store::memory::MemoryEngine;
use keelson_store::*;
use std::sync::Arc;

const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;

fn alarm(action: i32, alarm: AlarmType, member_id: u64) -> Request {
    Request::Alarm(AlarmRequest {
        action,
        member_id,
        alarm: alarm.into(),
    })
}

fn listed(f: &mut Fixture, request: Request) -> Vec<AlarmMember> {
    match f.run(request) {
        Ok(Reply::Alarm(AlarmResponse { alarms, .. })) => alarms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_goes_over_the_quota_is_refused_and_raises_the_alarm_for_all_that_grow() {
    let mut f = fixture();
    f.run(put("a", &"x".repeat(500))).unwrap();
    f.quota_bytes = 1_200;
    assert_eq!(f.run(put("b", &"x".repeat(500))), Err(Refusal::NoSpace));
    let raised = AlarmMember {
        member_id: 7,
        alarm: AlarmType::Nospace.into(),
    };
    assert_eq!(f.now().alarms().unwrap(), [raised]);
    f.quota_bytes = 0;
    assert_eq!(f.run(put("c", "")), Err(Refusal::NoSpace));
    assert_eq!(f.run(grant(1, 60)), Err(Refusal::NoSpace));
    assert_eq!(
        f.run(txn(then([txn_op(then([put_op("c", "")]))]))),
        Err(Refusal::NoSpace)
    );
    f.run(txn(then([range_op(range("a", "")), delete_op("c", "")])))
        .unwrap();
    f.run(delete("a", "")).unwrap();
}

#[test]
fn deleting_and_compacting_make_room_again() {
    let mut f = fixture();
    f.quota_bytes = 2_500;
    f.apply([put("a", &"x".repeat(500)), put("a", &"y".repeat(500))]);
    assert_eq!(f.run(put("a", &"z".repeat(500))), Err(Refusal::NoSpace));
    f.apply([
        delete("a", ""),
        compact(4),
        alarm(DEACTIVATE, AlarmType::Nospace, 7),
    ]);
    assert!(f.now().state().logical_bytes < 700);
    f.run(put("a", &"z".repeat(500))).unwrap();
}

#[test]
fn the_logical_size_of_a_store_that_was_emptied_and_compacted_is_its_last_event() {
    let mut f = fixture();
    f.apply((0..100).map(|n| put(&format!("{n:03}"), "value")));
    f.apply([
        delete("0", "\0"),
        put("z", ""),
        delete("z", ""),
        compact(104),
    ]);
    let size = f.now().state().logical_bytes;
    assert!((12..60).contains(&size), "{size} bytes");
    assert_eq!(f.now().state().keys, 0);
}

#[test]
fn alarms_are_listed_raised_once_and_disarmed() {
    let mut f = fixture();
    let nospace = AlarmMember {
        member_id: 3,
        alarm: AlarmType::Nospace.into(),
    };
    assert_eq!(
        listed(&mut f, alarm(ACTIVATE, AlarmType::Nospace, 3)),
        [nospace]
    );
    assert_eq!(
        listed(&mut f, alarm(ACTIVATE, AlarmType::Nospace, 3)),
        [nospace]
    );
    assert_eq!(listed(&mut f, alarm(GET, AlarmType::None, 0)), [nospace]);
    assert_eq!(listed(&mut f, alarm(GET, AlarmType::Corrupt, 0)), []);
    assert_eq!(listed(&mut f, alarm(DEACTIVATE, AlarmType::Nospace, 4)), []);
    assert_eq!(
        listed(&mut f, alarm(DEACTIVATE, AlarmType::Nospace, 3)),
        [nospace]
    );
    assert_eq!(listed(&mut f, alarm(GET, AlarmType::None, 0)), []);
}

#[test]
fn a_corrupt_member_stops_all_work_on_keys_until_the_alarm_ends() {
    let mut f = fixture();
    f.apply([alarm(ACTIVATE, AlarmType::Corrupt, 3)]);
    for request in [
        put("a", ""),
        delete("a", ""),
        compact(1),
        grant(1, 60),
        revoke(1),
        txn(then([])),
    ] {
        assert_eq!(f.run(request), Err(Refusal::Corrupt));
    }
    f.apply([alarm(DEACTIVATE, AlarmType::Corrupt, 3)]);
    f.run(put("a", "")).unwrap();
}

#[test]
fn what_cannot_be_decoded_is_refused_and_counts_as_applied() {
    let mut f = fixture();
    for bytes in [&b"\xff\xff\xff"[..], b"", b"\xfa\x01\x00"] {
        let entry = f.payload(Payload::Command(Bytes::copy_from_slice(bytes)));
        let applied = f.store.apply(&[entry]).unwrap();
        assert_eq!(applied.outcomes[0].result, Err(Refusal::UnknownCommand));
    }
    assert_eq!(f.now().applied, LogIndex(3));
}

#[test]
fn an_entry_that_was_applied_already_stops_the_store() {
    let mut f = fixture();
    let entry = f.entry(put("a", ""));
    f.store.apply(std::slice::from_ref(&entry)).unwrap();
    let error = f.store.apply(&[entry]).unwrap_err();
    assert!(
        error.to_string().contains("entry 1 was applied before"),
        "{error}"
    );
}

fn membership(voters: &[u64], learners: &[u64]) -> Payload {
    let nodes = voters
        .iter()
        .chain(learners)
        .map(|&id| Node {
            id,
            ..Node::default()
        })
        .collect();
    Payload::Membership(Membership {
        configs: vec![Voters {
            ids: voters.to_vec(),
        }],
        nodes,
    })
}

fn attributes(id: u64) -> Request {
    Request::MemberAttributes(MemberAttributes {
        id,
        name: format!("m{id}"),
        client_urls: vec!["http://x".into()],
    })
}

#[test]
fn a_removed_member_is_remembered_and_what_it_said_is_forgotten() {
    let mut f = fixture();
    for payload in [membership(&[1, 2], &[3]), membership(&[1, 2, 3], &[])] {
        let entry = f.payload(payload);
        f.store.apply(&[entry]).unwrap();
    }
    assert!(f.apply([attributes(2), attributes(3)]).attributes_changed);
    let entry = f.payload(membership(&[1, 3], &[]));
    assert!(f.store.apply(&[entry]).unwrap().attributes_changed);
    f.apply([attributes(2)]);
    let names: Vec<String> = f
        .now()
        .attributes()
        .unwrap()
        .into_iter()
        .map(|member| member.name)
        .collect();
    assert_eq!(names, ["m3"]);
    assert_eq!(f.now().removed_members().unwrap(), [MemberId(2)]);
    let (applied, stored) = f.store.applied();
    assert_eq!(applied, Some(LogId { term: 1, index: 6 }));
    assert_eq!(stored.log_id.unwrap().index, 5);
}

#[test]
fn a_cluster_gets_its_identity_once() {
    let mut f = fixture();
    f.apply([
        Request::ClusterInit(ClusterInit { cluster_id: 9 }),
        Request::ClusterInit(ClusterInit { cluster_id: 8 }),
    ]);
    assert_eq!(f.now().state().cluster_id, 9);
}

#[test]
fn a_flushed_state_opens_again_as_it_was() {
    let mut f = fixture();
    f.apply([
        put("a", "1"),
        put("b", "1"),
        delete("a", ""),
        grant(1, 60),
        alarm(ACTIVATE, AlarmType::Nospace, 3),
    ]);
    f.flush();
    let before = f.now();
    f.apply([put("lost", "")]);
    f.crash();
    let now = f.now();
    assert_eq!(now.state(), before.state());
    assert_eq!(
        now.range(&range("a", "\0")).unwrap(),
        before.range(&range("a", "\0")).unwrap()
    );
    assert_eq!(f.run(put("c", "")), Err(Refusal::NoSpace));
    let persisted = read_state(|family, key| f.engine.get_persisted(family, key))
        .unwrap()
        .unwrap();
    assert_eq!(&persisted, before.state());
}

#[test]
fn readers_go_on_with_the_state_that_replaces_theirs() {
    let mut f = fixture();
    f.apply([put("a", "1")]);
    let reader = f.store.reader();
    let other = {
        let mut other = fixture();
        other.apply([put("b", "1"), put("b", "2")]);
        other.engine
    };
    f.store.replace(other).unwrap();
    assert_eq!(reader.now().revision, Revision(3));
    assert!(reader.now().get(b"a").unwrap().is_none());
    assert_eq!(reader.now().get(b"b").unwrap().unwrap().value, b("2"));
}

fn with_meta(key: &'static [u8], value: Option<&[u8]>) -> Arc<MemoryEngine> {
    let mut f = fixture();
    f.apply([put("a", "1")]);
    let mut batch = Batch::default();
    match value {
        Some(value) => batch.put(Family::Meta, key, value.to_vec()),
        None => batch.delete(Family::Meta, key),
    }
    f.engine.write(&batch).unwrap();
    f.engine
}

#[test]
fn a_newer_format_is_refused() {
    let engine = with_meta(b"f", Some(&3_u32.to_be_bytes()));
    let error = Store::open(engine, Options::default()).err().unwrap();
    assert!(matches!(
        error,
        OpenError::NewerFormat { found: 3, known: 2 }
    ));
    let text = error.to_string();
    assert_eq!(
        text,
        "the data is in format 3, and this version reads formats up to 2: use a newer version"
    );
}

#[test]
fn a_damaged_state_is_refused_and_named() {
    for (key, value, what) in [
        (
            &b"s"[..],
            Some(&b"\xff"[..]),
            "the store's state is damaged: ",
        ),
        (
            b"s",
            Some(b""),
            "the store's state is damaged: revision 0, compacted 0",
        ),
        (
            b"s",
            None,
            "the store's state is damaged: it is missing, but its format is there",
        ),
        (
            b"f",
            None,
            "the store's state is damaged: its format version is missing",
        ),
        (
            b"f",
            Some(b"1"),
            "the store's state is damaged: its format version has not 4 bytes",
        ),
    ] {
        let error = Store::open(with_meta(key, value), Options::default())
            .err()
            .unwrap()
            .to_string();
        assert!(error.starts_with(what), "{error}");
    }
}

#[test]
fn a_damaged_record_is_named_and_not_guessed() {
    let mut f = fixture();
    f.apply([put("a", "1"), put("a", "2")]);
    let mut batch = Batch::default();
    batch.put(Family::Latest, &b"a"[..], &b"\x10"[..]);
    f.engine.write(&batch).unwrap();
    let store = Store::open(f.engine.clone(), Options::default()).unwrap();
    let error = store.reader().now().range(&range("a", "")).unwrap_err();
    assert!(matches!(&error, ReadError::Engine(_)), "{error}");
    assert!(
        error.to_string().starts_with("reading latest at"),
        "{error}"
    );
}

#[test]
fn an_outcome_crosses_the_wire_unchanged() {
    let mut f = fixture();
    let applied = f.apply([put("a", "1"), grant(0, 1), alarm(GET, AlarmType::None, 0)]);
    for outcome in applied.outcomes {
        let wire = keelson_proto::commandpb::Outcome::from(outcome.clone());
        assert_eq!(Outcome::from(wire), outcome);
    }
}
