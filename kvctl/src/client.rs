//! Connections, and what to do when one fails.
//!
//! Every connection belongs to one endpoint, so that an error can name it. A read may be asked
//! again elsewhere, and is asked in parallel when the first endpoint is slow. A write is sent once:
//! another endpoint is tried only if it certainly never left, or was turned away by a learner;
//! when its answer is lost, the outcome is reported as unknown.

use crate::error::{CtlError, Failed};
use etcd_client as etcd;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Status};

/// How long the first endpoint may be silent before the next one is asked too.
const READ_STAGGER: Duration = Duration::from_millis(1500);
/// The same for a connection that is being made.
const CONNECT_STAGGER: Duration = Duration::from_millis(300);
/// How long to wait when all endpoints have failed, before they are asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(150);
/// etcd's servers hang up on clients that ping more often, so Go's client does not either.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

/// Where a member listens for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    name: String,
    uri: String,
}

impl Endpoint {
    /// Reads `host:port` or `http://host:port`.
    pub fn parse(text: &str) -> Result<Self, CtlError> {
        let name = text.trim();
        let refuse = |why: &str| {
            Err(CtlError::Arguments(format!(
                "bad endpoint {name:?}: {why}; write host:port or http://host:port"
            )))
        };
        let authority = match name.split_once("://") {
            None => name,
            Some(("http", authority)) => authority.trim_end_matches('/'),
            Some(("https", _)) => {
                return Err(CtlError::Unsupported(format!(
                    "endpoint {name}: TLS (https) is not supported yet; use http where the server allows it, or etcdctl"
                )));
            }
            Some((scheme, _)) => return refuse(&format!("unknown scheme {scheme:?}")),
        };
        let Ok(parsed) = authority.parse::<tonic::codegen::http::uri::Authority>() else {
            return refuse("not an address");
        };
        if parsed.host().is_empty() || authority.contains('@') {
            return refuse("not an address");
        }
        if parsed.port_u16().is_none() {
            return refuse("the port is missing");
        }
        Ok(Self {
            name: name.to_owned(),
            uri: format!("http://{authority}"),
        })
    }
}

impl fmt::Display for Endpoint {
    /// As the user wrote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Why an attempt at one endpoint failed.
#[derive(Debug)]
pub enum Trouble {
    /// No connection: the request never left.
    NeverSent(String),
    /// The connection broke, or the answer made no sense: the request may have arrived.
    Lost(String),
    /// The server answered with an error.
    Answer(Box<Status>),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverSent(reason) => f.write_str(reason),
            Self::Lost(reason) => write!(f, "the connection was lost ({reason})"),
            Self::Answer(status) => f.write_str(status.message()),
        }
    }
}

