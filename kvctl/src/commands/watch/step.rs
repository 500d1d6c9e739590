//! What a message on a watch's stream means: pure, so that every case can be tried.

use crate::output::WatchReply;
use etcd_client::proto::{PbEvent, PbWatchResponse};

/// What etcd answers when the history asked for is gone.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// What a member without a leader answers; another member may have one.
const NO_LEADER: &str = "etcdserver: no leader";

/// What a message on the stream means for the watch.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing to print.
    Quiet,
    /// Something to print.
    Print(WatchReply),
    /// Something to print, preceded by the revision up to which everything was seen.
    Progress(WatchReply),
    /// The member cannot serve the watch; another may.
    Elsewhere(String),
    /// The server will not serve the watch, for this reason.
    End(WatchReply, String),
}

/// Decides what a message means, and moves `next_revision` on past what it brings.
pub(super) fn step(next_revision: &mut i64, message: PbWatchResponse) -> Step {
    let header = message.header.unwrap_or_default();
    if message.canceled && message.compact_revision != 0 {
        let compact_revision = message.compact_revision;
        let reply = WatchReply {
            header,
            events: Some(Vec::new()),
            compact_revision,
            canceled: true,
        };
        return Step::End(reply, COMPACTED.to_owned());
    }
    if message.canceled {
        if message.cancel_reason == NO_LEADER {
            return Step::Elsewhere(message.cancel_reason);
        }
        return Step::End(refusal(), message.cancel_reason);
    }
    if message.created {
        // The watch begins after the revision at which it was registered, unless told otherwise.
        if *next_revision <= 0 {
            *next_revision = header.revision + 1;
        }
        return Step::Quiet;
    }
    let is_new = |event: &PbEvent| revision_of(event) >= *next_revision;
    let brought_events = !message.events.is_empty();
    let events: Vec<PbEvent> = message.events.into_iter().filter(is_new).collect();
    let reply = |events| WatchReply {
        header,
        events: Some(events),
        ..WatchReply::default()
    };
    match events.last() {
        Some(last) => {
            *next_revision = revision_of(last) + 1;
            Step::Print(reply(events))
        }
        None if brought_events || header.revision == 0 => Step::Quiet,
        None => {
            *next_revision = (*next_revision).max(header.revision + 1);
            Step::Progress(reply(events))
        }
    }
}

pub(super) fn revision_of(event: &PbEvent) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// What is printed for a watch that the server refused outright.
pub(super) fn refusal() -> WatchReply {
    WatchReply {
        canceled: true,
        ..WatchReply::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::{PbKeyValue, PbResponseHeader};

    fn header(revision: i64) -> Option<PbResponseHeader> {
        Some(PbResponseHeader {
            revision,
            ..PbResponseHeader::default()
        })
    }

    fn events(revisions: &[i64], at: i64) -> PbWatchResponse {
        let event = |&mod_revision: &i64| PbEvent {
            kv: Some(PbKeyValue {
                mod_revision,
                ..PbKeyValue::default()
            }),
            ..PbEvent::default()
        };
        PbWatchResponse {
            header: header(at),
            events: revisions.iter().map(event).collect(),
            ..PbWatchResponse::default()
        }
    }

    #[test]
    fn a_watch_from_now_resumes_after_the_revision_at_which_it_began() {
        let mut next = 0;
        let created = PbWatchResponse {
            header: header(41),
            created: true,
            ..PbWatchResponse::default()
        };
        assert_eq!(step(&mut next, created.clone()), Step::Quiet);
        assert_eq!(next, 42);
        // Opened again later: the place where it was is not forgotten.
        let created = PbWatchResponse {
            header: header(90),
            ..created
        };
        assert_eq!(step(&mut next, created), Step::Quiet);
        assert_eq!(next, 42);
    }

    #[test]
    fn events_that_were_seen_before_are_dropped() {
        let mut next = 5;
        let Step::Print(reply) = step(&mut next, events(&[4, 5, 5, 7], 9)) else {
            panic!()
        };
        assert_eq!(
            reply
                .events
                .unwrap()
                .iter()
                .map(revision_of)
                .collect::<Vec<_>>(),
            [5, 5, 7]
        );
        assert_eq!(next, 8, "the header's revision may be ahead of the events");
        assert_eq!(step(&mut next, events(&[5, 7], 9)), Step::Quiet);
        assert_eq!(next, 8);
    }

    #[test]
    fn progress_moves_the_place_to_resume_from() {
        let mut next = 5;
        assert!(matches!(
            step(&mut next, events(&[], 20)),
            Step::Progress(_)
        ));
        assert_eq!(next, 21);
    }

    #[test]
    fn a_refused_watch_ends_and_one_without_a_leader_moves_on() {
        let canceled = |reason: &str, compact_revision| PbWatchResponse {
            header: header(0),
            canceled: true,
            compact_revision,
            cancel_reason: reason.to_owned(),
            ..PbWatchResponse::default()
        };
        let mut next = 5;
        assert!(
            matches!(step(&mut next, canceled("", 7)), Step::End(reply, _) if reply.compact_revision == 7)
        );
        assert!(
            matches!(step(&mut next, canceled("mvcc: watcher range is empty", 0)), Step::End(reply, _) if reply.events.is_none())
        );
        assert!(matches!(
            step(&mut next, canceled(NO_LEADER, 0)),
            Step::Elsewhere(_)
        ));
    }
}
