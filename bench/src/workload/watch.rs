//! Watchers, and puts for them to be told of.
//!
//! Every value begins with the time at which it was put, so that each event tells how long it took. A writer does not
//! run ahead of the watchers: what is measured is how fast events are delivered, not how many can be owed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use bytes::{BufMut, Bytes, BytesMut};
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::keys::{Random, VALUE_BYTES, key};
use super::run::{Running, until};
use crate::client::wire::{self, Value};
use crate::client::{CallId, Connection, Handler, Next, Outgoing, Status, methods};
use crate::measure::{Meter, Outcome};

/// Connections of the watchers.
const CONNECTIONS: usize = 10;
/// While it waits for the watchers, the writer looks this often.
const LOOK: Duration = Duration::from_millis(1);
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Who watches what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchers {
    pub watchers: usize,
    /// Each on a stream of its own, or so many on one.
    pub a_stream: usize,
    /// Each watches all keys, or one key.
    pub each_one_key: bool,
    /// How many keys there are.
    pub keys: u64,
    /// Puts under way, until too much is owed.
    pub puts: u64,
    /// How many events may be owed to the watchers before the writer waits.
    pub owed_max: u64,
}

/// What all watchers and the writer share.
#[derive(Debug)]
pub struct Board {
    base: Instant,
    meter: Rc<Meter>,
    /// Watches that were created.
    created: Cell<usize>,
    delivered: Cell<u64>,
    asked: Cell<u64>,
    put: Cell<u64>,
    stopped: Cell<bool>,
}

impl Board {
    pub fn new(meter: Rc<Meter>) -> Board {
        Board {
            base: Instant::now(),
            meter,
            created: Cell::new(0),
            delivered: Cell::new(0),
            asked: Cell::new(0),
            put: Cell::new(0),
            stopped: Cell::new(false),
        }
    }

    pub fn created(&self) -> usize {
        self.created.get()
    }

    pub fn delivered(&self) -> u64 {
        self.delivered.get()
    }
}

/// Watches of one connection, on some streams.
#[derive(Debug)]
pub struct Watching {
    board: Rc<Board>,
    /// For each stream what is to be watched there; empty once it has been asked for.
    streams: Vec<Vec<WatchCreateRequest>>,
    /// For each stream what its watches saw, by the watch's number.
    seen: Vec<Vec<Seen>>,
}

/// One watch: what it wants, and the revision of its last event.
#[derive(Debug)]
struct Seen {
    key: Bytes,
    range_end: Bytes,
    last: u64,
}

impl Seen {
    fn nothing(request: &WatchCreateRequest) -> Seen {
        Seen {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            last: 0,
        }
    }

    fn wants(&self, key: &[u8]) -> bool {
        if self.range_end.is_empty() {
            key == self.key
        } else {
            self.key <= key && key < &self.range_end[..]
        }
    }
}

impl Watching {
    pub fn new(board: Rc<Board>, streams: Vec<Vec<WatchCreateRequest>>) -> Watching {
        Watching {
            board,
            seen: streams
                .iter()
                .map(|watches| watches.iter().map(Seen::nothing).collect())
                .collect(),
            streams,
        }
    }

    /// None if the message is malformed.
    fn take(&mut self, stream: usize, message: &[u8]) -> Option<()> {
        let now = self.board.base.elapsed();
        // A field that comes after the events may say whose they are; so the number is looked for first.
        let (mut watch, mut created, mut canceled) = (0, false, false);
        wire::each(message, |number, value| {
            match (number, value) {
                (2, Value::Number(id)) => watch = id,
                (3, Value::Number(flag)) => created = flag != 0,
                (4, Value::Number(flag)) => canceled = flag != 0,
                _ => {}
            }
            Some(())
        })?;
        if canceled {
            self.board.meter.failed("a watch was canceled");
        } else if created {
            self.board.created.set(self.board.created.get() + 1);
        }
        let seen = self.seen[stream].get_mut(watch as usize)?;
        let board = &self.board;
        let mut events = 0;
        wire::each(message, |number, value| {
            if let (11, Value::Bytes(event)) = (number, value) {
                let found = wire::key_value(wire::bytes(event, 2)?)?;
                if found.mod_revision < seen.last
                    || found.value.len() != VALUE_BYTES
                    || !seen.wants(found.key)
                {
                    board
                        .meter
                        .failed("an event out of order, not whole, or of another watch");
                }
                seen.last = found.mod_revision;
                let stamp = u64::from_le_bytes(*found.value.first_chunk()?);
                board
                    .meter
                    .took(now.saturating_sub(Duration::from_nanos(stamp)));
                events += 1;
            }
            Some(())
        })?;
        board.delivered.set(board.delivered.get() + events);
        Some(())
    }
}

impl Handler for Watching {
    fn message(&mut self, call: CallId, message: &[u8], _out: &mut Outgoing) {
        if self.take(call.tag as usize, message).is_none() {
            self.board.meter.failed("a malformed watch response");
        }
    }

    fn end(&mut self, _call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        let why = result.map_or_else(|status| status.to_string(), |()| "no reason".to_owned());
        self.board
            .meter
            .failed(format!("a watch stream ended: {why}"));
    }

