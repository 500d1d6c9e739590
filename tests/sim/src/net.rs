//! The network between members: delays, losses, duplicates, messages that come late, cuts.
//!
//! Messages are encoded and decoded as on the wire. On one lane they arrive in the order in which they were sent, or
//! not at all, as on a connection, with two exceptions, both of which a connection that breaks can bring about: what
//! its sender has given up may still arrive, long after what was sent later; and what raft may send again arrives
//! twice, the second time at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use keelson_proto::commandpb::{LogId, Node};
use keelson_proto::peerpb::{Hello, append_reply, hello_reply::Verdict};
use keelson_raft::transport::{Answer, Call, CallError, Lane, PROTOCOL, Reply, Request, Transport};
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::node::CLUSTER;
use crate::runtime::{Runtime, Tasks, now, outside};
use crate::tally::Kind;
use crate::truth::Truth;

/// How bad the wires are. Each number is of a thousand messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Lost.
    pub lost: u32,
    /// Arrive twice, of those that raft may send again.
    pub twice: u32,
    /// Given up by their sender, and arrive late.
    pub late: u32,
    /// Every message takes so many times as long.
    pub slow: u32,
    /// Votes and received snapshots (of a thousand of these) after which the member that promised them loses power.
    pub fatal: u32,
}

/// Wires as they mostly are.
pub const FAIR: Weather = Weather {
    lost: 2,
    twice: 5,
    late: 1,
    slow: 1,
    fatal: 60,
};

/// Wires that do nothing wrong.
pub const CALM: Weather = Weather {
    lost: 0,
    twice: 0,
    late: 0,
    slow: 1,
    fatal: 0,
};

/// A message that is late comes within this, and the answer to it soon after.
pub const LATEST: Duration = Duration::from_secs(3);

/// The wires.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    truth: Truth,
}

struct State {
    rng: StdRng,
    cut: BTreeSet<(u64, u64)>,
    weather: Weather,
    desks: BTreeMap<u64, Desk>,
    last_arrival: BTreeMap<(u64, u64, Lane), Duration>,
    /// The connections, which are there from the first message until one is lost.
    connected: BTreeSet<(u64, u64, Lane)>,
    /// Members whose machines have lost power just after a promise.
    without_power: Vec<u64>,
}

/// A member that can be reached.
#[derive(Clone)]
struct Desk {
    tasks: Arc<Tasks>,
    answer: Arc<dyn Answer>,
    tell_removed: Arc<dyn Fn() + Send + Sync>,
}

