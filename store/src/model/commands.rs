//! Random steps: small alphabets, so that keys, leases and revisions meet often.

use bytes::Bytes;
use keelson_proto::commandpb::{self, Command, command::Request};
use keelson_proto::etcdserverpb::compare::TargetUnion;
use keelson_proto::etcdserverpb::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// One step of a run.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Applies entries in one call.
    Apply(Vec<Entry>),
    /// Reads the published state.
    Read(Read),
    /// Keeps the published state and reads it again after later steps.
    Hold,
    /// Lets go of the states kept.
    Release,
    Flush,
    CompactFiles,
    /// Loses what was not flushed, opens again, and applies what was lost in calls of this many entries.
    Crash(usize),
}

/// What an entry of the log carries.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Blank,
    Garbage(Vec<u8>),
    Membership(Vec<u64>),
    Command(Command),
}

/// A question to a published state. Revisions in it are relative: see [`revision`].
#[derive(Clone, Debug)]
pub(super) enum Read {
    Range(RangeRequest),
    Events {
        from: i64,
        bytes: usize,
        revisions: usize,
    },
    Hash(i64),
    Leases,
    Admin,
}

/// A revision in a generated request: 0 and below stand for themselves; 1 is the one after the current, 2 the current, 3 the one before, …
pub(super) fn revision(relative: i64, current: i64) -> i64 {
    if relative <= 0 {
        relative
    } else {
        current + 2 - relative
    }
}

pub(super) fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..max)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => vec(entry(), 1..8).prop_map(Step::Apply),
        30 => read().prop_map(Step::Read),
        3 => Just(Step::Hold),
        2 => Just(Step::Release),
        4 => Just(Step::Flush),
        1 => Just(Step::CompactFiles),
        2 => (1_usize..6).prop_map(Step::Crash),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        60 => (request(), quota()).prop_map(|(request, quota_bytes)| {
            Entry::Command(Command { request: Some(request), quota_bytes, member: 7, ..Command::default() })
        }),
        2 => Just(Entry::Blank),
        1 => vec(any::<u8>(), 0..6).prop_map(Entry::Garbage),
        1 => vec(1_u64..5, 1..4).prop_map(Entry::Membership),
    ]
}

/// Mostly none, seldom one that the store has outgrown or soon will.
fn quota() -> impl Strategy<Value = i64> {
    prop_oneof![40 => Just(0_i64), 1 => 300_i64..3000]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        40 => put().prop_map(Request::Put),
        14 => delete().prop_map(Request::DeleteRange),
        24 => txn().prop_map(Request::Txn),
        5 => (1_i64..10).prop_map(|revision| {
            Request::Compact(CompactionRequest { revision, physical: false })
        }),
        6 => (lease(), prop_oneof![9 => 1_i64..100, 1 => Just(9_000_000_001)])
            .prop_map(|(id, ttl)| Request::LeaseGrant(LeaseGrantRequest { ttl, id })),
        3 => lease().prop_map(|id| Request::LeaseRevoke(LeaseRevokeRequest { id })),
        3 => vec(lease(), 0..4).prop_map(|ids| Request::LeaseExpire(commandpb::LeaseExpire { ids })),
        3 => alarm().prop_map(Request::Alarm),
        1 => (1_u64..6).prop_map(|id| {
            Request::MemberAttributes(commandpb::MemberAttributes {
                id,
                name: format!("member{id}"),
                client_urls: vec![format!("http://127.0.0.1:{id}")],
            })
        }),
        1 => (0_u64..4).prop_map(|cluster_id| Request::ClusterInit(commandpb::ClusterInit { cluster_id })),
    ]
}

/// A corruption alarm stops everything: raised seldom, ended often.
fn alarm() -> impl Strategy<Value = AlarmRequest> {
    prop_oneof![
        2 => (0..4_i32).prop_map(|alarm| AlarmRequest { action: 0, member_id: 0, alarm }),
        1 => (0..4_i32).prop_map(|alarm| AlarmRequest { action: 1, member_id: 7, alarm }),
        8 => (1..3_i32).prop_map(|alarm| AlarmRequest { action: 2, member_id: 7, alarm }),
    ]
}

/// Keys with what an escape must survive: zeros, 0xFF, and one being the beginning of another.
const KEYS: [&[u8]; 12] = [
    b"a",
    b"ab",
    b"a\0",
    b"a\0b",
    b"a\0\xff",
    b"a\x01",
    b"b",
    b"ba",
    b"c",
    b"\0",
    b"\xff",
    b"\xff\xff",
];

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        40 => (0..KEYS.len()).prop_map(|index| Bytes::from_static(KEYS[index])),
        1 => Just(Bytes::new()),
    ]
}

/// A key alone, a range, possibly an inverted one, or all from a key on.
fn span() -> impl Strategy<Value = (Bytes, Bytes)> {
    prop_oneof![
        3 => key().prop_map(|key| (key, Bytes::new())),
        5 => (key(), key()),
        2 => key().prop_map(|key| (key, Bytes::from_static(b"\0"))),
        2 => Just((Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        2 => Just(Bytes::new()),
        8 => (0_u8..5).prop_map(|byte| Bytes::from(vec![byte; usize::from(byte) + 1])),
        1 => Just(Bytes::from(vec![b'x'; 200])),
    ]
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 1_i64..4, 1 => Just(-1_i64), 1 => Just(0_i64)]
}

/// See [`revision`].
fn relative() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0_i64), 8 => 2_i64..14, 1 => Just(1_i64), 1 => -3_i64..0]
}

