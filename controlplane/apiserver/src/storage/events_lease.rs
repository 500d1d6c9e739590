//! Leases for objects that go away by themselves: Events.
//!
//! A lease for each Event would cost more than the Event. Those of one minute share one, up to a thousand, and it
//! lasts that minute longer.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::store::timed;
use super::{Store, StoreError};

const SHARED_FOR: Duration = Duration::from_secs(60);
const SHARED_BY_MAX: u32 = 1_000;

/// Hands out leases of one time to live.
pub struct ExpiryLeases {
    store: Store,
    ttl: Duration,
    current: Mutex<Option<Current>>,
}

struct Current {
    id: i64,
    granted: Instant,
    used_by: u32,
}

impl ExpiryLeases {
    /// Leases that last `ttl`, or up to a minute longer.
    pub fn new(store: Store, ttl: Duration) -> ExpiryLeases {
        ExpiryLeases {
            store,
            ttl,
            current: Mutex::new(None),
        }
    }

    /// The lease for an object that is written now.
    pub async fn lease(&self) -> Result<i64, StoreError> {
        // Held over the grant, so that many that come at once share it.
        let mut current = self.current.lock().await;
        let is_good =
            |one: &&mut Current| one.granted.elapsed() < SHARED_FOR && one.used_by < SHARED_BY_MAX;
        if let Some(current) = current.as_mut().filter(is_good) {
            current.used_by += 1;
            return Ok(current.id);
        }
        let ttl = (self.ttl + SHARED_FOR).as_secs() as i64;
        let mut client = self.store.lease_client();
        let lease = timed(client.grant(ttl, None)).await?;
        *current = Some(Current {
            id: lease.id(),
            granted: Instant::now(),
            used_by: 1,
        });
        Ok(lease.id())
    }
}
