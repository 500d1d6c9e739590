//! One run of a seed: three members, clients, faults; then peace, in which everything must agree.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::commandpb::{
    Command, Membership, Node as PeerNode, Voters, command::Request, outcome,
};
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::request_op;
use keelson_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use keelson_raft::Member;
use keelson_store::{EventKind, Revision};
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::history::{Ask, Changes, Operation, Told, check};
use crate::net::Net;
use crate::node::{Node, Simulated};
use crate::runtime::{Runtime, now, take_panics};

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Virtual time with faults.
    pub duration: Duration,
    /// Concurrent clients.
    pub clients: usize,
    /// Disks that say that they have synced, and have not: to see that this is found.
    pub lying_disks: bool,
}

impl Default for Size {
    fn default() -> Size {
        Size {
            duration: Duration::from_secs(60),
            clients: 6,
            lying_disks: false,
        }
    }
}

/// What a run was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Operations that were answered, and that were not.
    pub answered: usize,
    /// Operations whose outcome the client does not know.
    pub unknown: usize,
    /// Faults, in their order.
    pub faults: Vec<(Duration, String)>,
    /// Every operation.
    pub operations: Vec<Operation>,
    /// The store's revision at the end.
    pub revision: i64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            answered,
            unknown,
            faults,
            revision,
            ..
        } = self;
        write!(
            f,
            "{answered} answered, {unknown} unknown, {} faults, revision {revision}",
            faults.len()
        )
    }
}

const MEMBERS: u64 = 3;
const KEYS: u32 = 5;

/// Runs a seed. An error is what was found, and what had happened until then.
pub fn run(seed: u64, size: Size) -> Result<Report> {
    run_traced(seed, size, false).map(|(report, _)| report)
}

/// Runs a seed and also gives the scheduler's decisions.
pub fn run_traced(seed: u64, size: Size, trace: bool) -> Result<(Report, Vec<String>)> {
    take_panics();
    let mut runtime = Runtime::with_seed(seed);
    if trace {
        runtime.record_trace();
    }
    let result = runtime.block_on(async { World::new(seed, size.lying_disks)?.run(size).await });
    let trace = runtime.take_trace();
    drop(runtime);
    let panics = take_panics();
    let report = result.with_context(|| format!("seed {seed}"))?;
    ensure!(
        panics.is_empty(),
        "seed {seed}: {} panics, the first: {}",
        panics.len(),
        panics[0]
    );
    Ok((report, trace))
}

struct World {
    seed: u64,
    rng: StdRng,
    net: Net,
    nodes: Vec<Node>,
    drift_ppm: Vec<i64>,
    found: Membership,
    faults: Vec<(Duration, String)>,
    /// When each member that is down is started again, and when a paused one is resumed.
    down_until: BTreeMap<usize, Duration>,
    paused_until: BTreeMap<usize, Duration>,
    heal_at: Option<Duration>,
    leaders: BTreeMap<u64, u64>,
    up: Arc<Mutex<Vec<crate::node::Life>>>,
}

impl World {
    fn new(seed: u64, lying_disks: bool) -> Result<World> {
        let mut rng = StdRng::seed_from_u64(seed);
        let ids = 1..=MEMBERS;
        let nodes: Vec<PeerNode> = ids
            .clone()
            .map(|id| PeerNode {
                id,
                peer_urls: vec![format!("http://member-{id}")],
                pending_voter: false,
            })
            .collect();
        let found = Membership {
            configs: vec![Voters {
                ids: ids.clone().collect(),
            }],
            nodes,
        };
        Ok(World {
            seed,
            net: Net::new(rng.random()),
            nodes: ids
                .map(|id| Node::new(id, lying_disks))
                .collect::<Result<_>>()?,
            // Clocks that differ by up to two per cent, far worse than real ones.
            drift_ppm: (0..MEMBERS)
                .map(|_| rng.random_range(-20_000..20_000))
                .collect(),
            found,
            faults: Vec::new(),
            down_until: BTreeMap::new(),
            paused_until: BTreeMap::new(),
            heal_at: None,
            leaders: BTreeMap::new(),
            up: Arc::default(),
            rng,
        })
    }

