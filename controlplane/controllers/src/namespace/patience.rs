//! When to look again at what is going.

use std::time::Duration;

/// The first pause: what goes at once is gone by then.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest: something holds it that may take for ever.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How often one namespace was looked at while nothing of it went.
#[derive(Debug, Default)]
pub struct Patience {
    left: usize,
    looks: u32,
}

impl Patience {
    /// The pause after a look that found so many objects: short while they become fewer, and twice as long each time
    /// that they have not.
    pub fn after(&mut self, left: usize) -> Duration {
        if left < self.left {
            self.looks = 0;
        }
        self.left = left;
        let pause = PAUSE_MIN * 2_u32.pow(self.looks.min(4));
        self.looks = self.looks.saturating_add(1);
        pause.min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_while_nothing_goes_and_is_short_again_when_something_has_gone() {
        let mut patience = Patience::default();
        let pauses = [9, 9, 9, 9, 9, 9, 8, 8, 10, 9].map(|left| patience.after(left).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15, 1, 2, 4, 1]);
    }
}
