//! One rule of a replica set a test, as tables of cases.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus, PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::*;
use crate::common::conditions;
use crate::common::owner::controller_reference;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn labels() -> std::collections::BTreeMap<String, String> {
    [("app".into(), "web".into())].into()
}

fn replica_set(replicas: i32) -> ReplicaSet {
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("web-uid".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            selector: LabelSelector {
                match_labels: Some(labels()),
                ..LabelSelector::default()
            },
            template: Some(PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels()),
                    ..ObjectMeta::default()
                }),
                spec: None,
            }),
            ..ReplicaSetSpec::default()
        },
        status: None,
    }
}

fn pod(name: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            uid: Some(name.into()),
            labels: Some(labels()),
            owner_references: Some(vec![controller_reference(&replica_set(0))]),
            creation_timestamp: Some(Time(at(0))),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some("node".into()),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        }),
    }
}

fn ready(mut pod: Pod, since: i64) -> Pod {
    pod.status.as_mut().unwrap().conditions = Some(vec![PodCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_transition_time: Some(Time(at(since))),
        ..PodCondition::default()
    }]);
    pod
}

fn orphan(name: &str) -> Pod {
    let mut pod = pod(name);
    pod.metadata.owner_references = None;
    pod
}

fn deleted(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(at(0)));
    pod
}

fn in_phase(mut pod: Pod, phase: &str) -> Pod {
    pod.status.as_mut().unwrap().phase = Some(phase.into());
    pod
}

fn plan_for(replica_set: &ReplicaSet, pods: &[Pod], settled: bool) -> Plan {
    let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
    reconcile(&Observed {
        replica_set,
        pods: &pods,
        related: &[],
        settled,
        creating: 0,
        now: at(100),
    })
}

fn plan(replicas: i32, pods: &[Pod]) -> Plan {
    plan_for(&replica_set(replicas), pods, true)
}

/// What is done about pods, in short words; the status is left out.
fn words(plan: &Plan) -> Vec<String> {
    let words = plan.actions.iter().filter_map(|action| match action {
        Action::Adopt(pod) => Some(format!("adopt {}", pod.name_any())),
        Action::Release(pod) => Some(format!("release {}", pod.name_any())),
        Action::Create(count) => Some(format!("create {count}")),
        Action::Delete(pods) => {
            let names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
            Some(format!("delete {}", names.join(" ")))
        }
        Action::SetStatus(_) => None,
    });
    words.collect()
}

fn written(plan: &Plan) -> ReplicaSetStatus {
    let status = plan.actions.iter().find_map(|action| match action {
        Action::SetStatus(status) => Some(status.clone()),
        _ => None,
    });
    status.expect("a status is written")
}

#[test]
fn as_many_pods_are_created_or_deleted_as_make_the_number_right() {
    let (a, b) = (|| pod("a"), || pod("b"));
    let cases: [(&str, i32, Vec<Pod>, &[&str]); 9] = [
        ("right already", 2, vec![a(), b()], &[]),
        ("two too few", 2, vec![], &["create 2"]),
        ("one too many", 1, vec![a(), b()], &["delete a"]),
        ("none wanted", 0, vec![a()], &["delete a"]),
        (
            "pods that have ended do not count",
            2,
            vec![in_phase(a(), "Failed"), in_phase(b(), "Succeeded")],
            &["create 2"],
        ),
        (
            "pods that are going do not count",
            2,
            vec![deleted(a()), b()],
            &["create 1"],
        ),
        (
            "no more than a burst at once",
            1000,
            vec![],
            &["create 500"],
        ),
        (
            "another's pods do not count",
            1,
            vec![{
                let mut pod = a();
                pod.owner_references_mut()[0].uid = "other".into();
                pod
            }],
            &["create 1"],
        ),
        (
            "pods that do not match are let go",
            1,
            vec![{
                let mut pod = a();
                pod.labels_mut().insert("app".into(), "db".into());
                pod
            }],
            &["release a", "create 1"],
        ),
    ];
    for (name, replicas, pods, expected) in cases {
        assert_eq!(words(&plan(replicas, &pods)), expected, "{name}");
    }
}

