//! Random commands over few keys, values and leases, so that they meet each other often.
//!
//! Not generated is what cannot be compared: leases that expire by themselves (the moment is each server's own),
//! watches from the compacted revision itself on (a delete at it is there until etcd comes to remove it),
//! ranges sorted by what can be equal over more than six keys (etcd's sort is stable only for so few),
//! txns in which a nested one deletes what another before it puts (kvd changes no key twice in a revision, and has
//! a test of its own for that), and the requests that etcd 3.5.1 does not survive: a txn that deletes with range_end "\0" and puts, and a range with a
//! sort target that does not exist.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::command::Command;
use super::reply::Reply;
use crate::watch::expect::in_range;

/// In order.
const KEYS: [&[u8]; 11] = [
    b"\0",
    b"a",
    b"a\0",
    b"a/",
    b"a/1",
    b"a/2",
    b"b",
    b"b/\xff",
    b"c",
    b"c\xff\xff",
    b"\xff",
];
const VALUES: [&[u8]; 4] = [b"", b"x", b"y", b"\0\xff"];
const LEASES: std::ops::RangeInclusive<i64> = 1..=5;
/// Never granted.
const UNKNOWN_LEASE: i64 = 99;
/// Go's sort, of the time of etcd 3.5.1, leaves equals of up to so many elements in their order.
const SORTED_STABLY: usize = 6;
/// The most operations of a txn, by default.
const TXN_OPS_MAX: usize = 128;

/// What depends on the servers that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Reads that one member serves alone: comparable only when there is just one.
    pub serializable: bool,
    /// Ranges at a revision inside a txn. If such a range fails, a cluster of etcd 3.5.1 falls apart: the member
    /// that was asked refuses the txn, and the others, which skip ranges since nobody waits for them, apply it.
    pub revision_in_txn: bool,
}

/// Makes commands. The same seed and the same observed replies give the same commands.
#[derive(Debug)]
pub struct Generator {
    random: StdRng,
    allowed: Allowed,
    /// The latest revision seen, so that ranges and compactions ask for ones that exist.
    revision: i64,
    compacted: i64,
}

impl Generator {
    /// A generator that keeps to what is allowed.
    pub fn new(seed: u64, allowed: Allowed) -> Generator {
        Generator {
            random: StdRng::seed_from_u64(seed),
            allowed,
            revision: 1,
            compacted: 0,
        }
    }

    /// The latest revision seen in a reply.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision that the store was last compacted to, or 0.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The source of randomness, for choices that must be part of the same seed.
    pub fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    /// Learns from the reply what the next commands can refer to.
    pub fn observe(&mut self, command: &Command, reply: &Reply) {
        self.revision = self.revision.max(reply.revision().unwrap_or(0));
        if let (Command::Compact(request), Reply::Compact(_)) = (command, reply) {
            self.compacted = request.revision;
        }
    }

    /// Any command.
    pub fn command(&mut self) -> Command {
        match self.random.random_range(0..100) {
            0..2 => Command::Compact(self.compact()),
            2..12 => self.lease_command(),
            _ => self.kv_command(),
        }
    }

    /// A command that any member of a cluster must answer equally: not one about what a member has not applied yet.
    pub fn shared_command(&mut self) -> Command {
        loop {
            match self.command() {
                Command::TimeToLive(_) | Command::Leases | Command::KeepAlive(_) => {}
                command => return command,
            }
        }
    }

    /// A command that neither compacts nor only reads: mostly writes, for watches to see.
    pub fn write(&mut self) -> Command {
        match self.random.random_range(0..10) {
            0 => Command::Revoke(pb::LeaseRevokeRequest { id: self.lease() }),
            1..3 => Command::DeleteRange(self.delete()),
            3..6 => Command::Txn(self.txn()),
            _ => Command::Put(self.put()),
        }
    }

    fn kv_command(&mut self) -> Command {
        match self.random.random_range(0..100) {
            0..35 => Command::Range(self.range()),
            35..60 => Command::Put(self.put()),
            60..70 => Command::DeleteRange(self.delete()),
            _ => Command::Txn(self.txn()),
        }
    }