    async fn run(mut self, size: Size) -> Result<Report> {
        for at in 0..self.nodes.len() {
            self.start(at).await?;
        }
        let end = now() + size.duration;
        let operations = Arc::new(Mutex::new(Vec::new()));
        let clients: Vec<_> = (0..size.clients)
            .map(|client| {
                let rng = StdRng::seed_from_u64(self.rng.random());
                Runtime::spawn(client_loop(
                    client,
                    rng,
                    self.up.clone(),
                    operations.clone(),
                    end,
                ))
            })
            .collect();
        let mut next_fault = now() + Duration::from_secs(2);
        while now() < end {
            Runtime::sleep(Duration::from_millis(50)).await;
            self.check_leaders()?;
            self.mend().await?;
            if now() >= next_fault {
                self.fault();
                next_fault = now() + Duration::from_millis(self.rng.random_range(500..5_000));
            }
        }
        self.peace().await?;
        for client in clients {
            client.await.context("a client died")?;
        }
        let changes = self.agree().await?;
        let operations = std::mem::take(&mut *operations.lock());
        if let Err(why) = check(&operations, &changes) {
            bail!("{why}\nfaults: {:#?}", self.faults);
        }
        let unknown = operations
            .iter()
            .filter(|operation| operation.told == Told::Unknown)
            .count();
        for node in &mut self.nodes {
            node.crash(&self.net, None);
        }
        self.up.lock().clear();
        Ok(Report {
            answered: operations.len() - unknown,
            unknown,
            faults: self.faults,
            operations,
            revision: changes.revision,
        })
    }

    async fn start(&mut self, at: usize) -> Result<()> {
        let seed = self.seed.rotate_left(at as u32 * 7 + 1);
        self.nodes[at]
            .start(seed, self.drift_ppm[at], self.found.clone(), &self.net)
            .await?;
        let life = self.nodes[at].running().context("just started")?.clone();
        self.up.lock().push(life);
        Ok(())
    }

    fn crash(&mut self, at: usize, power_loss: bool) {
        let id = self.nodes[at].id;
        let seed = power_loss.then(|| self.rng.random());
        self.nodes[at].crash(&self.net, seed);
        self.up.lock().retain(|life| life.member.id().0 != id);
        self.paused_until.remove(&at);
        self.down_until.insert(
            at,
            now() + Duration::from_millis(self.rng.random_range(50..4_000)),
        );
    }

    fn fault(&mut self) {
        let at = self.rng.random_range(0..self.nodes.len());
        let id = self.nodes[at].id;
        let what = match self.rng.random_range(0..10) {
            0 | 1 => {
                self.crash(at, true);
                format!("member {id} loses power")
            }
            2 => {
                self.crash(at, false);
                format!("member {id} is killed")
            }
            3 => {
                for at in 0..self.nodes.len() {
                    self.crash(at, true);
                }
                "all lose power".to_string()
            }
            4 => {
                let Some(life) = self.nodes[at].running() else {
                    return;
                };
                life.tasks.pause();
                self.paused_until.insert(
                    at,
                    now() + Duration::from_millis(self.rng.random_range(200..3_000)),
                );
                format!("member {id} is paused")
            }
            5 => {
                self.isolate(id, true, true);
                format!("member {id} is cut off")
            }
            6 => {
                self.isolate(id, true, false);
                format!("member {id} is not heard")
            }
            7 => {
                self.isolate(id, false, true);
                format!("member {id} hears nothing")
            }
            8 => {
                let leader = self.nodes.iter().position(|node| {
                    node.running()
                        .is_some_and(|life| life.member.status().is_leader)
                });
                let Some(leader) = leader else { return };
                self.crash(leader, true);
                format!("the leader, member {}, loses power", self.nodes[leader].id)
            }
            _ => {
                self.net.lose(self.rng.random_range(20..200));
                self.heal_at =
                    Some(now() + Duration::from_millis(self.rng.random_range(500..4_000)));
                "the network loses messages".to_string()
            }
        };
        self.faults.push((now(), what));
    }

