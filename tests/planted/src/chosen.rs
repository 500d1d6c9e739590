//! Which bug this process has, and how far its clock has jumped.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::Bug;

const VARIABLE: &str = "KEELSON_BUG";

/// Read once: a process has one bug from its start to its end.
static CHOSEN: LazyLock<Option<Bug>> = LazyLock::new(choose);

/// In milliseconds.
static CLOCK_JUMP_MS: AtomicI64 = AtomicI64::new(0);

fn choose() -> Option<Bug> {
    let name = std::env::var_os(VARIABLE).filter(|name| !name.is_empty())?;
    let known = Bug::ALL.iter().find(|bug| name == bug.name());
    if known.is_none() {
        let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        eprintln!(
            "{VARIABLE}: there is no bug {name:?}; choose one of {}",
            names.join(", ")
        );
        std::process::exit(2);
    }
    known.copied()
}

pub(crate) fn is(bug: Bug) -> bool {
    *CHOSEN == Some(bug)
}

/// Which bug this process has, if any. An unknown name in the environment ends the process with a line that lists the
/// known ones: a program asks at its start.
pub fn announce() -> Option<Bug> {
    *CHOSEN
}

/// Moves the clock that [`crate::clock`] reads to so far from the real one.
pub fn jump_clock(offset_ms: i64) {
    CLOCK_JUMP_MS.store(offset_ms, Ordering::Relaxed);
}

pub(crate) fn jumped(reading: Duration) -> Duration {
    let offset_ms = CLOCK_JUMP_MS.load(Ordering::Relaxed);
    let by = Duration::from_millis(offset_ms.unsigned_abs());
    if offset_ms < 0 {
        reading.saturating_sub(by)
    } else {
        reading.saturating_add(by)
    }
}