    fn lease_command(&mut self) -> Command {
        let id = self.lease();
        match self.random.random_range(0..14) {
            0..5 => Command::Grant(pb::LeaseGrantRequest {
                id: self.random.random_range(LEASES),
                ttl: self.pick(&[100_000, 500_000, 9_000_000_000]),
            }),
            5 => {
                let id = self.pick(&[0, 77, i64::MAX]);
                let ttl = self.pick(&[
                    i64::MIN,
                    -5,
                    0,
                    1,
                    2,
                    3,
                    60,
                    9_000_000_000,
                    9_000_000_001,
                    i64::MAX,
                ]);
                Command::GrantAndRevoke(pb::LeaseGrantRequest { id, ttl })
            }
            6..8 => Command::Revoke(pb::LeaseRevokeRequest { id }),
            8..10 => Command::KeepAlive(pb::LeaseKeepAliveRequest { id }),
            10..13 => Command::TimeToLive(pb::LeaseTimeToLiveRequest {
                id,
                keys: self.random.random(),
            }),
            _ => Command::Leases,
        }
    }

    /// A range with any of its options.
    pub fn range(&mut self) -> pb::RangeRequest {
        let sort_target = self.pick(&[0, 0, 1, 2, 3, 4]);
        let (key, range_end) = if sort_target == 0 {
            self.interval()
        } else {
            self.narrow_interval()
        };
        let filtered = self.one_in(4);
        let filter = |generator: &mut Generator| {
            if filtered && generator.one_in(2) {
                generator.some_revision()
            } else {
                0
            }
        };
        let [
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        ] = std::array::from_fn(|_| filter(self));
        pb::RangeRequest {
            key,
            range_end,
            limit: if self.one_in(2) {
                0
            } else {
                self.pick(&[-1, 1, 2, 3, 5, 100])
            },
            revision: if self.one_in(2) {
                0
            } else {
                self.some_revision()
            },
            sort_order: self.pick(&[0, 0, 0, 1, 2]),
            sort_target,
            serializable: self.allowed.serializable && self.one_in(3),
            keys_only: self.one_in(6),
            count_only: self.one_in(6),
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        }
    }

    fn range_in_txn(&mut self) -> pb::RangeRequest {
        let range = self.range();
        let revision = if self.allowed.revision_in_txn {
            range.revision
        } else {
            0
        };
        pb::RangeRequest { revision, ..range }
    }

    fn put(&mut self) -> pb::PutRequest {
        let ignore_value = self.one_in(8);
        let ignore_lease = self.one_in(8);
        pb::PutRequest {
            key: self.key(),
            // Now and then beside what it contradicts.
            value: if ignore_value && !self.one_in(5) {
                Bytes::new()
            } else {
                self.pick(&VALUES).into()
            },
            lease: if self.one_in(3) && (!ignore_lease || self.one_in(5)) {
                self.lease()
            } else {
                0
            },
            prev_kv: self.random.random(),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        // Mostly single keys, so that something is left.
        let (key, range_end) = if self.one_in(3) {
            self.interval()
        } else {
            (self.key(), Bytes::new())
        };
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.random.random(),
        }
    }

    fn compact(&mut self) -> pb::CompactionRequest {
        let revision = match self.random.random_range(0..8) {
            0 => self.pick(&[-1, 0]),
            1 => self.compacted,
            2 => self.revision + self.random.random_range(1..3),
            3 => self.revision,
            // Close to the present seldom, so that there is a past to read.
            _ => {
                self.compacted
                    + self
                        .random
                        .random_range(1..=1 + (self.revision - self.compacted) / 4)
            }
        };
        pb::CompactionRequest {
            revision,
            physical: self.random.random(),
        }
    }

    fn txn(&mut self) -> pb::TxnRequest {
        if self.one_in(60) {
            return self.wide_txn();
        }
        let mut txn = self.txn_of_depth(0);
        if !self.allowed.serializable && txn.success.is_empty() && txn.failure.is_empty() {
            // etcd takes a txn without operations for a read that is content with one member.
            txn.failure.push(count(self.key()));
        }
        if deletes_after_put(&txn.success) || deletes_after_put(&txn.failure) {
            return self.txn();
        }
        if puts(&txn) {
            make_survivable(&mut txn.success);
            make_survivable(&mut txn.failure);
        }
        txn
    }

