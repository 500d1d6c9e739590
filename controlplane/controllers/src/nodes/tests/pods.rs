//! When pods leave, and who takes away those that nobody else does.

use super::super::eviction::{Leave, leave};
use super::super::pod_gc::{self, Quarantine};
use super::*;

fn toleration(
    key: &str,
    operator: &str,
    value: &str,
    effect: &str,
    seconds: Option<i64>,
) -> Toleration {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Toleration {
        key: text(key),
        operator: text(operator),
        value: text(value),
        effect: text(effect),
        toleration_seconds: seconds,
    }
}

fn pod(name: &str, node: Option<&str>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            creation_timestamp: Some(Time(at(-100))),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: node.map(str::to_owned),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        }),
    }
}

#[test]
fn a_pod_leaves_when_it_has_tolerated_long_enough() {
    let unreachable = |seconds| toleration(UNREACHABLE, "Exists", "", NO_EXECUTE, seconds);
    let other = |seconds| toleration("other", "Exists", "", NO_EXECUTE, seconds);
    let one = || vec![taint(UNREACHABLE, NO_EXECUTE)];
    let two = || vec![taint(UNREACHABLE, NO_EXECUTE), taint("other", NO_EXECUTE)];
    let cases = [
        ("no taint", vec![], vec![], Leave::Never),
        (
            "a taint for new pods only",
            vec![],
            vec![taint(UNREACHABLE, NO_SCHEDULE)],
            Leave::Never,
        ),
        ("not tolerated", vec![], one(), Leave::At(at(0))),
        (
            "tolerated for ever",
            vec![unreachable(None)],
            one(),
            Leave::Never,
        ),
        (
            "tolerated for a while",
            vec![unreachable(Some(300))],
            one(),
            Leave::At(at(300)),
        ),
        (
            "tolerated for no time",
            vec![unreachable(Some(0))],
            one(),
            Leave::At(at(0)),
        ),
        (
            "tolerated for less than no time",
            vec![unreachable(Some(-5))],
            one(),
            Leave::At(at(0)),
        ),
        (
            "one of two is not tolerated",
            vec![unreachable(None)],
            two(),
            Leave::At(at(0)),
        ),
        (
            "the shorter of two",
            vec![unreachable(Some(300)), other(Some(60))],
            two(),
            Leave::At(at(60)),
        ),
        (
            "one for ever, the other for a while",
            vec![unreachable(None), other(Some(60))],
            two(),
            Leave::At(at(60)),
        ),
    ];
    for (name, tolerations, taints, expected) in cases {
        let mut pod = pod("p", Some("n"));
        pod.spec.as_mut().unwrap().tolerations = Some(tolerations);
        assert_eq!(leave(&pod, &taints, |_| at(0)), expected, "{name}");
    }
    // A pod that came to a node with a taint counts from then.
    let mut late = pod("p", Some("n"));
    late.metadata.creation_timestamp = Some(Time(at(50)));
    late.spec.as_mut().unwrap().tolerations = Some(vec![unreachable(Some(300))]);
    assert_eq!(leave(&late, &one(), |_| at(0)), Leave::At(at(350)));
    // A taint that does not say since when it is there counts from when it was seen.
    let mut undated = one();
    undated[0].time_added = None;
    assert_eq!(
        leave(&pod("p", Some("n")), &undated, |_| at(7)),
        Leave::At(at(7))
    );
}

#[test]
fn pods_of_a_node_that_is_gone_are_deleted_after_the_quarantine() {
    let settings = pod_gc::Settings {
        quarantine: Duration::from_secs(40),
        ended_max: 0,
    };
    let (there, gone) = (
        Arc::new(pod("a", Some("there"))),
        Arc::new(pod("b", Some("gone"))),
    );
    let pods = [there, gone.clone()];
    let nodes = HashSet::from(["there".to_owned()]);
    let mut quarantine = Quarantine::default();
    let mut look = |nodes: &HashSet<String>, second| {
        quarantine.look(&pods, nodes, &settings, Duration::from_secs(second))
    };
    assert_eq!(look(&nodes, 0), []);
    assert_eq!(look(&nodes, 39), []);
    assert_eq!(look(&nodes, 40), [pod_gc::Action::DeleteOrphan(gone)]);
    // It came back: the time starts anew.
    let both = HashSet::from(["there".to_owned(), "gone".to_owned()]);
    assert_eq!(look(&both, 60), []);
    assert_eq!(look(&nodes, 80), []);
    assert_eq!(look(&nodes, 119), []);
}

