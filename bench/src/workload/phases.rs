//! Puts before something happens, meanwhile, and for a while after it: what they notice of it, and what it costs.

use std::rc::Rc;
use std::time::Duration;

use crate::measure::usage::forget_peaks;
use crate::measure::{MIB, Meter, Outcome, Usage};

/// What follows is observed for so long, since the work may leave something to do.
pub const AFTER: Duration = Duration::from_secs(4);

/// Of fewer puts, the slowest of a hundred is but one of them.
const SAMPLES_MIN: u64 = 300;

/// The phases of one run, in order.
#[derive(Debug)]
pub struct Phases {
    meter: Rc<Meter>,
    before_ms: f64,
    /// None while it lasts, and if it was over before enough was answered to tell.
    during_ms: Option<f64>,
    at_begin: Usage,
}

impl Phases {
    /// It begins to happen: what was noted until now was before. The meter must be on.
    pub fn begin(meter: &Rc<Meter>, pids: &[u32]) -> anyhow::Result<Phases> {
        let before_ms = meter.quantile_ms(0.99);
        meter.clear();
        forget_peaks(pids)?;
        Ok(Phases {
            meter: meter.clone(),
            before_ms,
            during_ms: None,
            at_begin: Usage::of(pids)?,
        })
    }

    /// It has happened. What was too short to tell a hundredth of is told together with what follows.
    pub fn happened(&mut self) {
        if self.meter.operations() >= SAMPLES_MIN {
            self.during_ms = Some(self.meter.quantile_ms(0.99));
            self.meter.clear();
        }
    }

    /// The time after it is over as well; members may have come meanwhile.
    pub fn end(self, pids: &[u32], outcome: &mut Outcome) -> anyhow::Result<()> {
        let after_ms = self.meter.quantile_ms(0.99);
        outcome.set("p99_before_ms", self.before_ms);
        outcome.set("p99_during_ms", self.during_ms.unwrap_or(after_ms));
        outcome.set("p99_after_ms", after_ms);
        let worse_ms = self
            .during_ms
            .map_or(after_ms, |during| during.max(after_ms));
        outcome.set("p99_growth", worse_ms / self.before_ms);
        let spent = Usage::of(pids)?.since(self.at_begin);
        outcome.set("spent_cpu_s", spent.cpu.as_secs_f64());
        outcome.set("spent_written_mib", spent.written_bytes as f64 / MIB);
        outcome.set("peak_mib", spent.peak_rss_bytes as f64 / MIB);
        self.meter.tell_troubles(outcome);
        Ok(())
    }
}
