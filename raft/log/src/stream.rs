//! What the records of the stream mean, one after another: the state they leave, and which segment
//! holds entries that are still needed. Replay and the writer both go through this, so a restart
//! computes what the writer had.

use std::collections::VecDeque;

use crate::format::State;
use crate::types::{LogId, Vote};

/// The entries of one segment that are neither truncated nor purged: `first..next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Live {
    segment: u32,
    first: u64,
    next: u64,
}

/// The stream up to some point.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    state: State,
    /// Oldest segment first, the one being written last. Never empty.
    live: VecDeque<Live>,
}

impl Stream {
    /// The stream at the head of `segment`, which opens with `state`.
    pub(crate) fn at_head(segment: u32, state: State) -> Self {
        let next = state.next_index();
        Stream {
            state,
            live: VecDeque::from([Live {
                segment,
                first: next,
                next,
            }]),
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Records that follow are in `segment`.
    pub(crate) fn open_segment(&mut self, segment: u32) {
        let next = self.state.next_index();
        self.live.push_back(Live {
            segment,
            first: next,
            next,
        });
    }

    /// An entry; the error tells what is out of order.
    pub(crate) fn entry(&mut self, id: LogId) -> Result<(), String> {
        check_follows(self.state.last, id)?;
        self.state.last = Some(id);
        if let Some(active) = self.live.back_mut() {
            active.next = id.index + 1;
        }
        Ok(())
    }

    pub(crate) fn vote(&mut self, vote: Vote) {
        self.state.vote = Some(vote);
    }

    pub(crate) fn committed(&mut self, id: Option<LogId>) {
        self.state.committed = id;
    }

    pub(crate) fn truncate(&mut self, last: Option<LogId>) -> Result<(), String> {
        let next = last.map_or(0, |id| id.index + 1);
        if next > self.state.next_index() {
            return Err(format!(
                "truncation after {next} of a log that ends before {}",
                self.state.next_index()
            ));
        }
        if self.state.purged.is_some_and(|purged| next <= purged.index) {
            return Err(format!("truncation to {next} of what was purged"));
        }
        self.state.last = last;
        for live in &mut self.live {
            live.next = live.next.min(next);
            live.first = live.first.min(next);
        }
        Ok(())
    }

    /// A purge; returns the lowest segment still needed. It takes effect by [`Stream::keep_from`]:
    /// replay, which may not know every segment, takes the number that the writer recorded.
    pub(crate) fn purge(&mut self, upto: LogId) -> Result<u32, String> {
        if self
            .state
            .purged
            .is_some_and(|purged| upto.index <= purged.index)
        {
            return Err(format!("purge up to {} again", upto.index));
        }
        self.state.purged = Some(upto);
        let first = upto.index + 1;
        if first >= self.state.next_index() {
            self.state.last = Some(upto);
        }
        for live in &mut self.live {
            live.first = live.first.max(first);
            live.next = live.next.max(live.first);
        }
        let needed = self
            .live
            .iter()
            .find(|live| live.next > live.first)
            .or(self.live.back());
        Ok(needed.map_or(0, |live| live.segment))
    }

    /// Segments below `segment` are not needed.
    pub(crate) fn keep_from(&mut self, segment: u32) {
        self.state.keep_from = self.state.keep_from.max(segment);
        while self.live.len() > 1 && self.live.front().is_some_and(|live| live.segment < segment) {
            self.live.pop_front();
        }
    }
}

/// Checks that an entry `id` may come after `last`.
pub(crate) fn check_follows(last: Option<LogId>, id: LogId) -> Result<(), String> {
    let expected = last.map_or(0, |last| last.index + 1);
    if id.index != expected {
        return Err(format!("entry {} where {expected} is next", id.index));
    }
    match last {
        Some(last) if id.term < last.term => Err(format!(
            "entry {} of term {} after one of term {}",
            id.index, id.term, last.term
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> LogId {
        LogId {
            term: 1,
            node: 1,
            index,
        }
    }

    /// Segments 1, 2 and 3 hold the entries 0..3, 3..6 and 6..9.
    fn three_segments() -> Stream {
        let mut stream = Stream::at_head(1, State::default());
        for index in 0..9 {
            if index > 0 && index % 3 == 0 {
                stream.open_segment(1 + index as u32 / 3);
            }
            stream.entry(id(index)).expect("in order");
        }
        stream
    }

    #[test]
    fn a_purge_keeps_the_segment_of_the_first_entry_left() {
        for (upto, keep) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (4, 2),
            (5, 3),
            (7, 3),
            (8, 3),
            (50, 3),
        ] {
            assert_eq!(
                three_segments().purge(id(upto)),
                Ok(keep),
                "purge up to {upto}"
            );
        }
    }

    #[test]
    fn truncated_entries_keep_no_segment() {
        let mut stream = three_segments();
        stream.truncate(Some(id(1))).expect("present");
        stream.entry(id(2)).expect("in order");
        assert_eq!(stream.purge(id(1)), Ok(3), "entry 2 is in segment 3 now");
    }

    #[test]
    fn a_purge_beyond_the_end_sets_where_the_log_goes_on() {
        let mut stream = three_segments();
        stream.purge(id(50)).expect("forward");
        assert_eq!(stream.state().last, Some(id(50)));
        assert!(stream.entry(id(9)).is_err());
        assert!(stream.entry(id(51)).is_ok());
    }

    #[test]
    fn holes_terms_going_back_and_purges_going_back_are_refused() {
        let mut stream = three_segments();
        assert!(stream.entry(id(10)).is_err());
        assert!(
            stream
                .entry(LogId {
                    term: 0,
                    node: 1,
                    index: 9
                })
                .is_err()
        );
        assert!(stream.truncate(Some(id(9))).is_err());
        stream.purge(id(4)).expect("forward");
        assert!(stream.purge(id(4)).is_err());
        assert!(stream.truncate(Some(id(3))).is_err());
        assert!(stream.truncate(Some(id(4))).is_ok());
    }
}
