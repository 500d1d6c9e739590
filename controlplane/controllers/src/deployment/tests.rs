//! One rule of a deployment a test, as tables of cases.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, DeploymentStrategy,
    ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::rollout::{DESIRED_REPLICAS, MAX_REPLICAS, REVISION, REVISION_HISTORY, Rollout, size};
use super::*;
use crate::common::conditions;
use crate::common::owner::controller_reference;

mod history;
mod progress;
mod shares;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn template(image: &str) -> PodTemplateSpec {
    let container = Container {
        name: "main".into(),
        image: Some(image.into()),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some([("app".into(), "foo".into())].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
    }
}

/// A deployment `foo` of image `new` that rolls within these bounds.
fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some("foo".into()),
            namespace: Some("default".into()),
            uid: Some("foo-uid".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector {
                match_labels: Some([("app".into(), "foo".into())].into()),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            template: template("new"),
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

/// A replica set of `foo` of this image, created in that second, with as many of its pods available.
fn replica_set(image: &str, created: i64, replicas: i32, available: i32) -> ReplicaSet {
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("foo-{image}")),
            namespace: Some("default".into()),
            uid: Some(format!("foo-{image}-uid")),
            labels: Some([("app".into(), "foo".into())].into()),
            creation_timestamp: Some(Time(at(created))),
            owner_references: Some(vec![controller_reference(&deployment(0, 0, 0))]),
            generation: Some(1),
            resource_version: Some("1".into()),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            template: Some(template(image)),
            ..ReplicaSetSpec::default()
        },
        status: Some(ReplicaSetStatus {
            replicas,
            available_replicas: (available != 0).then_some(available),
            ready_replicas: (available != 0).then_some(available),
            observed_generation: Some(1),
            ..ReplicaSetStatus::default()
        }),
    }
}

fn sized_for(mut replica_set: ReplicaSet, desired: i32, max: i32) -> ReplicaSet {
    let annotations = replica_set.annotations_mut();
    annotations.insert(DESIRED_REPLICAS.into(), desired.to_string());
    annotations.insert(MAX_REPLICAS.into(), max.to_string());
    replica_set
}

fn with_revision(mut replica_set: ReplicaSet, revision: i64) -> ReplicaSet {
    let revision = revision.to_string();
    replica_set
        .annotations_mut()
        .insert(REVISION.into(), revision);
    replica_set
}

fn look<'a>(deployment: &'a Deployment, replica_sets: &[ReplicaSet]) -> Rollout<'a> {
    let owned: Vec<_> = replica_sets.iter().cloned().map(Arc::new).collect();
    Rollout::new(deployment, &deployment.spec, &owned, at(100))
}

fn sizes(rollout: &Rollout<'_>) -> (Option<i32>, Vec<i32>) {
    let new = rollout.new.as_ref().map(|slot| slot.size());
    (new, rollout.old.iter().map(|slot| slot.size()).collect())
}

fn plan_at(deployment: &Deployment, replica_sets: &[ReplicaSet], now: Timestamp) -> Plan {
    let replica_sets: Vec<_> = replica_sets.iter().cloned().map(Arc::new).collect();
    reconcile(&Observed {
        deployment,
        replica_sets: &replica_sets,
        with_pods: &[],
        now,
    })
}

fn plan(deployment: &Deployment, replica_sets: &[ReplicaSet]) -> Plan {
    plan_at(deployment, replica_sets, at(100))
}

fn status(plan: &Plan) -> Option<&DeploymentStatus> {
    plan.actions.iter().find_map(|action| match action {
        Action::SetStatus(status) => Some(status),
        _ => None,
    })
}

fn new_sizes(plan: &Plan) -> Vec<(String, i32)> {
    let sizes = plan.actions.iter().filter_map(|action| match action {
        Action::Create(new) | Action::Update { new, .. } => Some((new.name_any(), size(new))),
        _ => None,
    });
    sizes.collect()
}

#[test]
fn the_new_replica_set_grows_as_far_as_the_surge_allows() {
    let cases = [
        // replicas, surge, old, new: new afterwards
        ("no room", 10, 0, 10, 0, 0),
        ("room for the surge", 10, 2, 10, 0, 2),
        ("room for what the old one left, too", 10, 2, 5, 0, 7),
        ("the room is taken already", 10, 2, 10, 2, 2),
        ("never more than was asked for", 10, 2, 2, 11, 10),
    ];
    for (name, replicas, surge, old, new, expected) in cases {
        let deployment = deployment(replicas, surge, 0);
        let sets = [replica_set("old", 0, old, 0), replica_set("new", 1, new, 0)];
        let mut rollout = look(&deployment, &sets);
        rollout.roll();
        assert_eq!(sizes(&rollout).0, Some(expected), "{name}");
    }
}

