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
mod newest;
mod progress;
mod rolling;
mod scaling;
mod strategy;

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
