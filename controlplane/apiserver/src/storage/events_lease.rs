//! Leases for objects that go away by themselves: Events.
//!
//! A lease for each Event would cost more than the Event. Those of one minute share one, up to a thousand, and it
//! lasts that minute longer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::store::{soon, timed};
use super::{LeaseId, Put, Rounds, Store, StoreError, Written};

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
    id: LeaseId,
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

    /// Writes an object that goes away by itself.
    pub async fn write(&self, put: &Put) -> Result<Written, StoreError> {
        let lease = self.lease().await?;
        match self.store.write(put, Some(lease)).await {
            // A store that was restored from a backup has lost it; it has written nothing then.
            Err(StoreError::LeaseNotFound) => {
                self.forget(lease);
                let lease = self.lease().await?;
                self.store.write(put, Some(lease)).await
            }
            written => written,
        }
    }

    /// The lease for an object that is written now.
    async fn lease(&self) -> Result<LeaseId, StoreError> {
        loop {
            if let Some(lease) = self.take() {
                return Ok(lease);
            }
            self.grants.share(self.renew()).await?;
        }
    }

    fn take(&self) -> Option<LeaseId> {
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
            id: LeaseId(lease.id()),
            granted: Instant::now(),
            used_by: 0,
        });
        Ok(())
    }

    fn forget(&self, lease: LeaseId) {
        self.current.lock().take_if(|current| current.id == lease);
    }
}

impl Current {
    fn is_good(&self) -> bool {
        self.granted.elapsed() < SHARED_FOR && self.used_by < SHARED_BY_MAX
    }
}
