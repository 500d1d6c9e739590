//! The control plane.

use std::time::Duration;

use super::{Scale, other};
use crate::workload::controlplane::Aspect;
use crate::workload::{Mark, Work, Workload};

/// A whole cluster of `keelson up`, with one member of the store, which may be etcd.
pub fn control_plane(scale: Scale) -> Vec<Workload> {
    let pods = scale.many(10_000);
    let replicas = scale.many(1000);
    let bound = scale.many(4000);
    let nodes = |number: u64| scale.many(number) as usize;
    let (some, many) = (nodes(100), nodes(1000));
    let quiet = Duration::from_secs(if scale.quick { 3 } else { 15 });
    let workload = |name: &str, about: String, aspect, marks| {
        other(
            format!("controlplane-{name}"),
            about,
            1,
            Work::ControlPlane(aspect),
            marks,
        )
    };
    vec![
        workload(
            "start",
            "from `keelson up` to a running pod".to_owned(),
            Aspect::Start,
            vec![Mark::value("first_pod_s", 2.0)],
        ),
        workload(
            "idle",
            "the whole control plane at rest, without the store, two hollow nodes".to_owned(),
            Aspect::Idle { quiet },
            vec![Mark::value("idle_pss_mib", 100.0)],
        ),
        workload(
            "writes",
            "config maps created by 50 clients".to_owned(),
            Aspect::Writes { clients: 50 },
            Vec::new(),
        ),
        workload(
            "lists",
            format!("lists of {pods} pods by 2 clients"),
            Aspect::Lists { pods },
            Vec::new(),
        ),
        workload(
            "fan-out",
            "1000 watchers of config maps; the rate is of events".to_owned(),
            Aspect::FanOut { watchers: 1000 },
            Vec::new(),
        ),
        workload(
            "deployment",
            format!(
                "a deployment of {replicas} replicas on {some} hollow nodes, until all are ready"
            ),
            Aspect::Deployment {
                replicas,
                nodes: some,
            },
            vec![Mark::value("deployed_s", 10.0)],
        ),
        workload(
            "scheduling",
            format!("{bound} pods that wait are bound to {many} hollow nodes"),
            Aspect::Scheduling {
                pods: bound,
                nodes: many,
            },
            vec![Mark::value("scheduled_rate", 1000.0)],
        ),
    ]
}