#[test]
fn the_old_replica_sets_shrink_as_far_as_availability_allows() {
    let cases = [
        // replicas, unavailable, old, new, old available, new available: old afterwards
        (
            "none may be missing, but then nothing could move",
            10,
            0,
            10,
            0,
            10,
            0,
            9,
        ),
        ("two may be missing", 10, 2, 10, 0, 10, 0, 8),
        ("two do not work, and go", 10, 2, 10, 0, 8, 0, 8),
        (
            "one does not work and goes, and one that works",
            10,
            2,
            10,
            0,
            9,
            0,
            8,
        ),
        (
            "the new one's unavailable pods are not counted on twice",
            10,
            2,
            8,
            2,
            8,
            0,
            8,
        ),
    ];
    for (name, replicas, unavailable, old, new, old_ok, new_ok, expected) in cases {
        let deployment = deployment(replicas, 0, unavailable);
        let sets = [
            replica_set("old", 0, old, old_ok),
            replica_set("new", 1, new, new_ok),
        ];
        let mut rollout = look(&deployment, &sets);
        rollout.roll();
        assert_eq!(sizes(&rollout).1, [expected], "{name}");
    }
}

#[test]
fn what_does_not_work_goes_first_as_far_as_there_is_room() {
    let cases = [
        // old, available, room: taken
        (10, 8, 1, 1),
        (10, 8, 3, 2),
        (10, 8, 0, 0),
        (10, 10, 3, 0),
    ];
    for (old, available, room, expected) in cases {
        let deployment = deployment(10, 2, 2);
        let mut rollout = look(&deployment, &[replica_set("old", 0, old, available)]);
        assert_eq!(
            rollout.shrink_unhealthy(room),
            expected,
            "{old} {available} {room}"
        );
    }
}

#[test]
fn what_works_goes_only_while_there_is_more_than_needed() {
    let cases = [
        // unavailable, available, old: old afterwards
        (1, 10, 10, 9),
        (2, 10, 10, 8),
        (2, 8, 10, 10),
        (2, 10, 0, 0),
        (2, 1, 10, 10),
    ];
    for (unavailable, available, old, expected) in cases {
        let deployment = deployment(10, 0, unavailable);
        let mut rollout = look(&deployment, &[replica_set("old", 0, old, available)]);
        rollout.shrink_healthy(10 - unavailable);
        assert_eq!(
            sizes(&rollout).1,
            [expected],
            "{unavailable} {available} {old}"
        );
    }
}

#[test]
fn a_status_from_before_a_replica_set_shrank_counts_for_no_more_than_its_size() {
    // Two sized 8 and 5 whose statuses still say 10 and 5: one step may not go below 8 in all.
    let deployment = deployment(10, 3, 2);
    let mut old = replica_set("old", 0, 8, 10);
    old.status.as_mut().unwrap().replicas = 10;
    let mut rollout = look(&deployment, &[old, replica_set("new", 1, 5, 5)]);
    rollout.roll();
    let (new, old) = sizes(&rollout);
    assert!(new.unwrap() + old[0] >= 8);
}

struct Scaling {
    name: &'static str,
    /// The sizes for which the deployment is, and was, with its surge then and now.
    from: (i32, i32),
    to: (i32, i32),
    /// The new replica set's size before and after, if there is one.
    new: Option<(i32, i32)>,
    /// The old ones', the newest first.
    old: &'static [(i32, i32)],
}

