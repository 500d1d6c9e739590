//! Clients that ask again as soon as they are answered: a system that stalls is also asked less, so what this shows is
//! throughput. Many clients share a connection, and all of them this thread.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::operation::Asker;
use crate::client::{CallId, Handler, Next, Outgoing, Status};
use crate::measure::Meter;

/// After a failure a client pauses, lest it do nothing but fail.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

/// The clients of one connection.
#[derive(Debug)]
pub struct Clients {
    clients: Vec<Client>,
    meter: Rc<Meter>,
    /// Who begins, and when.
    resting: Vec<(Instant, usize)>,
}

#[derive(Debug)]
struct Client {
    asker: Asker,
    began: Instant,
}

impl Clients {
    pub fn new(askers: Vec<Asker>, meter: Rc<Meter>) -> Clients {
        let now = Instant::now();
        Clients {
            resting: (0..askers.len()).map(|client| (now, client)).collect(),
            clients: askers
                .into_iter()
                .map(|asker| Client { asker, began: now })
                .collect(),
            meter,
        }
    }

    fn begin(&mut self, client: usize, now: Instant, out: &mut Outgoing) {
        let state = &mut self.clients[client];
        state.began = now;
        state.asker.ask().send(client as u64, out);
    }
}

impl Handler for Clients {
    fn message(&mut self, call: CallId, message: &[u8], _out: &mut Outgoing) {
        self.clients[call.tag as usize].asker.take(message);
    }

    fn end(&mut self, call: CallId, result: Result<(), Status>, out: &mut Outgoing) {
        let client = call.tag as usize;
        let state = &mut self.clients[client];
        let now = Instant::now();
        let result = match result {
            Ok(()) => state.asker.finish().map_err(str::to_owned),
            Err(status) => Err(status.to_string()),
        };
        match result {
            Ok(true) => {
                self.meter.took(now - state.began);
                self.begin(client, now, out);
            }
            Ok(false) => state.asker.ask().send(call.tag, out),
            Err(why) => {
                self.meter.failed(why);
                state.asker.give_up();
                self.resting.push((now + FAILURE_PAUSE, client));
            }
        }
    }

    fn turn(&mut self, out: &mut Outgoing) -> Next {
        if self.resting.is_empty() {
            return Next::Replies;
        }
        let now = Instant::now();
        let (due, resting) = std::mem::take(&mut self.resting)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.resting = resting;
        let due: Vec<(Instant, usize)> = due;
        for (_, client) in due {
            self.begin(client, now, out);
        }
        self.resting
            .iter()
            .map(|(at, _)| *at)
            .min()
            .map_or(Next::Replies, Next::At)
    }
}