fn put() -> impl Strategy<Value = PutRequest> {
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    let lease = prop_oneof![3 => Just(0_i64), 1 => lease()];
    (key(), value(), lease, flags, prop::bool::weighted(0.05)).prop_map(
        |(key, value, lease, (prev_kv, ignore_value, ignore_lease), wrong)| PutRequest {
            key,
            value: if ignore_value && !wrong {
                Bytes::new()
            } else {
                value
            },
            lease: if ignore_lease && !wrong { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (span(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop_oneof![6 => Just(0_i64), 1 => 2_i64..14];
    let order = (0..3_i32, 0..5_i32).prop_map(|(order, target)| (order, target));
    let order = prop_oneof![1 => Just((0, 0)), 1 => order];
    let limit = prop_oneof![3 => Just(0_i64), 3 => 1_i64..6, 1 => Just(-1_i64)];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (
        span(),
        limit,
        relative(),
        order,
        flags,
        (bound(), bound(), bound(), bound()),
    )
        .prop_map(
            |(
                (key, range_end),
                limit,
                revision,
                (sort_order, sort_target),
                (keys_only, count_only),
                bounds,
            )| {
                RangeRequest {
                    key,
                    range_end,
                    limit,
                    revision,
                    sort_order,
                    sort_target,
                    serializable: false,
                    keys_only,
                    count_only,
                    min_mod_revision: bounds.0,
                    max_mod_revision: bounds.1,
                    min_create_revision: bounds.2,
                    max_create_revision: bounds.3,
                }
            },
        )
}

fn compare() -> impl Strategy<Value = Compare> {
    let number = || 0_i64..6;
    let union = prop_oneof![
        number().prop_map(TargetUnion::Version),
        number().prop_map(TargetUnion::CreateRevision),
        number().prop_map(TargetUnion::ModRevision),
        value().prop_map(TargetUnion::Value),
        number().prop_map(TargetUnion::Lease),
    ];
    (
        span(),
        union,
        0..4_i32,
        prop::option::weighted(0.05, 0..5_i32),
    )
        .prop_map(|(span, union, result, other)| {
            let own = match union {
                TargetUnion::Version(_) => 0,
                TargetUnion::CreateRevision(_) => 1,
                TargetUnion::ModRevision(_) => 2,
                TargetUnion::Value(_) => 3,
                TargetUnion::Lease(_) => 4,
            };
            Compare {
                result,
                target: other.unwrap_or(own),
                key: span.0,
                range_end: span.1,
                target_union: Some(union),
            }
        })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        3 => range().prop_map(request_op::Request::RequestRange),
        4 => put().prop_map(request_op::Request::RequestPut),
        2 => delete().prop_map(request_op::Request::RequestDeleteRange),
    ];
    let op = |request: BoxedStrategy<request_op::Request>| {
        prop::option::weighted(0.99, request).prop_map(|request| RequestOp { request })
    };
    let flat = move |request: BoxedStrategy<request_op::Request>| {
        let ops = vec(op(request), 0..4);
        (vec(compare(), 0..3), ops.clone(), ops).prop_map(|(compare, success, failure)| {
            TxnRequest {
                compare,
                success,
                failure,
            }
        })
    };
    let leaf = leaf.boxed();
    let nested = leaf.clone().prop_recursive(3, 12, 4, move |inner| {
        flat(prop_oneof![2 => leaf.clone(), 1 => inner].boxed())
            .prop_map(request_op::Request::RequestTxn)
    });
    flat(nested.boxed())
}

fn read() -> impl Strategy<Value = Read> {
    prop_oneof![
        12 => range().prop_map(Read::Range),
        4 => (relative(), 1_usize..600, 1_usize..8)
            .prop_map(|(from, bytes, revisions)| Read::Events { from, bytes, revisions }),
        2 => relative().prop_map(Read::Hash),
        1 => Just(Read::Leases),
        1 => Just(Read::Admin),
    ]
}

/// Resolves the relative revisions of a command.
pub(super) fn resolve_command(command: &mut Command, current: i64) {
    match &mut command.request {
        Some(Request::Compact(r)) => r.revision = revision(r.revision, current),
        Some(Request::Txn(r)) => resolve_txn(r, current),
        _ => {}
    }
}

fn resolve_txn(r: &mut TxnRequest, current: i64) {
    for compare in &mut r.compare {
        if let Some(TargetUnion::ModRevision(n) | TargetUnion::CreateRevision(n)) =
            &mut compare.target_union
        {
            *n = revision(*n, current);
        }
    }
    for op in r.success.iter_mut().chain(&mut r.failure) {
        match &mut op.request {
            Some(request_op::Request::RequestRange(r)) => resolve_range(r, current),
            Some(request_op::Request::RequestTxn(r)) => resolve_txn(r, current),
            _ => {}
        }
    }
}

/// Resolves the relative revisions of a range.
pub(super) fn resolve_range(r: &mut RangeRequest, current: i64) {
    for number in [
        &mut r.revision,
        &mut r.min_mod_revision,
        &mut r.max_mod_revision,
        &mut r.min_create_revision,
        &mut r.max_create_revision,
    ] {
        *number = revision(*number, current);
    }
}
