//! Applying: where committed entries become state.
//!
//! One place owns the [`Store`]. In production it is a thread of its own, since RocksDB may stall; in simulation it
//! is called inline. Either way one call applies a batch, publishes it, wakes the readers that waited for it, and
//! hands the events to the watch hub.

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
    /// A thread of its own.
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
}

type Job<E> = Box<dyn FnOnce(&mut Machine<E>) + Send>;

enum Place<E: Engine> {
    Thread(SyncSender<Job<E>>),
    Caller(Box<Mutex<Machine<E>>>),
}

/// The handle to the one that applies.
pub(crate) struct Applier<E: Engine> {
    place: Place<E>,
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
        let mut machine = Machine { store, around };
        let place = match on {
            ApplyOn::Caller => Place::Caller(Box::new(Mutex::new(machine))),
            ApplyOn::Thread => {
                // openraft applies one batch at a time; the few other jobs wait behind it.
                let (sender, receiver) = sync_channel::<Job<E>>(16);
                std::thread::Builder::new()
                    .name("apply".into())
                    .spawn(move || {
                        while let Ok(job) = receiver.recv() {
                            job(&mut machine);
                        }
                    })?;
                Place::Thread(sender)
            }
        };
        Ok(Arc::new(Applier { place }))
    }

    /// Runs a job where the store is and brings back what it gives.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Machine<E>) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        match &self.place {
            Place::Caller(machine) => Ok(job(&mut machine.lock())),
            Place::Thread(sender) => {
                let (done, result) = oneshot::channel();
                let job: Job<E> = Box::new(move |machine| {
                    // Who asked may have gone.
                    let _ = done.send(job(machine));
                });
                let gone = || EngineError::new("applying", "the apply thread has stopped");
                sender.send(job).map_err(|_| gone())?;
                result.await.map_err(|_| gone())
            }
        }
    }

    /// Applies a batch of committed entries: one write, one publication. `answer` is called where it is applied, as soon
    /// as it is, with one outcome an entry: no client waits for a task that passes it on, nor for the watchers.
    pub(crate) async fn apply(
        &self,
        entries: Vec<Entry>,
        answer: impl FnOnce(Vec<Outcome>) + Send + 'static,
    ) -> Result<(), EngineError> {
        self.run(move |machine| {
            let (outcomes, publication) = machine.apply(&entries)?;
            answer(outcomes);
            machine.publish(&publication);
            Ok(())
        })
        .await?
    }

    /// Applying happens on the caller's thread.
    pub(crate) fn is_inline(&self) -> bool {
        matches!(self.place, Place::Caller(_))
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
    fn apply(&mut self, entries: &[Entry]) -> Result<(Vec<Outcome>, Publication), EngineError> {
        let applied = self.store.apply(entries)?;
        self.around
            .leases
            .applied((self.around.now)(), &applied.leases);
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
