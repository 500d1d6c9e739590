//! The loop around [`Scheduler`]: it feeds it what is seen, and does what it says.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, Namespace, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{is_conflict, is_not_found};
use keelson_component::{Change, Connect, EventType, Informer, Recorder, finish};
use kube::api::{ObjectMeta, Patch};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pod::{PodInfo, is_no_news, is_unscheduled, key_of};
use crate::scheduler::{Bound, Scheduler, Step};

/// How many pods may be on their way to their nodes, or be told that they have none, at a time.
const UNDER_WAY_MAX: usize = 128;
/// How long nothing is waited for at the most.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The scheduler, where informers and the loop meet.
struct Mind {
    scheduler: Mutex<Scheduler>,
    /// Something was seen.
    news: Notify,
}

impl Mind {
    fn see(&self, seen: impl FnOnce(&mut Scheduler)) {
        seen(&mut self.scheduler.lock());
        self.news.notify_one();
    }
}

/// How a call to the API server ended.
enum Ended {
    /// A binding.
    Bound(Arc<PodInfo>, Bound),
    /// A pod's user was told this, or nothing.
    Told(Arc<PodInfo>, Option<String>),
}

/// Schedules until `stop`.
pub async fn schedule(connect: Connect, name: String, recorder: Recorder, stop: CancellationToken) {
    let mind = Arc::new(Mind {
        scheduler: Mutex::new(Scheduler::new(name)),
        news: Notify::new(),
    });
    let (namespaces, nodes, pods) = (
        watch_namespaces(&mind),
        watch_nodes(&mind),
        watch_pods(&mind),
    );
    let synced = [namespaces.synced(), nodes.synced(), pods.synced()];
    let mut watching = JoinSet::new();
    let client = &connect.client;
    watching.spawn(namespaces.run(Api::all(client.clone()), stop.clone()));
    watching.spawn(nodes.run(Api::all(client.clone()), stop.clone()));
    watching.spawn(pods.run(Api::all(client.clone()), stop.clone()));
    let complete = async {
        // Who does not know all nodes and pods would put pods where there is no room.
        for synced in synced {
            synced.cancelled().await;
        }
    };
    if stop.run_until_cancelled(complete).await.is_some() {
        work(&mind, &connect, &recorder, &stop).await;
    }
    while watching.join_next().await.is_some() {}
}

fn watch_namespaces(mind: &Arc<Mind>) -> Informer<Namespace> {
    let mut informer = Informer::<Namespace>::trimmed(|namespace| {
        namespace.metadata.annotations = None;
        namespace.spec = None;
        namespace.status = None;
    });
    let mind = mind.clone();
    informer.on_change(move |change| match change {
        Change::Applied { new, .. } => mind.see(|scheduler| scheduler.namespace_seen(new)),
        Change::Deleted { last } => {
            mind.see(|scheduler| scheduler.namespace_gone(&last.name_any()));
        }
    });
    informer
}

fn watch_nodes(mind: &Arc<Mind>) -> Informer<Node> {
    let mut informer = Informer::<Node>::trimmed(|node| {
        if let Some(status) = &mut node.status {
            status.images = None;
            status.conditions = None;
        }
    });
    let mind = mind.clone();
    informer.on_change(move |change| match change {
        Change::Applied { new, .. } => mind.see(|scheduler| scheduler.node_seen(new)),
        Change::Deleted { last } => mind.see(|scheduler| scheduler.node_gone(&last.name_any())),
    });
    informer
}

fn watch_pods(mind: &Arc<Mind>) -> Informer<Pod> {
    let mut informer = Informer::<Pod>::trimmed(|pod| {
        pod.metadata.annotations = None;
        if let Some(status) = &mut pod.status {
            let (phase, conditions) = (status.phase.take(), status.conditions.take());
            *status = Default::default();
            status.phase = phase;
            // Of a process before this one a user may have heard already.
            let told = conditions.into_iter().flatten().find(is_unscheduled);
            status.conditions = told.map(|told| vec![told]);
        }
    });
    let mind = mind.clone();
    informer.on_change(move |change| match change {
        Change::Applied {
            old: Some(old),
            new,
        } if is_no_news(old, new) => {}
        Change::Applied { new, .. } => mind.see(|scheduler| scheduler.pod_seen(new)),
        Change::Deleted { last } => mind.see(|scheduler| scheduler.pod_gone(&key_of(last))),
    });
    informer
}

