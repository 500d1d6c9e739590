//! The counts at some revisions of the past, so that counting there does not start from today.

use std::sync::Arc;

use crate::Revision;
use crate::counts::CountTree;

/// How far apart roots are kept, at first.
const SPACING: i64 = 1_000;
/// How many are kept at most. With one more, every second goes and the spacing doubles.
const ROOTS_MAX: usize = 128;
/// How many are kept however many keys there are.
const ROOTS_MIN: usize = 8;
/// What the kept ones may take. New keys all over the place leave nothing for two roots to share: each is then a tree of its own.
const BYTES_MAX: u64 = 16 << 20;
/// For so many keys a tree takes a byte, measured: 284 KB for a million.
const KEYS_PER_BYTE: u64 = 3;

/// How many roots like this one are kept.
fn roots_max(counts: &CountTree) -> usize {
    let root_bytes = (counts.total() / KEYS_PER_BYTE).max(1);
    let fit = usize::try_from(BYTES_MAX / root_bytes).unwrap_or(ROOTS_MAX);
    fit.clamp(ROOTS_MIN, ROOTS_MAX)
}

/// Past roots, oldest first. Cloning is cheap: published states share them.
#[derive(Clone)]
pub(crate) struct Roots {
    kept: Arc<Vec<(Revision, CountTree)>>,
    spacing: i64,
    /// How many may be kept, by the last one that was offered.
    max: usize,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots {
            kept: Arc::default(),
            spacing: SPACING,
            max: ROOTS_MAX,
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
        self.max = roots_max(counts);
        let kept = Arc::make_mut(&mut self.kept);
        kept.push((revision, counts.clone()));
        while kept.len() > self.max {
            let mut index = 0;
            kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.spacing = self.spacing.saturating_mul(2);
        }
    }

    /// Forgets what lies before `compacted`: between there and a later revision the log has gaps. What comes is then kept as
    /// close together as it could have been, had there only been what is left.
    pub fn compact(&mut self, compacted: Revision) {
        if self
            .kept
            .first()
            .is_some_and(|(first, _)| *first < compacted)
        {
            Arc::make_mut(&mut self.kept).retain(|(revision, _)| *revision >= compacted);
        }
        let mut left = self.kept.len().max(1);
        while self.spacing > SPACING && left * 2 <= self.max {
            (self.spacing, left) = (self.spacing / 2, left * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Batch, Engine, Family};
    use crate::memory::MemoryEngine;

    fn counts() -> CountTree {
        let view = MemoryEngine::new().view().expect("memory can be read");
        CountTree::load(&view).expect("there is nothing to misread")
    }

    fn nearest(roots: &Roots, at: i64) -> Option<i64> {
        roots.nearest(Revision(at)).map(|(revision, _)| revision.0)
    }

    #[test]
    fn roots_are_kept_a_spacing_apart_and_the_nearest_is_found_on_either_side() {
        let mut roots = Roots::default();
        assert_eq!(nearest(&roots, 5), None);
        for revision in (0..=5_000).step_by(100) {
            roots.offer(Revision(revision), &counts());
        }
        let kept: Vec<i64> = roots.kept.iter().map(|(revision, _)| revision.0).collect();
        assert_eq!(kept, [0, 1_000, 2_000, 3_000, 4_000, 5_000]);
        assert_eq!(nearest(&roots, 1_400), Some(1_000));
        assert_eq!(nearest(&roots, 1_600), Some(2_000));
        assert_eq!(nearest(&roots, 9_000), Some(5_000));
    }

    #[test]
    fn too_many_roots_are_thinned_and_then_kept_further_apart() {
        let mut roots = Roots::default();
        let counts = counts();
        for n in 0..3_000 {
            roots.offer(Revision(n * SPACING), &counts);
            assert!(roots.kept.len() <= ROOTS_MAX);
        }
        let gaps: Vec<i64> = roots
            .kept
            .windows(2)
            .map(|pair| pair[1].0.0 - pair[0].0.0)
            .collect();
        assert!(gaps.iter().all(|gap| *gap == roots.spacing), "{gaps:?}");
        assert_eq!(
            (roots.kept[0].0, roots.spacing),
            (Revision(0), 32 * SPACING)
        );
    }

    #[test]
    fn fewer_roots_are_kept_of_more_keys() {
        let kept = |keys: u32| {
            let engine = MemoryEngine::new();
            let mut batch = Batch::default();
            batch.put(Family::Counts, Vec::new(), keys.to_be_bytes().to_vec());
            engine.write(&batch).expect("memory does not fail");
            let view = engine.view().expect("memory does not fail");
            let counts = CountTree::load(&view).expect("one block of that many keys");
            let mut roots = Roots::default();
            (0..1_000).for_each(|n| roots.offer(Revision(n * SPACING), &counts));
            roots.kept.len()
        };
        assert!((64..=128).contains(&kept(1_000)));
        assert!((25..=50).contains(&kept(1_000_000)));
        assert!((4..=8).contains(&kept(100_000_000)));
    }

    #[test]
    fn after_a_compaction_roots_are_kept_as_close_as_at_first() {
        let mut roots = Roots::default();
        let counts = counts();
        let long = 3_000 * SPACING;
        for n in 0..=3_000 {
            roots.offer(Revision(n * SPACING), &counts);
        }
        roots.compact(Revision(long));
        for n in 1..=5 {
            roots.offer(Revision(long + n * SPACING), &counts);
        }
        assert_eq!(
            nearest(&roots, long + 5 * SPACING),
            Some(long + 5 * SPACING)
        );
        assert_eq!(
            nearest(&roots, long + 2 * SPACING),
            Some(long + 2 * SPACING)
        );
    }

    #[test]
    fn a_compaction_forgets_the_roots_before_it() {
        let mut roots = Roots::default();
        for n in 0..5 {
            roots.offer(Revision(n * SPACING), &counts());
        }
        let published = roots.clone();
        roots.compact(Revision(2_000));
        assert_eq!(nearest(&roots, 0), Some(2_000));
        assert_eq!(nearest(&published, 0), Some(0), "what is published stays");
    }
}
