//! The node agent: it registers nodes, keeps their leases, and runs the pods that were bound to them.
//!
//! **Guarantees**: what a pod's status says has happened in the runtime; a pod that is being deleted is gone from the
//! runtime before it is gone from the API; an agent that is killed and started again takes up what it finds.
//!
//! **Leaves to others**: what running means: a [`Runtime`](runtime::Runtime), of which the hollow one is here.
//!
//! | to understand | read |
//! |---|---|
//! | what happens to a pod, and when | `pod/mod.rs`, `pod/containers.rs` |
//! | what is told of it | `pod/status.rs` |
//! | the loop around that | `agent.rs` |
//! | how a node is known, and known to live | `register.rs` |

mod addresses;
mod agent;
mod args;
mod patch;
mod pod;
mod register;
pub mod runtime;
mod trim;

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use keelson_component::{Change, Connect, Informer, Queue, Recorder, work};
use kube::Api;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use addresses::Addresses;
use agent::{Agent, OwnNode, concerns};
pub use args::Args;
use register::NodeConfig;
use runtime::Runtime;
use runtime::hollow::Hollow;

/// How many nodes are made known at a time.
const REGISTERING_MAX: usize = 16;
/// How many pods are worked on at a time.
const WORKERS: usize = 32;

/// Runs the nodes that the arguments describe until `stop`.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let runtime = Hollow::new(args.hollow_ready_after);
    let configs = args.nodes(&runtime.version())?;
    let connect = args.connect.connect("kubelet").await?;
    let registered = register_all(&connect, configs);
    let Some(registered) = stop.run_until_cancelled(registered).await else {
        return Ok(());
    };

    let mut tasks = JoinSet::new();
    let recorder = if args.events {
        let (recorder, write) = Recorder::new(connect.clone(), "kubelet", stop.clone());
        tasks.spawn(write);
        recorder
    } else {
        Recorder::silent()
    };
    let names: HashSet<String> = registered
        .iter()
        .map(|(config, _)| config.name.clone())
        .collect();
    let (pods, queue, informer) = watch_pods(names, Hollow::reads);
    let api: Api<Pod> = Api::all(connect.client.clone());
    let synced = informer.synced();
    tasks.spawn(informer.run(api, stop.clone()));
    let nodes = registered
        .iter()
        .map(own_node)
        .collect::<anyhow::Result<_>>()?;
    for (config, node) in registered {
        let (connect, stop) = (connect.clone(), stop.clone());
        tasks.spawn(async move { register::heartbeat(&connect, &config, &node, stop).await });
    }

    if stop.run_until_cancelled(synced.cancelled()).await.is_some() {
        let agent = Agent::new(connect, runtime, nodes, pods, queue.clone(), recorder);
        agent.take_up_addresses();
        work(queue, WORKERS, stop.clone(), |key| agent.reconcile(key)).await;
    }
    // All of them heed `stop`.
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// An informer of pods, which puts those of these nodes on a queue. Of annotations, it keeps those that the runtime reads.
fn watch_pods(
    names: HashSet<String>,
    keep: fn(&str) -> bool,
) -> (
    keelson_component::Store<Pod>,
    Queue<keelson_component::Key>,
    Informer<Pod>,
) {
    let names = Arc::new(names);
    let queue = Queue::default();
    let (fields, own) = (selector(&names), names.clone());
    let mut informer = Informer::<Pod>::trimmed(move |pod| match concerns(&own, pod) {
        Some(_) => trim::own(pod, keep),
        None => trim::foreign(pod),
    })
    .fields(&fields);
    let changed = queue.clone();
    informer.on_change(move |change| {
        let pod = match change {
            Change::Applied { new, .. } => new,
            Change::Deleted { last } => last,
        };
        if let Some(key) = concerns(&names, pod) {
            changed.add(key);
        }
    });
    (informer.store(), queue, informer)
}

/// The pods that matter: of one node its own, of many all that have a node.
fn selector(names: &HashSet<String>) -> String {
    let mut names = names.iter();
    match (names.next(), names.next()) {
        (Some(only), None) => format!("spec.nodeName={only}"),
        _ => "spec.nodeName!=".to_owned(),
    }
}

async fn register_all(connect: &Connect, configs: Vec<NodeConfig>) -> Vec<(NodeConfig, Node)> {
    futures::stream::iter(configs)
        .map(async |config| {
            let node = register::register(connect, &config).await;
            (config, node)
        })
        .buffer_unordered(REGISTERING_MAX)
        .collect()
        .await
}

fn own_node((config, node): &(NodeConfig, Node)) -> anyhow::Result<(String, OwnNode)> {
    let given = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_ref());
    let range = match given {
        Some(given) => given.parse()?,
        None => config.pod_range.with_context(|| {
            format!(
                "node {} has no range of addresses for its pods: give one with --pod-cidr",
                config.name
            )
        })?,
    };
    let node = OwnNode {
        address: config.address.clone(),
        addresses: parking_lot::Mutex::new(Addresses::new(range)),
    };
    Ok((config.name.clone(), node))
}