    fn txn_of_depth(&mut self, depth: usize) -> pb::TxnRequest {
        let few = |generator: &mut Generator| generator.random.random_range(0..=3 - depth.min(2));
        pb::TxnRequest {
            compare: (0..few(self)).map(|_| self.compare()).collect(),
            success: (0..few(self)).map(|_| self.op(depth)).collect(),
            failure: (0..few(self)).map(|_| self.op(depth)).collect(),
        }
    }

    /// A txn at the edge of what is allowed, outside and inside of a nested one.
    fn wide_txn(&mut self) -> pb::TxnRequest {
        let reads = |generator: &mut Generator, many: usize| -> Vec<pb::RequestOp> {
            (0..many).map(|_| count(generator.key())).collect()
        };
        let outer = self.random.random_range(TXN_OPS_MAX - 2..=TXN_OPS_MAX + 1);
        if self.one_in(3) {
            return pb::TxnRequest {
                failure: reads(self, outer),
                ..Default::default()
            };
        }
        // The nested one may have as many as the outer one leaves.
        let outer = self.random.random_range(1..TXN_OPS_MAX);
        let inner = TXN_OPS_MAX - outer + self.random.random_range(0..=1);
        let nested = pb::TxnRequest {
            success: reads(self, inner),
            ..Default::default()
        };
        let mut success = reads(self, outer - 1);
        success.push(pb::RequestOp {
            request: Some(Request::RequestTxn(nested)),
        });
        pb::TxnRequest {
            success,
            ..Default::default()
        }
    }

    fn op(&mut self, depth: usize) -> pb::RequestOp {
        let request = match self.random.random_range(0..40) {
            0..12 => Some(Request::RequestRange(self.range_in_txn())),
            12..24 => Some(Request::RequestPut(self.put())),
            24..32 => Some(Request::RequestDeleteRange(self.delete())),
            32..39 if depth < 2 => Some(Request::RequestTxn(self.txn_of_depth(depth + 1))),
            32..39 => Some(Request::RequestPut(self.put())),
            _ if self.one_in(3) => None,
            _ => Some(Request::RequestRange(self.range_in_txn())),
        };
        pb::RequestOp { request }
    }

    fn compare(&mut self) -> pb::Compare {
        let (key, range_end) = if self.one_in(4) {
            self.interval()
        } else {
            (self.key(), Bytes::new())
        };
        let target = self.pick(&[
            CompareTarget::Version,
            CompareTarget::Create,
            CompareTarget::Mod,
            CompareTarget::Value,
            CompareTarget::Lease,
        ]);
        let version = self.random.random_range(0..4);
        let target_union = match target {
            // Unset, a number counts as 0, and a value as empty.
            _ if self.one_in(20) => None,
            CompareTarget::Version => Some(TargetUnion::Version(version)),
            CompareTarget::Create => Some(TargetUnion::CreateRevision(self.some_revision())),
            CompareTarget::Mod => Some(TargetUnion::ModRevision(self.some_revision())),
            CompareTarget::Value => Some(TargetUnion::Value(self.pick(&VALUES).into())),
            CompareTarget::Lease => Some(TargetUnion::Lease(self.pick(&[0, 0, 1, 2, 3]))),
        };
        let result = self.pick(&[
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]);
        pb::Compare {
            result: result.into(),
            target: target.into(),
            key,
            range_end,
            target_union,
        }
    }

