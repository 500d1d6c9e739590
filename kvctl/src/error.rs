//! What can go wrong, how it is told to a person, and with which exit code.
//!
//! The first line begins with the server's own message, since scripts look for it, and names the
//! command and the endpoint; further lines give details; the last one says what to try. The exit
//! codes are etcdctl's.

use crate::client::{Endpoint, Trouble, plain_reason};
use crate::go::duration;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tonic::{Code, Status};

/// The exit codes of etcdctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The request failed.
    General = 1,
    /// What etcdctl gives when a lease cannot be renewed or read.
    Connection = 2,
    /// What was typed into `txn` or `watch -i` makes no sense.
    Input = 3,
    /// A flag is known, its value is not supported.
    Feature = 4,
    /// A watch was broken off, or a snapshot not saved.
    Interrupted = 5,
    /// A wrong number of arguments, or a malformed one.
    Arguments = 128,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An endpoint and why it did not serve.
pub type Failed = (Endpoint, Trouble);

/// Everything that ends a command unsuccessfully.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Arguments that contradict each other, or cannot be read.
    #[error("{0}")]
    Arguments(String),
    /// A format or feature that kvctl does not have.
    #[error("{0}")]
    Unsupported(String),
    /// Unusable lines on stdin.
    #[error("{0}")]
    Input(String),
    /// No endpoint accepted a connection, or all broke it: nothing was written.
    #[error("{what}: no endpoint answers")]
    NoEndpoint {
        /// The command.
        what: &'static str,
        /// What happened at each endpoint.
        failed: Vec<Failed>,
    },
    /// The server said no; nothing was written.
    #[error("{} ({what} at {endpoint})", .status.message())]
    Refused {
        /// The command.
        what: &'static str,
        /// Who refused.
        endpoint: Endpoint,
        /// What it said.
        #[source]
        status: Box<Status>,
    },
    /// A read took longer than --command-timeout.
    #[error("{what}: no answer within {}", duration::format(*.after))]
    TimedOut {
        /// The command.
        what: &'static str,
        /// How long was waited.
        after: Duration,
        /// What happened at each endpoint that failed meanwhile.
        failed: Vec<Failed>,
    },
    /// A write was sent, and its answer was not received.
    #[error("{what} at {endpoint}: {reason}")]
    OutcomeUnknown {
        /// The command.
        what: &'static str,
        /// Where it was sent.
        endpoint: Endpoint,
        /// Why there is no answer.
        reason: String,
    },
    /// A file or pipe of the user's.
    #[error("{path}: {action}: {}", plain_reason(.source), path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// stdout or stdin.
    #[error("{stream}: {}", plain_reason(.source))]
    Stdio {
        /// `stdin` or `stdout`.
        stream: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A snapshot that did not arrive whole.
    #[error("snapshot save at {endpoint}: {reason}; {path} was not written", path = .path.display())]
    Snapshot {
        /// Who sent it.
        endpoint: Endpoint,
        /// The file that was asked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Work on files that `kvd` does failed: its words.
    #[error("{0}")]
    Offline(String),
    /// Every endpoint asked was reported on stderr already; only the exit code is left to say.
    #[error("{0}")]
    Reported(String),
    /// As its source, with an exit code of its own.
    #[error("{source}")]
    WithExit {
        /// The exit code.
        exit: Exit,
        /// The error.
        source: Box<CtlError>,
    },
}

impl CtlError {
    /// The same error with another exit code; arguments and input keep theirs.
    pub fn with_exit(self, exit: Exit) -> Self {
        Self::WithExit {
            exit,
            source: Box::new(self),
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Arguments(_) => Exit::Arguments,
            Self::Unsupported(_) => Exit::Feature,
            Self::Input(_) => Exit::Input,
            Self::Snapshot { .. } => Exit::Interrupted,
            Self::WithExit { exit, .. } => *exit,
            Self::NoEndpoint { .. }
            | Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::OutcomeUnknown { .. }
            | Self::File { .. }
            | Self::Stdio { .. }
            | Self::Offline(_)
            | Self::Reported(_) => Exit::General,
        }
    }

    /// True if whoever read our output has gone (`kvctl get … | head`), which is no error.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Stdio { source, .. } => source.kind() == io::ErrorKind::BrokenPipe,
            Self::WithExit { source, .. } => source.is_broken_pipe(),
            _ => false,
        }
    }

    /// All that is printed on stderr.
    pub fn report(&self) -> String {
        let mut text = format!("Error: {self}");
        let cause = match self {
            Self::WithExit { source, .. } => source,
            other => other,
        };
        for (endpoint, trouble) in cause.failed() {
            let _ = write!(text, "\n  {endpoint}: {trouble}");
        }
        if let Some(hint) = cause.hint() {
            let _ = write!(text, "\n  Try: {hint}");
        }
        text
    }

    fn failed(&self) -> &[Failed] {
        match self {
            Self::NoEndpoint { failed, .. } | Self::TimedOut { failed, .. } => failed,
            _ => &[],
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoEndpoint { .. } => Some(
                "start a member there, or name other endpoints with --endpoints or KVCTL_ENDPOINTS",
            ),
            Self::TimedOut { .. } => Some(
                "`kvctl endpoint status --cluster` shows whether a majority is up and who leads; --command-timeout waits longer",
            ),
            Self::OutcomeUnknown { .. } => Some(
                "it may or may not have been done, and was not sent again: look, then repeat it if need be",
            ),
            Self::Refused { status, .. } => hint_for(status),
            _ => None,
        }
    }
}