impl Net {
    /// Wires in fair weather.
    pub fn new(seed: u64, truth: Truth) -> Net {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            cut: BTreeSet::new(),
            weather: FAIR,
            desks: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            connected: BTreeSet::new(),
            without_power: Vec::new(),
        };
        Net {
            state: Arc::new(Mutex::new(state)),
            truth,
        }
    }

    /// A member can be reached. `tell_removed`: what to do when a peer says that it was removed.
    pub fn attach(
        &self,
        id: u64,
        tasks: Arc<Tasks>,
        answer: Arc<dyn Answer>,
        tell_removed: impl Fn() + Send + Sync + 'static,
    ) {
        let desk = Desk {
            tasks,
            answer,
            tell_removed: Arc::new(tell_removed),
        };
        self.state.lock().desks.insert(id, desk);
    }

    /// A member is gone, and so are its connections.
    pub fn detach(&self, id: u64) {
        let mut state = self.state.lock();
        state
            .connected
            .retain(|(from, to, _)| *from != id && *to != id);
        let gone = state.desks.remove(&id);
        drop(state);
        drop(gone);
    }

    /// A member's program has ended, and its machine closes the connections: the others see it, unless the wires are cut. To be
    /// called once it is detached.
    pub fn hang_up(&self, id: u64) {
        let others: Vec<u64> = self.state.lock().desks.keys().copied().collect();
        for other in others {
            self.broken(id, other);
        }
    }

    /// A connection on which one member asked another is no more, and the other finds out.
    fn broken(&self, from: u64, to: u64) {
        let net = self.clone();
        outside(|| {
            drop(Runtime::spawn(async move {
                Runtime::sleep(net.latency()).await;
                let desk = net.state.lock().desks.get(&to).cloned();
                if let Some(desk) = desk
                    && net.passes(from, to)
                {
                    drop(desk.tasks.spawn(desk.answer.ended(from)));
                }
            }))
        });
    }

    /// Nothing goes from the first to the second.
    pub fn cut(&self, from: u64, to: u64) {
        self.state.lock().cut.insert((from, to));
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    /// How bad the wires are from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Members whose machines have lost power just after a promise: nothing of them runs any more.
    pub fn take_without_power(&self) -> Vec<u64> {
        std::mem::take(&mut self.state.lock().without_power)
    }

    /// A member's end of the wires.
    pub fn of(&self, me: u64) -> MemberNet {
        MemberNet {
            net: self.clone(),
            me,
        }
    }

    fn latency(&self) -> Duration {
        self.state.lock().latency()
    }

    fn happens(&self, per_mille: impl Fn(&Weather) -> u32) -> bool {
        let mut state = self.state.lock();
        let chance = per_mille(&state.weather).min(1_000);
        state.rng.random_ratio(chance, 1_000)
    }

    fn passes(&self, from: u64, to: u64) -> bool {
        !self.happens(|weather| weather.lost) && !self.state.lock().cut.contains(&(from, to))
    }

    /// Whether a caller learns at once that it cannot reach somebody: that one does not run, or who cuts the wire says so, as some
    /// firewalls do.
    fn refuses(&self, from: u64, to: u64) -> bool {
        let mut state = self.state.lock();
        !state.desks.contains_key(&to)
            || state.cut.contains(&(from, to)) && state.rng.random_ratio(1, 4)
    }

    /// When a message of a lane arrives that leaves now.
    fn arrival(&self, from: u64, to: u64, lane: Lane) -> Duration {
        let mut state = self.state.lock();
        let earliest = now() + state.latency();
        let last = state.last_arrival.entry((from, to, lane)).or_default();
        *last = earliest.max(*last + Duration::from_nanos(1));
        *last
    }

    /// Which member is called, if it lets the caller in.
    fn reach(&self, from: u64, to: u64, lane: Lane) -> Result<Desk, CallError> {
        let not_let_in = |why: &str| CallError::NotSent {
            to,
            why: why.to_string(),
            is_refused: false,
        };
        let (desk, known) = {
            let state = self.state.lock();
            let desk = state.desks.get(&to).cloned();
            (desk, state.connected.contains(&(from, to, lane)))
        };
        let desk = desk.ok_or_else(|| CallError::Lost {
            to,
            why: "the connection was reset".to_string(),
        })?;
        if known {
            return Ok(desk);
        }
        let hello = Hello {
            protocol: PROTOCOL,
            cluster_id: CLUSTER,
            from,
            to,
        };
        match desk.answer.admit(&hello).verdict() {
            Verdict::Welcome => {
                self.state.lock().connected.insert((from, to, lane));
                Ok(desk)
            }
            Verdict::Removed => {
                let caller = self.state.lock().desks.get(&from).cloned();
                if let Some(caller) = caller {
                    (caller.tell_removed)();
                }
                Err(not_let_in("this member was removed from the cluster"))
            }
            verdict => {
                let name = verdict.as_str_name();
                self.truth
                    .contradiction(format!("member {to} does not let member {from} in: {name}"));
                Err(not_let_in("this member is not let in"))
            }
        }
    }

    async fn deliver(self, message: Message) -> Result<Reply, CallError> {
        let Message { from, to, lane, .. } = message;
        let lost = |why: &str| {
            self.state.lock().connected.remove(&(from, to, lane));
            self.broken(from, to);
            Err(CallError::Lost {
                to,
                why: why.to_string(),
            })
        };
        Runtime::sleep(message.arrival.saturating_sub(now())).await;
        if !self.passes(from, to) {
            self.truth.count(Kind::Lost);
            self.notice().await;
            return lost("the request did not arrive");
        }
        let request = match Request::decode(message.bytes.into()) {
            Ok(request) => request,
            Err(error) => panic!("a request does not survive its encoding: {error}"),
        };
        if self.happens(|weather| weather.late) {
            self.truth.count(Kind::Overtaken);
            self.again_later(from, to, lane, request);
            self.notice().await;
            return lost("the connection broke");
        }
        let desk = match self.reach(from, to, lane) {
            Ok(desk) => desk,
            Err(error) => return Err(error),
        };
        if may_come_twice(&request) && self.happens(|weather| weather.twice) {
            self.truth.count(Kind::Twice);
            self.again_later(from, to, lane, request.clone());
        }
        let promise = Promise::asked_by(&request);
        let answer = desk.answer.answer(from, request);
        let Ok(reply) = desk.tasks.spawn(answer).await else {
            return lost("the connection was reset");
        };
        if let Some(promise) = promise {
            self.promised(promise, to, &desk, &reply);
        }
        let reply = reply.encode();
        Runtime::sleep(self.latency()).await;
        if !self.passes(to, from) {
            self.truth.count(Kind::Lost);
            self.notice().await;
            return lost("the reply did not arrive");
        }
        match Reply::decode(reply) {
            Ok(reply) => Ok(reply),
            Err(error) => panic!("a reply does not survive its encoding: {error}"),
        }
    }

    /// A member gives its word, which must be on its disk by now; and may lose power before it does anything else.
    fn promised(&self, promise: Promise, member: u64, desk: &Desk, reply: &Reply) {
        match (promise, reply) {
            (Promise::Vote { term, candidate }, Reply::Vote(reply)) if reply.granted => {
                self.truth.votes(member, term, candidate);
            }
            (Promise::Snapshot, Reply::SnapshotEnd(_)) => self.truth.count(Kind::Snapshot),
            (Promise::Entries { term }, Reply::Append(reply)) => {
                if let Some(append_reply::Result::Success(success)) = &reply.result
                    && let Some(last) = &success.matching
                {
                    let node = 0;
                    let LogId {
                        term: of, index, ..
                    } = *last;
                    self.truth.holds(
                        member,
                        term,
                        keelson_log::LogId {
                            term: of,
                            node,
                            index,
                        },
                    );
                }
                return;
            }
            _ => return,
        }
        let still_runs = {
            let state = self.state.lock();
            let now = state.desks.get(&member);
            now.is_some_and(|now| Arc::ptr_eq(&now.tasks, &desk.tasks))
        };
        if still_runs && self.happens(|weather| weather.fatal) {
            desk.tasks.kill();
            self.detach(member);
            self.state.lock().without_power.push(member);
        }
    }

    /// A message arrives, once more or at last, when nobody waits for its answer any longer.
    fn again_later(&self, from: u64, to: u64, lane: Lane, request: Request) {
        let delay = {
            let mut state = self.state.lock();
            // Right away, or when much has changed.
            if state.rng.random_ratio(1, 2) {
                Duration::from_micros(state.rng.random_range(0..5_000))
            } else {
                Duration::from_millis(state.rng.random_range(5..LATEST.as_millis() as u64))
            }
        };
        let net = self.clone();
        drop(Runtime::spawn(async move {
            Runtime::sleep(delay).await;
            if let Ok(desk) = net.reach(from, to, lane) {
                drop(desk.tasks.spawn(desk.answer.answer(from, request)));
            }
        }));
    }

    /// The time that an end needs to find out that a connection is dead.
    async fn notice(&self) {
        let millis = self.state.lock().rng.random_range(20..600);
        Runtime::sleep(Duration::from_millis(millis)).await;
    }
}

