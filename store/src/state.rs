//! The store's own state in the meta family: read at start, written with every batch.

use bytes::Bytes;
use keelson_proto::commandpb::{Membership, State};
use prost::Message;
use std::collections::BTreeSet;

use crate::engine::{EngineError, Family};
use crate::format::{self, meta};
use crate::{LogId, OpenError, Revision};

/// Nothing was ever compacted, as etcd says it.
pub(crate) const NEVER_COMPACTED: Revision = Revision(-1);

/// Reads the state through `get`: of a view, of what a flush has put on disk, or of a checkpoint. None: nothing was ever applied.
pub fn read_state(
    get: impl Fn(Family, &[u8]) -> Result<Option<Bytes>, EngineError>,
) -> Result<Option<State>, OpenError> {
    let damaged = |what: &str| OpenError::Damaged {
        what: what.to_owned(),
    };
    let found = match get(Family::Meta, meta::FORMAT)? {
        Some(found) => {
            let found: [u8; 4] = (*found)
                .try_into()
                .map_err(|_| damaged("its format version has not 4 bytes"))?;
            u32::from_be_bytes(found)
        }
        None if get(Family::Meta, meta::STATE)?.is_none() => return Ok(None),
        None => return Err(damaged("its format version is missing")),
    };
    if found > format::VERSION {
        return Err(OpenError::NewerFormat {
            found,
            known: format::VERSION,
        });
    }
    let state = get(Family::Meta, meta::STATE)?
        .ok_or_else(|| damaged("it is missing, but its format is there"))?;
    let state = State::decode(state).map_err(|error| damaged(&error.to_string()))?;
    if state.revision < 1 || state.compacted > state.revision || state.compacted < NEVER_COMPACTED.0
    {
        return Err(damaged(&format!(
            "revision {}, compacted {}",
            state.revision, state.compacted
        )));
    }
    Ok(Some(state))
}

/// The state of a store to which nothing was ever applied.
pub(crate) fn first_state() -> State {
    State {
        revision: Revision::FIRST.0,
        compacted: NEVER_COMPACTED.0,
        ..State::default()
    }
}

/// The applied log id, in plain numbers.
pub(crate) fn applied(state: &State) -> Option<LogId> {
    state.applied.map(|id| LogId {
        term: id.term,
        index: id.index,
    })
}

/// The ids of a membership: voters, joint ones too, and learners.
pub(crate) fn member_ids(membership: &Membership) -> BTreeSet<u64> {
    let voters = membership
        .configs
        .iter()
        .flat_map(|config| config.ids.iter().copied());
    voters
        .chain(membership.nodes.iter().map(|node| node.id))
        .collect()
}