#[test]
fn scaling_keeps_the_shares_and_gives_the_rest_to_the_largest() {
    let plain = |from, to| ((from, 0), (to, 0));
    let case = |name, ((from, to), new, old)| Scaling {
        name,
        from,
        to,
        new,
        old,
    };
    let cases: Vec<Scaling> = vec![
        case("one grows", (plain(10, 12), Some((10, 12)), &[])),
        case("one shrinks", (plain(10, 5), Some((10, 5)), &[])),
        case("5 to 10", (plain(5, 10), Some((2, 4)), &[(3, 6)])),
        case("5 to 3", (plain(5, 3), Some((2, 1)), &[(3, 2)])),
        case("9 to 4", (plain(9, 4), Some((8, 4)), &[(1, 0)])),
        case("7 to 10", (plain(7, 10), Some((2, 3)), &[(3, 4), (2, 3)])),
        case("13 to 8", (plain(13, 8), Some((2, 1)), &[(8, 5), (3, 2)])),
        case(
            "the rest goes to the newest: 3 to 4",
            (plain(3, 4), Some((1, 2)), &[(1, 1), (1, 1)]),
        ),
        case(
            "the rest comes from the oldest: 3 to 2",
            (plain(3, 2), Some((1, 1)), &[(1, 1), (1, 0)]),
        ),
        case(
            "without a new one: 4 to 5",
            (plain(4, 5), None, &[(2, 3), (2, 2)]),
        ),
        case("to zero", (plain(6, 0), Some((3, 0)), &[(2, 0), (1, 0)])),
        case("from zero", (plain(6, 6), Some((0, 6)), &[(0, 0), (0, 0)])),
        case(
            "with a surge",
            (((10, 2), (20, 2)), Some((6, 11)), &[(6, 11)]),
        ),
        case(
            "the surge changed too",
            (((10, 3), (50, 6)), Some((5, 22)), &[(8, 34)]),
        ),
        case(
            "the template changed too",
            (plain(10, 14), None, &[(7, 10), (3, 4)]),
        ),
    ];
    for case in cases {
        let deployment = deployment(case.to.0, case.to.1, 0);
        let was = |set| sized_for(set, case.from.0, case.from.0 + case.from.1);
        let mut sets = vec![];
        for (n, (before, _)) in (0_i64..).zip(case.old) {
            let image = format!("v{}", 9 - n);
            sets.push(was(replica_set(&image, 9 - n, *before, *before)));
        }
        sets.extend(
            case.new
                .map(|(before, _)| was(replica_set("new", 50, before, before))),
        );
        let mut rollout = look(&deployment, &sets);
        rollout.scale();
        let old: Vec<i32> = case.old.iter().rev().map(|(_, after)| *after).collect();
        let expected = (case.new.map(|(_, after)| after), old);
        assert_eq!(sizes(&rollout), expected, "{}", case.name);
        // Whoever has pods is sized for the deployment as it is now: the event is over.
        assert!(!rollout.is_scaling_event(), "{}", case.name);
    }
}

#[test]
fn one_whose_write_failed_catches_up_while_the_others_stay() {
    let deployment = deployment(5, 0, 0);
    let sets = [
        sized_for(replica_set("v1", 1, 1, 1), 5, 5),
        sized_for(replica_set("v2", 2, 1, 1), 3, 3),
        sized_for(replica_set("new", 3, 2, 2), 5, 5),
    ];
    let mut rollout = look(&deployment, &sets);
    assert!(rollout.is_scaling_event());
    rollout.scale();
    assert_eq!(sizes(&rollout), (Some(2), vec![1, 2]));
}

#[test]
fn a_new_one_that_is_full_but_broken_takes_nothing_from_the_old_ones() {
    let deployment = deployment(2, 1, 1);
    let sets = [
        sized_for(replica_set("old", 1, 1, 1), 2, 3),
        sized_for(replica_set("new", 3, 2, 0), 2, 3),
    ];
    let mut rollout = look(&deployment, &sets);
    rollout.scale();
    assert_eq!(sizes(&rollout), (Some(2), vec![1]));
}

#[test]
fn a_new_one_that_is_full_and_works_leaves_nothing_to_the_old_ones() {
    let deployment = deployment(2, 1, 1);
    let sets = [
        sized_for(replica_set("old", 1, 1, 1), 2, 3),
        sized_for(replica_set("new", 3, 2, 2), 2, 3),
    ];
    let mut rollout = look(&deployment, &sets);
    rollout.scale();
    assert_eq!(sizes(&rollout), (Some(2), vec![0]));
}

