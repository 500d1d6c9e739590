//! Connections, and what to do when one fails.
//!
//! Every connection belongs to one endpoint, so that an error can name it. A read may be asked
//! again elsewhere, and is asked in parallel when the first endpoint is slow. A write is sent once:
//! another endpoint is tried only if it certainly never left, or was turned away by a learner;
//! when its answer is lost, the outcome is reported as unknown. So that this is rare, a write goes
//! only to a server that has just given a sign of life: the system accepts connections for a process
//! that hangs, and for a moment for one that was killed.

mod endpoint;
mod race;
mod stranger;
mod trouble;

pub use endpoint::Endpoint;
pub use trouble::{Trouble, plain_reason};

use crate::error::{CtlError, Failed};
use crate::go::duration;
use crate::output::tell;
use crate::raw::await_sign_of_life;
use etcd_client as etcd;
use race::race;
use std::cell::RefCell;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::transport::Channel;

/// How long the first endpoint may be silent before the next one is asked too.
const READ_STAGGER: Duration = Duration::from_millis(1500);
/// The same for a connection that is being made.
const CONNECT_STAGGER: Duration = Duration::from_millis(300);
/// How long to wait when all endpoints have failed, before they are asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(150);
/// etcd's servers hang up on clients that ping more often, so Go's client does not either.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

/// A connection to one endpoint.
#[derive(Clone)]
pub struct Connection {
    /// Whose it is.
    pub endpoint: Endpoint,
    /// For the calls in [`crate::raw`].
    pub channel: Channel,
    client: etcd::Client,
}

impl Connection {
    /// Keys. Replies may be of any size, as for etcdctl.
    pub fn kv(&self) -> etcd::KvClient {
        self.client
            .kv_client()
            .max_decoding_message_size(usize::MAX)
    }

    /// Watches.
    pub fn watch(&self) -> etcd::WatchClient {
        self.client
            .watch_client()
            .max_decoding_message_size(usize::MAX)
    }

    /// Leases.
    pub fn lease(&self) -> etcd::LeaseClient {
        self.client.lease_client()
    }

    /// Members.
    pub fn members(&self) -> etcd::ClusterClient {
        self.client.cluster_client()
    }

    /// Status, alarms, snapshots.
    pub fn maintenance(&self) -> etcd::MaintenanceClient {
        self.client.maintenance_client()
    }
}

/// The endpoints, and how patient to be with them.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// In the order in which they are tried; never empty.
    pub endpoints: Vec<Endpoint>,
    /// For one attempt to connect.
    pub dial_timeout: Duration,
    /// For a command, connecting included.
    pub command_timeout: Duration,
    /// HTTP/2 pings on an idle connection.
    pub keepalive_time: Duration,
    /// How long a ping may go unanswered.
    pub keepalive_timeout: Duration,
    /// Whether to tell on stderr what is tried.
    pub debug: bool,
}

