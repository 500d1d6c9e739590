//! Making the copy of one cluster's state the beginning of another's: what `snapshot restore` does to a backup.

use bytes::Bytes;
use keelson_proto::commandpb::{LogId, Membership, State, StoredMembership};
use prost::Message;

use crate::OpenError;
use crate::engine::{Batch, Cursor, Engine, Family, View};
use crate::format::{meta, prefix_end};
use crate::state::read_state;

/// Where a cluster's log begins: the entry that founds it, of no leader's term, has said who its members are.
const FOUNDING: LogId = LogId { term: 0, index: 0 };

/// Makes the state in `engine` the one with which the cluster `cluster_id` is founded by `membership`, and flushes it.
///
/// Keys, history, leases, alarms and revisions stay. What the old cluster knew of its members goes: their names and
/// URLs, and which were removed. The state counts as applied up to the founding entry, at which the raft log of every
/// member must then be purged: what that entry founds is here and nowhere else, so that nobody can be brought up by
/// replaying the log from its beginning. Gives the new state.
///
/// Nobody else may use the engine meanwhile. It is changed in one batch, so that a crash leaves the old state or the new.
pub fn refound<E: Engine>(
    engine: &E,
    cluster_id: u64,
    membership: Membership,
) -> Result<State, OpenError> {
    let view = engine.view()?;
    let found = read_state(|family, key| view.get(family, key))?;
    let mut state = found.ok_or_else(|| OpenError::Damaged {
        what: "there is none".to_owned(),
    })?;
    let mut batch = Batch::default();
    for kind in [meta::MEMBER, meta::REMOVED] {
        let mut records = view.cursor(Family::Meta, &[kind], prefix_end(&[kind]).as_deref());
        while let Some((key, _)) = records.next()? {
            batch.delete(Family::Meta, Bytes::copy_from_slice(key));
        }
    }
    state.applied = Some(FOUNDING);
    state.membership = Some(StoredMembership {
        log_id: Some(FOUNDING),
        membership: Some(membership),
    });
    state.cluster_id = cluster_id;
    batch.put(Family::Meta, meta::STATE, state.encode_to_vec());
    engine.write(&batch)?;
    engine.flush()?;
    Ok(state)
}
