//! The network between members: delays, losses, duplicates, cuts.
//!
//! Messages are encoded and decoded as on the wire. On one lane they arrive in the order in which they were sent, or
//! not at all, as on a connection; what duplicates and reorders is what a reconnecting sender would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use keelson_proto::commandpb::Node;
use keelson_raft::transport::{Answer, Call, CallError, Lane, Reply, Request, Transport};
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::runtime::{Runtime, Tasks, now, outside};

/// The wires.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: StdRng,
    cut: BTreeSet<(u64, u64)>,
    /// Losses in a thousand messages.
    loss_per_mille: u32,
    /// Idempotent messages that arrive twice, in a thousand.
    twice_per_mille: u32,
    desks: BTreeMap<u64, (Arc<Tasks>, Arc<dyn Answer>)>,
    last_arrival: BTreeMap<(u64, u64, Lane), Duration>,
}

impl Net {
    /// Quiet wires.
    pub fn new(seed: u64) -> Net {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            cut: BTreeSet::new(),
            loss_per_mille: 2,
            twice_per_mille: 5,
            desks: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
        };
        Net {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A member can be reached.
    pub fn attach(&self, id: u64, tasks: Arc<Tasks>, desk: Arc<dyn Answer>) {
        self.state.lock().desks.insert(id, (tasks, desk));
    }

    /// A member is gone.
    pub fn detach(&self, id: u64) {
        let gone = self.state.lock().desks.remove(&id);
        drop(gone);
    }

    /// Nothing goes from the first to the second.
    pub fn cut(&self, from: u64, to: u64) {
        self.state.lock().cut.insert((from, to));
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    /// How many messages in a thousand are lost.
    pub fn lose(&self, per_mille: u32) {
        self.state.lock().loss_per_mille = per_mille;
    }

    /// A member's end of the wires.
    pub fn of(&self, me: u64) -> MemberNet {
        MemberNet {
            net: self.clone(),
            me,
        }
    }

    fn latency(&self) -> Duration {
        let mut state = self.state.lock();
        // Mostly a fast network; now and then a slow packet.
        let micros = if state.rng.random_ratio(1, 50) {
            state.rng.random_range(1_000..40_000)
        } else {
            state.rng.random_range(50..1_500)
        };
        Duration::from_micros(micros)
    }

    fn passes(&self, from: u64, to: u64) -> bool {
        let mut state = self.state.lock();
        let loss = state.loss_per_mille;
        !state.cut.contains(&(from, to)) && !state.rng.random_ratio(loss.min(1_000), 1_000)
    }

    /// When a message of a lane arrives that leaves now.
    fn arrival(&self, from: u64, to: u64, lane: Lane) -> Duration {
        let earliest = now() + self.latency();
        let mut state = self.state.lock();
        let last = state.last_arrival.entry((from, to, lane)).or_default();
        *last = earliest.max(*last + Duration::from_nanos(1));
        *last
    }

    fn twice(&self, request: &Request) -> bool {
        let mut state = self.state.lock();
        let chance = state.twice_per_mille;
        // Only what raft itself may send again.
        matches!(request, Request::Append(_) | Request::Vote(_))
            && state.rng.random_ratio(chance, 1_000)
    }

    async fn deliver(
        self,
        from: u64,
        to: u64,
        bytes: Vec<u8>,
        arrival: Duration,
    ) -> Result<Reply, CallError> {
        let lost = |why: &str| {
            Err(CallError::Lost {
                to,
                why: why.to_string(),
            })
        };
        Runtime::sleep(arrival.saturating_sub(now())).await;
        if !self.passes(from, to) {
            self.notice().await;
            return lost("the request did not arrive");
        }
        let Some((tasks, desk)) = self.state.lock().desks.get(&to).cloned() else {
            return lost("the connection was reset");
        };
        let request = match Request::decode(bytes.into()) {
            Ok(request) => request,
            Err(error) => panic!("a request does not survive its encoding: {error}"),
        };
        if self.twice(&request) {
            let again = desk.answer(from, request.clone());
            drop(tasks.spawn(again));
        }
        let Ok(reply) = tasks.spawn(desk.answer(from, request)).await else {
            return lost("the connection was reset");
        };
        let reply = reply.encode();
        Runtime::sleep(self.latency()).await;
        if !self.passes(to, from) {
            self.notice().await;
            return lost("the reply did not arrive");
        }
        match Reply::decode(reply) {
            Ok(reply) => Ok(reply),
            Err(error) => panic!("a reply does not survive its encoding: {error}"),
        }
    }

    /// The time that an end needs to find out that a connection is dead.
    async fn notice(&self) {
        let millis = self.state.lock().rng.random_range(20..600);
        Runtime::sleep(Duration::from_millis(millis)).await;
    }
}

/// A member's end of the wires.
#[derive(Clone)]
pub struct MemberNet {
    net: Net,
    me: u64,
}

impl Transport for MemberNet {
    fn call(&self, to: u64, lane: Lane, request: Request) -> Call {
        if !self.net.state.lock().desks.contains_key(&to) {
            let why = "connection refused".to_string();
            return Box::pin(async move { Err(CallError::NotSent { to, why }) });
        }
        let arrival = self.net.arrival(self.me, to, lane);
        let (done, answered) = oneshot::channel();
        let delivery = self
            .net
            .clone()
            .deliver(self.me, to, request.encode().to_vec(), arrival);
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