/// Decides, and has it done, until `stop`; what is under way by then is awaited.
async fn work(mind: &Mind, connect: &Connect, recorder: &Recorder, stop: &CancellationToken) {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut chance = StdRng::from_os_rng();
    let mut under_way: JoinSet<Ended> = JoinSet::new();
    while !stop.is_cancelled() {
        while let Some(Ok(ended)) = under_way.try_join_next() {
            note(mind, ended, now());
        }
        let has_room = under_way.len() < UNDER_WAY_MAX;
        let step = has_room
            .then(|| mind.scheduler.lock().step(now(), &mut chance))
            .flatten();
        if let Some(step) = step {
            take(step, connect, recorder, &mut under_way);
            // What was decided is sent while the next is decided.
            tokio::task::yield_now().await;
            continue;
        }
        let wake = mind.scheduler.lock().next_wake().filter(|_| has_room);
        let wake = wake.map_or(LOOK_AGAIN, |at| {
            Duration::from_millis(at.saturating_sub(now()))
        });
        tokio::select! {
            Some(Ok(ended)) = under_way.join_next() => note(mind, ended, now()),
            () = mind.news.notified() => {}
            () = tokio::time::sleep(wake.min(LOOK_AGAIN)) => {}
            () = stop.cancelled() => {}
        }
    }
    finish(stop, async {
        while under_way.join_next().await.is_some() {}
    })
    .await;
}

fn note(mind: &Mind, ended: Ended, now: u64) {
    match ended {
        Ended::Bound(pod, bound) => mind.scheduler.lock().bound(&pod, bound, now),
        Ended::Told(pod, message) => mind.scheduler.lock().told(&pod, message),
    }
}

fn take(step: Step, connect: &Connect, recorder: &Recorder, under_way: &mut JoinSet<Ended>) {
    let (connect, recorder) = (connect.clone(), recorder.clone());
    match step {
        Step::Bind { pod, node } => under_way.spawn(async move {
            let bound = bind(&connect, &recorder, &pod, &node).await;
            Ended::Bound(pod, bound)
        }),
        Step::Explain { pod, no_fit, told } => under_way.spawn(async move {
            let message = no_fit.to_string();
            let said = explain(&connect, &recorder, &pod, &message, told.as_deref()).await;
            Ended::Told(pod, said.then_some(message))
        }),
    };
}

async fn bind(connect: &Connect, recorder: &Recorder, pod: &PodInfo, node: &str) -> Bound {
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(pod.key.name.to_string()),
            namespace: Some(pod.key.namespace.to_string()),
            // A namesake that was made meanwhile is not the pod for which the node was chosen.
            uid: Some(pod.uid.clone()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let answer: kube::Result<serde_json::Value> = api(connect, pod)
        .create_subresource("binding", &pod.key.name, &connect.post(), &binding)
        .await;
    match answer {
        Ok(_) => {
            let message = format!("Successfully assigned {} to {node}", pod.key);
            recorder.record(about(pod), EventType::Normal, "Scheduled", message);
            Bound::Yes
        }
        Err(error) if is_not_found(&error) || is_conflict(&error) => {
            tracing::debug!(pod = %pod.key, node, "the pod is gone, or has a node: {error}");
            Bound::Failed
        }
        Err(error) => {
            tracing::warn!(pod = %pod.key, node, "cannot bind the pod: {error}");
            Bound::Failed
        }
    }
}

/// Says in an event why a pod has no node, and in its status unless that says so since it was told before. Says
/// whether the status has it.
async fn explain(
    connect: &Connect,
    recorder: &Recorder,
    pod: &PodInfo,
    message: &str,
    told: Option<&str>,
) -> bool {
    recorder.record(
        about(pod),
        EventType::Warning,
        "FailedScheduling",
        message.to_owned(),
    );
    if told == Some(message) {
        return true;
    }
    let mut condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    });
    if told.is_none() {
        // Afterwards it is false since then, for whatever reason.
        condition["lastTransitionTime"] = json!(Time(Timestamp::now()));
    }
    let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
    let written = api(connect, pod)
        .patch_status(&pod.key.name, &connect.patch(), &Patch::Strategic(patch))
        .await;
    match &written {
        Err(error) if !is_not_found(error) && !is_conflict(error) => {
            tracing::warn!(pod = %pod.key, "cannot say why the pod has no node: {error}");
        }
        _ => {}
    }
    written.is_ok()
}

fn api(connect: &Connect, pod: &PodInfo) -> Api<Pod> {
    Api::namespaced(connect.client.clone(), &pod.key.namespace)
}

fn about(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.key.namespace.to_string()),
        name: Some(pod.key.name.to_string()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}
