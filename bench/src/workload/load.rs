//! Lays down what a run needs before it begins: keys, leases, history.

use std::rc::Rc;

use anyhow::{Context, bail};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{RequestOp, TxnRequest};
use tokio::task::JoinSet;

use super::keys::{Random, Values};
use super::operation::{Ask, put};
use crate::client::{CallId, Connection, Handler, Next, Outgoing, Status, wire};

/// Requests under way on each connection; two connections a member keep any of them busy.
const UNDER_WAY: u64 = 64;
const CONNECTIONS_A_MEMBER: usize = 2;

/// How keys get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// So many in one txn, which is quick.
    Txns(u64),
    /// Each by a put of its own, as they would come: where memory is measured, a log of large txns would distort it.
    Puts,
}

/// Told how many more things there are.
pub type Told = Rc<dyn Fn(u64)>;

/// Puts the keys with numbers from `begin` below `end`.
pub async fn keys(
    endpoints: &[String],
    begin: u64,
    end: u64,
    values: &Rc<Values>,
    manner: Manner,
    told: &Told,
) -> anyhow::Result<()> {
    let values = values.clone();
    let each = move |number: u64, random: &mut Random| put(number, values.cut(number, random));
    let ask = move |numbers: std::ops::Range<u64>, random: &mut Random| match manner {
        Manner::Puts => Ask::Put(each(numbers.start, random)),
        Manner::Txns(_) => Ask::Txn(TxnRequest {
            success: numbers
                .map(|number| RequestOp {
                    request: Some(Request::RequestPut(each(number, random))),
                })
                .collect(),
            ..TxnRequest::default()
        }),
    };
    let at_once = match manner {
        Manner::Txns(keys) => keys,
        Manner::Puts => 1,
    };
    requests(endpoints, begin..end, at_once, Rc::new(ask), told).await
}

/// Makes a request from some numbers.
pub type Make = Rc<dyn Fn(std::ops::Range<u64>, &mut Random) -> Ask>;

/// Sends a request for every `at_once` of the numbers, until all have succeeded.
pub async fn requests(
    endpoints: &[String],
    numbers: std::ops::Range<u64>,
    at_once: u64,
    make: Make,
    told: &Told,
) -> anyhow::Result<()> {
    let mut loaders = JoinSet::new();
    let connections = CONNECTIONS_A_MEMBER * endpoints.len();
    let share = |of: usize| {
        let all = numbers.end - numbers.start;
        numbers.start + all * of as u64 / connections as u64
    };
    for (number, url) in endpoints.iter().cycle().take(connections).enumerate() {
        let mut loader = Loader {
            rest: share(number)..share(number + 1),
            at_once,
            under_way: 0,
            make: make.clone(),
            random: Random::new(number as u64),
            failure: None,
            told: told.clone(),
        };
        let mut connection = Connection::open(url).await?;
        loaders.spawn_local(async move {
            connection.run(&mut loader).await?;
            loader.failure.map_or(Ok(()), |failure| bail!("{failure}"))
        });
    }
    while let Some(done) = loaders.join_next().await {
        done?.context("what is to be there cannot be laid down")?;
    }
    Ok(())
}

struct Loader {
    rest: std::ops::Range<u64>,
    at_once: u64,
    under_way: u64,
    make: Make,
    random: Random,
    failure: Option<String>,
    told: Told,
}

impl Handler for Loader {
    fn message(&mut self, _call: CallId, message: &[u8], _out: &mut Outgoing) {
        if wire::revision(message).is_none() {
            self.failure
                .get_or_insert("a reply without a revision".to_owned());
        }
    }

    fn end(&mut self, call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        self.under_way -= 1;
        match result {
            Ok(()) => (self.told)(call.tag),
            Err(status) => {
                self.failure.get_or_insert(status.to_string());
            }
        }
    }

    fn turn(&mut self, out: &mut Outgoing) -> Next {
        if self.failure.is_some() || (self.rest.is_empty() && self.under_way == 0) {
            return Next::Done;
        }
        while !self.rest.is_empty() && self.under_way < UNDER_WAY {
            let end = self.rest.end.min(self.rest.start + self.at_once);
            let numbers = self.rest.start..end;
            self.rest.start = end;
            self.under_way += 1;
            let count = numbers.end - numbers.start;
            (self.make)(numbers, &mut self.random).send(count, out);
        }
        Next::Replies
    }
}
