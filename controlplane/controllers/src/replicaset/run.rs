//! The loop around replica sets: what it observes, when, and how it acts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{
    is_already_exists, is_conflict, is_namespace_terminating, is_not_found, message,
};
use keelson_component::{Change, EventType, Key, Outcome, Queue, Store, work};
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::{Action, Failure, Observed, batches, pod_from_template, reconcile, status};
use crate::common::expectations::{Doubt, Expectations};
use crate::common::meta::{Labels, controller_of, is_deleted};
use crate::context::{Context, IN_FLIGHT_MAX, delete_this, elapsed, may_have_happened};
use crate::informers::{BY_CONTROLLER, Informers, orphans_of};

/// How often a request whose answer was lost is repeated; a creation under the same name.
const REPEATS_MAX: u32 = 5;
const PAUSE_MIN: Duration = Duration::from_millis(40);
/// Letters that make no words, so that no name does either.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The controller of replica sets.
#[derive(Clone)]
pub struct ReplicaSets {
    context: Context,
    queue: Queue<Key>,
    replica_sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    expectations: Arc<Mutex<Expectations>>,
}

impl ReplicaSets {
    /// Listens to the informers.
    pub fn new(context: Context, informers: &mut Informers) -> Self {
        let this = ReplicaSets {
            context,
            queue: Queue::default(),
            replica_sets: informers.replica_sets().store(),
            pods: informers.pods().store(),
            expectations: Arc::default(),
        };
        let owner = this.clone();
        informers
            .replica_sets()
            .on_change(move |change| match change {
                Change::Applied { new, .. } => owner.queue.add(Key::of(&***new)),
                Change::Deleted { last } => {
                    let uid = last.uid().unwrap_or_default();
                    owner.expectations.lock().forget(&uid);
                }
            });
        let owner = this.clone();
        informers
            .pods()
            .on_change(move |change| owner.pod_changed(change));
        this
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, workers: usize, stop: CancellationToken) {
        let sync = |key: Key| async { self.sync(key).await };
        work(self.queue.clone(), workers, stop, sync).await;
    }

    fn pod_changed(&self, change: &Change<'_, Pod>) {
        match change {
            Change::Deleted { last } => self.pod_gone(last),
            Change::Applied { old, new } => {
                let owner = controller_of(&new.metadata);
                let old_owner = old.and_then(|old| controller_of(&old.metadata));
                if old_owner.map(|owner| &owner.uid) != owner.map(|owner| &owner.uid) {
                    self.queue_owner(old.map(|old| &**old));
                }
                if is_deleted(&new.metadata) {
                    return self.pod_gone(new);
                }
                if owner.is_some() {
                    if let (None, Some(owner)) = (old, owner) {
                        self.expectations.lock().saw_creation(&owner.uid);
                    }
                    return self.queue_owner(Some(new));
                }
                let relabelled = old.is_none_or(|old| old.metadata.labels != new.metadata.labels);
                if relabelled || old_owner.is_some() {
                    self.queue_matching(new);
                }
            }
        }
    }

    fn pod_gone(&self, pod: &Pod) {
        if let (Some(owner), Some(uid)) = (controller_of(&pod.metadata), &pod.metadata.uid) {
            self.expectations.lock().saw_deletion(&owner.uid, uid);
        }
        self.queue_owner(Some(pod));
    }

    fn queue_owner(&self, pod: Option<&Pod>) {
        let owner = pod.and_then(|pod| controller_of(&pod.metadata));
        if let (Some(pod), Some(owner)) = (pod, owner)
            && owner.kind == "ReplicaSet"
        {
            let namespace = pod.namespace().unwrap_or_default();
            self.queue.add(Key::new(namespace, &*owner.name));
        }
    }

    /// A pod that belongs to nobody: whoever selects it may adopt it.
    fn queue_matching(&self, pod: &Pod) {
        let namespace = pod.namespace().unwrap_or_default();
        for replica_set in self.replica_sets.in_namespace(&namespace) {
            let selects = Labels::new(&replica_set.spec.selector).select(&pod.metadata);
            if selects {
                self.queue.add(Key::of(&*replica_set));
            }
        }
    }

