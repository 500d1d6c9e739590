//! One rule of a namespace's end a test.

use k8s_openapi::api::core::v1::NamespaceSpec;
use kube::api::ObjectMeta;
use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn namespace(deleted: bool, finalizers: &[&str]) -> Namespace {
    let finalizers = finalizers.iter().map(|name| (*name).to_owned()).collect();
    Namespace {
        metadata: ObjectMeta {
            name: Some("dev".into()),
            deletion_timestamp: deleted.then_some(Time(at(0))),
            ..ObjectMeta::default()
        },
        spec: Some(NamespaceSpec {
            finalizers: Some(finalizers),
        }),
        status: None,
    }
}

fn left(resource: &str, count: usize, untouched: usize) -> Left {
    Left {
        resource: resource.into(),
        count,
        untouched,
        finalizers: BTreeMap::new(),
    }
}

fn plan(namespace: &Namespace, left: &[Left]) -> Vec<Action> {
    reconcile(&Observed {
        namespace,
        left,
        discovery_failure: None,
        failures: &[],
        now: at(1),
    })
}

fn condition<'a>(actions: &'a [Action], kind: &str) -> (&'a str, &'a str) {
    let status = actions.iter().find_map(|action| match action {
        Action::SetStatus(status) => Some(status),
        _ => None,
    });
    let known = conditions::get(&status.unwrap().conditions, kind).unwrap();
    (&known.status, known.message.as_deref().unwrap())
}

#[test]
fn one_that_is_not_being_deleted_or_not_ours_to_finalize_is_left_alone() {
    let full = [left("pods", 1, 1)];
    for (deleted, finalizers) in [(false, &[FINALIZER][..]), (true, &[]), (true, &["other"])] {
        let namespace = namespace(deleted, finalizers);
        assert!(!is_ending(&namespace));
        assert_eq!(plan(&namespace, &full), []);
        assert_eq!(plan(&namespace, &[]), []);
    }
}

#[test]
fn an_empty_one_is_finalized() {
    let actions = plan(&namespace(true, &["other", FINALIZER]), &[]);
    assert_eq!(actions.last(), Some(&Action::Finalize));
    assert_eq!(condition(&actions, "NamespaceContentRemaining").0, "False");
}

#[test]
fn pods_go_before_what_they_may_need() {
    let both = [left("secrets", 2, 2), left("pods", 1, 1)];
    assert_eq!(due(&both), ["pods"]);
    // While they are going, the others wait.
    let going = [left("secrets", 2, 2), left("pods", 1, 0)];
    assert!(due(&going).is_empty());
    let gone = [
        left("secrets", 2, 2),
        left("pods", 0, 0),
        left("events", 1, 0),
    ];
    assert_eq!(due(&gone), ["secrets"]);
}

#[test]
fn what_is_left_and_what_holds_it_is_told() {
    let mut held = left("configmaps", 3, 0);
    held.finalizers.insert("example.com/hold".into(), 2);
    let contents = [left("deployments.apps", 1, 0), held];
    let actions = plan(&namespace(true, &[FINALIZER]), &contents);
    let remaining = "Some resources are remaining: configmaps. has 3 resource instances, \
                     deployments.apps has 1 resource instances";
    assert_eq!(
        condition(&actions, "NamespaceContentRemaining"),
        ("True", remaining)
    );
    let holding = "Some content in the namespace has finalizers remaining: \
                   example.com/hold in 2 resource instances";
    assert_eq!(
        condition(&actions, "NamespaceFinalizersRemaining"),
        ("True", holding)
    );
    assert!(!actions.contains(&Action::Finalize));
}

#[test]
fn whoever_cannot_look_does_not_finalize() {
    let namespace = namespace(true, &[FINALIZER]);
    let observe = |discovery_failure, failures: &[String]| {
        reconcile(&Observed {
            namespace: &namespace,
            left: &[],
            discovery_failure,
            failures,
            now: at(1),
        })
    };
    let blind = observe(Some("no answer"), &[]);
    assert!(!blind.contains(&Action::Finalize));
    assert_eq!(
        condition(&blind, "NamespaceDeletionDiscoveryFailure").0,
        "True"
    );
    let failed = observe(None, &["pods: no answer".into(), "maps: no answer".into()]);
    assert!(!failed.contains(&Action::Finalize));
    let told = "Failed to delete all resource types, 2 remaining: maps: no answer, pods: no answer";
    assert_eq!(
        condition(&failed, "NamespaceDeletionContentFailure"),
        ("True", told)
    );
}

#[test]
fn a_status_that_is_right_is_not_written_again() {
    let mut namespace = namespace(true, &[FINALIZER]);
    let going = [left("pods", 1, 0)];
    let actions = plan(&namespace, &going);
    let [Action::SetStatus(status)] = &actions[..] else {
        panic!("{actions:?}")
    };
    namespace.status = Some(status.clone());
    assert_eq!(plan(&namespace, &going), []);
}

proptest! {
    /// A deletion that is asked for happens at some time, unless a finalizer holds it, which goes at some time.
    #[test]
    fn every_namespace_is_emptied_and_then_finalized(
        contents in prop::collection::btree_map("[a-z]{1,4}|pods", (1..5_usize, any::<bool>()), 0..6),
        chances in prop::collection::vec(any::<bool>(), 64),
    ) {
        let mut namespace = namespace(true, &[FINALIZER]);
        let mut world: BTreeMap<String, Left> = contents
            .into_iter()
            .map(|(resource, (count, _))| (resource.clone(), left(&resource, count, count)))
            .collect();
        let mut chances = chances.into_iter().cycle();
        for _ in 0..200 {
            let contents: Vec<_> = world.values().cloned().collect();
            for resource in due(&contents) {
                let pods_left = world.get("pods").is_some_and(|left| left.count > 0);
                prop_assert!(!pods_left || resource == "pods");
                world.get_mut(resource).unwrap().untouched = 0;
            }
            let contents: Vec<_> = world.values().cloned().collect();
            let actions = plan(&namespace, &contents);
            if actions.contains(&Action::Finalize) {
                prop_assert!(world.values().all(|left| left.count == 0));
                return Ok(());
            }
            for action in actions {
                match action {
                    Action::SetStatus(status) => namespace.status = Some(status),
                    Action::Finalize => unreachable!("looked at above"),
                }
            }
            for left in world.values_mut() {
                if left.count > left.untouched && chances.next() == Some(true) {
                    left.count -= 1;
                }
            }
            // Chance must not starve anybody for ever.
            if let Some(left) = world.values_mut().find(|left| left.count > left.untouched) {
                left.count -= 1;
            }
        }
        prop_assert!(false, "it was never finalized: {world:?}");
    }
}