impl Cluster {
    /// Connects to one endpoint.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Trouble> {
        self.connect_as(endpoint, false).await
    }

    /// Connects for a watch: the server shall end the stream if its member loses the leader.
    pub async fn connect_requiring_leader(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Connection, Trouble> {
        self.connect_as(endpoint, true).await
    }

    async fn connect_as(&self, endpoint: &Endpoint, leader: bool) -> Result<Connection, Trouble> {
        self.debug(format_args!("connecting to {endpoint}"));
        let transport =
            tonic::transport::Endpoint::from_shared(format!("http://{}", endpoint.address))
                .map_err(|error| Trouble::NeverSent(error.to_string()))?
                .connect_timeout(self.dial_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(self.keepalive_time.max(KEEPALIVE_TIME_MIN))
                .keep_alive_timeout(self.keepalive_timeout)
                .keep_alive_while_idle(true);
        let channel = match timeout(self.dial_timeout, transport.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => {
                let reason = match Trouble::from_transport(&error) {
                    Trouble::NeverSent(reason) | Trouble::Lost(reason) => reason,
                    other => other.to_string(),
                };
                self.debug(format_args!("{endpoint}: {reason}"));
                return Err(Trouble::NeverSent(reason));
            }
            Err(_) => {
                return Err(Trouble::NeverSent(format!(
                    "no connection within {}",
                    duration::format(self.dial_timeout)
                )));
            }
        };
        let options = etcd::ConnectOptions::new().with_require_leader(leader);
        let client =
            etcd::Client::from_channel(etcd::Channel::Tonic(channel.clone()), Some(options))
                .await?;
        Ok(Connection {
            endpoint: endpoint.clone(),
            channel,
            client,
        })
    }

    /// Connects to one endpoint, and waits until the server there has answered something.
    async fn connect_alive(&self, endpoint: &Endpoint) -> Result<Connection, Trouble> {
        let connection = self.connect(endpoint).await?;
        let sign = timeout(
            self.dial_timeout,
            await_sign_of_life(connection.channel.clone()),
        );
        let reason = match sign.await {
            Ok(Ok(())) => return Ok(connection),
            Ok(Err(status)) => self.unmask(endpoint, status.into()).await,
            Err(_) => Trouble::Silent(self.dial_timeout),
        }
        .to_string();
        self.debug(format_args!("{endpoint}: {reason}"));
        Err(Trouble::NeverSent(reason))
    }

    /// The same trouble, unless no member listens there at all: then that, as the reason why nobody was asked.
    pub async fn unmask(&self, endpoint: &Endpoint, trouble: Trouble) -> Trouble {
        let stranger = match trouble {
            Trouble::Lost(_) => stranger::unmask(&endpoint.address).await,
            _ => None,
        };
        match stranger {
            Some(who) => {
                self.debug(format_args!("{endpoint}: {trouble}"));
                Trouble::NeverSent(who.to_owned())
            }
            None => trouble,
        }
    }

    /// Connects to the first endpoint that gives a sign of life.
    pub async fn connect_any(&self, what: &'static str) -> Result<Connection, CtlError> {
        let mut failed = Vec::new();
        race(
            &self.endpoints,
            CONNECT_STAGGER,
            &mut failed,
            |_| true,
            async |endpoint| self.connect_alive(&endpoint).await,
        )
        .await
        .map_err(|()| CtlError::NoEndpoint { what, failed })
    }

    /// Asks a question that may be asked again: of the first endpoint, of the others if it fails
    /// or is slow, and of all of them again while they are only busy with an election.
    pub async fn read<T, E>(
        &self,
        what: &'static str,
        call: impl AsyncFn(Connection) -> Result<T, E>,
    ) -> Result<T, CtlError>
    where
        Trouble: From<E>,
    {
        let (mut round, mut before) = (Vec::new(), Vec::new());
        let asked = RefCell::new(Vec::new());
        let asking = async {
            loop {
                let attempt = async |endpoint: Endpoint| {
                    asked.borrow_mut().push((endpoint.clone(), Instant::now()));
                    let connection = self.connect(&endpoint).await?;
                    match call(connection).await {
                        Ok(answer) => Ok(answer),
                        Err(error) => Err(self.unmask(&endpoint, Trouble::from(error)).await),
                    }
                };
                let may_move_on = Trouble::read_may_move_on;
                let answer = race(
                    &self.endpoints,
                    READ_STAGGER,
                    &mut round,
                    may_move_on,
                    attempt,
                );
                if let Ok(answer) = answer.await {
                    return Some(answer);
                }
                let is_final = round.iter().any(|(_, trouble)| !may_move_on(trouble))
                    || !round.iter().any(|(_, trouble)| trouble.is_passing());
                if is_final {
                    return None;
                }
                before = std::mem::take(&mut round);
                sleep(RETRY_PAUSE).await;
            }
        };
        match timeout(self.command_timeout, asking).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(verdict(what, round)),
            Err(_) => Err(CtlError::TimedOut {
                what,
                after: self.command_timeout,
                failed: all_that_failed(round, before, asked.into_inner()),
            }),
        }
    }

    /// Sends a write to the first endpoint that gives a sign of life, and never twice.
    pub async fn write<T>(
        &self,
        what: &'static str,
        call: impl AsyncFn(Connection) -> Result<T, etcd::Error>,
    ) -> Result<T, CtlError> {
        let deadline = Instant::now() + self.command_timeout;
        let mut failed = Vec::new();
        let mut endpoints = self.endpoints.clone();
        while !endpoints.is_empty() {
            let connecting = race(
                &endpoints,
                CONNECT_STAGGER,
                &mut failed,
                |_| true,
                async |endpoint| self.connect_alive(&endpoint).await,
            );
            let connection = match timeout_at(deadline, connecting).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(())) => break,
                Err(_) => {
                    return Err(CtlError::TimedOut {
                        what,
                        after: self.command_timeout,
                        failed,
                    });
                }
            };
            let endpoint = connection.endpoint.clone();
            self.debug(format_args!("sending {what} to {endpoint}"));
            let trouble = match timeout_at(deadline, call(connection)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Trouble::from(error),
                Err(_) => {
                    let after = duration::format(self.command_timeout);
                    let reason = format!("no answer within {after}");
                    return Err(CtlError::OutcomeUnknown {
                        what,
                        endpoint,
                        reason,
                    });
                }
            };
            self.debug(format_args!("{endpoint}: {trouble}"));
            if !trouble.write_may_move_on() {
                return Err(match (trouble.doubt(), trouble) {
                    (Some(reason), _) => CtlError::OutcomeUnknown {
                        what,
                        endpoint,
                        reason,
                    },
                    (None, trouble) => verdict(what, vec![(endpoint, trouble)]),
                });
            }
            endpoints.retain(|other| *other != endpoint);
            failed.retain(|(other, _)| *other != endpoint);
            failed.push((endpoint, trouble));
        }
        Err(verdict(what, failed))
    }

    /// Asks one endpoint only, once.
    pub async fn ask<T>(
        &self,
        endpoint: &Endpoint,
        call: impl AsyncFnOnce(Connection) -> Result<T, etcd::Error>,
    ) -> Result<T, Trouble> {
        let asking = async { Ok(call(self.connect(endpoint).await?).await?) };
        match timeout(self.command_timeout, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(trouble)) => Err(self.unmask(endpoint, trouble).await),
            Err(_) => Err(Trouble::Silent(self.command_timeout)),
        }
    }

    /// Prints a line on stderr if --debug was given.
    pub fn debug(&self, text: fmt::Arguments<'_>) {
        if self.debug {
            tell(format_args!("debug: {text}"));
        }
    }
}

/// What is known of each endpoint when the time is over: how it failed last, or that it did not answer.
fn all_that_failed(
    mut failed: Vec<Failed>,
    before: Vec<Failed>,
    asked: Vec<(Endpoint, Instant)>,
) -> Vec<Failed> {
    let silent = asked
        .into_iter()
        .map(|(endpoint, since)| (endpoint, Trouble::Silent(since.elapsed())));
    for (endpoint, trouble) in before.into_iter().chain(silent) {
        if !failed.iter().any(|(known, _)| *known == endpoint) {
            failed.push((endpoint, trouble));
        }
    }
    failed
}

/// The error to report: the last server's answer if one answered, else the list of failures.
fn verdict(what: &'static str, mut failed: Vec<Failed>) -> CtlError {
    let answered = failed
        .iter()
        .rposition(|(_, trouble)| matches!(trouble, Trouble::Answer(_)));
    match answered.map(|index| failed.swap_remove(index)) {
        Some((endpoint, Trouble::Answer(status))) => CtlError::Refused {
            what,
            endpoint,
            status,
        },
        _ => CtlError::NoEndpoint { what, failed },
    }
}