    fn isolate(&mut self, id: u64, outgoing: bool, incoming: bool) {
        for other in (1..=MEMBERS).filter(|other| *other != id) {
            if outgoing {
                self.net.cut(id, other);
            }
            if incoming {
                self.net.cut(other, id);
            }
        }
        self.heal_at = Some(now() + Duration::from_millis(self.rng.random_range(500..6_000)));
    }

    /// Ends the faults whose time is over.
    async fn mend(&mut self) -> Result<()> {
        if self.heal_at.is_some_and(|at| at <= now()) {
            self.heal_at = None;
            self.net.heal();
            self.net.lose(2);
        }
        let due = |times: &BTreeMap<usize, Duration>| -> Vec<usize> {
            times
                .iter()
                .filter(|(_, until)| **until <= now())
                .map(|(at, _)| *at)
                .collect()
        };
        for at in due(&self.paused_until) {
            self.paused_until.remove(&at);
            if let Some(life) = self.nodes[at].running() {
                life.tasks.resume();
            }
        }
        for at in due(&self.down_until) {
            self.down_until.remove(&at);
            self.start(at).await?;
        }
        Ok(())
    }

    /// A term has one leader.
    fn check_leaders(&mut self) -> Result<()> {
        for node in &self.nodes {
            let Some(life) = node.running() else { continue };
            let status = life.member.status();
            if let Some(failed) = status.failed {
                bail!("member {} has stopped by itself: {failed}", node.id);
            }
            if status.is_leader {
                let leader = *self.leaders.entry(status.term).or_insert(node.id);
                ensure!(
                    leader == node.id,
                    "members {leader} and {} both lead term {}",
                    node.id,
                    status.term
                );
            }
        }
        Ok(())
    }

    /// All faults end.
    async fn peace(&mut self) -> Result<()> {
        self.heal_at = Some(now());
        for until in self
            .down_until
            .values_mut()
            .chain(self.paused_until.values_mut())
        {
            *until = now();
        }
        self.mend().await
    }

    /// Within a time, every member has recovered, serves reads, and holds the same.
    async fn agree(&mut self) -> Result<Changes> {
        let members: Vec<Member<Simulated>> = self
            .nodes
            .iter()
            .map(|node| {
                node.running()
                    .map(|life| life.member.clone())
                    .context("a member is down in peace")
            })
            .collect::<Result<_>>()?;
        let deadline = now() + Duration::from_secs(60);
        for member in &members {
            loop {
                ensure!(
                    now() < deadline,
                    "member {} serves no read a minute after the last fault",
                    member.id()
                );
                if member.read_barrier().await.is_ok() {
                    break;
                }
            }
        }
        let hashes: Vec<_> = members
            .iter()
            .map(|member| {
                let view = member.reader().now();
                let hash = view.hash_kv(None)?;
                anyhow::Ok((view.revision, hash.hash))
            })
            .collect::<Result<_>>()?;
        ensure!(
            hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "members hold different data: {hashes:?}"
        );
        let view = members[0].reader().now();
        let mut changes = Changes {
            revision: view.revision.0,
            ..Changes::default()
        };
        let mut from = Revision(2);
        while from <= view.revision {
            let events = view.events_from(from, 1 << 20, 1_000)?;
            let Some(last) = events.last() else { break };
            from = last.revision.next();
            for event in &events {
                let key = String::from_utf8_lossy(&event.key).into_owned();
                let value = match event.kind {
                    EventKind::Delete => None,
                    EventKind::Put => Some(value_of(&event.bytes(false))?),
                };
                changes.add(key, event.revision.0, value);
            }
        }
        Ok(changes)
    }
}

fn value_of(event: &[u8]) -> Result<String> {
    let event = <keelson_proto::mvccpb::Event as prost::Message>::decode(event)?;
    let kv = event.kv.context("an event without a key")?;
    Ok(String::from_utf8_lossy(&kv.value).into_owned())
}

