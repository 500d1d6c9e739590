//! Leases for objects that go away by themselves: Events.
//!
//! A lease for each Event would cost more than the Event. Those of one minute share one, up to a thousand, and it
//! lasts that minute longer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::store::{soon, timed};
use super::{Rounds, Store, StoreError};

const SHARED_FOR: Duration = Duration::from_secs(60);
const SHARED_BY_MAX: u32 = 1_000;

/// Hands out leases of one time to live.
pub struct ExpiryLeases {
    store: Store,
    ttl: Duration,
    /// Never held over a call.
    current: Mutex<Option<Current>>,
    grants: Rounds<Result<(), StoreError>>,
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
            grants: Rounds::default(),
        }
    }

    /// The lease for an object that is written now.
    pub async fn lease(&self) -> Result<i64, StoreError> {
        loop {
            if let Some(lease) = self.take() {
                return Ok(lease);
            }
            self.grants.share(self.renew()).await?;
        }
    }

    fn take(&self) -> Option<i64> {
        let mut current = self.current.lock();
        let current = current.as_mut().filter(|one| one.is_good())?;
        current.used_by += 1;
        Some(current.id)
    }

    /// Another may have done it since the caller looked.
    async fn renew(&self) -> Result<(), StoreError> {
        if self.current.lock().as_ref().is_some_and(Current::is_good) {
            return Ok(());
        }
        let ttl = (self.ttl + SHARED_FOR).as_secs() as i64;
        let mut client = self.store.lease_client();
        let lease = soon(timed(client.grant(ttl, None))).await?;
        *self.current.lock() = Some(Current {
            id: lease.id(),
            granted: Instant::now(),
            used_by: 0,
        });
        Ok(())
    }
}

impl Current {
    fn is_good(&self) -> bool {
        self.granted.elapsed() < SHARED_FOR && self.used_by < SHARED_BY_MAX
    }
}
