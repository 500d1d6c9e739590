//! A watcher that goes on whatever happens to the members: when its stream breaks, or it has had enough of a member, it
//! opens another one right after what it has seen.

use std::sync::Arc;
use std::time::Duration;

use keelson_jepsen::history::{
    Data, MemberIndex, Micros, Revision, WatchResponse, WatchStream, Workload,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{World, filler};
use crate::client::{Connection, Watch, describe};

/// A stream that is silent for so long is asked for its progress,
const SILENCE: Duration = Duration::from_millis(500);
/// and one that is silent for so long is left: its member may be stopped.
const LONG_SILENCE: Duration = Duration::from_secs(3);
const BACK_OFF: Duration = Duration::from_millis(50);
/// A compacted revision is not 0.
const FIRST: Revision = Revision(1);

/// What to watch.
#[derive(Clone, Debug)]
pub struct Watcher {
    /// Its name in the history.
    pub name: String,
    /// Whose it is.
    pub workload: Workload,
    /// The first key.
    pub key: Data,
    /// Empty: only the key. `\0`: to the end.
    pub range_end: Data,
    /// How.
    pub interest: Interest,
    /// Whether it starts at revision 1, or with what comes.
    pub from_the_beginning: bool,
    /// For about how long it stays with a member; none: as long as that answers.
    pub stays: Option<Duration>,
}

/// What a watcher wants to be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interest {
    /// Also what was there before.
    pub prev_kv: bool,
    /// No puts.
    pub no_put: bool,
    /// No deletes.
    pub no_delete: bool,
    /// Progress.
    pub progress_notify: bool,
    /// Large responses in parts.
    pub fragment: bool,
}

impl Watcher {
    /// A watch of everything, which tells the order of all writes.
    pub fn recorder(name: &str) -> Watcher {
        Watcher {
            name: name.to_owned(),
            workload: Workload::Runner,
            key: Data::from("\0"),
            range_end: Data::from("\0"),
            interest: Interest {
                prev_kv: true,
                ..Interest::default()
            },
            from_the_beginning: true,
            stays: None,
        }
    }

    fn is_recorder(&self) -> bool {
        self.workload == Workload::Runner
    }
}

/// Told to watchers at the end: they may go when they have come so far.
pub type Finish = watch::Receiver<Option<Revision>>;

/// Watches until it has come to what `finish` says. It begins at the member `home`, if it has one, and comes back to it.
pub async fn watch(
    world: Arc<World>,
    watcher: Watcher,
    home: Option<MemberIndex>,
    seed: u64,
    mut finish: Finish,
) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut next = if watcher.from_the_beginning {
        FIRST
    } else {
        Revision(0)
    };
    if watcher.is_recorder() {
        world.recorder_at(&watcher.name, Revision(0));
    }
    let mut attempt = 0;
    while !reached(&finish, next) {
        let members = world.members();
        let home = home.filter(|home| attempt % 2 == 0 && members.contains(home));
        attempt += 1;
        let Some(member) = home.or_else(|| members.choose(&mut random).copied()) else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        if let Some(Ok(connection)) = world.connect(member).await {
            let leaves = watcher
                .stays
                .map(|stays| Instant::now() + stays.mul_f64(random.random_range(0.3..1.7)));
            next = follow(&world, &watcher, &connection, next, leaves, &mut finish).await;
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

fn reached(finish: &Finish, next: Revision) -> bool {
    finish.borrow().is_some_and(|last| next > last)
}

/// Follows one stream to its end, records it, and gives the revision at which the next one has to start.
async fn follow(
    world: &World,
    watcher: &Watcher,
    connection: &Connection,
    start_revision: Revision,
    leaves: Option<Instant>,
    finish: &mut Finish,
) -> Revision {
    let interest = watcher.interest;
    let mut stream = WatchStream {
        id: world.new_stream(),
        watcher: watcher.name.clone(),
        workload: watcher.workload,
        recorder: watcher.is_recorder(),
        member: connection.member,
        connection: connection.id,
        key: watcher.key.clone(),
        range_end: watcher.range_end.clone(),
        start_revision,
        prev_kv: interest.prev_kv,
        no_put: interest.no_put,
        no_delete: interest.no_delete,
        // Who cannot ask is told now and then; without either, nobody knows that there is nothing more to come.
        progress_notify: interest.progress_notify || !world.answers_progress,
        fragment: interest.fragment,
        start: world.now(),
        end: Micros::default(),
        ended: None,
        responses: Vec::new(),
    };
    let mut next = start_revision;
    stream.ended = match connection.watch(&stream).await {
        Ok(mut open) => {
            let mut place = Place {
                world,
                watcher,
                stream: &mut stream,
                next: &mut next,
            };
            place.receive(&mut open, leaves, finish).await
        }
        Err(status) => Some(describe(&status)),
    };
    stream.end = world.now();
    world.watched(stream);
    next
}

/// Where a watcher is.
struct Place<'a> {
    world: &'a World,
    watcher: &'a Watcher,
    stream: &'a mut WatchStream,
    next: &'a mut Revision,
}

impl Place<'_> {
    /// Receives until the stream ends or is left, and says why; none if it came to the end of the run.
    async fn receive(
        &mut self,
        open: &mut Watch,
        leaves: Option<Instant>,
        finish: &mut Finish,
    ) -> Option<String> {
        let mut heard = Instant::now();
        loop {
            if reached(finish, *self.next) {
                return None;
            }
            let left = async {
                match leaves {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                response = open.next() => {
                    heard = Instant::now();
                    match response {
                        Ok(Some(response)) => {
                            let mut response = WatchResponse::arrived(self.world.now(), response);
                            filler::shorten_events(&mut response);
                            if let Some(why) = self.take(response) {
                                return Some(why);
                            }
                        }
                        Ok(None) => return Some("the server ended the stream".to_owned()),
                        Err(status) => return Some(describe(&status)),
                    }
                }
                () = tokio::time::sleep(SILENCE) => {
                    if heard.elapsed() >= LONG_SILENCE {
                        return Some("the watcher left: nothing came for long".to_owned());
                    }
                    if self.world.answers_progress {
                        open.ask_progress();
                    }
                }
                () = left => return Some("the watcher left".to_owned()),
                changed = finish.changed() => {
                    if changed.is_err() {
                        return Some("the watcher was told to go".to_owned());
                    }
                    // Whoever is filtered learns only so that there is nothing more.
                    if self.world.answers_progress {
                        open.ask_progress();
                    }
                }
            }
        }
    }

    /// Notes a response. Says why, if it is the last.
    fn take(&mut self, response: WatchResponse) -> Option<String> {
        let over = response.canceled.then(|| {
            // What is compacted cannot be had any more.
            *self.next = (*self.next).max(response.compact_revision);
            format!("cancelled: {}", response.cancel_reason)
        });
        let seen = match response.events.last() {
            // The rest of a response that was cut, or of its last revision, comes with the next one.
            Some(last) if response.fragment => Some(last.kv.mod_revision.0 - 1),
            Some(last) => Some(last.kv.mod_revision.0),
            // Registered for all that comes after the header's revision.
            None if response.created && self.stream.start_revision.is_zero() => {
                Some(response.revision.0)
            }
            None if response.is_progress() => Some(response.revision.0),
            None => None,
        };
        if let Some(seen) = seen {
            *self.next = (*self.next).max(Revision(seen + 1));
        }
        if self.stream.recorder {
            self.world
                .recorder_at(&self.watcher.name, Revision(self.next.0 - 1));
        }
        self.stream.responses.push(response);
        over
    }
}
