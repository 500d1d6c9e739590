//! A watcher: a few watches on one stream, which breaks and goes on at another member where it was.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use keelson_proto::mvccpb::{Event, event::EventType};
use keelson_raft::Member;
use openraft::AsyncRuntime;
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;

use super::client::any_keys;
use super::{Site, pause};
use crate::checks::watches::{Met, Record, Wish};
use crate::node::Simulated;
use crate::operation::Keys;
use crate::runtime::{Runtime, now};
use crate::tally::Kind;

/// A stream that says nothing for so long may be dead: another member is asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// One watch of the stream, in all its lives.
struct Watch {
    record: Record,
    /// The revision with which it goes on; 0 before it was made.
    next: i64,
    /// It was made on the present stream.
    made: bool,
    /// The events of the fragments so far, of which more are to come.
    pieces: Vec<Event>,
    /// From the beginning, rather than from whatever is there when it is made.
    from_the_beginning: bool,
}

impl Watch {
    fn new(rng: &mut StdRng) -> Watch {
        let everything = Keys {
            from: "a".into(),
            to: Some("z".into()),
        };
        let wish = Wish {
            keys: if rng.random_ratio(1, 3) {
                everything
            } else {
                any_keys(rng)
            },
            prev_kv: rng.random_ratio(1, 2),
            leave_out: match rng.random_range(0..8) {
                0 => Some(EventType::Put),
                1 => Some(EventType::Delete),
                _ => None,
            },
            fragments: rng.random_ratio(1, 3),
        };
        Watch {
            record: Record {
                wish,
                met: Vec::new(),
            },
            next: 0,
            made: false,
            pieces: Vec::new(),
            from_the_beginning: rng.random_ratio(1, 2),
        }
    }

    fn meet(&mut self, met: Met) {
        self.next = met.next(self.next);
        self.record.met.push(met);
    }

    /// The first revision that is asked for; 0: the next one that there will be.
    fn start(&self) -> i64 {
        if self.next == 0 && self.from_the_beginning {
            1
        } else {
            self.next
        }
    }

    fn request(&self, id: i64) -> WatchRequest {
        let Wish {
            keys,
            prev_kv,
            leave_out,
            fragments,
        } = &self.record.wish;
        let filter = leave_out.map(|kind| match kind {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        });
        let create = WatchCreateRequest {
            key: keys.from.clone().into(),
            range_end: keys.end().into(),
            start_revision: self.start(),
            progress_notify: true,
            filters: filter.into_iter().map(|filter| filter as i32).collect(),
            prev_kv: *prev_kv,
            watch_id: id,
            fragment: *fragments,
        };
        WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        }
    }
}

/// Watches until everything that there will be was seen.
pub async fn run(site: Site, mut rng: StdRng) {
    // A run of keys may be empty, which no watch may ask for.
    let mut watches: Vec<Watch> = std::iter::repeat_with(|| Watch::new(&mut rng))
        .filter(|watch| watch.record.wish.keys.to.as_ref() != Some(&watch.record.wish.keys.from))
        .take(2)
        .collect();
    while !is_done(&site, &watches) {
        watch(&site, &mut watches, &mut rng).await;
        pause(&mut rng, 5, 300).await;
    }
    site.keep(watches.into_iter().map(|watch| watch.record));
}

fn is_done(site: &Site, watches: &[Watch]) -> bool {
    let last = site.last_revision();
    last.is_some_and(|last| watches.iter().all(|watch| watch.next > last))
}

