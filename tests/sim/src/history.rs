//! What clients did and saw, and whether a store may have answered so.
//!
//! Every reply carries a revision, and revisions order all writes. So a history is linearizable if: each acknowledged
//! write is in the final history at the revision it was told; each read saw what the final history holds at the
//! revision it was told; and an operation that began after another had ended was told no earlier revision.

#![allow(missing_docs)] // The fields of a history say what they are.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Set a key.
    Put { key: String, value: String },
    /// Set a key if it was last changed at this revision (0: if it is not there).
    Swap {
        key: String,
        expected: i64,
        value: String,
    },
    /// Delete a key.
    Delete { key: String },
    /// Read a key, linearizably.
    Get { key: String },
    /// Read a key of one member, as it is there.
    Peek { key: String },
}

/// What it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The write's outcome: the store's revision after it, and whether it changed anything.
    Wrote { revision: i64, changed: bool },
    /// The key's value and mod revision at the reply's revision.
    Read {
        revision: i64,
        found: Option<(String, i64)>,
    },
    /// It may or may not have happened.
    Unknown,
}

/// One operation, with the virtual times of its call and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which client.
    pub client: usize,
    /// The member that it asked.
    pub member: u64,
    /// What it asked.
    pub ask: Ask,
    /// When it asked.
    pub start: Duration,
    /// When it was answered, or gave up.
    pub end: Duration,
    /// What it was told.
    pub told: Told,
}

/// The final history of one key: at each revision that changed it, its value, or none where it was deleted.
pub type Versions = BTreeMap<i64, Option<String>>;

/// All changes, from a member at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub keys: BTreeMap<String, Versions>,
    /// The store's revision at the end.
    pub revision: i64,
}

impl Changes {
    /// Adds a change.
    pub fn add(&mut self, key: String, revision: i64, value: Option<String>) {
        self.keys.entry(key).or_default().insert(revision, value);
    }

    fn at(&self, key: &str, revision: i64) -> Option<(String, i64)> {
        let (at, value) = self.keys.get(key)?.range(..=revision).next_back()?;
        value.clone().map(|value| (value, *at))
    }

    fn changed_at(&self, key: &str, revision: i64) -> Option<&Option<String>> {
        self.keys.get(key)?.get(&revision)
    }
}

/// Checks operations against the final history; gives what contradicts it.
pub fn check(operations: &[Operation], changes: &Changes) -> Result<(), String> {
    for operation in operations {
        check_one(operation, changes).map_err(|why| format!("{why}: {operation:?}"))?;
    }
    check_times(operations)
}

fn check_one(operation: &Operation, changes: &Changes) -> Result<(), String> {
    let (revision, changed) = match (&operation.told, &operation.ask) {
        (Told::Unknown, _) => return Ok(()),
        (Told::Read { revision, found }, Ask::Get { key } | Ask::Peek { key }) => {
            let expected = changes.at(key, *revision);
            return if *found == expected {
                Ok(())
            } else {
                Err(format!("a read that should have seen {expected:?}"))
            };
        }
        (Told::Wrote { revision, changed }, _) => (*revision, *changed),
        (Told::Read { .. }, _) => return Err("a write was told a read".into()),
    };
    if revision > changes.revision {
        return Err("a revision that the store never reached".into());
    }
    match &operation.ask {
        Ask::Put { key, value } => match changes.changed_at(key, revision) {
            Some(Some(kept)) if kept == value => Ok(()),
            kept => Err(format!("an acknowledged put that is not there: {kept:?}")),
        },
        Ask::Swap {
            key,
            expected,
            value,
        } => {
            let before = changes.at(key, if changed { revision - 1 } else { revision });
            let matches = before.map_or(0, |(_, at)| at) == *expected;
            match (changed, changes.changed_at(key, revision)) {
                (true, Some(Some(kept))) if kept == value && matches => Ok(()),
                (true, kept) => Err(format!(
                    "a swap that should have failed, or is not there: {kept:?}"
                )),
                (false, _) if matches => Err("a swap that should have succeeded".into()),
                (false, _) => Ok(()),
            }
        }
        Ask::Delete { key } => match (changed, changes.changed_at(key, revision)) {
            (true, Some(None)) => Ok(()),
            (true, kept) => Err(format!(
                "an acknowledged delete that is not there: {kept:?}"
            )),
            (false, _) if changes.at(key, revision).is_some() => {
                Err("a delete that missed its key".into())
            }
            (false, _) => Ok(()),
        },
        Ask::Get { .. } | Ask::Peek { .. } => Err("a read was told a write".into()),
    }
}

