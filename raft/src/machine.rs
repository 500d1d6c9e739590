//! openraft's view of the state machine: batches in, outcomes out, snapshots by reference.

use std::io;
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt};
use keelson_store::Outcome;
use keelson_store::engine::Engine;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{RaftSnapshotBuilder, Snapshot, SnapshotMeta};

use crate::shared::{Parts, Shared};
use crate::snapshots::SnapshotSource;
use crate::types::{
    RaftLogId, RaftStoredMembership, Types, entry_to_store, log_id_from_pb, raft_log_id,
    stored_membership_from_pb,
};

/// Entries that one batch takes at most.
const BATCH_ENTRIES: usize = 1_024;
/// Bytes of commands above which a batch takes no further entry.
const BATCH_BYTES: usize = 4 << 20;

/// The adapter between openraft and the applier.
pub(crate) struct Machine<P: Parts> {
    pub(crate) shared: Arc<Shared<P>>,
}

type Meta =
    SnapshotMeta<openraft::vote::leader_id_std::CommittedLeaderId<u64>, u64, crate::types::Peer>;
type SnapshotOf = Snapshot<
    openraft::vote::leader_id_std::CommittedLeaderId<u64>,
    u64,
    crate::types::Peer,
    SnapshotSource,
>;

impl<P: Parts> RaftStateMachine<Types<P::Rt>> for Machine<P> {
    type SnapshotData = SnapshotSource;
    type SnapshotBuilder = Builder<P>;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<RaftLogId>, RaftStoredMembership), io::Error> {
        let (applied, membership) = self
            .shared
            .applier
            .applied()
            .await
            .map_err(io::Error::other)?;
        Ok((
            applied.map(|id| raft_log_id(id.term, id.index)),
            stored_membership_from_pb(Some(&membership)),
        ))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types<P::Rt>>, io::Error>> + Unpin + Send,
    {
        let mut entries = entries.fuse();
        let mut batch = Vec::new();
        let mut responders = Vec::new();
        while let Some(next) = entries.next().await {
            let mut bytes = 0;
            let mut next = Some(next);
            while let Some(item) = next {
                let (entry, responder) = item?;
                let entry = entry_to_store(&entry);
                if let keelson_store::Payload::Command(command) = &entry.payload {
                    bytes += command.len();
                }
                batch.push(entry);
                responders.push(responder);
                if batch.len() == BATCH_ENTRIES || bytes >= BATCH_BYTES {
                    break;
                }
                // What is ready now goes along; nothing is waited for.
                next = entries.next().now_or_never().flatten();
            }
            let responders = std::mem::take(&mut responders);
            let last = batch.last().map(|entry| entry.id.index);
            let intake = self.shared.intake.clone();
            let answer = move |outcomes: Vec<Outcome>| {
                // First, so that who is answered finds nothing under way.
                if let Some(last) = last {
                    intake.applied(last);
                }
                assert_eq!(outcomes.len(), responders.len(), "one outcome an entry");
                for (responder, outcome) in responders.into_iter().zip(outcomes) {
                    if let Some(responder) = responder {
                        responder.send(outcome);
                    }
                }
            };
            let here = self.shared.may_wait();
            self.shared
                .applier
                .apply(std::mem::take(&mut batch), here, answer)
                .await
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<P> {
        Builder {
            shared: self.shared.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &Meta,
        snapshot: SnapshotSource,
    ) -> Result<(), io::Error> {
        self.shared.install(snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        self.shared.persisted_snapshot()
    }
}

/// Builds what openraft calls a snapshot: what a flush has put on disk. Files are made when one is sent.
pub(crate) struct Builder<P: Parts> {
    shared: Arc<Shared<P>>,
}

impl<P: Parts> RaftSnapshotBuilder<Types<P::Rt>> for Builder<P> {
    type SnapshotData = SnapshotSource;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, io::Error> {
        self.shared.flush().await?;
        self.shared
            .persisted_snapshot()?
            .ok_or_else(|| io::Error::other("a snapshot was asked for before anything was applied"))
    }
}

impl<P: Parts> Shared<P> {
    /// Puts everything applied so far on the disk, off the apply thread.
    pub(crate) async fn flush(&self) -> Result<(), io::Error> {
        let engine = self.engine.load_full();
        self.blocking(move || engine.flush())
            .await?
            .map_err(io::Error::other)
    }

    /// The state that a crash now would leave, as openraft describes a snapshot; none before the first flush.
    fn persisted_snapshot(&self) -> Result<Option<SnapshotOf>, io::Error> {
        let engine = self.engine.load_full();
        let state = keelson_store::read_state(|family, key| engine.get_persisted(family, key))
            .map_err(io::Error::other)?;
        let Some(state) = state else { return Ok(None) };
        let Some(applied) = &state.applied else {
            return Ok(None);
        };
        let meta = SnapshotMeta {
            last_log_id: Some(log_id_from_pb(applied)),
            last_membership: stored_membership_from_pb(state.membership.as_ref()),
        };
        Ok(Some(Snapshot {
            meta,
            snapshot: SnapshotSource::Live,
        }))
    }
}