    async fn sync(&self, key: Key) -> anyhow::Result<Outcome> {
        let Some(replica_set) = self.replica_sets.get(&key) else {
            return Ok(Outcome::Done);
        };
        let uid = replica_set.uid().unwrap_or_default();
        self.settle_doubts(&key.namespace, &uid).await?;
        let (pods, settled, creating) = {
            let mut expectations = self.expectations.lock();
            let settled = expectations.are_met(&uid, elapsed());
            let mut pods = self.pods.indexed(BY_CONTROLLER, &uid);
            pods.extend(
                self.pods
                    .indexed(BY_CONTROLLER, &orphans_of(&key.namespace)),
            );
            // Those were asked to go: they are going, though the store may not know it yet.
            pods.retain(|pod| {
                is_deleted(&pod.metadata)
                    || !expectations.is_going(&uid, pod.uid().as_deref().unwrap_or_default())
            });
            (pods, settled, expectations.creating(&uid))
        };
        // Only who deletes asks where the others run.
        let wanted = usize::try_from(replica_set.spec.replicas.unwrap_or(1)).unwrap_or_default();
        let related = if pods.len() > wanted {
            self.related(&replica_set)
        } else {
            Vec::new()
        };
        let now = Timestamp::now();
        let plan = reconcile(&Observed {
            replica_set: &replica_set,
            pods: &pods,
            related: &related,
            settled,
            creating,
            now,
        });
        let mut failure = None;
        let mut spared = Vec::new();
        for action in plan.actions {
            match action {
                Action::Adopt(pod) => self
                    .context
                    .adopt(&*replica_set, &*pod)
                    .await
                    .with_context(|| format!("adopting pod {}", pod.name_any()))?,
                Action::Release(pod) => match self.context.release(&*replica_set, &*pod).await {
                    Err(error) if is_not_found(&error) => (),
                    result => {
                        result.with_context(|| format!("releasing pod {}", pod.name_any()))?
                    }
                },
                Action::Create(count) => failure = self.create(&replica_set, count).await,
                Action::Delete(pods) => {
                    (failure, spared) = self.delete(&replica_set, &pods).await;
                }
                Action::SetStatus(status) if failure.is_none() => {
                    self.set_status(&replica_set, &status).await?;
                }
                Action::SetStatus(_) => (),
            }
        }
        if let Some(failure) = failure {
            // They may run on, and who is told otherwise puts others in their place.
            let terminating = plan.terminating.saturating_sub(spared.len());
            let pods = [plan.remaining, spared].concat();
            let creating = self.expectations.lock().creating(&uid);
            let status = status(
                &replica_set,
                &pods,
                creating,
                terminating,
                Some(&failure),
                now,
            );
            self.set_status(&replica_set, &status).await?;
            match failure {
                Failure::Create(message) => bail!("creating pods: {message}"),
                Failure::Delete(message) => bail!("deleting pods: {message}"),
            }
        }
        let expiry = self.expectations.lock().expires_in(&uid, elapsed());
        Ok(plan.again_after.into_iter().chain(expiry).min().into())
    }

    /// Asks for the pods of which it is not known whether they were created or deleted. Until the server tells,
    /// nothing else can be decided.
    async fn settle_doubts(&self, namespace: &str, owner: &str) -> anyhow::Result<()> {
        let doubts = self.expectations.lock().doubts(owner);
        for doubt in doubts {
            let api = self.context.api::<Pod>(namespace);
            let live = api.get_opt(doubt.name()).await;
            let live = live.context("asking for a pod")?;
            let live = live.as_ref().map(|pod| &pod.metadata);
            self.expectations.lock().settle(owner, &doubt, live);
        }
        Ok(())
    }

    async fn set_status(
        &self,
        replica_set: &ReplicaSet,
        status: &k8s_openapi::api::apps::v1::ReplicaSetStatus,
    ) -> kube::Result<()> {
        let version = replica_set.resource_version();
        let old = &replica_set.status;
        self.context
            .set_status(replica_set, version, old, status)
            .await
    }

