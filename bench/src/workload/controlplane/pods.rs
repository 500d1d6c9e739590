//! Pods, from what is asked for to what runs.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::api::{create_all, pod};
use super::process::Whole;
use crate::measure::Outcome;

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
/// By then it must have happened.
const HAPPENED_MAX: Duration = Duration::from_secs(300);

/// The default scheduler.
const SCHEDULER: &str = "default-scheduler";

async fn in_time<T>(what: &str, it: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let done = timeout(HAPPENED_MAX, it).await;
    done.with_context(|| format!("{what}: not after {HAPPENED_MAX:?}"))?
}

fn event(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap_or_default()
}

/// From `keelson up` until the first pod runs: that of a deployment, created when the API answers.
pub async fn start(whole: &Whole) -> anyhow::Result<Outcome> {
    let api = whole.began.elapsed();
    whole.rest.create(DEPLOYMENTS, &of_replicas(1)).await?;
    let path = format!("{PODS}?watch=1&resourceVersion=0");
    let runs = |line: &[u8]| event(line)["object"]["status"]["phase"] == "Running";
    in_time("no pod runs", whole.rest.watch(&path, runs)).await?;
    let mut outcome = Outcome::new();
    outcome.set("api_s", api.as_secs_f64());
    outcome.set("first_pod_s", whole.began.elapsed().as_secs_f64());
    Ok(outcome)
}

fn of_replicas(replicas: u64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "bench"}},
            "template": {
                "metadata": {"labels": {"app": "bench"}},
                "spec": {"containers": [{"name": "main", "image": "nginx"}]},
            },
        },
    })
}

/// Until all nodes are there and ready.
async fn nodes(whole: &Whole, count: usize) -> anyhow::Result<()> {
    let mut ready = HashSet::new();
    let all_ready = |line: &[u8]| {
        let node = &event(line)["object"];
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is_ready = conditions
            .iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True");
        // One that was just registered bears a taint until the node controller has seen it.
        let tainted = node["spec"]["taints"]
            .as_array()
            .is_some_and(|taints| !taints.is_empty());
        if is_ready && !tainted {
            ready.insert(
                node["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
        ready.len() >= count
    };
    let path = "/api/v1/nodes?watch=1&resourceVersion=0";
    in_time("not all nodes are ready", whole.rest.watch(path, all_ready)).await
}

/// From creating a deployment until all its replicas are ready.
pub async fn deployment(
    whole: &Whole,
    replicas: u64,
    nodes_wanted: usize,
) -> anyhow::Result<Outcome> {
    nodes(whole, nodes_wanted).await?;
    let began = Instant::now();
    whole
        .rest
        .create(DEPLOYMENTS, &of_replicas(replicas))
        .await?;
    let path = format!("{DEPLOYMENTS}?watch=1&resourceVersion=0");
    let ready = |line: &[u8]| event(line)["object"]["status"]["readyReplicas"] == replicas;
    in_time("not all replicas are ready", whole.rest.watch(&path, ready)).await?;
    let mut outcome = Outcome::new();
    outcome.set("deployed_s", began.elapsed().as_secs_f64());
    Ok(outcome)
}

/// From the first pod that is bound to the last; all were there before the scheduler was let loose on them.
pub async fn scheduling(whole: &Whole, pods: u64, nodes_wanted: usize) -> anyhow::Result<Outcome> {
    nodes(whole, nodes_wanted).await?;
    let scheduler = whole.component("scheduler")?;
    kill_process(scheduler, Signal::STOP)?;
    let created = create_all(&whole.rest, PODS, pods, |number| {
        pod(&format!("bench-{number}"), SCHEDULER)
    })
    .await;
    kill_process(scheduler, Signal::CONT)?;
    created?;
    // It may have lost its Lease meanwhile, and have to wait for it: the clock starts with the first pod.
    let mut first = None;
    let mut bound = HashSet::new();
    let all_bound = |line: &[u8]| {
        let pod = &event(line)["object"];
        if pod["spec"]["nodeName"].is_string() {
            first.get_or_insert_with(Instant::now);
            bound.insert(
                pod["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
        bound.len() as u64 >= pods
    };
    let path = format!("{PODS}?watch=1&resourceVersion=0");
    in_time("not all pods are bound", whole.rest.watch(&path, all_bound)).await?;
    let mut outcome = Outcome::new();
    let took = first.context("pods are bound")?.elapsed();
    outcome.set("scheduled_rate", pods as f64 / took.as_secs_f64());
    Ok(outcome)
}
