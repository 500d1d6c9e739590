//! What a replica set's status says.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::common::conditions;
use crate::common::pods::{is_available, is_ready};

/// What went wrong while creating or deleting pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A pod could not be created, with the server's words.
    Create(String),
    /// A pod could not be deleted, with the server's words.
    Delete(String),
}

/// The status of a replica set with these pods.
///
/// Pods that were just asked for count, and those that were just asked to go do not: whoever plans with this status must
/// neither take what is gone for available, nor take what is coming for room.
pub fn status(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    creating: usize,
    terminating: usize,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = &replica_set.spec;
    let min_ready_seconds = spec.min_ready_seconds.unwrap_or_default();
    let template = spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref());
    let wanted = template.and_then(|meta| meta.labels.as_ref());
    let fully_labeled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        let has = |(k, v): (&String, &String)| labels.and_then(|labels| labels.get(k)) == Some(v);
        wanted.into_iter().flatten().all(has)
    };
    let count = |test: &dyn Fn(&Pod) -> bool| number(pods.iter().filter(|pod| test(pod)).count());
    let old = replica_set.status.clone().unwrap_or_default();
    let mut conditions = old.conditions;
    match failure {
        None => conditions::remove(&mut conditions, "ReplicaFailure"),
        Some(failure) => {
            let (reason, message) = match failure {
                Failure::Create(message) => ("FailedCreate", message),
                Failure::Delete(message) => ("FailedDelete", message),
            };
            let condition = ReplicaSetCondition {
                type_: Some("ReplicaFailure".into()),
                status: Some("True".into()),
                reason: Some(reason.into()),
                message: Some(message.clone()),
                last_transition_time: Some(Time(now)),
            };
            conditions::set(&mut conditions, condition);
        }
    }
    ReplicaSetStatus {
        replicas: number(pods.len() + creating),
        // The server leaves zeros out, so that what is read back must not look different from what was written.
        fully_labeled_replicas: nonzero(count(&fully_labeled)),
        ready_replicas: nonzero(count(&is_ready)),
        available_replicas: nonzero(count(&|pod| is_available(pod, min_ready_seconds, now))),
        // This one is a pointer: absent means that nobody has counted.
        terminating_replicas: Some(number(terminating)),
        observed_generation: replica_set.metadata.generation,
        conditions,
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