    /// The pods of all replica sets with the same controller, this one's too.
    fn related(&self, replica_set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let mut owners = vec![replica_set.uid().unwrap_or_default()];
        if let Some(controller) = controller_of(&replica_set.metadata) {
            let siblings = self.replica_sets.indexed(BY_CONTROLLER, &controller.uid);
            owners = siblings.iter().filter_map(|rs| rs.uid()).collect();
        }
        let pods = owners
            .iter()
            .flat_map(|uid| self.pods.indexed(BY_CONTROLLER, uid));
        pods.collect()
    }

    /// Creates pods in growing batches. What fails ends it; those not tried are not expected any more.
    async fn create(&self, replica_set: &ReplicaSet, count: usize) -> Option<Failure> {
        let uid = replica_set.uid().unwrap_or_default();
        self.expectations
            .lock()
            .expect_creations(&uid, count, elapsed());
        let mut tried = 0;
        let mut failure = None;
        for batch in batches(count) {
            tried += batch;
            let creations = (0..batch).map(|_| self.create_one(replica_set));
            let mut results = stream::iter(creations).buffer_unordered(IN_FLIGHT_MAX);
            while let Some(result) = results.next().await {
                if let Err(error) = result {
                    failure = Some(error);
                }
            }
            if failure.is_some() {
                break;
            }
        }
        for _ in tried..count {
            self.expectations.lock().saw_creation(&uid);
        }
        let error = failure?;
        if is_namespace_terminating(&error) {
            // There is no use in trying again, nor in telling: all of it goes.
            return None;
        }
        Some(Failure::Create(message(&error)))
    }

    /// Creates one pod, once: an answer that was lost is asked for again under the same name.
    async fn create_one(&self, replica_set: &ReplicaSet) -> kube::Result<()> {
        let uid = replica_set.uid().unwrap_or_default();
        let api = self
            .context
            .api::<Pod>(&replica_set.namespace().unwrap_or_default());
        let mut pod = pod_from_template(replica_set);
        pod.metadata.name = Some(random_name(&replica_set.name_any()));
        let mut repeats = 0;
        let result = loop {
            let error = match api.create(&self.context.connect.post(), &pod).await {
                Ok(_) => break Ok(()),
                Err(error) => error,
            };
            if is_already_exists(&error) {
                if repeats > 0 {
                    // By us, unless somebody drew the same letters in between: the watch will tell.
                    break Ok(());
                }
                pod.metadata.name = Some(random_name(&replica_set.name_any()));
            } else if may_have_happened(&error) && repeats < REPEATS_MAX {
                pause(repeats).await;
                repeats += 1;
            } else {
                break Err(error);
            }
        };
        match &result {
            Ok(()) => {
                let message = format!("Created pod: {}", pod.name_any());
                self.context
                    .tell(replica_set, EventType::Normal, "SuccessfulCreate", message);
            }
            Err(error) => {
                let mut expectations = self.expectations.lock();
                if repeats > 0 {
                    let name = pod.name_any();
                    expectations.doubt(&uid, Doubt::Creation { name });
                } else {
                    expectations.saw_creation(&uid);
                }
                drop(expectations);
                if !is_namespace_terminating(error) {
                    let message = format!("Error creating: {}", message(error));
                    self.context
                        .tell(replica_set, EventType::Warning, "FailedCreate", message);
                }
            }
        }
        result
    }

    /// Deletes pods. If any of that fails, also returns the pods that may run on.
    async fn delete(
        &self,
        replica_set: &ReplicaSet,
        pods: &[Arc<Pod>],
    ) -> (Option<Failure>, Vec<Arc<Pod>>) {
        let uid = replica_set.uid().unwrap_or_default();
        let uids = pods.iter().filter_map(|pod| pod.uid());
        self.expectations
            .lock()
            .expect_deletions(&uid, uids, elapsed());
        let deletions: Vec<_> = pods
            .iter()
            .map(|pod| async move { (pod, self.delete_one(replica_set, pod).await) })
            .collect();
        let mut results = stream::iter(deletions).buffer_unordered(IN_FLIGHT_MAX);
        let (mut failure, mut spared) = (None, Vec::new());
        while let Some((pod, result)) = results.next().await {
            if let Err(error) = result {
                failure = Some(Failure::Delete(message(&error)));
                spared.push(pod.clone());
            }
        }
        (failure, spared)
    }

