//! Which events become objects of their own, and which only count up one that is there: pure.
//!
//! The same thing happening again is one event with a count. The same reason with ever different messages becomes one
//! "combined from similar events". And one object may not fill the store: its events are let through at a rate.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How many events are remembered; the longest untouched is forgotten first.
const REMEMBERED_MAX: usize = 4096;
/// How many different messages of one reason, within the window, are events of their own.
const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// The events of one object that are let through at once, and how long it takes until it may have one more.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    /// To what.
    pub object: ObjectReference,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// A short word in camel case, for programs.
    pub reason: String,
    /// A sentence, for people.
    pub message: String,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// A new event under this name, with the message to give it.
    Create {
        /// The event's name.
        name: String,
        /// Its message.
        message: String,
    },
    /// One more of an event that was written before.
    Count {
        /// The event's name.
        name: String,
        /// Its latest message.
        message: String,
        /// When it happened first.
        first: Timestamp,
        /// How often it has happened.
        count: i32,
    },
    /// Nothing: this object has had too many.
    Drop,
}

type Identity = (String, &'static str, String);

/// Remembers what was written.
#[derive(Default)]
pub struct Correlator {
    written: HashMap<(Identity, String), Known>,
    /// In the order in which they were touched; an entry is out of date if its time is not that of `written`.
    order: VecDeque<((Identity, String), u64)>,
    similar: HashMap<Identity, (HashSet<String>, Timestamp)>,
    tokens: HashMap<String, (f64, Timestamp)>,
    serial: u64,
}

struct Known {
    name: String,
    count: i32,
    first: Timestamp,
    touched: u64,
}

impl Correlator {
    /// Says what to write for this occurrence, and takes it as written.
    pub fn next(&mut self, occurrence: &Occurrence, now: Timestamp) -> Write {
        let object = object_key(&occurrence.object);
        if !self.admit(&object, now) {
            return Write::Drop;
        }
        let identity = (object, occurrence.kind, occurrence.reason.clone());
        let mut message = occurrence.message.clone();
        let mut distinct = message.clone();
        if self.is_one_of_many(&identity, &message, now) {
            message = format!("(combined from similar events): {message}");
            distinct = String::new();
        }
        let key = (identity, distinct);
        let write = self.write(key, &occurrence.object, message, now);
        self.shrink();
        write
    }

    fn write(
        &mut self,
        key: (Identity, String),
        object: &ObjectReference,
        message: String,
        now: Timestamp,
    ) -> Write {
        self.serial += 1;
        self.order.push_back((key.clone(), self.serial));
        let touched = self.serial;
        if let Some(known) = self.written.get_mut(&key) {
            known.count += 1;
            known.touched = touched;
            return Write::Count {
                name: known.name.clone(),
                message,
                first: known.first,
                count: known.count,
            };
        }
        let object_name = object.name.as_deref().unwrap_or_default();
        // Nanoseconds, as Kubernetes names them, so that the names of two processes seldom meet; the serial, so that
        // two of ours never do.
        let nanos = now.as_nanosecond() as u64;
        let name = format!("{object_name}.{:x}", nanos.wrapping_add(touched));
        let known = Known {
            name: name.clone(),
            count: 1,
            first: now,
            touched,
        };
        self.written.insert(key, known);
        Write::Create { name, message }
    }

    /// An event could not be counted up because it is gone: the next one is new.
    pub fn forget(&mut self, name: &str) {
        self.written.retain(|_, known| known.name != name);
    }

    fn admit(&mut self, object: &str, now: Timestamp) -> bool {
        let (tokens, since) = self.tokens.entry(object.to_owned()).or_insert((BURST, now));
        let elapsed = now.duration_since(*since).as_secs_f64().max(0.0);
        *tokens = (*tokens + elapsed / REFILL.as_secs_f64()).min(BURST);
        *since = now;
        let admitted = *tokens >= 1.0;
        if admitted {
            *tokens -= 1.0;
        }
        admitted
    }

    fn is_one_of_many(&mut self, identity: &Identity, message: &str, now: Timestamp) -> bool {
        let (messages, last) = self
            .similar
            .entry(identity.clone())
            .or_insert_with(|| (HashSet::new(), now));
        let window = SignedDuration::try_from(SIMILAR_WINDOW).expect("a constant that fits");
        if now.duration_since(*last) > window {
            messages.clear();
        }
        *last = now;
        if messages.len() < SIMILAR_MAX {
            messages.insert(message.to_owned());
        }
        messages.len() >= SIMILAR_MAX && !messages.contains(message)
    }

    fn shrink(&mut self) {
        while self.written.len() > REMEMBERED_MAX || self.order.len() > 2 * REMEMBERED_MAX {
            let Some((key, touched)) = self.order.pop_front() else {
                return;
            };
            if self
                .written
                .get(&key)
                .is_some_and(|known| known.touched == touched)
            {
                self.similar.remove(&key.0);
                self.tokens.remove(&key.0.0);
                self.written.remove(&key);
            }
        }
    }
}

fn object_key(object: &ObjectReference) -> String {
    let parts = [
        &object.api_version,
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
        &object.field_path,
    ];
    let parts = parts.map(|part| part.as_deref().unwrap_or_default());
    parts.join("\u{0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn occurrence(name: &str, message: &str) -> Occurrence {
        Occurrence {
            object: ObjectReference {
                kind: Some("Pod".into()),
                name: Some(name.into()),
                ..ObjectReference::default()
            },
            kind: "Normal",
            reason: "Pulled".into(),
            message: message.into(),
        }
    }

    #[test]
    fn the_same_thing_again_counts_up_the_first_event() {
        let mut events = Correlator::default();
        let Write::Create { name: created, .. } = events.next(&occurrence("a", "m"), at(0)) else {
            panic!("the first is new");
        };
        for n in 2..5 {
            let Write::Count {
                name, count, first, ..
            } = events.next(&occurrence("a", "m"), at(n))
            else {
                panic!("the others count");
            };
            assert_eq!((name, i64::from(count), first), (created.clone(), n, at(0)));
        }
    }

    #[test]
    fn another_object_or_message_is_another_event() {
        let mut events = Correlator::default();
        let mut names = HashSet::new();
        for (name, message) in [("a", "m"), ("a", "n"), ("b", "m")] {
            match events.next(&occurrence(name, message), at(0)) {
                Write::Create { name, .. } => assert!(names.insert(name)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn ever_different_messages_of_one_reason_are_combined() {
        let mut events = Correlator::default();
        for n in 0..SIMILAR_MAX {
            let write = events.next(&occurrence("a", &n.to_string()), at(0));
            assert!(matches!(write, Write::Create { .. }));
        }
        let write = events.next(&occurrence("a", "x"), at(0));
        let combined = "(combined from similar events): x";
        assert!(matches!(&write, Write::Create { message, .. } if message == combined));
        let write = events.next(&occurrence("a", "y"), at(0));
        assert!(matches!(write, Write::Count { count: 2, .. }));
        // After a quiet window they are events of their own again.
        let write = events.next(&occurrence("a", "z"), at(601));
        assert!(matches!(&write, Write::Create { message, .. } if message == "z"));
    }

    #[test]
    fn an_object_with_too_many_events_is_let_through_at_a_rate() {
        let mut events = Correlator::default();
        let dropped = (0..30)
            .filter(|_| events.next(&occurrence("a", "m"), at(0)) == Write::Drop)
            .count();
        assert_eq!(dropped, 5);
        assert_ne!(events.next(&occurrence("b", "m"), at(0)), Write::Drop);
        assert_ne!(events.next(&occurrence("a", "m"), at(300)), Write::Drop);
        assert_eq!(events.next(&occurrence("a", "m"), at(300)), Write::Drop);
    }

    #[test]
    fn memory_is_bounded() {
        let mut events = Correlator::default();
        for n in 0..3 * REMEMBERED_MAX {
            events.next(&occurrence(&n.to_string(), "m"), at(0));
        }
        assert!(events.written.len() <= REMEMBERED_MAX);
        assert!(events.order.len() <= 2 * REMEMBERED_MAX);
        assert!(events.similar.len() <= REMEMBERED_MAX);
        assert!(events.tokens.len() <= REMEMBERED_MAX);
    }

    #[test]
    fn memory_is_bounded_though_nothing_new_happens() {
        let mut events = Correlator::default();
        for n in 0..3 * REMEMBERED_MAX {
            let again = events.next(&occurrence("a", "m"), at(300 * n as i64));
            assert_ne!(again, Write::Drop);
        }
        assert!(events.order.len() <= 2 * REMEMBERED_MAX);
    }
}