    fn turn(&mut self, out: &mut Outgoing) -> Next {
        for (stream, watches) in self.streams.iter_mut().enumerate() {
            let mut call = None;
            for watch in watches.drain(..) {
                let request = WatchRequest {
                    request_union: Some(RequestUnion::CreateRequest(watch)),
                };
                match call {
                    None => call = Some(out.call(methods::WATCH, &request, false, stream as u64)),
                    Some(call) => out.send(call, &request, false),
                }
            }
        }
        Next::Replies
    }
}

/// Puts, and waits for those who watch.
#[derive(Debug)]
struct Writer {
    board: Rc<Board>,
    random: Random,
    watchers: Watchers,
}

impl Watchers {
    /// How many events a put is.
    fn events_a_put(self) -> u64 {
        if self.each_one_key {
            1
        } else {
            self.watchers as u64
        }
    }

    fn requests(self) -> Vec<WatchCreateRequest> {
        let request = |number: usize| {
            if self.each_one_key {
                WatchCreateRequest {
                    key: key(number as u64),
                    ..WatchCreateRequest::default()
                }
            } else {
                WatchCreateRequest {
                    key: super::keys::PREFIX.into(),
                    range_end: super::keys::PREFIX_END.into(),
                    ..WatchCreateRequest::default()
                }
            }
        };
        (0..self.watchers).map(request).collect()
    }
}

impl Handler for Writer {
    fn message(&mut self, _call: CallId, message: &[u8], _out: &mut Outgoing) {
        if wire::revision(message).is_none() {
            self.board.meter.failed("a reply without a revision");
        }
    }

    fn end(&mut self, _call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        match result {
            Ok(()) => self.board.put.set(self.board.put.get() + 1),
            Err(status) => self.board.meter.failed(status),
        }
    }

    fn turn(&mut self, out: &mut Outgoing) -> Next {
        let board = &self.board;
        if board.stopped.get() {
            return if out.calls() == 0 {
                Next::Done
            } else {
                Next::Replies
            };
        }
        while (out.calls() as u64) < self.watchers.puts {
            let owed =
                (board.asked.get() + 1) * self.watchers.events_a_put() - board.delivered.get();
            if owed > self.watchers.owed_max {
                return Next::At(Instant::now() + LOOK);
            }
            board.asked.set(board.asked.get() + 1);
            let mut value = BytesMut::with_capacity(VALUE_BYTES);
            value.put_u64_le(board.base.elapsed().as_nanos() as u64);
            value.put_bytes(0x5a, VALUE_BYTES - 8);
            let request = PutRequest {
                key: key(self.random.below(self.watchers.keys)),
                value: value.freeze(),
                ..PutRequest::default()
            };
            out.call(methods::PUT, &request, true, 0);
        }
        Next::Replies
    }
}

/// Opens watches over connections and members.
pub async fn open(
    endpoints: &[String],
    board: &Rc<Board>,
    requests: Vec<WatchCreateRequest>,
    a_stream: usize,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut streams: Vec<Vec<Vec<WatchCreateRequest>>> = vec![Vec::new(); CONNECTIONS];
    for (number, watches) in requests.chunks(a_stream).enumerate() {
        streams[number % CONNECTIONS].push(watches.to_vec());
    }
    let mut tasks = JoinSet::new();
    for (streams, url) in streams.into_iter().zip(endpoints.iter().cycle()) {
        let mut connection = Connection::open(url).await?;
        let mut watching = Watching::new(board.clone(), streams);
        tasks.spawn_local(async move { connection.run(&mut watching).await });
    }
    Ok(tasks)
}

/// Waits until something is so; fails after a minute.
pub async fn settled(what: &str, mut so: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLE_MAX;
    while !so() {
        if Instant::now() > deadline {
            bail!("{what}: not after {SETTLE_MAX:?}");
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Measures how events are delivered; the rate is of events, and so are the servers' costs.
pub async fn measure(running: &Running<'_>, watchers: Watchers) -> anyhow::Result<Outcome> {
    let meter = Rc::new(Meter::new());
    let board = Rc::new(Board::new(meter.clone()));
    let endpoints = &running.cluster.endpoints;
    let tasks = open(endpoints, &board, watchers.requests(), watchers.a_stream).await?;
    let effort = running.effort;
    until(tasks, async {
        settled("not all watches are created", || {
            board.created() == watchers.watchers
        })
        .await?;
        let Some(url) = endpoints.first() else {
            bail!("a cluster has members");
        };
        let mut connection = Connection::open(url).await?;
        let mut writer = Writer {
            board: board.clone(),
            random: Random::new(1),
            watchers,
        };
        let writing = tokio::task::spawn_local(async move { connection.run(&mut writer).await });
        let mut outcome = meter
            .watch(|| running.cluster.pids(), effort.warm_up, effort.measured)
            .await?;
        board.stopped.set(true);
        writing.await??;
        let whole = || board.delivered() >= board.put.get() * watchers.events_a_put();
        settled("not all events are delivered", whole).await?;
        // One that came twice would come too many.
        sleep(Duration::from_millis(50)).await;
        if board.delivered() != board.put.get() * watchers.events_a_put() {
            meter.failed("an event came twice");
        }
        meter.tell_troubles(&mut outcome);
        Ok(outcome)
    })
    .await
}

/// A value for events that are written before anybody watches: put at the beginning of time.
pub fn old_value() -> Bytes {
    vec![0; VALUE_BYTES].into()
}