impl From<etcd::Error> for Trouble {
    fn from(error: etcd::Error) -> Self {
        match error {
            etcd::Error::GRpcStatus(status) => status.into(),
            etcd::Error::TransportError(error) => Self::from_transport(&error),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        // Only a failed transport leaves a source; what the server sends does not.
        match status.source() {
            Some(source) => Self::from_transport(source),
            None => Self::Answer(Box::new(status)),
        }
    }
}

impl Trouble {
    fn from_transport(error: &(dyn StdError + 'static)) -> Self {
        let chain: Vec<_> = std::iter::successors(Some(error), |&error| error.source()).collect();
        let reason = chain
            .last()
            .map_or_else(String::new, |root| plain_reason(&root.to_string()));
        if chain.iter().any(|error| error.is::<ConnectError>()) {
            Self::NeverSent(reason)
        } else {
            Self::Lost(reason)
        }
    }

    /// Whether another endpoint may know better: for a read, everything but a verdict.
    fn read_may_move_on(&self) -> bool {
        match self {
            Self::NeverSent(_) | Self::Lost(_) => true,
            Self::Answer(status) => {
                turned_away_by_learner(status)
                    || matches!(
                        status.code(),
                        Code::Unavailable
                            | Code::Internal
                            | Code::Cancelled
                            | Code::DeadlineExceeded
                            | Code::Aborted
                    )
            }
        }
    }

    /// Whether a write certainly had no effect here, and may have one elsewhere.
    fn write_may_move_on(&self) -> bool {
        match self {
            Self::NeverSent(_) => true,
            Self::Lost(_) => false,
            Self::Answer(status) => turned_away_by_learner(status),
        }
    }

    /// Why nobody knows whether a write was done; `None` if it certainly was not.
    fn doubt(&self) -> Option<String> {
        match self {
            Self::NeverSent(_) => None,
            Self::Lost(reason) => Some(format!(
                "the connection was lost before the answer ({reason})"
            )),
            Self::Answer(status) => outcome_is_unknown(status).then(|| status.message().to_owned()),
        }
    }
}

fn turned_away_by_learner(status: &Status) -> bool {
    status.message() == "etcdserver: rpc not supported for learner"
}

/// Whether an error that the server gave leaves open if a write was done.
fn outcome_is_unknown(status: &Status) -> bool {
    const REFUSED_BEFORE_PROPOSING: [&str; 3] = [
        "etcdserver: no leader",
        "etcdserver: unhealthy cluster",
        "etcdserver: too many requests",
    ];
    if REFUSED_BEFORE_PROPOSING.contains(&status.message()) {
        return false;
    }
    match status.code() {
        Code::Unavailable
        | Code::Internal
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted => true,
        // etcd's own refusals that have no code arrive as Unknown.
        Code::Unknown => !status.message().starts_with("etcdserver: "),
        _ => false,
    }
}

/// `Connection refused (os error 111)` without the number, which tells a person nothing.
fn plain_reason(text: &str) -> String {
    match text.split_once(" (os error") {
        Some((reason, _)) => reason.to_owned(),
        None => text.to_owned(),
    }
}

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
        let transport = tonic::transport::Endpoint::from_shared(endpoint.uri.clone())
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
                    Trouble::Answer(status) => status.message().to_owned(),
                };
                self.debug(format_args!("{endpoint}: {reason}"));
                return Err(Trouble::NeverSent(reason));
            }
            Err(_) => {
                return Err(Trouble::NeverSent(format!(
                    "no connection within {}",
                    crate::go::duration::format(self.dial_timeout)
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

    /// Connects to the first endpoint that accepts.
    pub async fn connect_any(&self, what: &'static str) -> Result<Connection, CtlError> {
        let mut failed = Vec::new();
        race(
            &self.endpoints,
            CONNECT_STAGGER,
            &mut failed,
            |_| true,
            async |endpoint| self.connect(&endpoint).await,
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
        let mut failed = Vec::new();
        let asking = async {
            loop {
                failed.clear();
                let answer = race(
                    &self.endpoints,
                    READ_STAGGER,
                    &mut failed,
                    Trouble::read_may_move_on,
                    async |endpoint| {
                        let connection = self.connect(&endpoint).await?;
                        Ok(call(connection).await?)
                    },
                )
                .await;
                match answer {
                    Ok(answer) => return Some(answer),
                    Err(()) if failed.iter().any(|(_, trouble)| is_passing(trouble)) => {
                        sleep(RETRY_PAUSE).await;
                    }
                    Err(()) => return None,
                }
            }
        };
        match timeout(self.command_timeout, asking).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(verdict(what, failed)),
            Err(_) => Err(CtlError::TimedOut {
                what,
                after: self.command_timeout,
                failed,
            }),
        }
    }

    /// Sends a write to the first endpoint that accepts a connection, and never twice.
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
                async |endpoint| self.connect(&endpoint).await,
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
                    let after = crate::go::duration::format(self.command_timeout);
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
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Lost(format!(
                "no answer within {}",
                crate::go::duration::format(self.command_timeout)
            ))),
        }
    }

    /// Prints a line on stderr if --debug was given.
    pub fn debug(&self, text: fmt::Arguments<'_>) {
        if self.debug {
            eprintln!("debug: {text}");
        }
    }
}

/// Whether all may be well in a moment: a server that answers, but has no leader, say.
fn is_passing(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::NeverSent(_) => false,
        Trouble::Lost(_) => true,
        Trouble::Answer(_) => trouble.read_may_move_on(),
    }
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

