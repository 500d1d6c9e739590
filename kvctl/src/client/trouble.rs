//! What a failed attempt says: whether the request left, whether another endpoint may do better,
//! and whether anybody can know what became of a write.

use crate::go::duration;
use etcd_client as etcd;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;
use tonic::{Code, ConnectError, Status};

/// Why an attempt at one endpoint failed.
#[derive(Debug)]
pub enum Trouble {
    /// No connection, or one to something that is no member: no member has got the request.
    NeverSent(String),
    /// The connection broke, or the answer made no sense: the request may have arrived.
    Lost(String),
    /// There is a connection, and no answer for so long.
    Silent(Duration),
    /// The server answered with an error.
    Answer(Box<Status>),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverSent(reason) => f.write_str(reason),
            Self::Lost(reason) => write!(f, "the connection was lost ({reason})"),
            Self::Silent(wait) => {
                write!(f, "no answer within {}", duration::format(rounded(*wait)))
            }
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
    pub(super) fn from_transport(error: &(dyn StdError + 'static)) -> Self {
        let chain: Vec<_> = std::iter::successors(Some(error), |&error| error.source()).collect();
        let reason = chain.last().map_or_else(String::new, plain_reason);
        if chain.iter().any(|error| error.is::<ConnectError>()) {
            Self::NeverSent(reason)
        } else {
            Self::Lost(reason)
        }
    }

    /// Whether another endpoint may know better: for a read, everything but a verdict.
    pub fn read_may_move_on(&self) -> bool {
        match self {
            Self::NeverSent(_) | Self::Lost(_) | Self::Silent(_) => true,
            Self::Answer(status) => turned_away_by_learner(status) || !is_verdict(status),
        }
    }

    /// Whether all may be well in a moment: a server that answers, but has no leader, say.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::NeverSent(_) => false,
            Self::Lost(_) | Self::Silent(_) | Self::Answer(_) => self.read_may_move_on(),
        }
    }

    /// Whether a write certainly had no effect here, and may have one elsewhere.
    pub(super) fn write_may_move_on(&self) -> bool {
        match self {
            Self::NeverSent(_) => true,
            Self::Lost(_) | Self::Silent(_) => false,
            Self::Answer(status) => turned_away_by_learner(status),
        }
    }

    /// Why nobody knows whether a write was done; `None` if it certainly was not.
    pub(super) fn doubt(&self) -> Option<String> {
        match self {
            Self::NeverSent(_) => None,
            Self::Lost(reason) => Some(format!(
                "the connection was lost before the answer ({reason})"
            )),
            Self::Silent(_) => Some(self.to_string()),
            Self::Answer(status) => outcome_is_unknown(status).then(|| status.message().to_owned()),
        }
    }
}

/// To milliseconds, or to tenths of a second: nobody wants to read nanoseconds.
fn rounded(wait: Duration) -> Duration {
    let step = if wait < Duration::from_secs(1) {
        1
    } else {
        100
    };
    let millis = wait.as_millis() / step * step;
    u64::try_from(millis).map_or(wait, Duration::from_millis)
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
    !is_verdict(status)
}

/// Whether the server has looked at the request and said no; otherwise something came between.
fn is_verdict(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable
        | Code::Internal
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted => false,
        // etcd's own refusals that have no code arrive as Unknown.
        Code::Unknown => status.message().starts_with("etcdserver: "),
        _ => true,
    }
}

/// `Connection refused (os error 111)` without the number, which tells a person nothing.
pub fn plain_reason(error: impl fmt::Display) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.find(" (os error") {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
