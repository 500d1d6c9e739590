//! The process: connected, elected, with its watches shared and its controllers running.

use anyhow::{Context as _, bail};
use keelson_component::election::lead;
use keelson_component::{Connect, Health, Recorder, finish, serve_health};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::args::Args;
use crate::context::Context;
use crate::deployment::Deployments;
use crate::endpoints::{Endpoints, Form};
use crate::gc::Collector;
use crate::informers::Informers;
use crate::namespace::Namespaces;
use crate::namespace::defaults::Defaults;
use crate::nodes::zones::Rates;
use crate::nodes::{Evictions, Nodes, PodGc, lifecycle, pod_gc};
use crate::replicaset::ReplicaSets;

/// The user agent, the field manager, and the name of the Lease.
pub const COMPONENT: &str = "kube-controller-manager";

/// Runs the controllers until `stop`, or until leadership is lost, which is an error: whoever started the process is to
/// start it again.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    args.check()?;
    let connect = args.connect.connect(COMPONENT).await?;
    let health = Health::default();
    if let Some(address) = args.healthz_address {
        serve_health(address, health, stop.clone()).await?;
    }
    let root_ca = match &args.root_ca_file {
        None => connect.ca_pem.clone(),
        Some(path) => Some(
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
        ),
    };
    lead(&connect, &args.election, stop, |stop| {
        control(args.clone(), connect.clone(), root_ca, stop)
    })
    .await
}

/// Begins one controller, once the stores are complete.
type Start = Box<dyn FnOnce(&mut JoinSet<()>) + Send>;

/// All controllers, on their shared watches. Everything that it starts ends when it is dropped.
async fn control(
    args: Args,
    connect: Connect,
    root_ca: Option<String>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // So that all can be stopped when one has failed.
    let stop = stop.child_token();
    let mut tasks = JoinSet::new();
    let mut informers = Informers::default();
    let mut start: Vec<Start> = Vec::new();
    let mut context = |name: &str| {
        let (recorder, write) = Recorder::new(connect.clone(), name, stop.clone());
        tasks.spawn(write);
        let connect = connect.clone();
        Context { connect, recorder }
    };
    // Each controller listens before anything is watched, and begins when all stores are complete.
    macro_rules! controller {
        ($name:literal, $make:expr, $($argument:expr),*) => {
            if args.runs($name) {
                let make = $make;
                let controller = make(context($name), &mut informers);
                let stop = stop.clone();
                start.push(Box::new(move |tasks| {
                    tasks.spawn(controller.run($($argument,)* stop));
                }));
            }
        };
    }
    let endpoints_max = usize::from(args.max_endpoints_per_slice);
    let slices_batch = args.endpointslice_updates_batch_period;
    let legacy_batch = args.endpoint_updates_batch_period;
    let settings = lifecycle::Settings {
        grace: args.node_monitor_grace_period,
        startup_grace: args.node_startup_grace_period,
        rates: Rates {
            normal: args.node_eviction_rate,
            secondary: args.secondary_node_eviction_rate,
            unhealthy_threshold: args.unhealthy_zone_threshold,
            large_zone: args.large_cluster_size_threshold,
        },
    };
    let gone = pod_gc::Settings {
        quarantine: args.orphaned_pod_quarantine,
        ended_max: args.terminated_pod_gc_threshold,
    };
    let root_ca = root_ca.filter(|_| args.runs("root-ca-certificate-publisher-controller"));
    controller!(
        "deployment-controller",
        Deployments::new,
        args.concurrent_deployment_syncs
    );
    controller!(
        "replicaset-controller",
        ReplicaSets::new,
        args.concurrent_replicaset_syncs
    );
    controller!(
        "endpointslice-controller",
        |context, informers: &mut _| Endpoints::new(
            context,
            informers,
            Form::Slices,
            endpoints_max,
            slices_batch
        ),
        args.concurrent_service_endpoint_syncs
    );
    controller!(
        "endpoints-controller",
        |context, informers: &mut _| Endpoints::new(
            context,
            informers,
            Form::Legacy,
            endpoints_max,
            legacy_batch
        ),
        args.concurrent_endpoint_syncs
    );
    controller!(
        "namespace-controller",
        Namespaces::new,
        args.concurrent_namespace_syncs
    );
    controller!(
        "serviceaccount-controller",
        |context, informers: &mut _| Defaults::new(context, informers, root_ca),
        2
    );
    controller!(
        "garbage-collector-controller",
        Collector::new,
        args.concurrent_gc_syncs
    );
    controller!("node-lifecycle-controller", |context, informers: &mut _| {
        Nodes::new(context, informers, settings, args.node_monitor_period)
    },);
    controller!("taint-eviction-controller", Evictions::new, 8);
    controller!(
        "pod-garbage-collector-controller",
        |context, informers: &mut _| PodGc::new(context, informers, gone, args.pod_gc_period),
    );
    let synced = informers.start(&connect.client, &stop, &mut tasks);
    let all = async {
        for synced in synced {
            synced.cancelled().await;
        }
    };
    if stop.run_until_cancelled(all).await.is_none() {
        return Ok(());
    }
    info!(
        controllers = start.len(),
        "the stores are complete: beginning"
    );
    start.into_iter().for_each(|start| start(&mut tasks));
    end_together(tasks, &stop).await
}

/// Waits for all to end. If one fails, by a panic, the others end what they have begun, since another process begins as
/// soon as this one has returned.
async fn end_together(mut tasks: JoinSet<()>, stop: &CancellationToken) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            stop.cancel();
            finish(stop, async { while tasks.join_next().await.is_some() {} }).await;
            bail!("a controller has ended: {error}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn when_one_panics_the_others_end_what_they_have_begun() {
        let stop = CancellationToken::new();
        let written = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let (token, done) = (stop.clone(), written.clone());
        tasks.spawn(async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            done.store(true, Ordering::Relaxed);
        });
        tasks.spawn(async { panic!("a mistake") });
        let ended = end_together(tasks, &stop).await;
        assert!(ended.unwrap_err().to_string().contains("panic"));
        assert!(written.load(Ordering::Relaxed));
    }
}