/// One client: asks members at random, one operation after the other.
async fn client_loop(
    client: usize,
    mut rng: StdRng,
    up: Arc<Mutex<Vec<crate::node::Life>>>,
    operations: Arc<Mutex<Vec<Operation>>>,
    end: Duration,
) {
    let mut number = 0;
    let mut last_seen: BTreeMap<String, i64> = BTreeMap::new();
    while now() < end {
        Runtime::sleep(Duration::from_millis(rng.random_range(1..250))).await;
        let life = {
            let up = up.lock();
            if up.is_empty() {
                None
            } else {
                Some(up[rng.random_range(0..up.len())].clone())
            }
        };
        let Some(life) = life else { continue };
        number += 1;
        let key = format!("key{}", rng.random_range(0..KEYS));
        let value = format!("{client}-{number}");
        let ask = match rng.random_range(0..10) {
            0..=3 => Ask::Put { key, value },
            4 => Ask::Swap {
                expected: last_seen.get(&key).copied().unwrap_or(0),
                key,
                value,
            },
            5 => Ask::Delete { key },
            6..=8 => Ask::Get { key },
            _ => Ask::Peek { key },
        };
        let start = now();
        // On the member's own tasks: if it dies, so does the request, and the outcome is not known.
        let told = life
            .tasks
            .spawn(perform(life.member.clone(), ask.clone()))
            .await
            .unwrap_or(Told::Unknown);
        if let (Told::Read { found, .. }, Ask::Get { key }) = (&told, &ask) {
            last_seen.insert(key.clone(), found.as_ref().map_or(0, |(_, at)| *at));
        }
        let operation = Operation {
            client,
            member: life.member.id().0,
            ask,
            start,
            end: now(),
            told,
        };
        operations.lock().push(operation);
    }
}

async fn perform(member: Member<Simulated>, ask: Ask) -> Told {
    let request = match ask {
        Ask::Get { key } => {
            return match member.read_barrier().await {
                Ok(()) => read(&member, &key),
                Err(_) => Told::Unknown,
            };
        }
        Ask::Peek { key } => {
            // As the process does: nobody is served before the member has recovered.
            return match member.recovered().await {
                Ok(()) => read(&member, &key),
                Err(_) => Told::Unknown,
            };
        }
        Ask::Put { key, value } => Request::Put(put(key, value)),
        Ask::Delete { key } => Request::DeleteRange(DeleteRangeRequest {
            key: key.into(),
            ..Default::default()
        }),
        Ask::Swap {
            key,
            expected,
            value,
        } => {
            let compare = Compare {
                result: CompareResult::Equal as i32,
                target: CompareTarget::Mod as i32,
                key: key.clone().into(),
                target_union: Some(TargetUnion::ModRevision(expected)),
                ..Default::default()
            };
            let put = RequestOp {
                request: Some(request_op::Request::RequestPut(put(key, value))),
            };
            Request::Txn(TxnRequest {
                compare: vec![compare],
                success: vec![put],
                failure: vec![],
            })
        }
    };
    let outcome = match member
        .propose(Command {
            request: Some(request),
            ..Command::default()
        })
        .await
    {
        Ok(outcome) => outcome,
        Err(_) => return Told::Unknown,
    };
    let changed = match outcome.result {
        Ok(outcome::Result::Put(_)) => true,
        Ok(outcome::Result::Txn(txn)) => txn.succeeded,
        Ok(outcome::Result::DeleteRange(deleted)) => deleted.deleted > 0,
        _ => return Told::Unknown,
    };
    Told::Wrote {
        revision: outcome.revision.0,
        changed,
    }
}

fn put(key: String, value: String) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

fn read(member: &Member<Simulated>, key: &str) -> Told {
    let view = member.reader().now();
    match view.get(key.as_bytes()) {
        Ok(found) => {
            let found = found.map(|kv| {
                (
                    String::from_utf8_lossy(&kv.value).into_owned(),
                    kv.mod_revision,
                )
            });
            Told::Read {
                revision: view.revision.0,
                found,
            }
        }
        Err(_) => Told::Unknown,
    }
}
