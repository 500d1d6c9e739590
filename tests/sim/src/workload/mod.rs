//! Those who use the cluster: clients, lease holders, watchers, and an operator who changes it meanwhile.
//!
//! None of them knows of faults. Whoever asks a member does so on that member's own tasks, so that the request dies
//! with it; what the asker knows outlives it.

use std::sync::Arc;
use std::time::Duration;

use keelson_raft::Member;
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use crate::checks::watches::Record;
use crate::node::{Life, Simulated};
use crate::operation::{Ask, Operation, Told};
use crate::runtime::{Runtime, now};
use crate::truth::Truth;

pub mod client;
pub mod holder;
pub mod operator;
mod perform;
pub mod watcher;

pub use perform::perform;

/// What the users of a cluster share.
#[derive(Clone)]
pub struct Site {
    /// What has really happened.
    pub truth: Truth,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    up: Vec<Life>,
    operations: Vec<Operation>,
    watches: Vec<Record>,
    journal: Vec<(Duration, String)>,
    /// Members whose disk is to be destroyed.
    doomed: Vec<u64>,
    /// Users that have not finished, but for watchers.
    working: usize,
    /// Watchers that have not finished.
    watching: usize,
    /// No new work is begun.
    closing: bool,
    /// The last revision that watchers are to see.
    last_revision: Option<i64>,
}

impl Site {
    /// Nobody is there yet.
    pub fn new(truth: Truth) -> Site {
        Site {
            truth,
            state: Arc::default(),
        }
    }

    /// A member can be asked.
    pub fn is_up(&self, life: Life) {
        self.state.lock().up.push(life);
    }

    /// A member can no longer be asked.
    pub fn is_down(&self, id: u64) {
        let mut state = self.state.lock();
        let (gone, up) = std::mem::take(&mut state.up)
            .into_iter()
            .partition(|life| life.member.id().0 == id);
        state.up = up;
        drop(state);
        drop::<Vec<Life>>(gone);
    }

    /// One of the members that can be asked.
    pub fn any(&self, rng: &mut StdRng) -> Option<Life> {
        let state = self.state.lock();
        let up = &state.up;
        (!up.is_empty()).then(|| up[rng.random_range(0..up.len())].clone())
    }

    /// A certain member, if it can be asked.
    pub fn member(&self, id: u64) -> Option<Life> {
        let state = self.state.lock();
        let mut up = state.up.iter();
        up.find(|life| life.member.id().0 == id).cloned()
    }

    /// The member that says that it leads.
    pub fn leader(&self) -> Option<Life> {
        let up = self.state.lock().up.clone();
        up.into_iter().find(|life| life.member.status().is_leader)
    }

    /// Asks a member something on its own tasks; none if it dies meanwhile.
    pub async fn at<T, F>(&self, life: &Life, ask: impl FnOnce(Member<Simulated>) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        life.tasks.spawn(ask(life.member.clone())).await.ok()
    }

    /// Asks a member, and notes what it answered. If it dies, so does the request, and the outcome is not known.
    pub async fn ask(&self, client: usize, life: &Life, ask: Ask) -> Told {
        let start = now();
        let told = self.at(life, |member| perform(member, ask.clone())).await;
        let told = told.unwrap_or(Told::Unknown);
        let operation = Operation {
            client,
            member: life.member.id().0,
            ask,
            start,
            end: now(),
            told: told.clone(),
        };
        self.state.lock().operations.push(operation);
        told
    }

    /// Lets a user work.
    pub fn work(&self, user: impl Future<Output = ()> + Send + 'static) {
        self.state.lock().working += 1;
        let state = self.state.clone();
        drop(Runtime::spawn(async move {
            user.await;
            state.lock().working -= 1;
        }));
    }

    /// How many users have not finished, but for watchers.
    pub fn working(&self) -> usize {
        self.state.lock().working
    }

    /// Lets a watcher watch.
    pub fn watch(&self, watcher: impl Future<Output = ()> + Send + 'static) {
        self.state.lock().watching += 1;
        let state = self.state.clone();
        drop(Runtime::spawn(async move {
            watcher.await;
            state.lock().watching -= 1;
        }));
    }

    /// How many watchers have not finished.
    pub fn watching(&self) -> usize {
        self.state.lock().watching
    }

    /// Users finish what they do, and begin nothing new.
    pub fn close(&self) {
        self.state.lock().closing = true;
    }

    /// Whether users begin nothing new.
    pub fn closing(&self) -> bool {
        self.state.lock().closing
    }

    /// Nothing will be written any more: watchers are done when they have this revision.
    pub fn set_last_revision(&self, revision: i64) {
        self.state.lock().last_revision = Some(revision);
    }

    /// The last revision that there will be, once it is known.
    pub fn last_revision(&self) -> Option<i64> {
        self.state.lock().last_revision
    }

    /// Asks for a member's disk to be destroyed.
    pub fn doom(&self, id: u64) {
        self.state.lock().doomed.push(id);
    }

    /// Takes the members whose disks are to be destroyed.
    pub fn take_doomed(&self) -> Vec<u64> {
        std::mem::take(&mut self.state.lock().doomed)
    }

    /// Writes down what has happened.
    pub fn note(&self, what: impl Into<String>) {
        self.state.lock().journal.push((now(), what.into()));
    }

    /// What was written down.
    pub fn journal(&self) -> Vec<(Duration, String)> {
        self.state.lock().journal.clone()
    }

    /// Every operation so far.
    pub fn operations(&self) -> Vec<Operation> {
        self.state.lock().operations.clone()
    }

    /// How many operations were answered.
    pub fn answered(&self) -> usize {
        let state = self.state.lock();
        let answered = state
            .operations
            .iter()
            .filter(|operation| operation.told != Told::Unknown);
        answered.count()
    }

    /// What a watcher has met, once it has finished.
    fn keep(&self, watches: impl IntoIterator<Item = Record>) {
        self.state.lock().watches.extend(watches);
    }

    /// What the watchers have met.
    pub fn watches(&self) -> Vec<Record> {
        self.state.lock().watches.clone()
    }

    /// Lets go of the members.
    pub fn forget(&self) {
        let up = std::mem::take(&mut self.state.lock().up);
        drop(up);
    }
}

/// A pause between two bounds, in milliseconds.
pub(crate) async fn pause(rng: &mut StdRng, from_ms: u64, to_ms: u64) {
    Runtime::sleep(Duration::from_millis(rng.random_range(from_ms..to_ms))).await;
}
