//! Transactions, rule by rule.

mod common;

use common::*;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::*;
use keelson_store::check::{self, Limits};
use keelson_store::*;

fn compare(key: &str, range_end: &str, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: b(key),
        range_end: b(range_end),
        target_union: Some(union),
    }
}

fn version_is(key: &str, version: i64) -> Compare {
    compare(
        key,
        "",
        CompareTarget::Version,
        TargetUnion::Version(version),
    )
}

fn txn_reply(f: &mut Fixture, r: TxnRequest) -> TxnResponse {
    match f.run(txn(r)) {
        Ok(Reply::Txn(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn ranged(reply: &TxnResponse, index: usize) -> &RangeResponse {
    match &reply.responses[index].response {
        Some(response_op::Response::ResponseRange(found)) => found,
        other => panic!("{other:?}"),
    }
}

fn refused(r: TxnRequest) -> Refusal {
    check::txn(&r, &Limits::default()).unwrap_err()
}

fn allowed(r: TxnRequest) {
    check::txn(&r, &Limits::default()).unwrap();
}

#[test]
fn all_changes_of_a_txn_bear_one_revision_and_count_up_within_it() {
    let mut f = fixture();
    let applied = f.apply([txn(then([
        put_op("b", "1"),
        put_op("a", "1"),
        txn_op(then([put_op("c", "1")])),
    ]))]);
    let places: Vec<(i64, u32)> = applied
        .events
        .iter()
        .map(|event| (event.revision.0, event.sub))
        .collect();
    assert_eq!(places, [(2, 0), (2, 1), (2, 2)]);
    assert_eq!(applied.outcomes[0].revision, Revision(2));
}

#[test]
fn a_range_sees_what_the_txn_has_done_before_it_and_says_at_which_revision() {
    let mut f = fixture();
    f.apply([put("a", "old"), put("gone", "x")]);
    let all = || range_op(range("a", "\0"));
    let reply = txn_reply(
        &mut f,
        then([all(), put_op("a", "new"), delete_op("gone", ""), all()]),
    );
    let (before, after) = (ranged(&reply, 0), ranged(&reply, 3));
    assert_eq!(
        (before.count, before.header.as_ref().unwrap().revision),
        (2, 3)
    );
    assert_eq!(
        (after.count, after.header.as_ref().unwrap().revision),
        (1, 4)
    );
    assert_eq!(after.kvs[0].value, b("new"));
}

#[test]
fn a_range_in_a_txn_can_still_read_the_revision_before_the_txn() {
    let mut f = fixture();
    f.apply([put("a", "old")]);
    let reply = txn_reply(
        &mut f,
        then([put_op("a", "new"), range_op(range_at("a", "", 2))]),
    );
    assert_eq!(ranged(&reply, 1).kvs[0].value, b("old"));
}

#[test]
fn compares_of_nested_txns_see_the_state_before_the_whole() {
    let mut f = fixture();
    let nested = TxnRequest {
        compare: vec![version_is("a", 0)],
        ..then([put_op("saw", "nothing")])
    };
    let reply = txn_reply(&mut f, then([put_op("a", "1"), txn_op(nested)]));
    let Some(response_op::Response::ResponseTxn(nested)) = &reply.responses[1].response else {
        panic!()
    };
    assert!(nested.succeeded);
    assert_eq!(
        nested.header,
        Some(ResponseHeader::default()),
        "only the outermost header is filled in"
    );
}

#[test]
fn a_value_compare_on_a_missing_key_is_false_and_other_targets_compare_with_zero() {
    let mut f = fixture();
    let value = compare("a", "", CompareTarget::Value, TargetUnion::Value(b("")));
    assert!(
        !txn_reply(
            &mut f,
            TxnRequest {
                compare: vec![value],
                ..TxnRequest::default()
            }
        )
        .succeeded
    );
    for (target, union) in [
        (CompareTarget::Version, TargetUnion::Version(0)),
        (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        (CompareTarget::Mod, TargetUnion::ModRevision(0)),
        (CompareTarget::Lease, TargetUnion::Lease(0)),
    ] {
        let zero = compare("a", "", target, union);
        assert!(
            txn_reply(
                &mut f,
                TxnRequest {
                    compare: vec![zero],
                    ..TxnRequest::default()
                }
            )
            .succeeded
        );
    }
}

#[test]
fn a_range_compare_needs_every_key_to_match() {
    let mut f = fixture();
    f.apply([put("a", "1"), put("b", "1"), put("b", "1")]);
    let all = |to: &str| compare("a", to, CompareTarget::Version, TargetUnion::Version(1));
    assert!(
        txn_reply(
            &mut f,
            TxnRequest {
                compare: vec![all("b")],
                ..TxnRequest::default()
            }
        )
        .succeeded
    );
    assert!(
        !txn_reply(
            &mut f,
            TxnRequest {
                compare: vec![all("c")],
                ..TxnRequest::default()
            }
        )
        .succeeded
    );
}

#[test]
fn a_txn_that_is_refused_changes_nothing() {
    let mut f = fixture();
    let missing = PutRequest {
        key: b("missing"),
        ignore_value: true,
        ..PutRequest::default()
    };
    let late = op(request_op::Request::RequestPut(missing));
    assert_eq!(
        f.run(txn(then([put_op("a", "1"), late]))),
        Err(Refusal::KeyNotFound)
    );
    let leased = PutRequest {
        lease: 9,
        ..put_request("b", "1")
    };
    let leased = op(request_op::Request::RequestPut(leased));
    assert_eq!(
        f.run(txn(then([put_op("a", "1"), txn_op(then([leased]))]))),
        Err(Refusal::LeaseNotFound)
    );
    let future = range_op(range_at("a", "", 9));
    assert_eq!(
        f.run(txn(then([put_op("a", "1"), future]))),
        Err(Refusal::FutureRevision)
    );
    assert_eq!((f.revision(), f.now().get(b"a").unwrap()), (1, None));
}

#[test]
fn a_branch_that_is_not_taken_may_name_what_does_not_exist() {
    let mut f = fixture();
    let leased = PutRequest {
        lease: 9,
        ..put_request("b", "1")
    };
    let r = TxnRequest {
        failure: vec![op(request_op::Request::RequestPut(leased))],
        ..then([put_op("a", "1")])
    };
    assert!(txn_reply(&mut f, r).succeeded);
}

#[test]
fn a_txn_that_changes_nothing_makes_no_revision() {
    let mut f = fixture();
    f.apply([txn(then([range_op(range("a", "")), delete_op("a", "\0")]))]);
    assert_eq!(f.revision(), 1);
}

#[test]
fn a_key_is_not_changed_twice() {
    assert_eq!(
        refused(then([put_op("a", "1"), put_op("a", "2")])),
        Refusal::DuplicateKey
    );
    assert_eq!(
        refused(then([put_op("b", "1"), delete_op("a", "c")])),
        Refusal::DuplicateKey
    );
    assert_eq!(
        refused(then([delete_op("a", "c"), put_op("b", "1")])),
        Refusal::DuplicateKey
    );
    assert_eq!(
        refused(then([put_op("b", "1"), txn_op(then([put_op("b", "1")]))])),
        Refusal::DuplicateKey
    );
    let siblings = [
        txn_op(then([put_op("b", "1")])),
        txn_op(then([delete_op("b", "")])),
    ];
    assert_eq!(refused(then(siblings)), Refusal::DuplicateKey);
    let hidden = [delete_op("a", "z"), delete_op("a", "b"), put_op("m", "1")];
    assert_eq!(refused(then(hidden)), Refusal::DuplicateKey);
    let hidden = [delete_op("a", "z"), delete_op("b", "c"), put_op("m", "1")];
    assert_eq!(refused(then(hidden)), Refusal::DuplicateKey);
    allowed(then([
        put_op("c", "1"),
        delete_op("a", "c"),
        delete_op("a", "b"),
        put_op("d", "1"),
    ]));
}

#[test]
fn deleting_from_a_key_on_and_putting_a_later_one_is_refused_also_when_it_was_not_checked() {
    let late = PutRequest {
        key: b("z"),
        ignore_lease: true,
        value: b("x"),
        ..PutRequest::default()
    };
    let r = then([
        delete_op("a", "\0"),
        op(request_op::Request::RequestPut(late)),
    ]);
    assert_eq!(refused(r.clone()), Refusal::DuplicateKey);
    let mut f = fixture();
    f.apply([put("z", "1")]);
    assert_eq!(f.run(txn(r)), Err(Refusal::DuplicateKey));
    assert_eq!(f.revision(), 2);
}

#[test]
fn the_branches_of_a_txn_may_share_a_key() {
    let both = TxnRequest {
        failure: vec![delete_op("a", "")],
        ..then([put_op("a", "1")])
    };
    allowed(both.clone());
    allowed(then([txn_op(both.clone())]));
    assert_eq!(
        refused(then([txn_op(both), put_op("a", "1")])),
        Refusal::DuplicateKey
    );
}

#[test]
fn nested_txns_share_the_operations_that_are_left() {
    let many = |count: usize| then((0..count).map(|n| put_op(&format!("k{n}"), "")));
    allowed(many(128));
    assert_eq!(refused(many(129)), Refusal::TooManyOps);
    allowed(then([txn_op(many(127))]));
    assert_eq!(refused(then([txn_op(many(128))])), Refusal::TooManyOps);
    let compares = TxnRequest {
        compare: vec![version_is("a", 0); 129],
        ..TxnRequest::default()
    };
    assert_eq!(refused(compares), Refusal::TooManyOps);
}

#[test]
fn many_overlapping_deletes_are_checked_in_no_time() {
    // 40 × 40 × 40 ranges, which touch, nest and repeat.
    let leaf = |n: usize| {
        delete_op(
            &format!("{:05}", n * 7919 % 64_000),
            &format!("{:05}", n * 104_729 % 64_000),
        )
    };
    let inner = |n: usize| txn_op(then((0..40).map(|i| leaf(n * 40 + i))));
    let outer = |n: usize| txn_op(then((0..40).map(|i| inner(n * 40 + i))));
    allowed(then((0..40).map(outer)));
}

#[test]
fn what_is_wrong_with_an_operation_is_said_as_etcd_says_it() {
    assert_eq!(refused(then([put_op("", "1")])), Refusal::EmptyKey);
    assert_eq!(
        refused(then([RequestOp { request: None }])),
        Refusal::KeyNotFound
    );
    assert_eq!(
        refused(TxnRequest {
            compare: vec![version_is("", 0)],
            ..then([])
        }),
        Refusal::EmptyKey
    );
    let both = PutRequest {
        ignore_value: true,
        ..put_request("a", "1")
    };
    assert_eq!(
        refused(then([op(request_op::Request::RequestPut(both))])),
        Refusal::ValueProvided
    );
    let both = PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put_request("a", "1")
    };
    assert_eq!(
        refused(then([op(request_op::Request::RequestPut(both))])),
        Refusal::LeaseProvided
    );
    let order = RangeRequest {
        sort_order: 3,
        ..range("a", "")
    };
    assert_eq!(refused(then([range_op(order)])), Refusal::InvalidSortOption);
    let target = RangeRequest {
        sort_target: 5,
        ..range("a", "")
    };
    assert_eq!(
        refused(then([range_op(target)])),
        Refusal::InvalidSortOption
    );
}

#[test]
fn a_txn_that_is_nested_too_deep_to_be_decoded_is_refused() {
    let deep = (0..1_000).fold(then([put_op("a", "1")]), |inner, _| then([txn_op(inner)]));
    let mut f = fixture();
    assert_eq!(f.run(txn(deep)), Err(Refusal::UnknownCommand));
}
