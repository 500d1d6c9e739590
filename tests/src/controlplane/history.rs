//! All that has happened, as a watch of the whole store tells it: every change of every object, revision by revision.

use keelson_proto::mvccpb::Event;
use keelson_proto::mvccpb::event::EventType;
use serde_json::Value;

use crate::watch::mod_revision;

/// What the API server keeps lies under this.
pub const ROOT: &str = "/registry/";

/// One object's change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its key, without [`ROOT`]: `pods/default/web-x`.
    pub key: String,
    /// What it is from now on; `None`: it is gone.
    pub object: Option<Value>,
}

/// What happened at one revision of the store.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Its number.
    pub number: i64,
    /// Changes of different objects.
    pub changes: Vec<Change>,
}

/// Everything, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The revisions at which something happened.
    pub revisions: Vec<Revision>,
}

impl History {
    /// The history that these events tell, which must be all there were. What is not JSON is none of our objects.
    pub fn of(events: &[Event]) -> History {
        let mut history = History::default();
        for event in events {
            let Some(kv) = &event.kv else { continue };
            let key = String::from_utf8_lossy(&kv.key);
            let Some(key) = key.strip_prefix(ROOT) else {
                continue;
            };
            let object = match event.r#type() {
                EventType::Delete => None,
                EventType::Put => match serde_json::from_slice(&kv.value) {
                    Ok(object) => Some(object),
                    Err(_) => continue,
                },
            };
            history.add(mod_revision(event), key, object);
        }
        history
    }

    /// Adds a change to the last revision, or to a new one after it.
    pub fn add(&mut self, revision: i64, key: &str, object: Option<Value>) {
        let change = Change {
            key: key.to_owned(),
            object,
        };
        match self.revisions.last_mut() {
            Some(last) if last.number == revision => last.changes.push(change),
            last => {
                assert!(last.is_none_or(|last| last.number < revision));
                self.revisions.push(Revision {
                    number: revision,
                    changes: vec![change],
                });
            }
        }
    }
}
