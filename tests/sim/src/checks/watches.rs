//! Watches: every event that was asked for once, in order, whole revisions, with the right previous version; nothing
//! that was announced as sent comes afterwards; and a cancellation for compaction only where something was compacted.

use keelson_proto::mvccpb::{self, event::EventType};

use crate::history::{History, text};
use crate::operation::Keys;
use crate::truth::{Committed, Meaning};

/// What a watch asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Which keys.
    pub keys: Keys,
    /// With the version that each event replaced.
    pub prev_kv: bool,
    /// Which kind of event it leaves out.
    pub leave_out: Option<EventType>,
    /// Large revisions in pieces.
    pub fragments: bool,
}

impl Wish {
    /// The event as this watch is to be given it, if it is.
    fn of(&self, event: &mvccpb::Event) -> Option<mvccpb::Event> {
        let kv = event.kv.as_ref()?;
        let out = self
            .leave_out
            .is_some_and(|kind| kind as i32 == event.r#type);
        if out || !self.keys.has(&text(&kv.key)) {
            return None;
        }
        let mut event = event.clone();
        if !self.prev_kv {
            event.prev_kv = None;
        }
        Some(event)
    }
}

/// What a watcher met, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Met {
    /// The watch was made on a member, and begins with this revision.
    Created {
        /// The member.
        member: u64,
        /// The first revision of interest.
        from: i64,
    },
    /// A message with events.
    Events {
        /// The revision in its header.
        header: i64,
        /// The events.
        events: Vec<mvccpb::Event>,
    },
    /// Everything up to this revision was sent.
    Progress {
        /// The revision in the header.
        header: i64,
    },
    /// The watch cannot go on: the history begins at this revision.
    Compacted {
        /// The first revision that is left.
        at: i64,
    },
}

/// One watch over all its lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What it asked for.
    pub wish: Wish,
    /// What it met.
    pub met: Vec<Met>,
}

impl Record {
    /// The revision with which the watch has to go on; 0 before it was made.
    pub fn next(&self) -> i64 {
        self.met.iter().fold(0, |next, met| met.next(next))
    }

    /// How many events it was given.
    pub fn events(&self) -> usize {
        let events = self.met.iter().map(|met| match met {
            Met::Events { events, .. } => events.len(),
            _ => 0,
        });
        events.sum()
    }
}

impl Met {
    /// Where the watch goes on after this, which before stood at `next`.
    pub fn next(&self, next: i64) -> i64 {
        match self {
            Met::Created { from, .. } => *from,
            Met::Events { header, events } => {
                let last = events.last().and_then(|event| event.kv.as_ref());
                next.max(last.map_or(0, |kv| kv.mod_revision + 1))
                    .max(header + 1)
            }
            Met::Progress { header } => next.max(header + 1),
            Met::Compacted { at } => *at,
        }
    }
}

/// Checks a watch that is to have everything up to a revision.
pub fn check(
    record: &Record,
    upto: i64,
    history: &History,
    committed: &[Committed],
) -> Result<(), String> {
    let mut next = 0;
    for (number, met) in record.met.iter().enumerate() {
        check_one(&record.wish, met, next, history, committed).map_err(|why| {
            let before = record.met.get(number.saturating_sub(2)..number);
            format!(
                "{why}: {met:?}, where revision {next} is next, after {before:?}; the watch asked for {:?}",
                record.wish
            )
        })?;
        next = met.next(next);
    }
    if next <= upto {
        let at = next;
        return Err(format!(
            "a watch of {:?} has not got further than revision {at}, though there are {upto}",
            record.wish
        ));
    }
    Ok(())
}

fn check_one(
    wish: &Wish,
    met: &Met,
    next: i64,
    history: &History,
    committed: &[Committed],
) -> Result<(), String> {
    let expected = |upto: i64| -> Vec<mvccpb::Event> {
        history
            .between(next, upto)
            .filter_map(|event| wish.of(event))
            .collect()
    };
    match met {
        Met::Created { from, .. } if next == 0 || *from == next => Ok(()),
        Met::Created { .. } => Err("a watch that goes on elsewhere".into()),
        Met::Events { header, events } => {
            let last = events.last().and_then(|event| event.kv.as_ref());
            let last = last.map_or(0, |kv| kv.mod_revision);
            if last > *header {
                return Err("events that are newer than their header".into());
            }
            let expected = expected(*header);
            if *events == expected {
                Ok(())
            } else {
                Err(format!("events that should have been {expected:?}"))
            }
        }
        Met::Progress { header } => match expected(*header).first() {
            None => Ok(()),
            Some(missing) => Err(format!("progress ahead of {missing:?}")),
        },
        Met::Compacted { at } => {
            let compacted = committed
                .iter()
                .any(|entry| entry.meaning == Meaning::Compact(*at));
            if !compacted {
                Err("a cancellation for a compaction that nobody asked for".into())
            } else if next >= *at {
                Err("a cancellation for a compaction of what is not needed any more".into())
            } else {
                Ok(())
            }
        }
    }
}
