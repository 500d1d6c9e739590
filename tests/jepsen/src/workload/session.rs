//! One client of a workload: it does one operation after another, at its pace, at whatever member it can reach.

use std::sync::Arc;
use std::time::Duration;

use keelson_jepsen::history::{
    Act, Call, ClientId, Data, Deed, Header, Operation, Outcome, Put, Range, Reply, Settled, Step,
    Txn, Workload, prefix_end,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::client::Connection;
use crate::run::World;

/// A client gives up after one of these. The impatient ones leave more outcomes open; the patient ones hear the
/// server's own verdict.
const PATIENCES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
];
/// Between two attempts to find a member that accepts.
const BACK_OFF: Duration = Duration::from_millis(50);
/// One operation in so many goes over a new connection, so that clients do not gather at the member that lives longest.
const MOVES: u32 = 200;

/// A client of a workload.
pub struct Session {
    pub world: Arc<World>,
    pub workload: Workload,
    pub client: ClientId,
    /// Its place among the clients of its workload, from 0.
    pub index: usize,
    pub random: StdRng,
    patience: Duration,
    connection: Option<Connection>,
    /// Between the beginnings of two operations, on average.
    interval: Duration,
    due: Instant,
}

impl Session {
    pub fn new(
        world: Arc<World>,
        workload: Workload,
        index: usize,
        seed: u64,
        interval: Duration,
    ) -> Session {
        let mut random = StdRng::seed_from_u64(seed);
        let patience = *PATIENCES.choose(&mut random).expect("there are some");
        Session {
            client: world.new_client(),
            world,
            workload,
            index,
            random,
            patience,
            connection: None,
            interval,
            due: Instant::now(),
        }
    }

    /// Waits until it is time for the next operation; false if it is time to stop.
    pub async fn turn(&mut self) -> bool {
        // Jitter keeps clients from marching in step. One that was held up does not make up for it.
        let wait = self.interval.mul_f64(self.random.random_range(0.0..2.0));
        self.due = (self.due + wait).max(Instant::now());
        let wait = self.due.duration_since(Instant::now());
        self.world.pause(wait).await;
        !self.world.stopping()
    }

    /// Does one operation, whether it is time to stop or not. None if no member could be reached before it was.
    pub async fn call(&mut self, call: Call) -> Option<Operation> {
        if self.random.random_ratio(1, MOVES) {
            self.connection = None;
        }
        let connection = self.connected().await?;
        let operation = self
            .world
            .operate(self.workload, self.client, &connection, call, self.patience)
            .await;
        let broken = match &operation.outcome {
            Outcome::Done { .. } => false,
            Outcome::Refused { error } => !error.starts_with("etcdserver: "),
            Outcome::Unknown { .. } => true,
        };
        if broken {
            self.connection = None;
            // So that a cluster without a leader is not drowned.
            self.world.pause(BACK_OFF).await;
        }
        Some(operation)
    }

    /// Does one operation, and gives the reply if there was one.
    pub async fn ask(&mut self, call: Call) -> Option<Answer> {
        let operation = self.call(call).await?;
        match operation.outcome {
            Outcome::Done { header, reply } => Some(Answer { header, reply }),
            _ => None,
        }
    }

    async fn connected(&mut self) -> Option<Connection> {
        // Those who finish up after the word to stop get a few attempts.
        for attempt in 0.. {
            if let Some(connection) = &self.connection {
                return Some(connection.clone());
            }
            if attempt >= 20 && self.world.stopping() {
                break;
            }
            let members = self.world.members();
            if let Some(member) = members.choose(&mut self.random)
                && let Some(Ok(connection)) = self.world.connect(*member).await
            {
                self.connection = Some(connection);
            } else {
                tokio::time::sleep(BACK_OFF).await;
            }
        }
        None
    }

    /// Records what was meant by `operations`.
    pub fn act(&self, operations: &[&Operation], deed: Deed, settled: Settled) {
        let (Some(first), Some(last)) = (operations.first(), operations.last()) else {
            return;
        };
        self.world.act(Act {
            operations: operations.iter().map(|operation| operation.id).collect(),
            workload: self.workload,
            client: self.client,
            start: first.start,
            end: last.end,
            deed,
            settled,
        });
    }

    /// A value that is written once in a run: `meaning`, and a number.
    pub fn value(&self, meaning: impl std::fmt::Display) -> Data {
        format!("{meaning} #{}", self.world.new_value()).into()
    }
}

/// A reply.
pub struct Answer {
    pub header: Header,
    pub reply: Reply,
}

/// Whether an operation came to be, where a reply means that it did.
pub fn settled(outcome: &Outcome) -> Settled {
    match outcome {
        Outcome::Done { .. } => Settled::Done,
        Outcome::Refused { .. } => Settled::Not,
        Outcome::Unknown { .. } => Settled::Unknown,
    }
}

/// Whether a guarded transaction came to be: not if its guard was false.
pub fn settled_txn(outcome: &Outcome) -> Settled {
    match outcome {
        Outcome::Done {
            reply: Reply::Txn {
                succeeded: false, ..
            },
            ..
        } => Settled::Not,
        other => settled(other),
    }
}

/// A read of one key.
pub fn get(key: &str) -> Range {
    Range {
        key: key.into(),
        ..Range::default()
    }
}

/// A read of all keys that begin with `prefix`.
pub fn list(prefix: &str) -> Range {
    Range {
        key: prefix.into(),
        range_end: prefix_end(prefix.as_bytes()),
        ..Range::default()
    }
}

/// A write of one key.
pub fn put(key: &str, value: Data) -> Put {
    Put {
        key: key.into(),
        value,
        ..Put::default()
    }
}

/// A transaction.
pub fn txn(
    compares: Vec<keelson_jepsen::history::Compare>,
    success: Vec<Step>,
    failure: Vec<Step>,
) -> Call {
    Call::Txn(Txn {
        compares,
        success,
        failure,
    })
}
