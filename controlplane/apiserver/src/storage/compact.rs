//! Compaction every five minutes, by one of the API servers that share a store: as Kubernetes does it.
//!
//! `compact_rev_key` holds the revision of the last compaction, and its version is the clock: who advances it from
//! the version that he saw an interval ago has waited a whole interval alone, and compacts to the revision of that
//! time. So any number of API servers, Kubernetes' own among them, compact once an interval, and readers have at
//! least that long to page through a list.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::store::timed;
use super::{Revision, Store, StoreError};

const KEY: &str = "compact_rev_key";

/// What the last look at the key told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    version: i64,
    revision: Revision,
}

/// Compacts until `stop`.
pub async fn keep_compacting(store: Store, every: Duration, stop: CancellationToken) {
    let turns = async {
        let mut seen = Seen::default();
        loop {
            tokio::time::sleep(every).await;
            match turn(&store, seen).await {
                Ok(now) => seen = now,
                Err(error) => warn!(%error, "the store was not compacted"),
            }
        }
    };
    // In the middle of a turn too: another server makes up for one that was not finished.
    stop.run_until_cancelled(turns).await;
}

/// Moves the clock if nobody else has, and then compacts to the revision of the last turn.
async fn turn(store: &Store, seen: Seen) -> Result<Seen, StoreError> {
    let mut kv = store.kv_client();
    let txn = Txn::new()
        .when(vec![Compare::version(KEY, CompareOp::Equal, seen.version)])
        .and_then(vec![TxnOp::put(KEY, seen.revision.to_string(), None)])
        .or_else(vec![TxnOp::get(KEY, None)]);
    let reply = timed(kv.txn(txn)).await?;
    let now = reply.header().map_or(0, |header| header.revision());
    if !reply.succeeded() {
        let version = reply.op_responses().into_iter().find_map(|op| match op {
            TxnOpResponse::Get(get) => get.kvs().first().map(|kv| kv.version()),
            _ => None,
        });
        return Ok(Seen {
            version: version.unwrap_or(0),
            revision: now,
        });
    }
    if seen.revision > 0 {
        match timed(kv.compact(seen.revision, None)).await {
            Ok(_) => debug!(revision = seen.revision, "compacted the store"),
            // Somebody went further: as good.
            Err(StoreError::Compacted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Seen {
        version: seen.version + 1,
        revision: now,
    })
}
