//! When what a service's endpoints are written for happened: so that one can tell how long it took to be known.
//!
//! What has happened is read off the objects: a service's creation, and when its pods became ready or ceased to be. Of
//! several changes the first counts. Of one that leaves no time, as that of a service's ports, nothing is said.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use keelson_component::Key;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::common::pods::condition;

/// The annotation of endpoints and of slices that tells it.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was known of a service when its endpoints were last written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    created: Option<Timestamp>,
    /// When the pods, by name, last became ready or ceased to be.
    pods: HashMap<String, Timestamp>,
}

/// What was known of each service.
#[derive(Debug, Default)]
pub struct Triggers(HashMap<Key, Seen>);

impl Triggers {
    /// When the first change happened that was not known, and what is to be [remembered](Triggers::remember) once the
    /// endpoints are written: a write that fails is tried again for the same reason.
    ///
    /// For a service that was never seen it is its creation: which pods came since, nobody knows.
    pub fn look(&self, service: &Service, pods: &[Arc<Pod>]) -> (Option<Timestamp>, Seen) {
        let created = service.metadata.creation_timestamp.as_ref();
        let created = created.map(|time| time.0);
        let time_of = |pod: &Arc<Pod>| {
            let ready = condition(pod, "Ready")?;
            Some((pod.name_any(), ready.last_transition_time.as_ref()?.0))
        };
        let pods = pods.iter().filter_map(time_of).collect();
        let seen = Seen { created, pods };
        let Some(before) = self.0.get(&Key::of(service)) else {
            return (created, seen);
        };
        let is_new = |(name, time): &(&String, &Timestamp)| before.pods.get(*name) < Some(time);
        let of_pods = seen.pods.iter().filter(is_new).map(|(_, time)| *time);
        let of_service = created.filter(|created| before.created < Some(*created));
        (of_pods.chain(of_service).min(), seen)
    }

    /// The endpoints were written, or needed no writing.
    pub fn remember(&mut self, service: &Service, seen: Seen) {
        self.0.insert(Key::of(service), seen);
    }

    /// A service is gone.
    pub fn forget(&mut self, service: &Key) {
        self.0.remove(service);
    }
}

/// Says in what is written when what it is written for happened. What was said of an earlier change goes.
pub fn stamp(meta: &mut ObjectMeta, triggered: Option<Timestamp>) {
    let annotations = meta.annotations.get_or_insert_default();
    match triggered {
        Some(time) => drop(annotations.insert(TRIGGER_TIME.into(), time.to_string())),
        None => drop(annotations.remove(TRIGGER_TIME)),
    }
    if annotations.is_empty() {
        meta.annotations = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn service(created: i64) -> Service {
        let created = at(created).to_string();
        let meta = json!({"name": "web", "namespace": "default", "creationTimestamp": created});
        serde_json::from_value(json!({"metadata": meta, "spec": {}})).unwrap()
    }

    fn pod(name: &str, ready: i64) -> Arc<Pod> {
        let ready = json!({
            "type": "Ready", "status": "True", "lastTransitionTime": at(ready).to_string(),
        });
        let pod = json!({"metadata": {"name": name}, "status": {"conditions": [ready]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    impl Triggers {
        /// As a sync that writes.
        fn sync(&mut self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
            let (triggered, seen) = self.look(service, pods);
            self.remember(service, seen);
            triggered
        }
    }

    #[test]
    fn a_new_service_counts_from_its_creation_whatever_pods_there_are() {
        let mut triggers = Triggers::default();
        assert_eq!(triggers.sync(&service(2), &[]), Some(at(2)));
        let mut triggers = Triggers::default();
        let pods = [pod("1", 0), pod("2", 1), pod("3", 5)];
        assert_eq!(triggers.sync(&service(3), &pods), Some(at(3)));
    }

    #[test]
    fn of_pods_that_came_or_changed_the_first_counts() {
        let mut triggers = Triggers::default();
        triggers.sync(&service(0), &[]);
        let pods = [pod("1", 2), pod("2", 1), pod("3", 3)];
        assert_eq!(triggers.sync(&service(0), &pods), Some(at(1)));
        let pods = [pod("1", 5), pod("2", 4), pod("3", 3)];
        assert_eq!(triggers.sync(&service(0), &pods), Some(at(4)));
    }

    #[test]
    fn nothing_is_said_of_what_leaves_no_time() {
        let mut triggers = Triggers::default();
        let pods = [pod("1", 1), pod("2", 2)];
        triggers.sync(&service(0), &pods);
        assert_eq!(triggers.sync(&service(0), &pods), None);
        // The service has other ports now.
        let mut changed = service(0);
        let ports = json!([{"port": 80, "targetPort": 8080, "protocol": "TCP"}]);
        changed.spec.as_mut().unwrap().ports = serde_json::from_value(ports).unwrap();
        assert_eq!(triggers.sync(&changed, &pods), None);
        // A pod has gone, and then another one of its name has come.
        assert_eq!(triggers.sync(&service(0), &pods[..1]), None);
        let pods = [pod("1", 1), pod("2", 4)];
        assert_eq!(triggers.sync(&service(0), &pods), Some(at(4)));
    }

    #[test]
    fn a_service_that_is_made_again_counts_from_then() {
        let pods = [pod("1", 1), pod("2", 2)];
        for is_seen_to_go in [true, false] {
            let mut triggers = Triggers::default();
            triggers.sync(&service(0), &pods);
            if is_seen_to_go {
                triggers.forget(&Key::new("default", "web"));
            }
            assert_eq!(triggers.sync(&service(3), &pods), Some(at(3)));
        }
    }

    #[test]
    fn a_write_that_failed_is_tried_again_for_the_same_reason() {
        let mut triggers = Triggers::default();
        triggers.sync(&service(0), &[]);
        let pods = [pod("1", 1)];
        for _ in 0..2 {
            assert_eq!(triggers.look(&service(0), &pods).0, Some(at(1)));
        }
    }
}
