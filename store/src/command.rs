//! What comes out of the log and what applying it gives.

use bytes::Bytes;
use keelson_proto::commandpb::{self, Membership, Refused, outcome};

use crate::{LogId, Refusal, Revision};

/// One committed entry of the raft log, in the order of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its position.
    pub id: LogId,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// An encoded [`keelson_proto::commandpb::Command`].
    Command(Bytes),
    /// A membership that is now in force.
    Membership(Membership),
}

/// What applying one entry gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The store's revision after the entry.
    pub revision: Revision,
    /// The reply, or why the command was refused. Refusals are deterministic: every member refuses alike.
    pub result: Result<Reply, Refusal>,
}

/// A reply without its header, which the member that answers the client fills in.
pub type Reply = outcome::Result;

impl From<Outcome> for commandpb::Outcome {
    /// The outcome as it crosses the wire between members.
    fn from(outcome: Outcome) -> commandpb::Outcome {
        let result = match outcome.result {
            Ok(reply) => reply,
            Err(refusal) => outcome::Result::Refused(Refused {
                code: refusal.code(),
            }),
        };
        commandpb::Outcome {
            revision: outcome.revision.0,
            result: Some(result),
        }
    }
}

impl From<commandpb::Outcome> for Outcome {
    /// Back from the wire. What this version does not know is a refusal that says so.
    fn from(outcome: commandpb::Outcome) -> Outcome {
        let result = match outcome.result {
            Some(outcome::Result::Refused(refused)) => {
                Err(Refusal::from_code(refused.code).unwrap_or(Refusal::UnknownCommand))
            }
            Some(reply) => Ok(reply),
            None => Err(Refusal::UnknownCommand),
        };
        Outcome {
            revision: Revision(outcome.revision),
            result,
        }
    }
}
