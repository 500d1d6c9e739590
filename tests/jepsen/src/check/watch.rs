//! etcd's guarantees to watchers, each stream against the true sequence.
//!
//! From where it starts to what it was last sent, a stream must be exactly the changes of its keys that it did not filter
//! out: in order, each once, none left out, none that never happened (ordered, unique, reliable). What one revision
//! changed comes in one response, unless fragments were allowed (atomic). A note on progress says that everything up to
//! its revision was sent (bookmarkable). Where a stream begins is what a watcher that reconnects asked for, so that streams
//! that are each right make a watcher that is (resumable). Previous values and the life of a key are as replayed.

use std::collections::BTreeMap;

use super::state::within;
use super::truth::Truth;
use super::{Case, Checker, Findings, Violation, words};
use crate::history::{
    Call, Event, EventKind, Micros, Operation, Revision, WatchResponse, WatchStream,
};

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let compactions: Vec<(Revision, &Operation)> = case
        .history
        .operations
        .iter()
        .filter(|operation| operation.refused().is_none())
        .filter_map(|operation| match &operation.call {
            Call::Compact(compact) => Some((compact.revision, operation)),
            _ => None,
        })
        .collect();
    let mut events = 0;
    let mut last: BTreeMap<&str, (&WatchStream, Option<String>)> = BTreeMap::new();
    for stream in &case.history.watches {
        events += stream
            .responses
            .iter()
            .map(|response| response.events.len())
            .sum::<usize>();
        let mut judge = Judge {
            truth: &case.truth,
            compactions: &compactions,
            stream,
            next: None,
            created: false,
            over: false,
        };
        // What follows from a first mistake is not told.
        match judge.all() {
            Err(wrong) => tell(case, stream, wrong, findings),
            Ok(()) => {
                let kept = last.entry(&stream.watcher).or_insert((stream, None));
                if stream.end >= kept.0.end {
                    *kept = (stream, judge.lacks());
                }
            }
        }
    }
    unfinished(last, findings);
    findings.judged(
        Checker::Watch,
        format!("{} streams, {events} events", case.history.watches.len()),
    );
}

/// A mistake of a stream.
struct Wrong {
    sentence: String,
    at: Micros,
    /// The revision that it is about, to blame its writer.
    about: Option<Revision>,
}

struct Judge<'a> {
    truth: &'a Truth,
    compactions: &'a [(Revision, &'a Operation)],
    stream: &'a WatchStream,
    /// The next event that is due, once it is known where the stream begins.
    next: Option<Place>,
    created: bool,
    over: bool,
}

/// A place in the true sequence: an event of a revision, or the end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    revision: Revision,
    event: usize,
}

impl<'a> Judge<'a> {
    fn all(&mut self) -> Result<(), Wrong> {
        if !self.stream.start_revision.is_zero() {
            self.next = Some(Place {
                revision: self.stream.start_revision,
                event: 0,
            });
        }
        for response in &self.stream.responses {
            if self.over {
                return Err(wrong(response, "was sent something after it was cancelled"));
            }
            if response.created {
                self.create(response)?;
            }
            if response.canceled {
                self.cancel(response)?;
            }
            if response.is_progress() {
                self.progress(response)?;
            }
            if !response.events.is_empty() && !self.events(response)? {
                // It goes on where nothing is known.
                return Ok(());
            }
        }
        self.ending()
    }

    fn create(&mut self, response: &WatchResponse) -> Result<(), Wrong> {
        if self.created {
            return Err(wrong(response, "was created twice"));
        }
        self.created = true;
        self.next.get_or_insert(Place {
            revision: Revision(response.revision.0 + 1),
            event: 0,
        });
        Ok(())
    }

    fn cancel(&mut self, response: &WatchResponse) -> Result<(), Wrong> {
        self.over = true;
        if response.compact_revision.is_zero() {
            return Ok(());
        }
        let asked = self.compactions.iter().any(|(revision, operation)| {
            *revision == response.compact_revision && operation.start <= response.at
        });
        if !asked {
            return Err(wrong(
                response,
                &format!(
                    "was cancelled by a compaction at revision {}, which nobody had asked for",
                    response.compact_revision.0
                ),
            ));
        }
        match self.next {
            Some(next) if next.revision >= response.compact_revision => Err(wrong(
                response,
                &format!(
                    "was cancelled by a compaction at revision {}, though it needed nothing older than {}",
                    response.compact_revision.0, next.revision.0
                ),
            )),
            _ => Ok(()),
        }
    }

