//! openraft's types as Keelson configures them, and their conversion to the plain numbers of the log, the store
//! and the peer protocol.
//!
//! `leader_id_std`: one leader a term. openraft's default would allow two, and different entries at index 0 when
//! several members initialize at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use bytes::{BufMut, Bytes, BytesMut};
use keelson_proto::{commandpb, peerpb};
use keelson_store::{Outcome, Payload};
use openraft::vote::leader_id_std::{CommittedLeaderId, LeaderId};
use openraft::{AsyncRuntime, EntryPayload, RaftTypeConfig};
use prost::Message;

/// openraft's configuration over a runtime: tokio in production, the seeded one in simulation.
pub struct Types<RT>(PhantomData<fn() -> RT>);

/// What a client's request looks like to openraft: an encoded [`commandpb::Command`].
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A member as the replicated membership knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// A learner that any leader makes a voter as soon as it has caught up.
    pub pending_voter: bool,
}

impl<RT: AsyncRuntime> RaftTypeConfig for Types<RT> {
    type D = Proposal;
    type R = Outcome;
    type NodeId = u64;
    type Node = Peer;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Proposal, u64, Peer>;
    type Entry = openraft::Entry<CommittedLeaderId<u64>, Self::Payload>;
    type AsyncRuntime = RT;
    type Responder<T>
        = openraft::impls::ProgressResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::AnyError;
}

// By hand, since a derive would ask the same of the runtime.
impl<RT> Clone for Types<RT> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<RT> Copy for Types<RT> {}
impl<RT> fmt::Debug for Types<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}
impl<RT> Default for Types<RT> {
    fn default() -> Self {
        Types(PhantomData)
    }
}
impl<RT> PartialEq for Types<RT> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<RT> Eq for Types<RT> {}
impl<RT> PartialOrd for Types<RT> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<RT> Ord for Types<RT> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// openraft's log id.
pub type RaftLogId = openraft::LogId<CommittedLeaderId<u64>>;
/// openraft's vote.
pub type RaftVote = openraft::Vote<LeaderId<u64, u64>>;
/// openraft's membership.
pub type RaftMembership = openraft::Membership<u64, Peer>;
/// openraft's membership with the log id that set it.
pub type RaftStoredMembership = openraft::StoredMembership<CommittedLeaderId<u64>, u64, Peer>;
/// openraft's entry.
pub type RaftEntry = openraft::Entry<CommittedLeaderId<u64>, EntryPayload<Proposal, u64, Peer>>;

pub(crate) fn raft_log_id(term: u64, index: u64) -> RaftLogId {
    RaftLogId::new(CommittedLeaderId::new(term), index)
}

pub(crate) fn log_id_to_store(id: &RaftLogId) -> keelson_store::LogId {
    keelson_store::LogId {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

pub(crate) fn log_id_to_pb(id: &RaftLogId) -> commandpb::LogId {
    commandpb::LogId {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

pub(crate) fn log_id_from_pb(id: &commandpb::LogId) -> RaftLogId {
    raft_log_id(id.term, id.index)
}

pub(crate) fn vote_to_pb(vote: &RaftVote) -> peerpb::Vote {
    peerpb::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_pb(vote: &peerpb::Vote) -> RaftVote {
    RaftVote {
        leader_id: LeaderId {
            term: vote.term,
            voted_for: vote.node,
        },
        committed: vote.committed,
    }
}

pub(crate) fn membership_to_pb(membership: &RaftMembership) -> commandpb::Membership {
    commandpb::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|ids| commandpb::Voters {
                ids: ids.iter().copied().collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, peer)| commandpb::Node {
                id: *id,
                peer_urls: peer.peer_urls.clone(),
                pending_voter: peer.pending_voter,
            })
            .collect(),
    }
}

pub(crate) fn membership_from_pb(membership: &commandpb::Membership) -> RaftMembership {
    let configs: Vec<BTreeSet<u64>> = membership
        .configs
        .iter()
        .map(|voters| voters.ids.iter().copied().collect())
        .collect();
    let mut nodes: BTreeMap<u64, Peer> = membership
        .nodes
        .iter()
        .map(|node| {
            (
                node.id,
                Peer {
                    peer_urls: node.peer_urls.clone(),
                    pending_voter: node.pending_voter,
                },
            )
        })
        .collect();
    // A voter without a node, which no leader proposes, gets an empty one: it is unreachable, not a panic.
    for id in configs.iter().flatten() {
        nodes.entry(*id).or_default();
    }
    RaftMembership::new(configs, nodes).unwrap_or_default()
}

pub(crate) fn stored_membership_from_pb(
    stored: Option<&commandpb::StoredMembership>,
) -> RaftStoredMembership {
    match stored {
        Some(commandpb::StoredMembership {
            log_id,
            membership: Some(membership),
        }) => RaftStoredMembership::new(
            log_id.as_ref().map(log_id_from_pb),
            membership_from_pb(membership),
        ),
        _ => RaftStoredMembership::default(),
    }
}

const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// An entry's payload could not be read: it passed its checksum, so it was written by a newer version.
#[derive(Debug, thiserror::Error)]
#[error("log entry {index} has a payload of kind {kind:?} that this version does not know")]
pub struct UnknownPayload {
    index: u64,
    kind: Option<u8>,
}

/// The payload as the log and the peer protocol carry it: a kind byte, then the data.
pub(crate) fn encode_payload(payload: &EntryPayload<Proposal, u64, Peer>) -> Bytes {
    match payload {
        EntryPayload::Blank => Bytes::from_static(&[KIND_BLANK]),
        EntryPayload::Normal(Proposal(command)) => {
            let mut bytes = BytesMut::with_capacity(command.len() + 1);
            bytes.put_u8(KIND_COMMAND);
            bytes.put_slice(command);
            bytes.freeze()
        }
        EntryPayload::Membership(membership) => {
            let mut bytes = BytesMut::from(&[KIND_MEMBERSHIP][..]);
            bytes.put_slice(&membership_to_pb(membership).encode_to_vec());
            bytes.freeze()
        }
    }
}

/// The entry of a log id and an encoded payload.
pub(crate) fn decode_entry(id: RaftLogId, mut payload: Bytes) -> Result<RaftEntry, UnknownPayload> {
    let unknown = |kind| UnknownPayload {
        index: id.index(),
        kind,
    };
    if payload.is_empty() {
        return Err(unknown(None));
    }
    let kind = payload.split_to(1)[0];
    let payload = match kind {
        KIND_BLANK => EntryPayload::Blank,
        KIND_COMMAND => EntryPayload::Normal(Proposal(payload)),
        KIND_MEMBERSHIP => {
            let membership =
                commandpb::Membership::decode(payload).map_err(|_| unknown(Some(kind)))?;
            EntryPayload::Membership(membership_from_pb(&membership))
        }
        _ => return Err(unknown(Some(kind))),
    };
    Ok(RaftEntry {
        log_id: id,
        payload,
    })
}

/// The entry as the state machine takes it.
pub(crate) fn entry_to_store(entry: &RaftEntry) -> keelson_store::Entry {
    keelson_store::Entry {
        id: log_id_to_store(&entry.log_id),
        payload: match &entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(Proposal(command)) => Payload::Command(command.clone()),
            EntryPayload::Membership(membership) => {
                Payload::Membership(membership_to_pb(membership))
            }
        },
    }
}