fn hint_for(status: &Status) -> Option<&'static str> {
    const HINTS: [(&str, &str); 13] = [
        (
            "required revision has been compacted",
            "a later revision; the history before it is gone",
        ),
        (
            "required revision is a future revision",
            "a smaller revision; `kvctl get KEY -w fields` shows the current one",
        ),
        (
            "database space exceeded",
            "delete keys, `kvctl compaction REVISION`, `kvctl defrag`, then `kvctl alarm disarm`",
        ),
        (
            "requested lease not found",
            "`kvctl lease list` shows the leases; it may have expired",
        ),
        (
            "member not found",
            "`kvctl member list` shows the members and their ids",
        ),
        (
            "key is not provided",
            "name a key; `--prefix ''` stands for all keys",
        ),
        (
            "request is too large",
            "split it: a request holds 1.5 MiB at most",
        ),
        (
            "too many operations in txn request",
            "split it: a transaction has 128 operations at most",
        ),
        (
            "no leader",
            "wait for the election; `kvctl endpoint status --cluster` shows whether a majority is up",
        ),
        (
            "not leader",
            "ask the leader: `kvctl endpoint status --cluster` shows which endpoint it is",
        ),
        (
            "unhealthy cluster",
            "start the members that are down, or wait some seconds for those just started; `kvctl endpoint health --cluster` shows them",
        ),
        (
            "not enough started members",
            "start the members that were added before, or remove them",
        ),
        (
            "user name is empty",
            "the server wants a user; kvctl does not support authentication yet, etcdctl does",
        ),
    ];
    let known = HINTS
        .iter()
        .find(|(part, _)| status.message().contains(part));
    match (known, status.code()) {
        (Some((_, hint)), _) => Some(hint),
        (None, Code::Unimplemented) => Some(
            "is this the client port of a Keelson or etcd member? It does not know the request",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str) -> Endpoint {
        Endpoint::parse(name).unwrap()
    }

    #[test]
    fn a_refusal_leads_with_the_servers_message_and_ends_with_what_to_try() {
        let error = CtlError::Refused {
            what: "get",
            endpoint: endpoint("127.0.0.1:2379"),
            status: Box::new(Status::out_of_range(
                "etcdserver: mvcc: required revision has been compacted",
            )),
        };
        assert_eq!(
            error.report(),
            "Error: etcdserver: mvcc: required revision has been compacted (get at 127.0.0.1:2379)\n  \
             Try: a later revision; the history before it is gone"
        );
        assert_eq!(error.exit(), Exit::General);
    }

    #[test]
    fn every_endpoint_that_failed_is_named_with_its_reason() {
        let error = CtlError::NoEndpoint {
            what: "put",
            failed: vec![
                (
                    endpoint("a:1"),
                    Trouble::NeverSent("Connection refused".into()),
                ),
                (endpoint("b:2"), Trouble::Lost("connection reset".into())),
            ],
        };
        let report = error.with_exit(Exit::Connection).report();
        assert!(
            report
                .starts_with("Error: put: no endpoint answers\n  a:1: Connection refused\n  b:2: "),
            "{report}"
        );
        assert!(report.contains("KVCTL_ENDPOINTS"), "{report}");
    }
}