    fn progress(&mut self, response: &WatchResponse) -> Result<(), Wrong> {
        let Some(next) = self.next else {
            return Ok(());
        };
        if let Some((place, event)) = self.due(next)
            && place.revision <= response.revision
        {
            return Err(Wrong {
                sentence: format!(
                    "was told that it has everything up to revision {}, but was never sent {}",
                    response.revision.0,
                    name(event)
                ),
                at: response.at,
                about: Some(place.revision),
            });
        }
        let after = Place {
            revision: Revision(response.revision.0 + 1),
            event: 0,
        };
        self.next = Some(next.max(after));
        Ok(())
    }

    /// Judges the events of a response; false if it goes on where nothing is known.
    fn events(&mut self, response: &WatchResponse) -> Result<bool, Wrong> {
        let Some(mut next) = self.next else {
            return Err(wrong(response, "was sent events before it was created"));
        };
        if response.fragment && !self.stream.fragment {
            return Err(wrong(
                response,
                "was sent a fragment, which it had not allowed",
            ));
        }
        for event in &response.events {
            if event.kv.mod_revision > self.truth.end() && !self.truth.is_complete() {
                return Ok(false);
            }
            match self.due(next) {
                Some((place, due)) if same(due, event) => {
                    self.content(response, due, event)?;
                    next = Place {
                        event: place.event + 1,
                        ..place
                    };
                }
                due => return Err(self.not_due(response, next, due, event)),
            }
        }
        self.next = Some(next);
        let last = response.events.last().map(|event| event.kv.mod_revision);
        if let Some(last) = last {
            if response.revision < last {
                return Err(wrong(
                    response,
                    &format!(
                        "was sent revision {} under a header of revision {}",
                        last.0, response.revision.0
                    ),
                ));
            }
            if let Some((place, rest)) = self.due(next)
                && place.revision == last
                && !response.fragment
            {
                return Err(Wrong {
                    sentence: format!(
                        "was sent revision {} in parts: {} did not come with the rest",
                        last.0,
                        name(rest)
                    ),
                    at: response.at,
                    about: Some(last),
                });
            }
        }
        Ok(true)
    }

    /// An event came that is not the one that is due: why?
    fn not_due(
        &self,
        response: &WatchResponse,
        next: Place,
        due: Option<(Place, &Event)>,
        event: &Event,
    ) -> Wrong {
        let what = name(event);
        let revision = event.kv.mod_revision;
        let sentence = if !within(&event.kv.key, &self.stream.key, &self.stream.range_end) {
            format!("was sent {what}, which is none of its keys")
        } else if self.filtered(event) {
            format!("was sent {what}, which it had filtered out")
        } else {
            let happened = self
                .truth
                .step(revision)
                .and_then(|step| step.events.iter().position(|known| same(known, event)));
            let place = happened.map(|event| Place { revision, event });
            match (place, due) {
                (None, _) => format!("was sent {what}, which never happened"),
                (Some(place), _) if place < next && revision < self.stream.start_revision => {
                    format!("was sent {what}, which is older than it asked for")
                }
                (Some(place), _) if place < next => {
                    format!("was sent {what} again, or after what came later")
                }
                (Some(_), Some((missed, missing))) => {
                    return Wrong {
                        sentence: format!("was not sent {}, but then {what}", name(missing)),
                        at: response.at,
                        about: Some(missed.revision),
                    };
                }
                (Some(_), None) => format!("was sent {what}, which is not due"),
            }
        };
        Wrong {
            sentence,
            at: response.at,
            about: Some(revision),
        }
    }