    async fn delete_one(&self, replica_set: &ReplicaSet, pod: &Pod) -> kube::Result<()> {
        let api = self
            .context
            .api::<Pod>(&pod.namespace().unwrap_or_default());
        let name = pod.name_any();
        let gone = |error: &kube::Error| is_not_found(error) || is_conflict(error);
        let mut repeats = 0;
        let error = loop {
            match api.delete(&name, &delete_this(pod)).await {
                Err(error) if may_have_happened(&error) && repeats < REPEATS_MAX => {
                    pause(repeats).await;
                    repeats += 1;
                }
                // Gone by us: the watch will tell.
                Err(error) if gone(&error) && repeats > 0 => return Ok(()),
                Err(error) => break error,
                Ok(_) => {
                    let message = format!("Deleted pod: {name}");
                    self.context
                        .tell(replica_set, EventType::Normal, "SuccessfulDelete", message);
                    return Ok(());
                }
            }
        };
        let owner = replica_set.meta().uid.clone().unwrap_or_default();
        let uid = pod.uid().unwrap_or_default();
        let message = format!("Error deleting: {}", message(&error));
        if repeats > 0 {
            let doubt = Doubt::Deletion { name, uid };
            self.expectations.lock().doubt(&owner, doubt);
        } else {
            self.expectations.lock().saw_deletion(&owner, &uid);
        }
        if gone(&error) {
            return Ok(());
        }
        self.context
            .tell(replica_set, EventType::Warning, "FailedDelete", message);
        Err(error)
    }
}

/// Waits before a request is repeated whose answer was lost.
async fn pause(repeats: u32) {
    tokio::time::sleep(PAUSE_MIN * (1 << repeats)).await;
}