impl State {
    fn latency(&mut self) -> Duration {
        // Mostly a fast network; now and then a slow packet.
        let micros = if self.rng.random_ratio(1, 50) {
            self.rng.random_range(1_000..40_000)
        } else {
            self.rng.random_range(50..1_500)
        };
        Duration::from_micros(micros) * self.weather.slow
    }
}

/// What a request asks a member to promise.
#[derive(Clone, Copy)]
enum Promise {
    Vote { term: u64, candidate: u64 },
    Snapshot,
    Entries { term: u64 },
}

impl Promise {
    fn asked_by(request: &Request) -> Option<Promise> {
        match request {
            Request::Vote(ask) if !ask.pre_vote => {
                let vote = ask.vote.as_ref()?;
                Some(Promise::Vote {
                    term: vote.term,
                    candidate: vote.node,
                })
            }
            Request::SnapshotEnd(_) => Some(Promise::Snapshot),
            // The answer to a heartbeat waits for no disk.
            Request::Append(append) if !append.entries.is_empty() => Some(Promise::Entries {
                term: append.vote.as_ref()?.term,
            }),
            _ => None,
        }
    }
}

/// What raft, or the sending of a snapshot, may repeat. Never what a client asks.
fn may_come_twice(request: &Request) -> bool {
    matches!(
        request,
        Request::Append(_)
            | Request::Vote(_)
            | Request::TransferLeader(_)
            | Request::SnapshotBegin(_)
            | Request::SnapshotChunk(_)
            | Request::SnapshotEnd(_)
    )
}

/// A message under way.
struct Message {
    from: u64,
    to: u64,
    lane: Lane,
    bytes: Vec<u8>,
    arrival: Duration,
}

/// A member's end of the wires.
#[derive(Clone)]
pub struct MemberNet {
    net: Net,
    me: u64,
}

impl MemberNet {
    /// Whoever asks for votes has voted for itself; whoever sends entries or heartbeats says that it leads.
    fn watch_leaders(&self, request: &Request) {
        if let Some(Promise::Vote { term, candidate }) = Promise::asked_by(request) {
            self.net.truth.votes(self.me, term, candidate);
        }
        let Request::Append(append) = request else {
            return;
        };
        let Some(vote) = &append.vote else { return };
        if vote.node == self.me {
            self.net.truth.leads(vote.term, self.me);
        } else {
            self.net.truth.contradiction(format!(
                "member {} sends entries under the vote of member {} for term {}",
                self.me, vote.node, vote.term
            ));
        }
    }
}

impl Transport for MemberNet {
    fn call(&self, to: u64, lane: Lane, request: Request) -> Call {
        self.watch_leaders(&request);
        if self.net.refuses(self.me, to) {
            let refused = CallError::NotSent {
                to,
                why: "connection refused".to_string(),
                is_refused: true,
            };
            return Box::pin(async move { Err(refused) });
        }
        let message = Message {
            from: self.me,
            to,
            lane,
            bytes: request.encode().to_vec(),
            arrival: self.net.arrival(self.me, to, lane),
        };
        let (done, answered) = oneshot::channel();
        let delivery = self.net.clone().deliver(message);
        // A message on the wire outlives its sender.
        outside(|| {
            drop(Runtime::spawn(
                async move { drop(done.send(delivery.await)) },
            ))
        });
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| {
                Err(CallError::Lost {
                    to,
                    why: "the run has ended".into(),
                })
            })
        })
    }

    fn set_peers(&self, _peers: &[Node]) {}
}