    /// A watch with any of its options, from the past, now, or soon.
    pub fn watch(&mut self) -> pb::WatchCreateRequest {
        let (key, range_end) = self.interval();
        let start_revision = match self.random.random_range(0..10) {
            0..3 => 0,
            3 => self.revision + self.random.random_range(1..20),
            4 => (self.compacted - 1).max(0),
            5 => self.compacted + 1,
            _ => self
                .random
                .random_range(self.compacted + 1..=self.revision + 1),
        };
        let noput = pb::watch_create_request::FilterType::Noput as i32;
        let nodelete = pb::watch_create_request::FilterType::Nodelete as i32;
        pb::WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: self.random.random(),
            filters: self.pick(&[
                vec![],
                vec![],
                vec![noput],
                vec![nodelete],
                vec![noput, nodelete],
            ]),
            prev_kv: self.random.random(),
            // Few ids, so that some are taken.
            watch_id: if self.one_in(2) {
                0
            } else {
                self.random.random_range(1..12)
            },
            fragment: self.random.random(),
        }
    }

    /// A key and a range_end of any form.
    pub fn interval(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        let range_end = match self.random.random_range(0..8) {
            0..3 => Bytes::new(),
            3 => Bytes::from_static(b"\0"),
            4 if !key.is_empty() => end_of_prefix(&key),
            // Also reversed, and empty since both ends are one.
            _ => self.pick(&KEYS).into(),
        };
        (key, range_end)
    }

    /// One that holds few enough keys to be sorted stably.
    fn narrow_interval(&mut self) -> (Bytes, Bytes) {
        let from = self.random.random_range(0..KEYS.len() - SORTED_STABLY);
        let to = from + self.random.random_range(1..=SORTED_STABLY);
        (KEYS[from].into(), KEYS[to].into())
    }

    fn key(&mut self) -> Bytes {
        if self.one_in(100) {
            Bytes::new()
        } else {
            self.pick(&KEYS).into()
        }
    }

    fn lease(&mut self) -> i64 {
        if self.one_in(12) {
            UNKNOWN_LEASE
        } else {
            self.random.random_range(LEASES)
        }
    }

    /// Mostly one that can be read, and some that are compacted, to come, or not a revision.
    fn some_revision(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0 => -1,
            1 => self.revision + 1,
            2 => self.compacted,
            3 => self.random.random_range(0..=self.compacted),
            4..12 => (self.revision - self.random.random_range(0..10)).max(0),
            _ => self.random.random_range(self.compacted..=self.revision),
        }
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from.choose(&mut self.random)
            .expect("there is something to pick")
            .clone()
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.random_ratio(1, many)
    }
}

/// What ends the range of all keys that begin with `key`.
fn end_of_prefix(key: &[u8]) -> Bytes {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    // No key is after them all.
    Bytes::from_static(b"\0")
}

fn count(key: Bytes) -> pb::RequestOp {
    let range = pb::RangeRequest {
        key,
        count_only: true,
        ..Default::default()
    };
    pb::RequestOp {
        request: Some(Request::RequestRange(range)),
    }
}

fn puts(txn: &pb::TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(_)) => true,
            Some(Request::RequestTxn(nested)) => puts(nested),
            _ => false,
        })
}

/// Whether a nested txn deletes what one before it puts.
fn deletes_after_put(ops: &[pb::RequestOp]) -> bool {
    let mut put_before = Vec::new();
    for op in ops {
        let Some(Request::RequestTxn(nested)) = &op.request else {
            continue;
        };
        if deletes_after_put(&nested.success) || deletes_after_put(&nested.failure) {
            return true;
        }
        let (mut put, mut deleted) = (Vec::new(), Vec::new());
        changes(nested, &mut put, &mut deleted);
        let is_deleted = |key: &Bytes| {
            deleted
                .iter()
                .any(|delete| in_range(key, &delete.key, &delete.range_end))
        };
        if put_before.iter().any(is_deleted) {
            return true;
        }
        put_before.append(&mut put);
    }
    false
}

/// What a txn puts and deletes in any branch.
fn changes(txn: &pb::TxnRequest, put: &mut Vec<Bytes>, deleted: &mut Vec<pb::DeleteRangeRequest>) {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestPut(request)) => put.push(request.key.clone()),
            Some(Request::RequestDeleteRange(request)) => deleted.push(request.clone()),
            Some(Request::RequestTxn(nested)) => changes(nested, put, deleted),
            _ => {}
        }
    }
}

/// Turns deletes from a key on into deletes of that key.
fn make_survivable(ops: &mut [pb::RequestOp]) {
    for op in ops {
        match &mut op.request {
            Some(Request::RequestDeleteRange(delete)) if delete.range_end == b"\0"[..] => {
                delete.range_end.clear()
            }
            Some(Request::RequestTxn(nested)) => {
                make_survivable(&mut nested.success);
                make_survivable(&mut nested.failure);
            }
            _ => {}
        }
    }
}