#[test]
fn no_more_than_a_burst_is_deleted_at_once() {
    let pods: Vec<_> = (0..600).map(|n| pod(&format!("p{n}"))).collect();
    let plan = plan(0, &pods);
    let Action::Delete(victims) = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    assert_eq!(victims.len(), BURST_MAX);
}

#[test]
fn orphans_that_match_are_adopted_and_count() {
    let plan = plan(2, &[orphan("a"), pod("b")]);
    assert_eq!(words(&plan), ["adopt a"]);
    assert_eq!(written(&plan).replicas, 2);
}

#[test]
fn nothing_is_created_or_deleted_until_what_was_asked_for_before_has_been_seen() {
    for (replicas, pods) in [(5, vec![]), (0, vec![pod("a")])] {
        let plan = plan_for(&replica_set(replicas), &pods, false);
        assert_eq!(words(&plan), [""; 0]);
        assert_eq!(written(&plan).observed_generation, Some(1));
    }
}

#[test]
fn a_replica_set_that_is_being_deleted_keeps_its_hands_off() {
    let mut replica_set = replica_set(5);
    replica_set.metadata.deletion_timestamp = Some(Time(at(0)));
    let plan = plan_for(&replica_set, &[orphan("a"), pod("b")], true);
    assert_eq!(words(&plan), [""; 0]);
}

#[test]
fn the_cheapest_pod_to_lose_goes_first() {
    let named = |name: &str, change: &dyn Fn(&mut Pod)| {
        let mut pod = ready(pod(name), 0);
        change(&mut pod);
        pod
    };
    let restarted = |count| {
        move |pod: &mut Pod| {
            let status = ContainerStatus {
                restart_count: count,
                ..ContainerStatus::default()
            };
            pod.status.as_mut().unwrap().container_statuses = Some(vec![status]);
        }
    };
    let restarted_each = |ordinary: &'static [i32], sidecars: &'static [i32]| {
        let statuses = |counts: &[i32]| {
            let status = |(n, count): (usize, &i32)| ContainerStatus {
                name: n.to_string(),
                restart_count: *count,
                ..ContainerStatus::default()
            };
            counts.iter().enumerate().map(status).collect()
        };
        move |pod: &mut Pod| {
            let sidecar = |n: usize| Container {
                name: n.to_string(),
                restart_policy: Some("Always".into()),
                ..Container::default()
            };
            let all = (0..sidecars.len()).map(sidecar).collect();
            pod.spec.as_mut().unwrap().init_containers = Some(all);
            let status = pod.status.as_mut().unwrap();
            status.container_statuses = Some(statuses(ordinary));
            status.init_container_statuses = Some(statuses(sidecars));
        }
    };
    let cost = |cost: &'static str| {
        move |pod: &mut Pod| {
            let key = "controller.kubernetes.io/pod-deletion-cost";
            pod.annotations_mut().insert(key.into(), cost.into());
        }
    };
    let created =
        |second| move |pod: &mut Pod| pod.metadata.creation_timestamp = Some(Time(at(second)));
    // In each pair the first goes before the second, whatever their names.
    let pairs = [
        (
            "without a node",
            named("b", &|pod| pod.spec.as_mut().unwrap().node_name = None),
            named("a", &|_| ()),
        ),
        (
            "pending before unknown",
            in_phase(pod("b"), "Pending"),
            in_phase(pod("a"), "Unknown"),
        ),
        (
            "unknown before running",
            in_phase(pod("b"), "Unknown"),
            pod("a"),
        ),
        ("not ready before ready", pod("b"), ready(pod("a"), 0)),
        (
            "the lower cost",
            named("b", &cost("-5")),
            named("a", &cost("3")),
        ),
        (
            "a cost that is no number is none",
            named("b", &cost("cheap")),
            named("a", &cost("1")),
        ),
        (
            "one with a plus",
            named("b", &cost("+10")),
            named("a", &cost("1")),
        ),
        (
            "with leading zeros",
            named("b", &cost("007")),
            named("a", &cost("1")),
        ),
        (
            "with a fraction",
            named("b", &cost("1.5")),
            named("a", &cost("1")),
        ),
        (
            "too large",
            named("b", &cost("99999999999")),
            named("a", &cost("1")),
        ),
        (
            "zero is a number",
            named("b", &cost("0")),
            named("a", &cost("1")),
        ),
        (
            "and so is what is below",
            named("b", &cost("-10")),
            named("a", &cost("0")),
        ),
        (
            "ready for a much shorter time",
            ready(pod("b"), 98),
            ready(pod("a"), 0),
        ),
        (
            "more restarts",
            named("b", &restarted(3)),
            named("a", &restarted(1)),
        ),
        (
            "the container that was restarted most counts, and not all of them",
            named("b", &restarted_each(&[3, 0], &[])),
            named("a", &restarted_each(&[2, 2], &[])),
        ),
        (
            "of equal ones, more restarts of a sidecar",
            named("b", &restarted_each(&[1], &[2])),
            named("a", &restarted_each(&[1], &[1])),
        ),
        (
            "ordinary ones before sidecars",
            named("b", &restarted_each(&[2], &[0])),
            named("a", &restarted_each(&[1], &[9])),
        ),
        (
            "what ends before the others start is no sidecar",
            named("b", &restarted_each(&[1], &[1])),
            named("a", &|pod| {
                restarted_each(&[1], &[9])(pod);
                let init = pod.spec.as_mut().unwrap().init_containers.as_mut();
                init.unwrap()[0].restart_policy = None;
            }),
        ),
        (
            "much younger",
            named("b", &created(98)),
            named("a", &created(0)),
        ),
        (
            "not ready before cheap",
            named("b", &|pod| pod.status.as_mut().unwrap().conditions = None),
            named("a", &cost("-9")),
        ),
        (
            "cheap before younger",
            named("b", &cost("-9")),
            ready(pod("a"), 99),
        ),
    ];
    for (name, first, second) in pairs {
        for pods in [
            [first.clone(), second.clone()],
            [second.clone(), first.clone()],
        ] {
            assert_eq!(words(&plan(1, &pods)), ["delete b"], "{name}");
        }
    }
}

