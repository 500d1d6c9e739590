//! When members' clocks jumped.
//!
//! The time of a lease is what the leader's monotonic clock says. A nemesis that makes this very clock jump ends leases
//! early, and no store could know better: what is left to judge then is what does not go by time.

use super::Case;
use crate::history::Micros;

/// The nemesis's name.
const JUMP: &str = "clock-jump";
/// A member follows what the nemesis tells it after a moment, and on a busy machine after a long one.
const DELAY: Micros = Micros(2_000_000);

/// The moments at which a clock was made to jump: when such a fault began, and when it ended.
pub(super) struct Jumps(Vec<Micros>);

impl Jumps {
    pub fn of(case: &Case<'_>) -> Jumps {
        let faults = case.history.faults.iter();
        let jumps = faults.filter(|fault| fault.name == JUMP);
        Jumps(
            jumps
                .flat_map(|fault| [Some(fault.start), fault.end])
                .flatten()
                .collect(),
        )
    }

    /// Whether time may have jumped for somebody in between.
    pub fn between(&self, from: Micros, to: Micros) -> bool {
        let reaches = |jump: &Micros| *jump <= to && jump.0.saturating_add(DELAY.0) >= from.0;
        self.0.iter().any(reaches)
    }
}