/// Tries the endpoints in order: the next one is started when one fails and `may_move_on`, or when
/// none has answered for `stagger`; the first success wins. The failures are left in `failed`.
async fn race<T, F>(
    endpoints: &[Endpoint],
    stagger: Duration,
    failed: &mut Vec<Failed>,
    may_move_on: fn(&Trouble) -> bool,
    attempt: F,
) -> Result<T, ()>
where
    F: AsyncFn(Endpoint) -> Result<T, Trouble>,
{
    let start = async |endpoint: &Endpoint| (endpoint.clone(), attempt(endpoint.clone()).await);
    let mut waiting = endpoints.iter();
    let mut running = FuturesUnordered::new();
    running.extend(waiting.next().map(&start));
    loop {
        tokio::select! {
            finished = running.next() => match finished {
                Some((_, Ok(answer))) => return Ok(answer),
                Some((endpoint, Err(trouble))) => {
                    let stop = !may_move_on(&trouble);
                    failed.push((endpoint, trouble));
                    if stop {
                        return Err(());
                    }
                    running.extend(waiting.next().map(&start));
                }
                None => return Err(()),
            },
            () = sleep(stagger), if waiting.len() > 0 => running.extend(waiting.next().map(&start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn endpoints(names: &[&str]) -> Vec<Endpoint> {
        names
            .iter()
            .map(|name| Endpoint::parse(name).unwrap())
            .collect()
    }

    #[test]
    fn endpoints_are_addresses_with_a_port() {
        for good in [
            "127.0.0.1:2379",
            "http://localhost:2379",
            "http://h:1/",
            "[::1]:2379",
            " a:1 ",
        ] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "a:b",
            "unix://x",
            "ftp://a:1",
            "u@a:1",
            ":2379",
            "a:1/path",
            "a b:1",
        ] {
            assert!(
                matches!(Endpoint::parse(bad), Err(CtlError::Arguments(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            Endpoint::parse("https://a:1"),
            Err(CtlError::Unsupported(_))
        ));
    }

    #[test]
    fn a_lost_write_is_in_doubt_and_a_refused_one_is_not() {
        let answer = |status| Trouble::Answer(Box::new(status));
        assert!(Trouble::Lost("reset".into()).doubt().is_some());
        assert!(
            answer(Status::unavailable("etcdserver: request timed out"))
                .doubt()
                .is_some()
        );
        assert!(
            answer(Status::unavailable("etcdserver: leader changed"))
                .doubt()
                .is_some()
        );
        assert!(
            answer(Status::unknown("context canceled"))
                .doubt()
                .is_some()
        );
        assert!(Trouble::NeverSent("refused".into()).doubt().is_none());
        assert!(
            answer(Status::unavailable("etcdserver: no leader"))
                .doubt()
                .is_none()
        );
        assert!(
            answer(Status::invalid_argument("etcdserver: key is not provided"))
                .doubt()
                .is_none()
        );
        assert!(
            answer(Status::unknown(
                "etcdserver: re-configuration failed due to not enough started members"
            ))
            .doubt()
            .is_none()
        );
    }

    #[test]
    fn only_a_write_that_was_certainly_not_done_moves_on() {
        let answer = |status| Trouble::Answer(Box::new(status));
        assert!(Trouble::NeverSent("refused".into()).write_may_move_on());
        assert!(
            answer(Status::failed_precondition(
                "etcdserver: rpc not supported for learner"
            ))
            .write_may_move_on()
        );
        assert!(!Trouble::Lost("reset".into()).write_may_move_on());
        assert!(!answer(Status::unavailable("etcdserver: leader changed")).write_may_move_on());
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_endpoint_is_tried_when_one_fails() {
        let tried = RefCell::new(Vec::new());
        let mut failed = Vec::new();
        let answer = race(
            &endpoints(&["a:1", "b:2", "c:3"]),
            Duration::from_secs(9),
            &mut failed,
            |_| true,
            async |endpoint| {
                tried.borrow_mut().push(endpoint.to_string());
                if endpoint.name == "b:2" {
                    Ok("answer")
                } else {
                    Err(Trouble::NeverSent("refused".into()))
                }
            },
        )
        .await;
        assert_eq!(answer, Ok("answer"));
        assert_eq!(*tried.borrow(), ["a:1", "b:2"]);
        assert_eq!(failed.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_endpoint_does_not_keep_the_others_waiting() {
        let mut failed = Vec::new();
        let began = Instant::now();
        let answer = race(
            &endpoints(&["a:1", "b:2"]),
            Duration::from_secs(2),
            &mut failed,
            |_| true,
            async |endpoint| {
                if endpoint.name == "a:1" {
                    std::future::pending::<()>().await;
                }
                Ok(endpoint.name)
            },
        )
        .await;
        assert_eq!(answer.as_deref(), Ok("b:2"));
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_endpoint_is_not_given_up_for_a_failing_one() {
        let mut failed = Vec::new();
        let answer = race(
            &endpoints(&["slow:1", "down:2"]),
            Duration::from_secs(1),
            &mut failed,
            |_| true,
            async |endpoint| {
                if endpoint.name == "down:2" {
                    return Err(Trouble::NeverSent("refused".into()));
                }
                sleep(Duration::from_secs(3)).await;
                Ok(endpoint.name)
            },
        )
        .await;
        assert_eq!(answer.as_deref(), Ok("slow:1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_ends_the_search() {
        let tried = RefCell::new(0);
        let mut failed = Vec::new();
        let answer: Result<(), ()> = race(
            &endpoints(&["a:1", "b:2"]),
            Duration::from_secs(1),
            &mut failed,
            Trouble::read_may_move_on,
            async |_| {
                *tried.borrow_mut() += 1;
                Err(Trouble::Answer(Box::new(Status::invalid_argument(
                    "etcdserver: key is not provided",
                ))))
            },
        )
        .await;
        assert_eq!(answer, Err(()));
        assert_eq!(*tried.borrow(), 1);
        assert!(matches!(verdict("get", failed), CtlError::Refused { .. }));
    }
}
