//! The final history: what every key was at every revision, and whether it may have become so.

use std::collections::{BTreeMap, BTreeSet};

use keelson_proto::mvccpb::{self, KeyValue, event::EventType};
use keelson_store::Event;
use prost::Message;

use crate::operation::Keys;

/// The versions of one key by the revisions that made them; none where it was deleted.
type Versions = BTreeMap<i64, Option<KeyValue>>;

/// All changes of a run, checked to follow from each other.
#[derive(Clone, Debug, Default)]
pub struct History {
    keys: BTreeMap<String, Versions>,
    events: BTreeMap<i64, Vec<mvccpb::Event>>,
}

impl History {
    /// Takes the events of a run in their order.
    pub fn of(events: &[Event]) -> Result<History, String> {
        let mut history = History::default();
        let mut written = BTreeSet::new();
        let mut last = 1;
        for event in events {
            let revision = event.revision.0;
            if revision != last && revision != last + 1 {
                return Err(format!("nothing was seen of revision {}", last + 1));
            }
            last = revision;
            let event = mvccpb::Event::decode(event.bytes(true)).map_err(|error| {
                format!("an event of revision {revision} does not decode: {error}")
            })?;
            let kv = event.kv.clone().unwrap_or_default();
            let key = text(&kv.key);
            let versions = history.keys.entry(key.clone()).or_default();
            let before = versions.last_key_value().and_then(|(_, kv)| kv.clone());
            if event.prev_kv != before {
                return Err(format!("{event:?} does not follow {before:?}"));
            }
            let after = (event.r#type == EventType::Put as i32).then_some(kv);
            check_version(revision, before.as_ref(), after.as_ref())
                .map_err(|why| format!("{why}: {event:?} follows {before:?}"))?;
            if let Some(kv) = &after
                && !written.insert((kv.key.clone(), kv.value.clone()))
            {
                return Err(format!(
                    "a write that was made once took effect twice: {event:?}"
                ));
            }
            if versions.insert(revision, after).is_some() {
                return Err(format!(
                    "a key is changed twice in revision {revision}: {event:?}"
                ));
            }
            history.events.entry(revision).or_default().push(event);
        }
        Ok(history)
    }

    /// The last revision.
    pub fn revision(&self) -> i64 {
        self.events
            .last_key_value()
            .map_or(1, |(revision, _)| *revision)
    }

    /// The keys of a range that lived at a revision, in order.
    pub fn at(&self, keys: &Keys, revision: i64) -> Vec<KeyValue> {
        let lived = |versions: &Versions| {
            let (_, version) = versions.range(..=revision).next_back()?;
            version.clone()
        };
        match &keys.to {
            None => self
                .keys
                .get(&keys.from)
                .and_then(lived)
                .into_iter()
                .collect(),
            Some(to) if *to <= keys.from => Vec::new(),
            Some(to) => self
                .keys
                .range(keys.from.clone()..to.clone())
                .filter_map(|(_, versions)| lived(versions))
                .collect(),
        }
    }

    /// The revision that last changed a key, up to a revision; 0 if it did not live then.
    pub fn changed_at(&self, key: &str, revision: i64) -> i64 {
        let lived = self.at(&Keys::one(key), revision);
        lived.first().map_or(0, |kv| kv.mod_revision)
    }

    /// The changes of a revision.
    pub fn changes(&self, revision: i64) -> &[mvccpb::Event] {
        self.events.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// The changes of the revisions of a range, both included, in order.
    pub fn between(&self, from: i64, to: i64) -> impl Iterator<Item = &mvccpb::Event> {
        let some = (from <= to).then(|| self.events.range(from..=to));
        some.into_iter().flatten().flat_map(|(_, events)| events)
    }
}

/// A version has etcd's numbers.
fn check_version(
    revision: i64,
    before: Option<&KeyValue>,
    after: Option<&KeyValue>,
) -> Result<(), &'static str> {
    let Some(after) = after else {
        return match before {
            Some(_) => Ok(()),
            None => Err("a key is deleted that is not there"),
        };
    };
    let create = before.map_or(revision, |kv| kv.create_revision);
    let version = before.map_or(1, |kv| kv.version + 1);
    let expected = (create, revision, version);
    if (after.create_revision, after.mod_revision, after.version) == expected {
        Ok(())
    } else {
        Err("a version with the wrong numbers")
    }
}

/// Keys and values are text here.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
