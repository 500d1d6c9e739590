//! Applying: where committed entries become state.
//!
//! One place owns the [`Store`]. In production it is a thread of its own, since RocksDB may stall, but where nobody else needs
//! the one who has the batch; in simulation it is called inline. Either way one call applies a batch, publishes it, wakes the readers that waited for it, and
//! hands the events to the watch hub.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use futures::channel::oneshot;
use keelson_planted::{Bug, on};
use keelson_proto::commandpb;
use keelson_store::engine::{Engine, EngineError};
use keelson_store::{Entry, Event, LogId, Outcome, Revision, Store};
use keelson_watch::Hub;
use parking_lot::Mutex;

use crate::leases::LeaseClock;
use crate::progress::Progress;

/// Reads the time since the member started.
pub(crate) type Now = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Opens the engine whose files are in a directory.
pub type OpenEngine<E> = Arc<dyn Fn(&Path) -> Result<Arc<E>, EngineError> + Send + Sync>;

/// Where the applier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyOn {
    /// A thread of its own. While the member votes alone, the thread of consensus does without it, and waits for the log, too:
    /// nobody else should have it.
    Thread,
    /// The caller's: for a single-threaded simulation.
    Caller,
}

/// What applying touches besides the store.
pub(crate) struct Surroundings<E: Engine> {
    pub(crate) hub: Arc<Hub<E>>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) leases: Arc<LeaseClock>,
    pub(crate) now: Now,
}

struct Machine<E: Engine> {
    store: Store<E>,
    around: Surroundings<E>,
    /// A job is under way. If the next one finds it so, the last has panicked, and nobody knows what it left.
    at_work: bool,
}

type Job<E> = Box<dyn FnOnce(&mut Machine<E>) + Send>;

/// The handle to the one that applies. A thread does the jobs in turn; who finds the machine free may use it in between.
pub(crate) struct Applier<E: Engine> {
    machine: Arc<Mutex<Machine<E>>>,
    /// None: every caller does its jobs itself.
    thread: Option<SyncSender<Job<E>>>,
}

impl<E: Engine> Applier<E> {
    pub(crate) fn start(
        store: Store<E>,
        around: Surroundings<E>,
        on: ApplyOn,
    ) -> std::io::Result<Arc<Self>> {
        if let Some(id) = store.applied().0 {
            around.progress.advance(id.index);
        }
        let machine = Arc::new(Mutex::new(Machine {
            store,
            around,
            at_work: false,
        }));
        let thread = match on {
            ApplyOn::Caller => None,
            ApplyOn::Thread => {
                // openraft applies one batch at a time; the few other jobs wait behind it.
                let (sender, receiver) = sync_channel::<Job<E>>(16);
                let machine = machine.clone();
                std::thread::Builder::new()
                    .name("apply".into())
                    .spawn(move || {
                        while let Ok(job) = receiver.recv() {
                            job(&mut machine.lock());
                        }
                    })?;
                Some(sender)
            }
        };
        Ok(Arc::new(Applier { machine, thread }))
    }