/// Pods in the order in which they go, each for one reason.
fn ranked() -> Vec<Rank> {
    let on = |mut pod: Pod, node: Option<&str>| {
        pod.spec.as_mut().unwrap().node_name = node.map(Into::into);
        pod
    };
    let aged = |mut pod: Pod, created: i64, restarts: i32| {
        pod.metadata.creation_timestamp = Some(Time(at(created)));
        pod.status.as_mut().unwrap().container_statuses = Some(vec![ContainerStatus {
            restart_count: restarts,
            ..ContainerStatus::default()
        }]);
        pod
    };
    let costly = |mut pod: Pod, cost: &str| {
        let key = "controller.kubernetes.io/pod-deletion-cost";
        pod.annotations_mut().insert(key.into(), cost.into());
        pod
    };
    let hours = |hours: i64| -hours * 3600;
    // And how many pods there are beside each.
    let pods = [
        (in_phase(on(pod("z"), None), "Pending"), 0),
        (in_phase(pod("y"), "Pending"), 9),
        (in_phase(pod("x"), "Unknown"), 0),
        (pod("w"), 0),
        (costly(ready(pod("v"), hours(9)), "-1"), 0),
        (ready(pod("u"), hours(9)), 3),
        (ready(pod("t"), hours(2)), 2),
        (aged(ready(pod("s"), hours(9)), hours(9), 5), 2),
        (aged(ready(pod("r"), hours(9)), hours(2), 4), 2),
        (aged(ready(pod("p"), hours(9)), hours(9), 4), 2),
        (aged(ready(pod("q"), hours(9)), hours(9), 4), 2),
        (ready(pod("o"), hours(1)), 1),
        (costly(ready(pod("n"), 0), "1"), 9),
    ];
    let rank = |(pod, beside): &(Pod, usize)| Rank::of(pod, *beside, at(0));
    pods.iter().map(rank).collect()
}

