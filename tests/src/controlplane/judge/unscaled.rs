//! How many pods there would be if nobody had been scaled down.

/// A number of pods that only what comes and what is lost to faults changes.
#[derive(Debug, Default)]
pub struct Unscaled {
    /// From which revision on there were how many, the oldest first.
    counts: Vec<(i64, i32)>,
    scaled_down: i32,
}

impl Unscaled {
    pub fn one_came(&mut self, revision: i64) {
        self.change(revision, 1);
    }

    pub fn one_was_lost(&mut self, revision: i64) {
        self.change(revision, -1);
    }

    pub fn one_was_scaled_down(&mut self) {
        self.scaled_down += 1;
    }

    fn change(&mut self, revision: i64, by: i32) {
        let before = self.counts.last().map_or(0, |(_, count)| *count);
        self.counts.push((revision, before + by));
    }

    /// How many are left, of all who were scaled down, for somebody who surely knows of what had happened until this
    /// revision, and perhaps of nothing that has since. What was lost meanwhile and is replaced is no loss to them.
    pub fn for_who_knows(&self, until: i64) -> i32 {
        let later = self
            .counts
            .partition_point(|(revision, _)| *revision <= until);
        let before = match later.checked_sub(1) {
            Some(known) => self.counts.get(known).map_or(0, |(_, count)| *count),
            None => 0,
        };
        let after = self.counts.iter().skip(later).map(|(_, count)| *count);
        after.fold(before, i32::max) - self.scaled_down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_lost_and_not_replaced_is_still_counted_by_who_does_not_know() {
        let mut count = Unscaled::default();
        for revision in 1..=4 {
            count.one_came(revision);
        }
        count.one_was_lost(5);
        assert_eq!((count.for_who_knows(4), count.for_who_knows(5)), (4, 3));
        count.one_came(6);
        assert_eq!((count.for_who_knows(4), count.for_who_knows(5)), (4, 4));
        count.one_was_scaled_down();
        count.one_was_scaled_down();
        assert_eq!((count.for_who_knows(4), count.for_who_knows(9)), (2, 2));
    }
}