    /// Runs a job where the store is and brings back what it gives.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Machine<E>) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let Some(thread) = &self.thread else {
            return self.machine.lock().does(job);
        };
        let (done, result) = oneshot::channel();
        let job: Job<E> = Box::new(move |machine| {
            // Who asked may have gone.
            let _ = done.send(machine.does(job));
        });
        let gone = || EngineError::new("applying", "the apply thread has stopped");
        thread.send(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Applies a batch of committed entries: one write, one publication. `answer` is called where it is applied, as soon
    /// as it is, with one outcome an entry: no client waits for a task that passes it on, nor for the watchers. That is
    /// `here`, in the caller's task, if the caller would have it so and the machine is free.
    pub(crate) async fn apply(
        &self,
        entries: Vec<Entry>,
        here: bool,
        answer: impl FnOnce(Vec<Outcome>) + Send + 'static,
    ) -> Result<(), EngineError> {
        let job = move |machine: &mut Machine<E>| {
            let (outcomes, publication) = machine.apply(&entries)?;
            answer(outcomes);
            machine.publish(&publication);
            Ok(())
        };
        if here && let Some(mut machine) = self.machine.try_lock() {
            // A panic ends this member's part, as one on the thread would, and not openraft's task, which would tell nobody.
            let done = catch_unwind(AssertUnwindSafe(|| machine.does(job)));
            return done.unwrap_or_else(|_| Err(EngineError::new("applying", "it panicked")))?;
        }
        self.run(job).await?
    }

    /// Applying happens on the caller's thread.
    pub(crate) fn is_inline(&self) -> bool {
        self.thread.is_none()
    }

    /// This member leads: every lease gets its full time. Runs between two batches, so that no change is missed.
    pub(crate) async fn start_lease_clock(&self) -> Result<(), keelson_store::ReadError> {
        self.run(|machine| {
            let leases = machine.store.reader().now().leases()?;
            machine.around.leases.lead((machine.around.now)(), leases);
            Ok(())
        })
        .await
        .unwrap_or_else(|gone| Err(keelson_store::ReadError::Engine(gone)))
    }

    /// What has been applied.
    pub(crate) async fn applied(
        &self,
    ) -> Result<(Option<LogId>, commandpb::StoredMembership), EngineError> {
        self.run(|machine| machine.store.applied()).await
    }

    /// Puts another engine in the place of the present one: a snapshot was installed.
    pub(crate) async fn replace(&self, engine: Arc<E>) -> Result<(), keelson_store::OpenError> {
        self.run(move |machine| {
            machine.store.replace(engine)?;
            if let Some(id) = machine.store.applied().0 {
                machine.around.progress.advance(id.index);
            }
            if !on(Bug::SnapshotKeepsWatchers) {
                machine.around.hub.reset();
            }
            Ok(())
        })
        .await
        .unwrap_or_else(|gone| Err(gone.into()))
    }
}

/// What the watch hub is told of a batch.
struct Publication {
    events: Vec<Event>,
    revision: Revision,
    compacted: Revision,
}

impl<E: Engine> Machine<E> {
    /// Does a job, unless the one before has panicked.
    fn does<T>(&mut self, job: impl FnOnce(&mut Machine<E>) -> T) -> Result<T, EngineError> {
        if self.at_work {
            return Err(EngineError::new("applying", "it has panicked before"));
        }
        self.at_work = true;
        let done = job(self);
        self.at_work = false;
        Ok(done)
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(Vec<Outcome>, Publication), EngineError> {
        let Surroundings { leases, now, .. } = &self.around;
        let applied = self
            .store
            .apply_holding(entries, |changes| leases.applied(now(), changes))?;
        if let Some(last) = entries.last() {
            self.around.progress.advance(last.id.index);
        }
        let publication = Publication {
            events: applied.events,
            revision: applied.revision,
            compacted: applied.compacted,
        };
        Ok((applied.outcomes, publication))
    }

    fn publish(&self, publication: &Publication) {
        self.around.hub.publish(
            &publication.events,
            publication.revision,
            publication.compacted,
        );
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use keelson_store::MemberId;
    use keelson_store::memory::MemoryEngine;

    use super::*;

    fn applier() -> Arc<Applier<MemoryEngine>> {
        let store =
            Store::open(Arc::default(), keelson_store::Options::default()).expect("it is empty");
        let hub = Hub::new(store.reader(), keelson_watch::Options::new(1, MemberId(1)));
        let around = Surroundings {
            hub,
            progress: Arc::default(),
            leases: Arc::default(),
            now: Arc::new(|| Duration::ZERO),
        };
        Applier::start(store, around, ApplyOn::Thread).expect("a thread starts")
    }

    #[test]
    fn a_batch_is_applied_here_if_the_caller_would_have_it_so() {
        for here in [true, false] {
            let caller = std::thread::current().id();
            let (place, applied) = oneshot::channel();
            let answer = move |_| {
                place
                    .send(std::thread::current().id())
                    .expect("somebody waits")
            };
            block_on(applier().apply(Vec::new(), here, answer)).expect("it is applied");
            assert_eq!(block_on(applied).expect("told") == caller, here);
        }
    }

    #[test]
    fn after_a_panic_nothing_is_applied_any_more() {
        for (first, second) in [(true, true), (true, false), (false, true)] {
            let applier = applier();
            let panicked = applier.apply(Vec::new(), first, |_| panic!("on purpose"));
            assert!(block_on(panicked).is_err());
            let refused = block_on(applier.apply(Vec::new(), second, |_| unreachable!("refused")));
            assert!(refused.is_err(), "{first} then {second}");
        }
    }
}
