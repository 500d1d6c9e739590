//! How large things may grow on a simulated member: small, so that a short run reaches every bound, and each machine
//! its own, so that what one member still has in memory another one reads from its disk, or has dropped.

use std::time::Duration;

use keelson_log::Options as LogOptions;
use keelson_raft::Upkeep;
use keelson_store::MemberId;
use keelson_watch::Options as WatchOptions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::node::CLUSTER;

/// The bounds of one machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of its log.
    pub log: LogOptions,
    /// Of what its state machine keeps in memory.
    pub cache_bytes: usize,
    /// When its state is flushed, and its log dropped.
    pub upkeep: Upkeep,
    watch: WatchLimits,
}

#[derive(Clone, Debug)]
struct WatchLimits {
    ring_bytes: usize,
    stream_bytes: usize,
    fragment_bytes: usize,
    batch_bytes: usize,
    batch_revisions: usize,
    progress_interval_ms: u64,
}

impl Limits {
    /// The bounds of the machine of a seed.
    pub fn of(seed: u64) -> Limits {
        let rng = &mut StdRng::seed_from_u64(seed.rotate_left(29));
        let mut any = |from: u32, to: u32| 1_usize << rng.random_range(from..=to);
        let watch = WatchLimits {
            ring_bytes: any(8, 12),
            stream_bytes: any(8, 11),
            fragment_bytes: any(7, 9),
            batch_bytes: any(8, 11),
            batch_revisions: any(0, 4),
            progress_interval_ms: any(7, 10) as u64,
        };
        Limits {
            log: LogOptions {
                segment_bytes: any(11, 16) as u32,
                cache_bytes: any(10, 15),
                // Many entries at once come in several drains.
                batch_bytes_max: any(9, 14),
                ..LogOptions::default()
            },
            cache_bytes: any(8, 16),
            upkeep: Upkeep {
                flush_bytes: any(11, 14) as u64,
                flush_idle: Duration::from_millis(any(8, 10) as u64),
                // So small that a member that was away for a while needs a snapshot.
                log_tail_bytes: any(9, 12) as u64,
            },
            watch,
        }
    }

    /// The bounds of its watches: streams fall behind, and catch up from the recent events and from the store.
    pub fn watch(&self, member: u64, seed: u64) -> WatchOptions {
        let WatchLimits {
            ring_bytes,
            stream_bytes,
            fragment_bytes,
            batch_bytes,
            batch_revisions,
            progress_interval_ms,
        } = self.watch;
        WatchOptions {
            ring_bytes,
            stream_bytes,
            queued_bytes: 8 * stream_bytes,
            fragment_bytes,
            batch_bytes,
            batch_revisions,
            progress_interval_ms,
            seed,
            ..WatchOptions::new(CLUSTER, MemberId(member))
        }
    }
}
