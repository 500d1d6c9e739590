//! Leases: none runs out before its time, and none that has ended is renewed.
//!
//! Time is virtual, and clocks drift: a leader's clock may run fast by [`DRIFT_PPM_MAX`]. An acknowledged grant or
//! renewal took effect after it was asked, so a lease lives at least its time to live from there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::operation::{Ask, Operation, Told};
use crate::truth::{Committed, Meaning};

/// By how much a clock runs fast or slow, in parts per million: two per cent, far worse than real ones.
pub const DRIFT_PPM_MAX: i64 = 20_000;

/// Checks what lease holders were told against the entries that ended their leases.
pub fn check(operations: &[Operation], committed: &[Committed]) -> Result<(), String> {
    let mut expired = BTreeMap::new();
    let mut times_to_live = BTreeMap::new();
    for entry in committed {
        match &entry.meaning {
            // The first that ended it; another leader may have found the same.
            Meaning::Expire(ids) => {
                for id in ids {
                    expired.entry(*id).or_insert(entry.at);
                }
            }
            Meaning::Grant(id, ttl_s) => {
                times_to_live.insert(*id, *ttl_s);
            }
            Meaning::Other | Meaning::Revoke(_) | Meaning::Compact(_) => {}
        }
    }
    let mut granted: BTreeMap<i64, &Operation> = BTreeMap::new();
    let mut revoked: BTreeMap<i64, &Operation> = BTreeMap::new();
    for operation in operations {
        match (&operation.ask, &operation.told) {
            (Ask::Grant { lease, .. }, Told::Done { .. }) => granted.insert(*lease, operation),
            (Ask::Revoke { lease }, Told::Done { .. }) => revoked.insert(*lease, operation),
            _ => None,
        };
    }
    for operation in operations {
        let lease = match (&operation.ask, &operation.told) {
            (Ask::Grant { lease, .. }, Told::Done { .. }) => *lease,
            (Ask::Renew { lease }, Told::Renewed { ttl_s: 1.. }) => *lease,
            (Ask::Renew { lease }, Told::Renewed { ttl_s }) => {
                let ended = expired.contains_key(lease)
                    || committed
                        .iter()
                        .any(|entry| entry.meaning == Meaning::Revoke(*lease));
                let granted = granted
                    .get(lease)
                    .is_some_and(|grant| grant.end < operation.start);
                if granted && !ended {
                    return Err(format!(
                        "{operation:?} was told {ttl_s}, but lease {lease} lives"
                    ));
                }
                continue;
            }
            _ => continue,
        };
        if let Some(revocation) = revoked.get(&lease)
            && revocation.end < operation.start
        {
            return Err(format!(
                "{operation:?} renewed what {revocation:?} had revoked"
            ));
        }
        let Some(ttl_s) = times_to_live.get(&lease) else {
            return Err(format!(
                "{operation:?} was told of a lease that nobody was granted"
            ));
        };
        let earliest = operation.start + at_least(*ttl_s);
        if let Some(at) = expired.get(&lease)
            && *at < earliest
        {
            return Err(format!(
                "lease {lease} ran out at {at:?}, before its time: {operation:?}, so it lives until {earliest:?}"
            ));
        }
    }
    Ok(())
}

/// The real time for which a lease lives by the fastest clock.
fn at_least(ttl_s: i64) -> Duration {
    let ttl = Duration::from_secs(ttl_s.unsigned_abs());
    ttl.mul_f64(1e6 / (1e6 + DRIFT_PPM_MAX as f64))
}