/// A name of the form that the server gives to what has a `generateName`.
fn random_name(base: &str) -> String {
    let mut rng = rand::rng();
    let letters = (0..5).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    // With the dash and the letters, a label's value may have no more than 63.
    let base: String = base.chars().take(57).collect();
    format!("{base}-{}", letters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http_body_util::BodyExt;
    use keelson_component::{Connect, Recorder};
    use serde_json::{Value, json};

    use super::*;

    /// A server that has pods, and loses its answers, or refuses, as it is told to.
    #[derive(Default)]
    struct Server {
        pods: BTreeMap<String, Value>,
        /// Of the next creations, how many answers are lost although the pod is created.
        lost: usize,
        /// Whether creations are refused.
        full: bool,
        /// Whether every connection is cut off before a request arrives.
        cut: bool,
        /// What was written as the status.
        status: Value,
        requests: usize,
    }

    impl Server {
        fn answer(
            &mut self,
            method: &str,
            path: &str,
            body: Value,
        ) -> std::io::Result<(u16, Value)> {
            let name = path.rsplit('/').next().unwrap_or_default();
            match method {
                "PATCH" => {
                    self.status = body["status"].clone();
                    let mut set = serde_json::to_value(replica_set())?;
                    set["status"] = body["status"].clone();
                    Ok((200, set))
                }
                _ if self.cut => Err(std::io::Error::other("connection reset")),
                "POST" => self.create(body),
                _ => {
                    let missing =
                        json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": ""});
                    let pod = if method == "DELETE" {
                        self.pods.remove(name)
                    } else {
                        self.pods.get(name).cloned()
                    };
                    Ok(pod.map_or((404, missing), |pod| (200, pod)))
                }
            }
        }

        fn create(&mut self, pod: Value) -> std::io::Result<(u16, Value)> {
            self.requests += 1;
            if self.full {
                let message = "exceeded quota";
                let refusal = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": message});
                return Ok((403, refusal));
            }
            let name = pod["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if self.pods.contains_key(&name) {
                let taken = json!({"kind": "Status", "code": 409, "reason": "AlreadyExists", "message": ""});
                return Ok((409, taken));
            }
            self.pods.insert(name, pod.clone());
            if self.lost > 0 {
                self.lost -= 1;
                return Err(std::io::Error::other("connection reset"));
            }
            Ok((201, pod))
        }
    }

    fn controller(server: &Arc<Mutex<Server>>) -> ReplicaSets {
        let server = server.clone();
        let answer = move |request: http::Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map_err(std::io::Error::other)?;
                let body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
                let (method, path) = (head.method.as_str(), head.uri.path());
                let (code, reply) = server.lock().answer(method, path, body)?;
                let body = http_body_util::Full::from(reply.to_string());
                let response = http::Response::builder().status(code).body(body);
                response.map_err(|error| std::io::Error::other(error.to_string()))
            }
        };
        let connect = Connect {
            client: kube::Client::new(tower::service_fn(answer), "default"),
            name: "tester".into(),
            ca_pem: None,
        };
        let recorder = Recorder::silent();
        ReplicaSets::new(Context { connect, recorder }, &mut Informers::default())
    }

    fn replica_set() -> ReplicaSet {
        let mut set = ReplicaSet::default();
        set.metadata.name = Some("web".into());
        set.metadata.namespace = Some("default".into());
        set.metadata.uid = Some("web-uid".into());
        set
    }

    #[tokio::test]
    async fn a_creation_whose_answer_is_lost_creates_one_pod() {
        let server = Arc::new(Mutex::new(Server {
            lost: 3,
            ..Server::default()
        }));
        let controller = controller(&server);
        assert_eq!(controller.create(&replica_set(), 8).await, None);
        assert_eq!(server.lock().pods.len(), 8);
        // They are all to be seen yet.
        assert_eq!(controller.expectations.lock().creating("web-uid"), 8);
    }

    #[tokio::test]
    async fn what_is_refused_is_tried_once_and_expected_no_more() {
        let server = Arc::new(Mutex::new(Server {
            full: true,
            ..Server::default()
        }));
        let controller = controller(&server);
        let failure = controller.create(&replica_set(), 8).await;
        assert_eq!(failure, Some(Failure::Create("exceeded quota".into())));
        assert_eq!(server.lock().requests, 1);
        assert!(controller.expectations.lock().are_met("web-uid", elapsed()));
    }

    fn owned(name: &str, owner: &ReplicaSet) -> Pod {
        let mut pod = pod_from_template(owner);
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(format!("{name}-uid"));
        pod
    }

    fn named(name: &str, label: &str) -> ReplicaSet {
        let mut set = replica_set();
        set.metadata.name = Some(name.into());
        set.metadata.uid = Some(format!("{name}-uid"));
        set.spec.selector.match_labels = Some([("app".into(), label.into())].into());
        set
    }

    fn queued(controller: &ReplicaSets) -> Vec<String> {
        use futures::FutureExt;
        let next = || controller.queue.next().now_or_never();
        let mut names: Vec<_> = std::iter::from_fn(next).map(|key| key.name).collect();
        names.sort();
        names
    }

    fn idle() -> ReplicaSets {
        controller(&Arc::default())
    }

    #[tokio::test]
    async fn a_pod_that_appears_or_goes_is_seen_by_its_replica_set() {
        let (controller, web) = (idle(), named("web", "web"));
        let pod = Arc::new(owned("a", &web));
        let mut expectations = controller.expectations.lock();
        expectations.expect_creations("web-uid", 1, elapsed());
        expectations.expect_deletions("web-uid", ["a-uid".to_owned()], elapsed());
        drop(expectations);
        controller.pod_changed(&Change::Applied {
            old: None,
            new: &pod,
        });
        assert_eq!(queued(&controller), ["web"]);
        assert_eq!(controller.expectations.lock().creating("web-uid"), 0);
        // A deletion timestamp is as good as the end.
        let mut going = (*pod).clone();
        going.metadata.deletion_timestamp = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
        );
        let going = Arc::new(going);
        controller.pod_changed(&Change::Applied {
            old: Some(&pod),
            new: &going,
        });
        assert!(controller.expectations.lock().are_met("web-uid", elapsed()));
    }

    #[tokio::test]
    async fn a_pod_that_was_going_when_it_was_first_seen_is_a_deletion_and_no_creation() {
        let (controller, web) = (idle(), named("web", "web"));
        controller
            .expectations
            .lock()
            .expect_creations("web-uid", 1, elapsed());
        let mut going = owned("a", &web);
        going.metadata.deletion_timestamp = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
        );
        controller.pod_changed(&Change::Applied {
            old: None,
            new: &Arc::new(going),
        });
        assert_eq!(controller.expectations.lock().creating("web-uid"), 1);
    }

    #[tokio::test]
    async fn an_orphan_is_shown_to_all_that_select_it_when_it_appears_or_is_relabelled() {
        let controller = idle();
        for set in [
            named("one", "web"),
            named("two", "web"),
            named("three", "db"),
        ] {
            controller.replica_sets.apply(Arc::new(set), |_| ());
        }
        let orphan = |label: &str| {
            let mut pod = owned("a", &named("web", "web"));
            pod.metadata.owner_references = None;
            pod.metadata.labels = Some([("app".into(), label.into())].into());
            Arc::new(pod)
        };
        let (web, db) = (orphan("web"), orphan("db"));
        controller.pod_changed(&Change::Applied {
            old: None,
            new: &web,
        });
        assert_eq!(queued(&controller), ["one", "two"]);
        controller.pod_changed(&Change::Applied {
            old: Some(&web),
            new: &db,
        });
        assert_eq!(queued(&controller), ["three"]);
        controller.pod_changed(&Change::Applied {
            old: Some(&db),
            new: &db,
        });
        assert_eq!(queued(&controller), [""; 0]);
    }

    #[tokio::test]
    async fn a_pod_that_changes_hands_is_shown_to_both() {
        let controller = idle();
        let (one, two) = (named("one", "web"), named("two", "web"));
        let (before, after) = (Arc::new(owned("a", &one)), Arc::new(owned("a", &two)));
        controller.pod_changed(&Change::Applied {
            old: Some(&before),
            new: &after,
        });
        assert_eq!(queued(&controller), ["one", "two"]);
    }

    fn with_store(server: &Arc<Mutex<Server>>, set: ReplicaSet, pods: &[Arc<Pod>]) -> ReplicaSets {
        let controller = controller(server);
        controller.replica_sets.apply(Arc::new(set), |_| ());
        for pod in pods {
            controller.pods.apply(pod.clone(), |_| ());
        }
        controller
    }

    #[tokio::test(start_paused = true)]
    async fn a_creation_that_did_not_happen_is_made_good_when_the_server_is_back() {
        let server = Arc::new(Mutex::new(Server {
            cut: true,
            ..Server::default()
        }));
        let controller = with_store(&server, replica_set(), &[]);
        let key = Key::new("default", "web");
        for _ in 0..3 {
            controller.sync(key.clone()).await.unwrap_err();
        }
        assert_eq!(controller.expectations.lock().creating("web-uid"), 1);
        server.lock().cut = false;
        let outcome = controller.sync(key.clone()).await.unwrap();
        assert_eq!(server.lock().pods.len(), 1);
        // Should the watch never tell of it, the expectation's end does.
        assert!(matches!(outcome, Outcome::After(_)));
        let outcome = controller.sync(key).await.unwrap();
        assert_eq!(server.lock().pods.len(), 1);
        assert!(matches!(outcome, Outcome::After(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_could_not_be_deleted_still_counts_and_is_no_reason_to_delete_another() {
        let server = Arc::new(Mutex::new(Server {
            cut: true,
            ..Server::default()
        }));
        let pods = ["a", "b"].map(|name| Arc::new(owned(name, &replica_set())));
        for pod in &pods {
            let value = serde_json::to_value(&**pod).unwrap();
            server.lock().pods.insert(pod.name_any(), value);
        }
        let controller = with_store(&server, replica_set(), &pods);
        let key = Key::new("default", "web");
        controller.sync(key.clone()).await.unwrap_err();
        assert_eq!(server.lock().status["replicas"], 2);
        // It is not known whether it is gone.
        controller.sync(key.clone()).await.unwrap_err();
        assert_eq!(controller.expectations.lock().doubts("web-uid").len(), 1);
        server.lock().cut = false;
        controller.sync(key.clone()).await.unwrap();
        controller.sync(key).await.unwrap();
        assert_eq!(server.lock().pods.len(), 1);
    }

    #[test]
    fn names_fit_into_a_label() {
        let name = random_name(&"n".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(random_name("web").starts_with("web-"));
    }
}
