//! What to do about one object: pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{FOREGROUND, ORPHAN};

/// How it is with an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there.
    Solid,
    /// It is not there, by its name and UID.
    Absent,
    /// It is being deleted, and waits for its dependents.
    Waiting,
}

/// How an object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Its dependents afterwards.
    Background,
    /// Its dependents first.
    Foreground,
    /// Its dependents stay.
    Orphan,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Keep the object, without the references to these owners.
    DropOwners(Vec<String>),
    /// Delete it.
    Delete {
        /// How.
        policy: Policy,
        /// Whether it must first cease to hold up its owners: it may own one of them.
        unblock: bool,
    },
}

/// Says what to do about an object with these finalizers and owners.
///
/// `has_waiting_dependents` says whether any of its own dependents waits for its dependents too: there may be a circle.
pub fn decide(
    finalizers: &[String],
    owners: &[(OwnerReference, OwnerState)],
    has_dependents: bool,
    has_waiting_dependents: bool,
) -> Action {
    if owners.is_empty() {
        return Action::Keep;
    }
    let not_solid = owners
        .iter()
        .filter(|(_, state)| *state != OwnerState::Solid);
    let not_solid: Vec<String> = not_solid.map(|(owner, _)| owner.uid.clone()).collect();
    if not_solid.len() < owners.len() {
        return if not_solid.is_empty() {
            Action::Keep
        } else {
            Action::DropOwners(not_solid)
        };
    }
    let waiting = owners
        .iter()
        .any(|(_, state)| *state == OwnerState::Waiting);
    if waiting && has_dependents {
        return Action::Delete {
            policy: Policy::Foreground,
            unblock: has_waiting_dependents,
        };
    }
    let has = |name: &str| finalizers.iter().any(|known| known == name);
    let policy = if has(ORPHAN) {
        Policy::Orphan
    } else if has(FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    };
    Action::Delete {
        policy,
        unblock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::OwnerState::{Absent, Solid, Waiting};
    use super::*;

    fn owners(states: &[OwnerState]) -> Vec<(OwnerReference, OwnerState)> {
        let owner = |(n, state): (usize, &OwnerState)| {
            let reference = OwnerReference {
                uid: n.to_string(),
                ..OwnerReference::default()
            };
            (reference, *state)
        };
        states.iter().enumerate().map(owner).collect()
    }

    fn delete(policy: Policy, unblock: bool) -> Action {
        Action::Delete { policy, unblock }
    }

    #[test]
    fn an_object_goes_with_the_last_of_its_owners() {
        let drop =
            |uids: &[&str]| Action::DropOwners(uids.iter().map(|uid| (*uid).into()).collect());
        let cases = [
            ("owned by nobody", vec![], Action::Keep),
            ("its owner is there", vec![Solid], Action::Keep),
            (
                "its owner is gone",
                vec![Absent],
                delete(Policy::Background, false),
            ),
            ("one of two is gone", vec![Solid, Absent], drop(&["1"])),
            (
                "one of two waits for it",
                vec![Waiting, Solid],
                drop(&["0"]),
            ),
            (
                "all are gone",
                vec![Absent, Absent],
                delete(Policy::Background, false),
            ),
            (
                "its owner waits for it",
                vec![Waiting],
                delete(Policy::Background, false),
            ),
        ];
        for (name, states, expected) in cases {
            let action = decide(&[], &owners(&states), false, false);
            assert_eq!(action, expected, "{name}");
        }
    }

    #[test]
    fn what_an_owner_waits_for_goes_after_its_own_dependents() {
        let action = decide(&[], &owners(&[Waiting]), true, false);
        assert_eq!(action, delete(Policy::Foreground, false));
        // In a circle everybody would wait for everybody.
        let action = decide(&[], &owners(&[Waiting]), true, true);
        assert_eq!(action, delete(Policy::Foreground, true));
        let action = decide(&[], &owners(&[Absent]), true, true);
        assert_eq!(action, delete(Policy::Background, false));
    }

    #[test]
    fn the_policy_that_was_asked_for_before_is_kept() {
        for (finalizer, policy) in [(ORPHAN, Policy::Orphan), (FOREGROUND, Policy::Foreground)] {
            let finalizers = ["other".to_owned(), finalizer.to_owned()];
            let action = decide(&finalizers, &owners(&[Absent]), false, false);
            assert_eq!(action, delete(policy, false));
        }
    }
}