#[test]
fn each_reason_to_go_first_counts_before_those_that_follow_it() {
    let ranks = ranked();
    for (at, pair) in ranks.windows(2).enumerate() {
        assert!(pair[0] < pair[1], "{at}: {pair:?}");
    }
    assert!(ranks.is_sorted());
}

#[test]
fn of_two_that_are_about_equal_the_lower_uid_goes() {
    let hours = |hours: i64| -hours * 3600;
    let ready_for = |name: &str, time: i64| ready(pod(name), hours(time));
    let created = |name: &str, time: i64| {
        let mut pod = pod(name);
        pod.metadata.creation_timestamp = Some(Time(at(hours(time))));
        pod
    };
    type Make<'a> = &'a dyn Fn(&str, i64) -> Pod;
    for make in [&ready_for as Make<'_>, &created] {
        let first = |pods: [Pod; 2]| {
            let uid = |pod: &Pod| pod.uid().unwrap();
            let least = pods.iter().min_by_key(|pod| Rank::of(pod, 0, at(0)));
            uid(least.unwrap())
        };
        assert_eq!(first([make("a", 5), make("b", 8)]), "a");
        assert_eq!(first([make("b", 5), make("a", 8)]), "a");
        assert_eq!(first([make("a", 5), make("b", 2)]), "b");
        assert_eq!(first([make("b", 5), make("a", 2)]), "a");
    }
}

#[test]
fn the_node_with_more_pods_of_the_same_kind_loses_one_first() {
    let on = |name: &str, node: &str| {
        let mut pod = ready(pod(name), 0);
        pod.spec.as_mut().unwrap().node_name = Some(node.into());
        Arc::new(pod)
    };
    let pods = [on("a", "quiet"), on("b", "crowded")];
    let related = [on("a", "quiet"), on("b", "crowded"), on("other", "crowded")];
    let plan = reconcile(&Observed {
        replica_set: &replica_set(1),
        pods: &pods,
        related: &related,
        settled: true,
        creating: 0,
        now: at(100),
    });
    assert_eq!(words(&plan), ["delete b"]);
}

#[test]
fn the_status_counts_pods_by_what_they_are() {
    let mut unlabelled = replica_set(4);
    let template = unlabelled.spec.template.as_mut().unwrap();
    template
        .metadata
        .as_mut()
        .unwrap()
        .labels
        .as_mut()
        .unwrap()
        .insert("tier".into(), "front".into());
    let mut labelled = pod("labelled");
    labelled.labels_mut().insert("tier".into(), "front".into());
    unlabelled.spec.min_ready_seconds = Some(30);
    let pods = [
        labelled,
        ready(pod("for long"), 0),
        ready(pod("just now"), 90),
        pod("not"),
    ];
    let plan = plan_for(&unlabelled, &pods, true);
    let status = written(&plan);
    assert_eq!(status.replicas, 4);
    assert_eq!(status.fully_labeled_replicas, Some(1));
    assert_eq!(status.ready_replicas, Some(2));
    assert_eq!(status.available_replicas, Some(1));
    // The one that became ready ten seconds ago will be available in twenty.
    assert_eq!(plan.again_after, Some(Duration::from_secs(20)));
}

#[test]
fn pods_that_were_just_asked_to_go_are_not_counted_as_available() {
    let pods: Vec<_> = ["a", "b", "c"].map(|name| ready(pod(name), 0)).into();
    let status = written(&plan(1, &pods));
    assert_eq!((status.replicas, status.available_replicas), (1, Some(1)));
    assert_eq!(status.terminating_replicas, Some(2));
}

