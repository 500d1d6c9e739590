//! The counts at some revisions of the past, so that counting there does not start from today.

use std::sync::Arc;

use crate::Revision;
use crate::counts::CountTree;

/// How far apart roots are kept, at first.
const SPACING: i64 = 1_000;
/// How many are kept. With one more, every second goes and the spacing doubles.
const ROOTS_MAX: usize = 1_024;

/// Past roots, oldest first. Cloning is cheap: published states share them.
#[derive(Clone)]
pub(crate) struct Roots {
    kept: Arc<Vec<(Revision, CountTree)>>,
    spacing: i64,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots {
            kept: Arc::default(),
            spacing: SPACING,
        }
    }
}

impl Roots {
    /// The kept root that is nearest to `at`, in either direction.
    pub fn nearest(&self, at: Revision) -> Option<(Revision, &CountTree)> {
        let after = self.kept.partition_point(|(revision, _)| *revision < at);
        let candidates = [after.checked_sub(1), Some(after)].into_iter().flatten();
        candidates
            .filter_map(|index| self.kept.get(index))
            .min_by_key(|(revision, _)| revision.0.abs_diff(at.0))
            .map(|(revision, counts)| (*revision, counts))
    }

    /// Keeps the counts of `revision`, if the last ones kept are far enough behind.
    pub fn offer(&mut self, revision: Revision, counts: &CountTree) {
        if self
            .kept
            .last()
            .is_some_and(|(last, _)| revision.0 - last.0 < self.spacing)
        {
            return;
        }
        let kept = Arc::make_mut(&mut self.kept);
        kept.push((revision, counts.clone()));
        if kept.len() > ROOTS_MAX {
            let mut index = 0;
            kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.spacing = self.spacing.saturating_mul(2);
        }
    }

    /// Forgets what lies before `compacted`: between there and a later revision the log has gaps.
    pub fn compact(&mut self, compacted: Revision) {
        if self
            .kept
            .first()
            .is_some_and(|(first, _)| *first < compacted)
        {
            Arc::make_mut(&mut self.kept).retain(|(revision, _)| *revision >= compacted);
        }
    }
}
