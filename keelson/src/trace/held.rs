//! Brings the changes of several streams into the order of their revisions: each is held back for a moment, since one
//! of an earlier revision may still be under way on another stream.

use std::time::Duration;

use tokio::time::Instant;

use super::story::Change;

/// So long.
pub const SETTLE: Duration = Duration::from_millis(50);

/// The changes that are held back.
#[derive(Debug, Default)]
pub struct Held {
    /// With when they came.
    changes: Vec<(Instant, Change)>,
}

impl Held {
    pub fn hold(&mut self, change: Change, now: Instant) {
        self.changes.push((now, change));
    }

    /// When one of them will have been held long enough.
    pub fn next_settled(&self) -> Option<Instant> {
        let came = self.changes.iter().map(|(came, _)| *came).min();
        came.map(|came| came + SETTLE)
    }

    /// Those that have been held long enough, and all of earlier revisions, in order.
    pub fn settled(&mut self, now: Instant) -> Vec<Change> {
        let is_over = |came: &Instant| *came + SETTLE <= now;
        let over = self.changes.iter().filter(|(came, _)| is_over(came));
        let Some(last) = over.map(|(_, change)| change.object.revision()).max() else {
            return Vec::new();
        };
        let (mut settled, held) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, change)| change.object.revision() <= last);
        self.changes = held;
        settled.sort_by_key(|(_, change)| change.object.revision());
        settled.into_iter().map(|(_, change)| change).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::Object;
    use super::*;

    fn change(revision: u64) -> Change {
        let metadata = json!({"metadata": {"resourceVersion": revision.to_string()}});
        Change {
            at: None,
            object: Object::new("Pod", metadata),
            is_gone: false,
        }
    }

    fn revisions(changes: Vec<Change>) -> Vec<u64> {
        changes
            .iter()
            .map(|change| change.object.revision())
            .collect()
    }

    #[test]
    fn a_later_stream_may_bring_an_earlier_revision() {
        let mut held = Held::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        held.hold(change(7), after(0));
        held.hold(change(5), after(10));
        held.hold(change(9), after(20));
        assert!(held.settled(after(49)).is_empty());
        assert_eq!(held.next_settled(), Some(after(50)));
        assert_eq!(revisions(held.settled(after(50))), [5, 7]);
        assert_eq!(held.next_settled(), Some(after(70)));
        assert_eq!(revisions(held.settled(after(70))), [9]);
        assert_eq!(held.next_settled(), None);
    }
}
