//! The one true sequence of revisions, from the recorders' watches of everything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::state::State;
use super::{Checker, Findings, Violation};
use crate::history::{Data, Event, History, Micros, Operation, Revision, WatchStream};

/// All changes from revision 2 on, without a gap; an empty store is at revision 1.
#[derive(Default)]
pub struct Truth {
    steps: Vec<Step>,
    /// Whether a recorder was there until the end, so that what is not here did not happen.
    complete: bool,
}

/// What one revision changed.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// With what was there before, as replayed.
    pub events: Vec<Event>,
    /// When it was first known to have happened.
    pub known: Micros,
}

/// The revision of an empty store.
pub const FIRST: Revision = Revision(1);

impl Truth {
    /// Puts together what the recorders saw. Where all of them miss a revision that an acknowledged write tells of, that
    /// write fills the gap (and whoever missed it is found by the watch checker); at a gap that nothing fills, it ends.
    pub fn of(history: &History, findings: &mut Findings) -> Truth {
        let recorders: Vec<&WatchStream> = history
            .watches
            .iter()
            .filter(|stream| stream.recorder)
            .collect();
        if recorders.is_empty() {
            findings.inconclusive(
                "No watch of everything was recorded: there is nothing to replay.".to_owned(),
            );
            return Truth::default();
        }
        let mut seen = seen(&recorders);
        let reach = recorders.iter().map(|stream| reach(stream)).max();
        let reach = reach.unwrap_or(FIRST);
        let mut writes: HashMap<Revision, &Operation> = HashMap::new();
        for operation in &history.operations {
            if let Some(revision) = operation.wrote() {
                writes.insert(revision, operation);
            }
        }
        let mut truth = Truth {
            steps: Vec::new(),
            complete: recorders.iter().any(|stream| stream.ended.is_none()),
        };
        let mut state = State::default();
        for number in FIRST.0 + 1..=reach.0 {
            let revision = Revision(number);
            let step = seen.remove(&revision).or_else(|| {
                let operation = writes.get(&revision)?;
                let ran = state.run(&operation.call, revision)?;
                Some(Step {
                    events: ran.events,
                    known: operation.end,
                })
            });
            let Some(mut step) = step else {
                gap(&recorders, revision, reach, findings);
                truth.complete = false;
                break;
            };
            for event in &mut step.events {
                event.prev_kv = state.get(&event.kv.key).cloned();
            }
            for event in &step.events {
                state.apply(event);
            }
            truth.steps.push(step);
        }
        truth
    }

    /// The last revision that is known.
    pub fn end(&self) -> Revision {
        let steps = i64::try_from(self.steps.len()).expect("a length is an i64");
        Revision(FIRST.0 + steps)
    }

    /// Whether there is nothing after its end.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What a revision changed.
    pub fn step(&self, revision: Revision) -> Option<&Step> {
        let index = usize::try_from(revision.0 - FIRST.0 - 1).ok()?;
        self.steps.get(index)
    }

    /// All, with their revisions.
    pub fn steps(&self) -> impl Iterator<Item = (Revision, &Step)> {
        (FIRST.0 + 1..).map(Revision).zip(&self.steps)
    }

    /// Goes through all states in order, and shows each subject the state at its revision. Subjects at revisions that
    /// are not known are returned.
    pub fn visit<S>(
        &self,
        mut subjects: Vec<(Revision, S)>,
        mut look: impl FnMut(&State, Revision, S),
    ) -> Vec<(Revision, S)> {
        subjects.sort_by_key(|(revision, _)| *revision);
        let known = subjects.partition_point(|(revision, _)| *revision <= self.end());
        let unknown = subjects.split_off(known);
        let mut state = State::default();
        let mut steps = self.steps().peekable();
        for (revision, subject) in subjects {
            while let Some((_, step)) = steps.next_if(|(at, _)| *at <= revision) {
                step.events.iter().for_each(|event| state.apply(event));
            }
            look(&state, revision, subject);
        }
        unknown
    }
}

/// What each revision changed, by the recorder that saw most of it.
fn seen(recorders: &[&WatchStream]) -> BTreeMap<Revision, Step> {
    let mut seen: BTreeMap<Revision, Step> = BTreeMap::new();
    for stream in recorders {
        let mut own: BTreeMap<Revision, (Step, BTreeSet<&Data>)> = BTreeMap::new();
        for response in &stream.responses {
            for event in &response.events {
                let (step, keys) = own.entry(event.kv.mod_revision).or_insert_with(|| {
                    let step = Step {
                        events: Vec::new(),
                        known: response.at,
                    };
                    (step, BTreeSet::new())
                });
                // One revision changes a key once; what comes twice, the watch checker finds.
                if keys.insert(&event.kv.key) {
                    step.events.push(event.clone());
                }
            }
        }
        for (revision, (step, _)) in own {
            let best = seen.entry(revision).or_insert_with(|| step.clone());
            let known = best.known.min(step.known);
            if step.events.len() > best.events.len() {
                *best = step;
            }
            best.known = known;
        }
    }
    seen
}

/// Up to which revision a recorder claims to have told everything.
fn reach(stream: &WatchStream) -> Revision {
    let told = stream.responses.iter().flat_map(|response| {
        let events = response.events.iter().map(|event| event.kv.mod_revision);
        events.chain(response.is_progress().then_some(response.revision))
    });
    told.max().unwrap_or(FIRST)
}

/// Nobody tells what a revision changed: either a recorder went over it, which it must not, or none was there.
fn gap(recorders: &[&WatchStream], at: Revision, reach: Revision, findings: &mut Findings) {
    let skipped = recorders
        .iter()
        .find(|stream| stream.start_revision <= at && self::reach(stream) > at);
    match skipped {
        Some(stream) => findings.add(Violation {
            checker: Checker::Watch,
            sentence: format!(
                "The watch of everything on m{} was sent nothing for revision {}, but went on to {}; what that revision \
                 changed is told by nobody, so what comes after it is not judged.",
                stream.member.0,
                at.0,
                self::reach(stream).0
            ),
            operations: Vec::new(),
            watches: vec![stream.id],
            at: stream
                .responses
                .iter()
                .find(|response| response.revision > at)
                .map_or(stream.end, |response| response.at),
        }),
        None => findings.inconclusive(format!(
            "No recorder was there for revision {} (they know of {}): what comes after it is not judged. A watch that \
             starts below a compaction is refused; compact later.",
            at.0, reach.0
        )),
    }
}