#[test]
fn the_pods_that_are_going_are_counted_and_none_is_a_number() {
    let anothers = || {
        let mut pod = deleted(pod("f"));
        pod.owner_references_mut()[0].uid = "other".into();
        pod
    };
    let pods = [
        pod("a"),
        deleted(pod("b")),
        deleted(in_phase(pod("c"), "Pending")),
        deleted(in_phase(pod("d"), "Failed")),
        in_phase(pod("e"), "Succeeded"),
        anothers(),
        deleted(orphan("g")),
    ];
    let status = written(&plan(1, &pods));
    assert_eq!((status.replicas, status.terminating_replicas), (1, Some(2)));
    // What is absent would be not known.
    assert_eq!(written(&plan(1, &pods[..1])).terminating_replicas, Some(0));
}

#[test]
fn a_failed_deletion_is_the_same_condition_for_another_reason() {
    let mut replica_set = replica_set(1);
    let failed = |set: &ReplicaSet, failure: Failure, second| {
        status(set, &[], 0, 0, Some(&failure), at(second))
    };
    let known = |status: &ReplicaSetStatus| {
        assert_eq!(status.conditions.as_ref().unwrap().len(), 1);
        let known = conditions::get(&status.conditions, "ReplicaFailure").unwrap();
        let text = [&known.reason, &known.message, &known.status].map(|text| text.clone().unwrap());
        (text, known.last_transition_time.clone())
    };
    let first = failed(&replica_set, Failure::Create("quota".into()), 3);
    replica_set.status = Some(first);
    let second = failed(&replica_set, Failure::Delete("no".into()), 9);
    let expected = ["FailedDelete", "no", "True"].map(str::to_owned);
    assert_eq!(known(&second), (expected, Some(Time(at(3)))));
}

#[test]
fn pods_that_were_just_asked_for_are_counted() {
    assert_eq!(written(&plan(3, &[pod("a")])).replicas, 3);
    let replica_set = replica_set(3);
    let observed = Observed {
        replica_set: &replica_set,
        pods: &[],
        related: &[],
        settled: false,
        creating: 2,
        now: at(100),
    };
    assert_eq!(written(&reconcile(&observed)).replicas, 2);
}

#[test]
fn a_failure_is_a_condition_until_it_is_over() {
    let mut replica_set = replica_set(2);
    let failure = Failure::Create("quota exceeded".into());
    let failed = status(&replica_set, &[], 0, 0, Some(&failure), at(0));
    let known = conditions::get(&failed.conditions, "ReplicaFailure").unwrap();
    assert_eq!(known.reason.as_deref(), Some("FailedCreate"));
    assert_eq!(known.message.as_deref(), Some("quota exceeded"));
    replica_set.status = Some(failed.clone());
    // The same failure again changes nothing.
    assert_eq!(
        status(&replica_set, &[], 0, 0, Some(&failure), at(9)),
        failed
    );
    assert_eq!(
        status(&replica_set, &[], 0, 0, None, at(9)).conditions,
        None
    );
}

#[test]
fn a_status_that_is_right_is_not_written() {
    let mut replica_set = replica_set(1);
    let pods = [ready(pod("a"), 0)];
    replica_set.status = Some(written(&plan_for(&replica_set, &pods, true)));
    assert_eq!(plan_for(&replica_set, &pods, true).actions, []);
}

#[test]
fn batches_grow_so_that_what_always_fails_fails_once() {
    let sizes = |count| batches(count).collect::<Vec<_>>();
    assert_eq!(sizes(0), [0; 0]);
    assert_eq!(sizes(1), [1]);
    assert_eq!(sizes(10), [1, 2, 4, 3]);
    assert_eq!(sizes(500), [1, 2, 4, 8, 16, 32, 64, 128, 245]);
}

#[test]
fn a_created_pod_is_of_the_template_and_belongs_to_the_replica_set() {
    let mut replica_set = replica_set(1);
    let template = replica_set.spec.template.as_mut().unwrap();
    template.metadata.as_mut().unwrap().annotations = Some([("a".into(), "b".into())].into());
    let pod = pod_from_template(&replica_set);
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
    assert_eq!(pod.metadata.labels, Some(labels()));
    assert_eq!(pod.annotations()["a"], "b");
    assert_eq!(pod.owner_references(), [controller_reference(&replica_set)]);
}
