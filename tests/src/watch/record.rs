//! What came on a watch stream, kept apart by watch, after it was checked against what a client may rely on.

use std::collections::BTreeMap;

use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::Event;

use super::mod_revision;
use crate::differential::reply;

/// The id in responses that belong to no watch: refusals, and answers to progress requests.
pub const NO_WATCH: i64 = -1;

/// What came for one watch beside its events.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// Ids masked.
    pub header: Option<pb::ResponseHeader>,
    /// The watch that it is about.
    pub watch_id: i64,
    /// Answers a create request.
    pub created: bool,
    /// The watch is over.
    pub canceled: bool,
    /// Why: it began below this revision.
    pub compact_revision: i64,
    /// Why, in words.
    pub cancel_reason: String,
}

/// What one watch has brought.
#[derive(Debug, Default)]
pub struct Watched {
    /// In the order in which they came.
    pub events: Vec<Event>,
    /// Likewise.
    pub controls: Vec<Control>,
    /// The last response was a fragment: the next one continues its last revision.
    in_fragment: bool,
}

impl Watched {
    fn canceled(&self) -> bool {
        self.controls.last().is_some_and(|control| control.canceled)
    }

    fn created(&self) -> bool {
        self.controls.iter().any(|control| control.created)
    }

    /// What is wrong with a response that comes now.
    fn objection(&self, response: &pb::WatchResponse) -> Option<String> {
        let revisions: Vec<i64> = response.events.iter().map(mod_revision).collect();
        let (first, last) = (*revisions.first()?, *revisions.last()?);
        let before = self.events.last().map_or(0, mod_revision);
        let follows = if self.in_fragment {
            before <= first
        } else {
            before < first
        };
        let header = response.header.as_ref().map_or(0, |header| header.revision);
        if !self.created() {
            Some("events before the watch is created".to_owned())
        } else if self.canceled() {
            Some("events after the watch is canceled".to_owned())
        } else if !revisions.is_sorted() {
            Some("events out of order".to_owned())
        } else if !follows {
            Some(format!(
                "an event that is old, or torn from revision {before},"
            ))
        } else if header < last {
            Some("a header older than its events".to_owned())
        } else {
            None
        }
    }
}

/// All that came on one stream.
#[derive(Debug, Default)]
pub struct Record {
    watches: BTreeMap<i64, Watched>,
    /// Given for a watch of which nothing has come.
    nothing: Watched,
    largest_bytes: usize,
    fragments: usize,
}

impl Record {
    /// What the watch has brought so far.
    pub fn watch(&self, watch_id: i64) -> &Watched {
        self.watches.get(&watch_id).unwrap_or(&self.nothing)
    }

    /// The size of the largest response so far, in bytes.
    pub fn largest_bytes(&self) -> usize {
        self.largest_bytes
    }

    /// How many responses so far said that they are fragments.
    pub fn fragments(&self) -> usize {
        self.fragments
    }

    /// Takes in one response, and gives it back if it brings no events. Fails if no server may send it.
    pub fn absorb(&mut self, mut response: pb::WatchResponse) -> Result<Option<Control>, String> {
        self.largest_bytes = self
            .largest_bytes
            .max(prost::Message::encoded_len(&response));
        self.fragments += usize::from(response.fragment);
        let watched = self.watches.entry(response.watch_id).or_default();
        if let Some(wrong) = watched.objection(&response) {
            return Err(format!("{wrong} in {response:?}"));
        }
        if response.events.is_empty() {
            reply::mask(&mut response.header);
            let control = Control {
                header: response.header,
                watch_id: response.watch_id,
                created: response.created,
                canceled: response.canceled,
                compact_revision: response.compact_revision,
                cancel_reason: response.cancel_reason,
            };
            if control.created || control.canceled {
                watched.controls.push(control.clone());
            }
            return Ok(Some(control));
        }
        watched.in_fragment = response.fragment;
        watched.events.extend(response.events);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::mvccpb::KeyValue;

    use super::*;

    fn created() -> pb::WatchResponse {
        pb::WatchResponse {
            created: true,
            ..Default::default()
        }
    }

    /// A response with events of these revisions, under a header of the last one.
    fn events(revisions: &[i64]) -> pb::WatchResponse {
        let event = |revision: &i64| {
            let kv = KeyValue {
                mod_revision: *revision,
                ..Default::default()
            };
            Event {
                kv: Some(kv),
                ..Default::default()
            }
        };
        let revision = revisions.last().copied().unwrap_or(0);
        let header = pb::ResponseHeader {
            revision,
            ..Default::default()
        };
        let events = revisions.iter().map(event).collect();
        pb::WatchResponse {
            header: Some(header),
            events,
            ..Default::default()
        }
    }

    fn fragment(revisions: &[i64]) -> pb::WatchResponse {
        pb::WatchResponse {
            fragment: true,
            ..events(revisions)
        }
    }

    /// What is wrong with the last of these responses; nothing may be with those before it.
    fn objection(responses: &[pb::WatchResponse]) -> Option<String> {
        let mut record = Record::default();
        let (last, before) = responses.split_last().expect("there are responses");
        for response in before {
            record
                .absorb(response.clone())
                .expect("only the last response is wrong");
        }
        record.absorb(last.clone()).err()
    }

    #[test]
    fn events_in_order_and_whole_revisions_are_fine() {
        let fine = [
            created(),
            events(&[2]),
            events(&[3, 3, 4]),
            fragment(&[5]),
            fragment(&[5]),
            events(&[5, 6]),
        ];
        assert_eq!(objection(&fine), None);
    }

    #[test]
    fn events_before_created_are_wrong() {
        assert!(
            objection(&[events(&[2])])
                .is_some_and(|wrong| wrong.contains("before the watch is created"))
        );
    }

    #[test]
    fn an_event_that_comes_twice_is_wrong() {
        let twice = [created(), events(&[2, 3]), events(&[3])];
        assert!(objection(&twice).is_some_and(|wrong| wrong.contains("torn")));
    }

    #[test]
    fn events_out_of_order_are_wrong() {
        assert!(
            objection(&[created(), events(&[3, 2])])
                .is_some_and(|wrong| wrong.contains("out of order"))
        );
        assert!(objection(&[created(), events(&[3]), events(&[2])]).is_some());
    }

    #[test]
    fn only_a_fragment_may_go_on_with_its_last_revision() {
        assert!(objection(&[created(), fragment(&[2]), events(&[2]), events(&[2])]).is_some());
        assert!(objection(&[created(), fragment(&[3]), events(&[2])]).is_some());
    }

    #[test]
    fn a_header_older_than_its_events_is_wrong() {
        let header = Some(pb::ResponseHeader {
            revision: 2,
            ..Default::default()
        });
        let response = pb::WatchResponse {
            header,
            ..events(&[3])
        };
        assert!(objection(&[created(), response]).is_some_and(|wrong| wrong.contains("header")));
    }

    #[test]
    fn events_after_the_end_are_wrong() {
        let canceled = pb::WatchResponse {
            canceled: true,
            ..Default::default()
        };
        let after = objection(&[created(), canceled, events(&[2])]);
        assert!(after.is_some_and(|wrong| wrong.contains("after the watch is canceled")));
    }
}
