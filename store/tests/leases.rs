//! Leases, rule by rule.

mod common;

use common::*;
use keelson_proto::commandpb::LeaseExpire;
use keelson_proto::etcdserverpb::PutRequest;
use keelson_store::memory::MemoryEngine;
use keelson_store::*;

fn leased(key: &str, lease: i64) -> Request {
    Request::Put(PutRequest {
        lease,
        ..put_request(key, "")
    })
}

fn expire(ids: &[i64]) -> Request {
    Request::LeaseExpire(LeaseExpire { ids: ids.to_vec() })
}

fn keys(f: &Fixture, lease: i64) -> Vec<String> {
    f.now()
        .lease_keys(LeaseId(lease))
        .unwrap()
        .iter()
        .map(text)
        .collect()
}

#[test]
fn a_grant_is_kept_with_its_time_to_live() {
    let mut f = fixture();
    let applied = f.apply([grant(5, 60)]);
    assert_eq!(
        applied.leases,
        [LeaseChange::Granted {
            id: LeaseId(5),
            ttl_s: 60
        }]
    );
    assert_eq!(f.now().lease(LeaseId(5)).unwrap(), Some(60));
    assert_eq!(f.now().leases().unwrap(), [(LeaseId(5), 60)]);
    assert_eq!(f.revision(), 1, "a lease is no change of a key");
}

#[test]
fn a_grant_that_cannot_be_is_refused() {
    let mut f = fixture();
    f.run(grant(5, 60)).unwrap();
    assert_eq!(f.run(grant(5, 60)), Err(Refusal::LeaseExists));
    assert_eq!(
        f.run(grant(6, 9_000_000_001)),
        Err(Refusal::LeaseTtlTooLarge)
    );
    f.run(grant(6, 9_000_000_000)).unwrap();
}

#[test]
fn a_put_on_an_unknown_lease_is_refused() {
    let mut f = fixture();
    assert_eq!(f.run(leased("a", 5)), Err(Refusal::LeaseNotFound));
    assert_eq!(f.run(revoke(5)), Err(Refusal::LeaseNotFound));
}

#[test]
fn revoking_deletes_the_keys_in_their_order_in_one_revision() {
    let mut f = fixture();
    f.apply([grant(5, 60), leased("b", 5), leased("a", 5), put("c", "")]);
    let applied = f.apply([revoke(5)]);
    let events: Vec<_> = applied
        .events
        .iter()
        .map(|e| (text(&e.key), e.revision.0, e.sub, e.kind))
        .collect();
    assert_eq!(
        events,
        [
            ("a".into(), 5, 0, EventKind::Delete),
            ("b".into(), 5, 1, EventKind::Delete)
        ]
    );
    assert_eq!(applied.leases, [LeaseChange::Revoked { id: LeaseId(5) }]);
    assert_eq!(f.now().leases().unwrap(), []);
}

#[test]
fn a_lease_without_keys_ends_without_a_revision() {
    let mut f = fixture();
    f.apply([grant(5, 60), revoke(5)]);
    assert_eq!(f.revision(), 1);
}

#[test]
fn each_lease_that_ran_out_ends_in_a_revision_of_its_own_and_unknown_ones_are_passed_over() {
    let mut f = fixture();
    f.apply([
        grant(5, 60),
        grant(6, 60),
        leased("a", 5),
        leased("b", 6),
        leased("c", 6),
    ]);
    let applied = f.apply([expire(&[6, 7, 5, 6])]);
    let revisions: Vec<i64> = applied
        .events
        .iter()
        .map(|event| event.revision.0)
        .collect();
    assert_eq!(revisions, [5, 5, 6]);
    assert_eq!(applied.revision, Revision(6));
}

#[test]
fn a_key_hangs_on_the_lease_of_its_last_put() {
    let mut f = fixture();
    f.apply([
        grant(5, 60),
        grant(6, 60),
        leased("a", 5),
        leased("b", 5),
        leased("c", 5),
    ]);
    f.apply([leased("a", 6), put("b", ""), delete("c", "")]);
    assert_eq!((keys(&f, 5), keys(&f, 6)), (vec![], vec!["a".to_owned()]));
    f.run(revoke(5)).unwrap();
    assert_eq!(f.list(&range("a", "\0")).len(), 2);
}

#[test]
fn ignoring_the_lease_keeps_it_and_ignoring_the_value_keeps_that() {
    let mut f = fixture();
    f.apply([grant(5, 60), leased("a", 5)]);
    f.run(Request::Put(PutRequest {
        ignore_lease: true,
        ..put_request("a", "new")
    }))
    .unwrap();
    f.run(Request::Put(PutRequest {
        ignore_value: true,
        lease: 5,
        ..put_request("a", "")
    }))
    .unwrap();
    let kv = f.now().get(b"a").unwrap().unwrap();
    assert_eq!((kv.lease, kv.value, kv.version), (5, b("new"), 3));
    let missing = PutRequest {
        ignore_lease: true,
        ..put_request("b", "")
    };
    assert_eq!(f.run(Request::Put(missing)), Err(Refusal::KeyNotFound));
}

#[test]
fn who_keeps_time_for_leases_is_told_before_readers_see_them_and_holds_them_off_until_they_do() {
    struct Told(Reader<MemoryEngine>);
    impl Drop for Told {
        fn drop(&mut self) {
            assert_eq!(self.0.now().lease(LeaseId(5)).unwrap(), Some(60));
        }
    }
    let mut f = fixture();
    let reader = f.store.reader();
    let granted = f.entry(grant(5, 60));
    let mut told = 0;
    let hold = |changes: &[LeaseChange]| {
        told = changes.len();
        assert_eq!(reader.now().lease(LeaseId(5)).unwrap(), None);
        Told(reader.clone())
    };
    f.store.apply_holding(&[granted], hold).unwrap();
    assert_eq!(told, 1);
}