/// What began after something had ended saw at least as much.
fn check_times(operations: &[Operation]) -> Result<(), String> {
    let told = |operation: &&Operation| -> Option<(i64, bool)> {
        match (&operation.told, &operation.ask) {
            (Told::Wrote { revision, changed }, _) => Some((*revision, *changed)),
            (Told::Read { revision, .. }, Ask::Get { .. }) => Some((*revision, false)),
            _ => None,
        }
    };
    let mut starts: Vec<&Operation> = operations
        .iter()
        .filter(|operation| told(operation).is_some())
        .collect();
    let mut ends = starts.clone();
    starts.sort_by_key(|operation| operation.start);
    ends.sort_by_key(|operation| operation.end);
    let mut ended = ends.into_iter().peekable();
    let mut newest: Option<(i64, &Operation)> = None;
    for operation in starts {
        while let Some(earlier) = ended.next_if(|earlier| earlier.end < operation.start) {
            let revision = told(&earlier).map_or(0, |told| told.0);
            if newest.is_none_or(|(newest, _)| revision > newest) {
                newest = Some((revision, earlier));
            }
        }
        let (revision, changed) = told(&operation).unwrap_or((0, false));
        if let Some((seen, earlier)) = newest
            && (revision < seen || changed && revision == seen)
        {
            return Err(format!(
                "{operation:?} began after {earlier:?} had ended, and was told an earlier revision"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(ask: Ask, start: u64, end: u64, told: Told) -> Operation {
        let at = Duration::from_millis;
        Operation {
            client: 0,
            member: 1,
            ask,
            start: at(start),
            end: at(end),
            told,
        }
    }

    fn put(value: &str, start: u64, end: u64, revision: i64) -> Operation {
        let ask = Ask::Put {
            key: "k".into(),
            value: value.into(),
        };
        operation(
            ask,
            start,
            end,
            Told::Wrote {
                revision,
                changed: true,
            },
        )
    }

    fn get(start: u64, end: u64, revision: i64, found: Option<(&str, i64)>) -> Operation {
        let found = found.map(|(value, at)| (value.to_string(), at));
        operation(
            Ask::Get { key: "k".into() },
            start,
            end,
            Told::Read { revision, found },
        )
    }

    fn changes(versions: &[(i64, &str)]) -> Changes {
        let mut changes = Changes {
            revision: 9,
            ..Changes::default()
        };
        for (revision, value) in versions {
            changes.add("k".into(), *revision, Some((*value).into()));
        }
        changes
    }

    #[test]
    fn an_honest_history_passes() {
        let operations = [
            put("a", 0, 10, 2),
            get(5, 8, 1, None),
            get(11, 12, 2, Some(("a", 2))),
            put("b", 11, 20, 3),
        ];
        assert_eq!(check(&operations, &changes(&[(2, "a"), (3, "b")])), Ok(()));
    }

    #[test]
    fn a_lost_write_a_stale_read_and_a_wrong_value_are_found() {
        let history = changes(&[(3, "b")]);
        assert!(check(&[put("a", 0, 10, 2)], &history).is_err());
        let history = changes(&[(2, "a"), (3, "b")]);
        assert!(
            check(
                &[put("b", 0, 10, 3), get(11, 12, 2, Some(("a", 2)))],
                &history
            )
            .is_err()
        );
        assert!(check(&[get(0, 1, 3, Some(("a", 2)))], &history).is_err());
    }

    #[test]
    fn a_swap_that_saw_the_wrong_state_is_found() {
        let history = changes(&[(2, "a"), (3, "b")]);
        let ask = Ask::Swap {
            key: "k".into(),
            expected: 0,
            value: "b".into(),
        };
        assert!(
            check(
                &[operation(
                    ask,
                    0,
                    1,
                    Told::Wrote {
                        revision: 3,
                        changed: true
                    }
                )],
                &history
            )
            .is_err()
        );
    }
}