#[test]
fn pods_that_never_had_a_node_and_the_oldest_that_have_ended_are_deleted() {
    let settings = pod_gc::Settings {
        quarantine: Duration::from_secs(40),
        ended_max: 2,
    };
    let mut unscheduled = pod("u", None);
    unscheduled.metadata.deletion_timestamp = Some(Time(at(0)));
    let unscheduled = Arc::new(unscheduled);
    let ended = |name: &str, created| {
        let mut pod = pod(name, None);
        pod.metadata.creation_timestamp = Some(Time(at(created)));
        pod.status.as_mut().unwrap().phase = Some("Succeeded".into());
        Arc::new(pod)
    };
    let oldest = ended("x", 1);
    let pods = [
        ended("z", 3),
        oldest.clone(),
        ended("y", 2),
        unscheduled.clone(),
        Arc::new(pod("w", None)),
    ];
    let actions = Quarantine::default().look(&pods, &HashSet::new(), &settings, Duration::ZERO);
    let expected = [
        pod_gc::Action::DeleteUnscheduled(unscheduled),
        pod_gc::Action::DeleteEnded(oldest),
    ];
    assert_eq!(actions, expected);
}

/// A taint of one of three keys, put on at some time, or one that does not say when.
fn any_taint() -> impl Strategy<Value = Taint> {
    let effect = prop_oneof![4 => Just(NO_EXECUTE), 1 => Just(NO_SCHEDULE)];
    let key = prop_oneof![Just("a"), Just("b"), Just("c")];
    (key, effect, prop::option::of(-50..50_i64)).prop_map(|(key, effect, added)| Taint {
        time_added: added.map(|second| Time(at(second))),
        ..taint(key, effect)
    })
}

fn any_toleration() -> impl Strategy<Value = Toleration> {
    let key = prop_oneof![Just("a"), Just("b"), Just("c"), Just("")];
    let effect = prop_oneof![Just(""), Just(NO_EXECUTE), Just(NO_SCHEDULE)];
    let seconds = prop::option::of(-10..100_i64);
    (key, effect, seconds)
        .prop_map(|(key, effect, seconds)| toleration(key, "Exists", "", effect, seconds))
}

proptest! {
    /// A pod leaves at the first second at which a taint that makes pods leave is not, or no longer, borne: neither the
    /// order of the taints matters, nor how often it is asked; another taint makes it leave no later, another toleration
    /// at the end no earlier.
    #[test]
    fn a_pod_leaves_when_the_first_taint_is_no_longer_borne(
        taints in prop::collection::vec(any_taint(), 0..5),
        tolerations in prop::collection::vec(any_toleration(), 0..5),
        created in prop::option::of(-60..60_i64),
        seen in -50..50_i64,
        (more, bears) in (any_taint(), any_toleration()),
    ) {
        let tolerating = |tolerations: &[Toleration]| {
            let mut pod = pod("p", Some("n"));
            pod.metadata.creation_timestamp = created.map(|second| Time(at(second)));
            pod.spec.as_mut().unwrap().tolerations = Some(tolerations.to_vec());
            pod
        };
        let when = |pod: &Pod, taints: &[Taint]| match leave(pod, taints, |_| at(seen)) {
            Leave::Never => i64::MAX,
            Leave::At(time) => time.as_second() - at(0).as_second(),
        };
        let pod = tolerating(&tolerations);
        let found = when(&pod, &taints);
        let makes_leave = |second: i64| {
            taints.iter().filter(|taint| taint.effect == NO_EXECUTE).any(|taint| {
                let added = taint.time_added.as_ref().map_or(seen, |time| time.0.as_second() - at(0).as_second());
                let since = added.max(created.unwrap_or(i64::MIN));
                let about = tolerations.iter().find(|toleration| {
                    let key = toleration.key.as_ref().is_none_or(|key| *key == taint.key);
                    key && toleration.effect.as_ref().is_none_or(|effect| *effect == taint.effect)
                });
                let borne = match about {
                    None => Some(0),
                    Some(toleration) => toleration.toleration_seconds.map(|seconds| seconds.max(0)),
                };
                borne.is_some_and(|seconds| second >= since + seconds)
            })
        };
        let first = (-60..200).find(|second| makes_leave(*second));
        prop_assert_eq!(found, first.unwrap_or(i64::MAX));
        let reversed: Vec<Taint> = taints.iter().rev().cloned().collect();
        prop_assert_eq!(when(&pod, &reversed), found);
        let mut worse = taints.clone();
        worse.push(more);
        prop_assert!(when(&pod, &worse) <= found);
        let mut better = tolerations.clone();
        better.push(bears);
        prop_assert!(when(&tolerating(&better), &taints) >= found);
        // Who is started again, and sees the taints only now, comes to the same time, if they say when they were put on.
        if taints.iter().all(|taint| taint.time_added.is_some()) {
            let Leave::At(again) = leave(&pod, &taints, |_| at(1000)) else {
                prop_assert_eq!(found, i64::MAX);
                return Ok(());
            };
            prop_assert_eq!(again.as_second() - at(0).as_second(), found);
        }
    }
}
