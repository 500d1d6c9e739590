//! What an agent keeps of a pod: of many nodes in one process, most of the memory is pods.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::ObjectMeta;

/// Drops from a pod of our own what neither we nor the runtime read, but for annotations that it does.
pub fn own(pod: &mut Pod, keep: fn(&str) -> bool) {
    pod.metadata.labels = None;
    pod.metadata.owner_references = None;
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|name, _| keep(name));
    }
    if let Some(spec) = pod.spec.take() {
        pod.spec = Some(PodSpec {
            node_name: spec.node_name,
            restart_policy: spec.restart_policy,
            containers: spec.containers.into_iter().map(container).collect(),
            init_containers: spec
                .init_containers
                .map(|all| all.into_iter().map(container).collect()),
            ..PodSpec::default()
        });
    }
}

fn container(of: Container) -> Container {
    Container {
        name: of.name,
        image: of.image,
        restart_policy: of.restart_policy,
        ..Container::default()
    }
}

/// Drops from a pod of somebody else's node everything but which one it is.
pub fn foreign(pod: &mut Pod) {
    let ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        ..
    } = std::mem::take(&mut pod.metadata);
    *pod = Pod {
        metadata: ObjectMeta {
            name,
            namespace,
            uid,
            resource_version,
            ..ObjectMeta::default()
        },
        ..Pod::default()
    };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::pod::{Do, next};
    use crate::runtime::Runtime;
    use crate::runtime::hollow::Hollow;

    fn pod() -> Pod {
        let container = |name: &str| {
            json!({"name": name, "image": format!("{name}:1"), "command": ["run"],
                   "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
        };
        let pod = json!({
            "metadata": {
                "name": "p", "namespace": "default", "uid": "u", "generation": 3, "labels": {"app": "web"},
                "annotations": {"hollow.keelson.dev/ready-after": "3s", "other": "long"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r"}],
            },
            "spec": {
                "nodeName": "n", "restartPolicy": "Never", "initContainers": [container("first")],
                "containers": [container("main")], "volumes": [{"name": "v", "emptyDir": {}}],
                "tolerations": [{"operator": "Exists"}],
            },
        });
        serde_json::from_value(pod).unwrap()
    }

    #[tokio::test]
    async fn what_is_kept_of_a_pod_leads_to_the_same_life() {
        let whole = pod();
        let mut kept = pod();
        own(&mut kept, Hollow::reads);
        assert!(
            serde_json::to_string(&kept).unwrap().len()
                < serde_json::to_string(&whole).unwrap().len() / 2
        );
        let now = Timestamp::UNIX_EPOCH;
        let mut lives = Vec::new();
        for pod in [&whole, &kept] {
            let runtime = Hollow::default();
            runtime
                .prepare(pod, "10.0.0.2".parse().unwrap(), now)
                .await
                .unwrap();
            let mut life = Vec::new();
            for second in 0..6 {
                let now = now + Duration::from_secs(second);
                let sandbox = runtime.look("u", now).await;
                let step = next(pod, sandbox.as_ref(), "10.0.0.1", now);
                if let Do::Start(names) = &step.action {
                    for name in names {
                        runtime.start("u", name, now).await.unwrap();
                    }
                }
                let told = step.status.container_statuses.iter().flatten();
                let told: Vec<_> = told
                    .map(|status| (status.name.clone(), status.image.clone(), status.ready))
                    .collect();
                life.push((step.action, step.wake, step.status.phase, told));
            }
            lives.push(life);
        }
        assert!(lives[0].iter().any(|(action, ..)| *action != Do::Nothing));
        assert_eq!(lives[0], lives[1]);
    }

    #[test]
    fn of_somebody_elses_pod_only_its_name_is_kept() {
        let mut pod = pod();
        foreign(&mut pod);
        let kept = json!({"apiVersion": "v1", "kind": "Pod",
                          "metadata": {"name": "p", "namespace": "default", "uid": "u"}});
        assert_eq!(serde_json::to_value(&pod).unwrap(), kept);
    }
}