#[test]
fn a_change_of_size_is_noticed_by_the_replica_sets_that_have_pods() {
    let cases = [
        (
            "sized for it",
            sized_for(replica_set("new", 0, 1, 1), 1, 1),
            false,
        ),
        (
            "sized for another",
            sized_for(replica_set("new", 0, 1, 1), 10, 10),
            true,
        ),
        ("never sized", replica_set("new", 0, 1, 1), false),
        (
            "without pods",
            sized_for(replica_set("new", 0, 0, 0), 10, 10),
            false,
        ),
    ];
    // What is no size was not noted.
    let noted = ["x", "", "-1", "2147483648", "0"].map(|text| {
        let mut set = replica_set("new", 0, 1, 1);
        let annotations = set.annotations_mut();
        annotations.insert(DESIRED_REPLICAS.into(), text.into());
        (text, set, text == "0")
    });
    for (name, set, expected) in cases.into_iter().chain(noted) {
        let deployment = deployment(1, 0, 0);
        assert_eq!(
            look(&deployment, &[set]).is_scaling_event(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn old_revisions_over_the_limit_go_if_nothing_is_left_of_them() {
    let empty = |name: &str, revision| with_revision(replica_set(name, revision, 0, 0), revision);
    let busy = |name: &str, spec, status| {
        let mut set = empty(name, 1);
        set.spec.replicas = Some(spec);
        set.status.as_mut().unwrap().replicas = status;
        set
    };
    let mut deleted = empty("v1", 1);
    deleted.metadata.deletion_timestamp = Some(Time(at(0)));
    let mut unobserved = empty("v1", 1);
    unobserved.metadata.generation = Some(2);
    let cases = [
        (
            "the oldest go",
            vec![empty("v3", 3), empty("v1", 1), empty("v2", 2)],
            1,
            vec!["foo-v1", "foo-v2"],
        ),
        (
            "what wants or has pods stays",
            vec![
                empty("v1", 1),
                busy("v2", 0, 1),
                busy("v3", 1, 0),
                busy("v4", 1, 1),
            ],
            0,
            vec!["foo-v1"],
        ),
        (
            "all of them",
            vec![empty("v1", 1), empty("v2", 2)],
            0,
            vec!["foo-v1", "foo-v2"],
        ),
        (
            "none of them",
            vec![busy("v1", 1, 1), busy("v2", 1, 1)],
            0,
            vec![],
        ),
        (
            "what is being deleted is left alone",
            vec![deleted],
            0,
            vec![],
        ),
        (
            "a status of another generation proves nothing",
            vec![unobserved],
            0,
            vec![],
        ),
        (
            "no limit",
            vec![empty("v1", 1), empty("v2", 2)],
            i32::MAX,
            vec![],
        ),
    ];
    for (name, sets, limit, expected) in cases {
        let mut deployment = deployment(1, 0, 1);
        deployment.spec.revision_history_limit = Some(limit);
        let mut plan = Plan::default();
        look(&deployment, &sets).clean_up(&mut plan);
        let deleted = plan.actions.iter().map(|action| match action {
            Action::Delete(set) => set.name_any(),
            other => panic!("{other:?}"),
        });
        assert_eq!(deleted.collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn a_first_roll_out_creates_a_replica_set_named_after_its_template() {
    let mut deployment = deployment(3, 1, 1);
    deployment.spec.progress_deadline_seconds = Some(600);
    let annotations = deployment.annotations_mut();
    annotations.insert("kubernetes.io/change-cause".into(), "first".into());
    annotations.insert(
        "kubectl.kubernetes.io/last-applied-configuration".into(),
        "{}".into(),
    );
    let plan = plan(&deployment, &[]);
    let Action::Create(created) = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    let hash = crate::common::template::hash(&deployment.spec.template, None);
    assert_eq!(created.name_any(), format!("foo-{hash}"));
    assert_eq!(size(created), 3);
    assert_eq!(created.labels()["pod-template-hash"], hash);
    let selector = created.spec.selector.match_labels.as_ref().unwrap();
    assert_eq!(
        (&*selector["app"], &*selector["pod-template-hash"]),
        ("foo", &*hash)
    );
    let annotations = created.annotations();
    assert_eq!(annotations[REVISION], "1");
    assert_eq!(
        (&*annotations[DESIRED_REPLICAS], &*annotations[MAX_REPLICAS]),
        ("3", "4")
    );
    assert_eq!(annotations["kubernetes.io/change-cause"], "first");
    assert!(!annotations.contains_key("kubectl.kubernetes.io/last-applied-configuration"));
    assert_eq!(plan.actions[1], Action::SetRevision("1".into()));
    let progress = conditions::get(&status(&plan).unwrap().conditions, "Progressing").unwrap();
    assert_eq!(progress.reason.as_deref(), Some("NewReplicaSetCreated"));
    assert_eq!(
        progress.message.as_deref(),
        Some(&*format!("Created new replica set \"foo-{hash}\""))
    );
    // The same again, from the same state, is the same: after a crash it is found, not created twice.
    assert_eq!(super::tests::plan(&deployment, &[]).actions, plan.actions);
}

#[test]
fn another_name_is_tried_once_the_first_was_found_to_be_taken() {
    let mut deployment = deployment(3, 1, 1);
    let first = new_sizes(&plan(&deployment, &[]));
    deployment.status = Some(now_collided(&deployment));
    assert_eq!(deployment.status.as_ref().unwrap().collision_count, Some(1));
    let second = new_sizes(&plan(&deployment, &[]));
    assert_ne!(first[0].0, second[0].0);
}

#[test]
fn the_new_replica_set_is_the_oldest_whose_template_is_equal_but_for_the_hash() {
    let mut labelled = replica_set("new", 5, 1, 1);
    let labels = labelled
        .spec
        .template
        .as_mut()
        .unwrap()
        .metadata
        .as_mut()
        .unwrap();
    labels
        .labels_mut()
        .insert("pod-template-hash".into(), "x".into());
    let mut twin = replica_set("new", 6, 1, 1);
    twin.metadata.name = Some("foo-twin".into());
    let deployment = deployment(2, 1, 1);
    let rollout = look(&deployment, &[twin, replica_set("old", 7, 1, 1), labelled]);
    assert_eq!(rollout.new.unwrap().get().name_any(), "foo-new");
    let old: Vec<_> = rollout
        .old
        .iter()
        .map(|slot| slot.get().name_any())
        .collect();
    assert_eq!(old, ["foo-twin", "foo-old"]);
}

trait LabelsMut {
    fn labels_mut(&mut self) -> &mut std::collections::BTreeMap<String, String>;
}

impl LabelsMut for ObjectMeta {
    fn labels_mut(&mut self) -> &mut std::collections::BTreeMap<String, String> {
        self.labels.get_or_insert_default()
    }
}

#[test]
fn a_replica_set_that_returns_has_the_newest_revision_and_remembers_the_others() {
    let deployment = deployment(2, 1, 1);
    let returning = with_revision(replica_set("new", 0, 0, 0), 1);
    let sets = [returning, with_revision(replica_set("old", 1, 2, 2), 2)];
    let plan = plan(&deployment, &sets);
    let Action::Update { new, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    assert_eq!(new.annotations()[REVISION], "3");
    assert_eq!(new.annotations()[REVISION_HISTORY], "1");
    assert!(plan.actions.contains(&Action::SetRevision("3".into())));
    // And once more.
    let mut returning = (**new).clone();
    returning.spec.replicas = Some(0);
    let sets = [returning, with_revision(replica_set("old", 1, 2, 2), 4)];
    let plan = super::tests::plan(&deployment, &sets);
    let Action::Update { new, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    assert_eq!(new.annotations()[REVISION_HISTORY], "1,3");
}

#[test]
fn the_history_of_revisions_is_kept_short() {
    let deployment = deployment(2, 1, 1);
    let mut returning = with_revision(replica_set("new", 0, 2, 2), 1);
    let long = (100_000..101_000)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(",");
    returning
        .annotations_mut()
        .insert(REVISION_HISTORY.into(), long);
    let sets = [returning, with_revision(replica_set("old", 1, 2, 2), 2)];
    let plan = plan(&deployment, &sets);
    let Action::Update { new, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    let history = &new.annotations()[REVISION_HISTORY];
    assert!(
        history.len() <= 2000 && history.ends_with("100999,1"),
        "{history}"
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut deployment = deployment(10, 0, 1);
    deployment.spec.paused = Some(true);
    let old = sized_for(replica_set("old", 0, 5, 5), 5, 5);
    assert_eq!(
        new_sizes(&plan(&deployment, &[old])),
        [("foo-old".into(), 10)]
    );
    let old = sized_for(replica_set("old", 0, 10, 10), 10, 10);
    assert_eq!(new_sizes(&plan(&deployment, &[old])), []);
    deployment.spec.paused = None;
    let old = sized_for(replica_set("old", 0, 10, 10), 10, 10);
    assert_eq!(new_sizes(&plan(&deployment, &[old])).len(), 1);
}

#[test]
fn a_pause_and_its_end_are_conditions_and_stop_the_clock() {
    let mut deployment = deployment(10, 0, 1);
    deployment.spec.progress_deadline_seconds = Some(60);
    deployment.spec.paused = Some(true);
    let sets = [sized_for(replica_set("new", 0, 10, 5), 10, 10)];
    let paused = plan(&deployment, &sets);
    let status = |plan: &Plan| super::tests::status(plan).cloned().unwrap();
    let progress = |status: &DeploymentStatus| {
        let known = conditions::get(&status.conditions, "Progressing").unwrap();
        known.reason.clone().unwrap()
    };
    assert_eq!(progress(&status(&paused)), "DeploymentPaused");
    // However long it is paused, it is not late.
    deployment.status = Some(status(&paused));
    let later = plan_at(&deployment, &sets, at(10_000));
    assert_eq!(super::tests::status(&later), None);
    deployment.spec.paused = None;
    let resumed = plan_at(&deployment, &sets, at(10_000));
    assert_eq!(progress(&status(&resumed)), "DeploymentResumed");
    deployment.status = Some(status(&resumed));
    let late = plan_at(&deployment, &sets, at(10_061));
    assert_eq!(progress(&status(&late)), "ProgressDeadlineExceeded");
}

fn recreating() -> Deployment {
    let mut deployment = deployment(3, 0, 0);
    let strategy = deployment.spec.strategy.get_or_insert_default();
    strategy.type_ = Some("Recreate".into());
    strategy.rolling_update = None;
    deployment
}

#[test]
fn recreating_stops_the_old_ones_and_starts_the_new_one_when_their_last_pod_has_gone() {
    let deployment = recreating();
    let old = |size, counted| {
        let mut set = sized_for(replica_set("old", 0, size, 0), 3, 3);
        set.status.as_mut().unwrap().replicas = counted;
        set
    };
    let act = |set, with_pods: &[String]| {
        let sets = [Arc::new(set)];
        let plan = reconcile(&Observed {
            deployment: &deployment,
            replica_sets: &sets,
            with_pods,
            now: at(100),
        });
        new_sizes(&plan)
            .into_iter()
            .map(|(_, size)| size)
            .collect::<Vec<_>>()
    };
    let left = ["foo-old-uid".to_owned()];
    assert_eq!(act(old(3, 3), &left), [0], "it is stopped");
    let mut unaware = old(0, 0);
    unaware.metadata.generation = Some(3);
    unaware.status.as_mut().unwrap().observed_generation = Some(2);
    assert_eq!(act(unaware, &[]), [0; 0], "it may be creating pods");
    assert_eq!(act(old(0, 3), &left), [0; 0], "its pods are going");
    assert_eq!(
        act(old(0, 0), &left),
        [0; 0],
        "the last is going, though no status counts it"
    );
    assert_eq!(act(old(0, 3), &[]), [0; 0], "the status is not up to date");
    assert_eq!(act(old(0, 0), &[]), [3], "the new one starts");
}

fn condition(status: &str, reason: &str, updated: i64) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some("Progressing".into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: None,
        last_update_time: Some(Time(at(updated))),
        last_transition_time: Some(Time(at(updated))),
    }
}

/// A deployment of three, with a deadline of a minute, that has been seen with these counts.
fn counted(
    replicas: i32,
    updated: i32,
    available: i32,
    known: Option<DeploymentCondition>,
) -> Deployment {
    let mut deployment = deployment(3, 0, 1);
    deployment.spec.progress_deadline_seconds = Some(60);
    deployment.status = Some(DeploymentStatus {
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        available_replicas: Some(available),
        ready_replicas: Some(available),
        conditions: known.map(|known| vec![known]),
        ..DeploymentStatus::default()
    });
    deployment
}

#[test]
fn progress_is_told_with_the_time_at_which_it_was_made_and_changed() {
    let updated = || Some(condition("True", "ReplicaSetUpdated", 0));
    let failed = || Some(condition("False", "ProgressDeadlineExceeded", 0));
    let done = || Some(condition("True", "NewReplicaSetAvailable", 0));
    let new = |replicas, available| {
        let mut set = replica_set("new", 1, 3, available);
        set.status.as_mut().unwrap().replicas = replicas;
        set
    };
    // name, as counted before, replica sets: status, reason, update and transition
    let cases = [
        (
            "one that was complete stays so",
            counted(3, 3, 3, done()),
            vec![new(3, 2)],
            ("True", "NewReplicaSetAvailable", 0, 0),
        ),
        (
            "progress keeps the transition, and moves the update",
            counted(2, 2, 1, updated()),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 50, 0),
        ),
        (
            "progress after a failure moves both",
            counted(2, 2, 1, failed()),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 50, 50),
        ),
        (
            "progress where none was known",
            counted(2, 2, 1, None),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 50, 50),
        ),
        (
            "completion keeps the transition",
            counted(3, 3, 2, updated()),
            vec![new(3, 3)],
            ("True", "NewReplicaSetAvailable", 50, 0),
        ),
        (
            "completion after a failure moves both",
            counted(3, 3, 2, failed()),
            vec![new(3, 3)],
            ("True", "NewReplicaSetAvailable", 50, 50),
        ),
        (
            "no progress, but time is left",
            counted(3, 3, 2, updated()),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 0, 0),
        ),
        (
            "a failure that is known is not told again",
            counted(3, 3, 2, failed()),
            vec![new(3, 2)],
            ("False", "ProgressDeadlineExceeded", 0, 0),
        ),
    ];
    let late = [
        (
            "no progress, and no time is left",
            counted(3, 3, 2, updated()),
            vec![new(3, 2)],
            ("False", "ProgressDeadlineExceeded", 61, 61),
        ),
        (
            "progress at the last moment",
            counted(3, 3, 1, updated()),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 61, 0),
        ),
    ];
    let cases = cases.map(|case| (50, case)).into_iter();
    for (now, (name, mut deployment, sets, expected)) in cases.chain(late.map(|case| (61, case))) {
        let plan = plan_at(&deployment, &sets, at(now));
        let written = status(&plan).cloned().or(deployment.status.take()).unwrap();
        let known = conditions::get(&written.conditions, "Progressing").unwrap();
        let second = |time: &Option<Time>| time.as_ref().unwrap().0.as_second() - 1_700_000_000;
        let found = (
            known.status.as_deref().unwrap(),
            known.reason.as_deref().unwrap(),
            second(&known.last_update_time),
            second(&known.last_transition_time),
        );
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_deployment_is_complete_when_all_that_it_has_is_new_and_available() {
    let set = |image: &str, pods: i32, available: i32| {
        let mut set = replica_set(image, 0, pods, available);
        set.status.as_mut().unwrap().replicas = pods;
        set
    };
    let cases = [
        ("nothing yet", 5, vec![], false),
        ("not all are there", 5, vec![set("new", 4, 4)], false),
        ("not all are available", 5, vec![set("new", 5, 4)], false),
        ("all are old", 5, vec![set("old", 5, 5)], false),
        (
            "an old one still runs",
            5,
            vec![set("old", 1, 1), set("new", 5, 5)],
            false,
        ),
        (
            "the only one never becomes available",
            1,
            vec![set("new", 1, 0)],
            false,
        ),
        (
            "all are new and available",
            5,
            vec![set("old", 0, 0), set("new", 5, 5)],
            true,
        ),
        ("it asks for none", 0, vec![set("new", 0, 0)], true),
    ];
    for (name, replicas, sets, expected) in cases {
        let deployment = deployment(replicas, 1, 1);
        assert_eq!(look(&deployment, &sets).is_complete(), expected, "{name}");
    }
}

#[test]
fn a_surge_beyond_all_numbers_is_no_trouble() {
    let deployment = deployment(10, i32::MAX, 0);
    let old = sized_for(replica_set("old", 0, 5, 5), 5, 5);
    let new = sized_for(replica_set("new", 1, 2, 2), 5, 5);
    let mut scaled = look(&deployment, &[old.clone(), new.clone()]);
    scaled.scale();
    let (grown, shares) = sizes(&scaled);
    let total = i64::from(grown.unwrap()) + shares.into_iter().map(i64::from).sum::<i64>();
    assert_eq!(total, i64::from(i32::MAX));
    assert_eq!(look(&deployment, &[old, new]).new_size(2), 10);
}

#[test]
fn without_a_deadline_no_progress_is_told() {
    for deadline in [None, Some(i32::MAX)] {
        let mut deployment = counted(3, 3, 2, Some(condition("True", "ReplicaSetUpdated", 0)));
        deployment.spec.progress_deadline_seconds = deadline;
        let plan = plan(&deployment, &[replica_set("new", 1, 3, 2)]);
        let written = status(&plan).unwrap();
        assert_eq!(conditions::get(&written.conditions, "Progressing"), None);
        assert_eq!(plan.again_after, None);
    }
}

#[test]
fn a_roll_out_that_is_stuck_is_looked_at_again_when_its_deadline_has_passed() {
    let stuck = || Some(condition("True", "ReplicaSetUpdated", 0));
    let set = |available| vec![replica_set("new", 1, 3, available)];
    let cases = [
        ("complete", counted(3, 3, 3, stuck()), set(3), 30, None),
        (
            "failed already",
            counted(
                3,
                3,
                1,
                Some(condition("False", "ProgressDeadlineExceeded", 0)),
            ),
            set(1),
            30,
            None,
        ),
        (
            "30 s are left",
            counted(3, 3, 1, stuck()),
            set(1),
            30,
            Some(31),
        ),
        (
            "1 s is left",
            counted(3, 3, 1, stuck()),
            set(1),
            59,
            Some(2),
        ),
        ("it is due", counted(3, 3, 1, stuck()), set(1), 60, Some(1)),
        ("it is overdue", counted(3, 3, 1, stuck()), set(1), 61, None),
    ];
    for (name, deployment, sets, second, expected) in cases {
        let plan = plan_at(&deployment, &sets, at(second));
        assert_eq!(
            plan.again_after,
            expected.map(Duration::from_secs),
            "{name}"
        );
    }
}

#[test]
fn availability_is_a_condition() {
    for (available, unavailable, expected) in [(10, 2, "True"), (8, 2, "True"), (7, 2, "False")] {
        let deployment = deployment(10, 0, unavailable);
        let sets = [sized_for(replica_set("new", 0, 10, available), 10, 10)];
        let plan = plan(&deployment, &sets);
        let known = conditions::get(&status(&plan).unwrap().conditions, "Available").unwrap();
        assert_eq!(known.status.as_deref(), Some(expected), "{available}");
    }
}

#[test]
fn a_replica_set_that_cannot_create_pods_makes_the_deployment_say_so() {
    let failing = |image: &str, message: &str| {
        let mut set = sized_for(replica_set(image, 0, 10, 0), 10, 10);
        set.status.as_mut().unwrap().conditions = Some(vec![ReplicaSetCondition {
            type_: Some("ReplicaFailure".into()),
            status: Some("True".into()),
            reason: Some("FailedCreate".into()),
            message: Some(message.into()),
            last_transition_time: Some(Time(at(0))),
        }]);
        set
    };
    let deployment = deployment(10, 0, 1);
    let plan = plan(
        &deployment,
        &[failing("old", "of the old"), failing("new", "of the new")],
    );
    let known = conditions::get(&status(&plan).unwrap().conditions, "ReplicaFailure").unwrap();
    assert_eq!(known.message.as_deref(), Some("of the new"));
    let mut healed = deployment.clone();
    healed.status = status(&plan).cloned();
    let plan = super::tests::plan(&healed, &[sized_for(replica_set("new", 0, 10, 10), 10, 10)]);
    assert_eq!(
        conditions::get(&status(&plan).unwrap().conditions, "ReplicaFailure"),
        None
    );
}

#[test]
fn a_selector_that_selects_everything_is_told_and_nothing_is_done() {
    let mut deployment = deployment(10, 0, 1);
    deployment.spec.selector = LabelSelector::default();
    let plan = plan(&deployment, &[]);
    assert_eq!(plan.actions[0], Action::WarnSelectsAll);
    assert_eq!(status(&plan).unwrap().observed_generation, Some(1));
    assert_eq!(plan.actions.len(), 2);
}

#[test]
fn a_deployment_that_is_being_deleted_only_counts() {
    let mut deployment = deployment(10, 0, 1);
    deployment.metadata.deletion_timestamp = Some(Time(at(0)));
    let plan = plan(&deployment, &[sized_for(replica_set("old", 0, 5, 5), 5, 5)]);
    assert!(matches!(&plan.actions[..], [Action::SetStatus(_)]));
}

#[test]
fn orphans_that_match_are_adopted_before_anything_else_and_those_that_do_not_are_released() {
    let deployment = deployment(10, 0, 1);
    let mut orphan = replica_set("new", 0, 1, 1);
    orphan.metadata.owner_references = None;
    let mut stranger = replica_set("old", 0, 1, 1);
    stranger.metadata.labels = Some([("app".into(), "bar".into())].into());
    let plan = plan(&deployment, &[stranger.clone(), orphan.clone()]);
    let expected = [
        Action::Release(Arc::new(stranger)),
        Action::Adopt(Arc::new(orphan)),
    ];
    assert_eq!(plan.actions, expected);
}

#[test]
fn a_settled_deployment_asks_for_nothing() {
    let mut deployment = deployment(3, 1, 1);
    deployment.spec.progress_deadline_seconds = Some(600);
    deployment
        .annotations_mut()
        .insert(REVISION.into(), "1".into());
    let set = with_revision(sized_for(replica_set("new", 0, 3, 3), 3, 4), 1);
    deployment.status = status(&plan(&deployment, std::slice::from_ref(&set))).cloned();
    let again = plan_at(&deployment, &[set], at(5000));
    assert_eq!(again, Plan::default());
}