    fn content(&self, response: &WatchResponse, due: &Event, event: &Event) -> Result<(), Wrong> {
        let error = |sentence: String| Wrong {
            sentence,
            at: response.at,
            about: Some(due.kv.mod_revision),
        };
        if due.kv != event.kv {
            return Err(error(format!(
                "was sent {} where it was {}",
                words::kv(&event.kv),
                words::kv(&due.kv)
            )));
        }
        if !self.stream.prev_kv {
            return match &event.prev_kv {
                None => Ok(()),
                Some(_) => Err(error(format!(
                    "was sent what was there before {}, and had not asked for it",
                    name(event)
                ))),
            };
        }
        if due.prev_kv == event.prev_kv {
            return Ok(());
        }
        // What was there before is read one revision earlier; where that is compacted, it is left out.
        let forgotten = event.prev_kv.is_none()
            && self.compactions.iter().any(|(revision, operation)| {
                *revision >= due.kv.mod_revision && operation.start <= response.at
            });
        if forgotten {
            return Ok(());
        }
        let before = |event: &Event| {
            event
                .prev_kv
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), words::kv)
        };
        Err(error(format!(
            "was told that before {} there was {}, but there was {}",
            name(event),
            before(event),
            before(due)
        )))
    }

    /// A stream that ran until the end of the run has everything.
    fn ending(&self) -> Result<(), Wrong> {
        let due = self.next.and_then(|next| self.due(next));
        match (due, &self.stream.ended, self.over) {
            (Some((place, missing)), None, false) => Err(Wrong {
                sentence: format!("was never sent {}", name(missing)),
                at: self.stream.end,
                about: Some(place.revision),
            }),
            _ => Ok(()),
        }
    }

    /// What the stream was not sent yet when it ended.
    fn lacks(&self) -> Option<String> {
        let (_, event) = self.due(self.next?)?;
        Some(name(event))
    }

    /// The next event of the stream at or after a place.
    fn due(&self, from: Place) -> Option<(Place, &'a Event)> {
        let mut place = from;
        if place.revision < Revision(2) {
            place = Place {
                revision: Revision(2),
                event: 0,
            };
        }
        while let Some(step) = self.truth.step(place.revision) {
            while let Some(event) = step.events.get(place.event) {
                let mine = within(&event.kv.key, &self.stream.key, &self.stream.range_end);
                if mine && !self.filtered(event) {
                    return Some((place, event));
                }
                place.event += 1;
            }
            place = Place {
                revision: Revision(place.revision.0 + 1),
                event: 0,
            };
        }
        None
    }

    fn filtered(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => self.stream.no_put,
            EventKind::Delete => self.stream.no_delete,
        }
    }
}

fn same(a: &Event, b: &Event) -> bool {
    a.kind == b.kind && a.kv.mod_revision == b.kv.mod_revision && a.kv.key == b.kv.key
}

fn wrong(response: &WatchResponse, sentence: &str) -> Wrong {
    Wrong {
        sentence: sentence.to_owned(),
        at: response.at,
        about: None,
    }
}

fn name(event: &Event) -> String {
    let what = match event.kind {
        EventKind::Put => "put",
        EventKind::Delete => "delete",
    };
    format!(
        "the {what} of {} at revision {}",
        event.kv.key, event.kv.mod_revision.0
    )
}

fn tell(case: &Case<'_>, stream: &WatchStream, wrong: Wrong, findings: &mut Findings) {
    let writer = wrong.about.and_then(|revision| case.writer(revision));
    let mut sentence = format!(
        "The watcher {} of {} on m{} (from revision {}, opened at {}) {}",
        stream.watcher,
        words::keys(&stream.key, &stream.range_end),
        stream.member.0,
        stream.start_revision.0,
        words::time(stream.start),
        wrong.sentence
    );
    if let Some(writer) = writer {
        sentence += &format!("; that revision was made by {}", words::operation(writer));
    }
    findings.add(Violation {
        checker: Checker::Watch,
        sentence: sentence + ".",
        operations: writer.map(|writer| writer.id).into_iter().collect(),
        watches: vec![stream.id],
        at: wrong.at,
    });
}

/// A watcher whose last stream ended before it had everything may have missed the rest: nobody knows.
fn unfinished(last: BTreeMap<&str, (&WatchStream, Option<String>)>, findings: &mut Findings) {
    for (watcher, (stream, lacks)) in last {
        if let Some(lacks) = lacks {
            findings.inconclusive(format!(
                "The watcher {watcher} did not come to the end of the run: it was not sent {lacks}. Its last stream, on m{}, \
                 ended at {}: {}.",
                stream.member.0,
                words::time(stream.end),
                stream.ended.as_deref().unwrap_or("the run was over")
            ));
        }
    }
}
