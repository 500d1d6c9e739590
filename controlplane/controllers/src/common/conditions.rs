//! Conditions: one of each type, whose transition time changes with its status only.

use k8s_openapi::api::apps::v1::{DeploymentCondition, ReplicaSetCondition};
use k8s_openapi::api::core::v1::{NamespaceCondition, NodeCondition, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What conditions of all kinds have in common.
pub trait Condition {
    /// Its type.
    fn kind(&self) -> &str;
    /// `True`, `False` or `Unknown`.
    fn status(&self) -> &str;
    /// A word that says why.
    fn reason(&self) -> &str;
    /// A sentence that says why.
    fn message(&self) -> &str;
    /// When the status changed last.
    fn transition(&mut self) -> &mut Option<Time>;
}

/// A field that some kinds require and others do not.
trait Text {
    fn text(&self) -> &str;
}

impl Text for String {
    fn text(&self) -> &str {
        self
    }
}

impl Text for Option<String> {
    fn text(&self) -> &str {
        self.as_deref().unwrap_or_default()
    }
}

macro_rules! conditions {
    ($($kind:ty),*) => {$(
        impl Condition for $kind {
            fn kind(&self) -> &str {
                self.type_.text()
            }
            fn status(&self) -> &str {
                self.status.text()
            }
            fn reason(&self) -> &str {
                self.reason.text()
            }
            fn message(&self) -> &str {
                self.message.text()
            }
            fn transition(&mut self) -> &mut Option<Time> {
                &mut self.last_transition_time
            }
        }
    )*};
}

conditions!(
    DeploymentCondition,
    ReplicaSetCondition,
    NodeCondition,
    PodCondition,
    NamespaceCondition
);

/// The condition of a type.
pub fn get<'a, C: Condition>(conditions: &'a Option<Vec<C>>, kind: &str) -> Option<&'a C> {
    let conditions = conditions.iter().flatten();
    conditions.into_iter().find(|known| known.kind() == kind)
}

/// Sets a condition, if its status, reason or (where `by_message`) message is new.
fn put<C: Condition>(conditions: &mut Option<Vec<C>>, mut new: C, by_message: bool) -> bool {
    let all = conditions.get_or_insert_default();
    let position = all.iter().position(|known| known.kind() == new.kind());
    if let Some(known) = position.map(|at| &mut all[at]) {
        let same_text = !by_message || known.message() == new.message();
        if known.status() == new.status() && known.reason() == new.reason() && same_text {
            return false;
        }
        if known.status() == new.status() {
            *new.transition() = known.transition().clone();
        }
    }
    // The newest is the last, as in Kubernetes.
    all.retain(|known| known.kind() != new.kind());
    all.push(new);
    true
}

/// Sets a condition if its status or reason is new.
pub fn set<C: Condition>(conditions: &mut Option<Vec<C>>, new: C) {
    put(conditions, new, false);
}

/// Sets a condition if its status, reason or message is new. Whether it was.
pub fn set_with_message<C: Condition>(conditions: &mut Option<Vec<C>>, new: C) -> bool {
    put(conditions, new, true)
}

/// Removes the condition of a type.
pub fn remove<C: Condition>(conditions: &mut Option<Vec<C>>, kind: &str) {
    if let Some(all) = conditions {
        all.retain(|known| known.kind() != kind);
        if all.is_empty() {
            *conditions = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn condition(kind: &str, status: &str, reason: &str, second: i64) -> PodCondition {
        let time = Timestamp::from_second(second).unwrap();
        PodCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(format!("at {second}")),
            last_transition_time: Some(Time(time)),
            ..PodCondition::default()
        }
    }

    /// Types, reasons and messages, and when they changed.
    fn told(conditions: &Option<Vec<PodCondition>>) -> Vec<(&str, &str, &str, i64)> {
        let all = conditions.iter().flatten();
        let told = all.map(|one| {
            let time = one.last_transition_time.as_ref().unwrap();
            (one.kind(), one.reason(), one.message(), time.0.as_second())
        });
        told.collect()
    }

    #[test]
    fn there_is_one_of_each_type_and_the_last_that_was_set_is_the_last() {
        let mut all = None;
        set(&mut all, condition("A", "True", "One", 1));
        set(&mut all, condition("B", "True", "One", 2));
        assert_eq!(
            told(&all),
            [("A", "One", "at 1", 1), ("B", "One", "at 2", 2)]
        );
        // Of the same status, for another reason: it has been so since then.
        set(&mut all, condition("A", "True", "Two", 3));
        assert_eq!(
            told(&all),
            [("B", "One", "at 2", 2), ("A", "Two", "at 3", 1)]
        );
        set(&mut all, condition("B", "False", "Two", 4));
        assert_eq!(
            told(&all),
            [("A", "Two", "at 3", 1), ("B", "Two", "at 4", 4)]
        );
    }

    #[test]
    fn what_is_known_is_not_told_again_unless_the_message_counts() {
        let mut all = Some(vec![condition("A", "True", "One", 1)]);
        set(&mut all, condition("A", "True", "One", 2));
        assert_eq!(told(&all), [("A", "One", "at 1", 1)]);
        assert!(set_with_message(&mut all, condition("A", "True", "One", 2)));
        assert_eq!(told(&all), [("A", "One", "at 2", 1)]);
        assert!(!set_with_message(
            &mut all,
            condition("A", "True", "One", 2)
        ));
    }

    #[test]
    fn where_the_last_is_removed_none_are_left() {
        let mut all: Option<Vec<PodCondition>> = None;
        remove(&mut all, "A");
        assert_eq!(all, None);
        set(&mut all, condition("A", "True", "One", 1));
        set(&mut all, condition("B", "True", "One", 2));
        remove(&mut all, "C");
        remove(&mut all, "A");
        assert_eq!(told(&all), [("B", "One", "at 2", 2)]);
        assert!(get(&all, "A").is_none() && get(&all, "B").is_some());
        remove(&mut all, "B");
        assert_eq!(all, None);
    }
}