/// One stream, until it ends or is left.
async fn watch(site: &Site, watches: &mut [Watch], rng: &mut StdRng) {
    let Some(life) = site.any(rng) else { return };
    let member = life.member.id().0;
    let (mut ask, asked) = mpsc::channel(4);
    let (answer, mut answers) = mpsc::channel(0);
    for (id, watch) in (1..).zip(&mut *watches) {
        watch.made = false;
        watch.pieces.clear();
        if ask.try_send(watch.request(id)).is_err() {
            return;
        }
    }
    drop(life.tasks.spawn(serve(life.member.clone(), asked, answer)));
    let leave_at = now() + Duration::from_millis(rng.random_range(500..15_000));
    let slow = rng.random_ratio(1, 4);
    let mut heard = now();
    while !is_done(site, watches) {
        // Once nothing is written any more, only progress says that all was seen.
        let closed = site.last_revision().is_some();
        if !closed && now() > leave_at || now() > heard + PATIENCE {
            return;
        }
        let wait = Duration::from_millis(rng.random_range(50..500));
        match Runtime::timeout(wait, answers.next()).await {
            Ok(None) => return,
            Err(_) => {
                let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                let _ = ask.try_send(WatchRequest {
                    request_union: Some(progress),
                });
            }
            Ok(Some(message)) => {
                heard = now();
                if take(site, member, watches, message).is_break() {
                    return;
                }
                if slow && !closed {
                    pause(rng, 1, 400).await;
                }
            }
        }
    }
}

/// Notes a message; breaks off where the stream cannot go on.
fn take(
    site: &Site,
    member: u64,
    watches: &mut [Watch],
    message: WatchResponse,
) -> std::ops::ControlFlow<()> {
    use std::ops::ControlFlow::{Break, Continue};
    let header = message.header.as_ref().map_or(0, |header| header.revision);
    if message.watch_id < 0 && !message.canceled {
        for watch in watches.iter_mut().filter(|watch| watch.made) {
            watch.meet(Met::Progress { header });
        }
        return Continue(());
    }
    let place = usize::try_from(message.watch_id - 1).ok();
    let Some(watch) = place.and_then(|place| watches.get_mut(place)) else {
        site.truth.contradiction(format!(
            "member {member} answers nobody's watch: {message:?}"
        ));
        return Break(());
    };
    if message.created && !message.canceled {
        let from = match watch.start() {
            0 => header + 1,
            start => start,
        };
        if watch.next != 0 {
            site.truth.count(Kind::WatchResumed);
        }
        watch.made = true;
        watch.meet(Met::Created { member, from });
    } else if message.canceled && message.compact_revision > 0 {
        site.truth.count(Kind::WatchCompacted);
        watch.meet(Met::Compacted {
            at: message.compact_revision,
        });
        return Break(());
    } else if message.canceled || !watch.made || message.fragment && !watch.record.wish.fragments {
        site.truth.contradiction(format!(
            "member {member} sends a watch what it did not ask for: {message:?}"
        ));
        return Break(());
    } else if message.events.is_empty() {
        site.truth.count(Kind::Progress);
        watch.meet(Met::Progress { header });
    } else if message.fragment {
        site.truth.count(Kind::Fragment);
        watch.pieces.extend(message.events);
    } else {
        let mut events = std::mem::take(&mut watch.pieces);
        events.extend(message.events);
        let first = events.first().and_then(|event| event.kv.as_ref());
        if first.is_some_and(|kv| kv.mod_revision < watch.next) {
            site.truth.contradiction(format!(
                "member {member} sends a watch that goes on with revision {} what was before: {events:?}",
                watch.next
            ));
            return Break(());
        }
        watch.meet(Met::Events { header, events });
    }
    Continue(())
}

/// The member's half of a stream.
async fn serve(
    member: Member<Simulated>,
    mut requests: mpsc::Receiver<WatchRequest>,
    mut answers: mpsc::Sender<WatchResponse>,
) {
    // As the process does: nobody is served before the member has recovered, and by a learner not at all.
    if member.recovered().await.is_err() || member.is_learner(member.id()) {
        return;
    }
    let mut stream = member.hub().stream();
    loop {
        let frame = poll_fn(|cx| {
            while !stream.is_full()
                && let Poll::Ready(Some(request)) = requests.poll_next_unpin(cx)
            {
                stream.request(request);
            }
            stream.poll_next(cx)
        });
        let Some(frame) = frame.await else { return };
        let message = match WatchResponse::decode(frame.to_bytes()) {
            Ok(message) => message,
            Err(error) => panic!("a message to a watcher does not decode: {error}"),
        };
        if answers.send(message).await.is_err() {
            return;
        }
    }
}
