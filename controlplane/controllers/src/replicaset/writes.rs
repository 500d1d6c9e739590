//! Pods created and deleted once each, though answers be lost.
//!
//! A request whose answer is lost may have been carried out. It is repeated a few times, a creation under the same name, so
//! that it is carried out once; if no answer comes at all, that is a [`Doubt`], which the server is asked about before
//! anything else is decided for the same owner.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use keelson_component::EventType;
use keelson_component::error::{
    is_already_exists, is_conflict, is_namespace_terminating, is_not_found, message,
};
use kube::ResourceExt;
use parking_lot::Mutex;
use rand::Rng;

use super::{Failure, batches, pod_from_template};
use crate::common::expectations::{Doubt, Expectations};
use crate::common::owner::Owner;
use crate::context::{Context, IN_FLIGHT_MAX, delete_this, elapsed, may_have_happened};

/// How often a request whose answer was lost is repeated; a creation under the same name.
const REPEATS_MAX: u32 = 5;
const PAUSE_MIN: Duration = Duration::from_millis(40);
/// Letters that make no words, so that no name does either.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Writes the pods of replica sets, and expects to see them.
#[derive(Clone)]
pub struct PodWrites {
    context: Context,
    expectations: Arc<Mutex<Expectations>>,
}

impl PodWrites {
    /// Writes, and tells of it, by this context.
    pub fn new(context: Context) -> Self {
        let expectations = Arc::default();
        PodWrites {
            context,
            expectations,
        }
    }

    /// What was asked for and has not been seen; whoever sees it is to say so here.
    pub fn expectations(&self) -> Arc<Mutex<Expectations>> {
        self.expectations.clone()
    }

    /// Asks for the pods of which it is not known whether they were created or deleted. Until the server tells,
    /// nothing else can be decided.
    pub async fn settle_doubts(&self, replica_set: &ReplicaSet) -> anyhow::Result<()> {
        let owner = Owner::of(replica_set);
        let doubts = self.expectations.lock().doubts(&owner);
        let namespace = replica_set.namespace().unwrap_or_default();
        for doubt in doubts {
            let api = self.context.api::<Pod>(&namespace);
            let live = api.get_opt(doubt.name()).await;
            let live = live.context("asking for a pod")?;
            let live = live.as_ref().map(|pod| &pod.metadata);
            self.expectations.lock().settle(&owner, &doubt, live);
        }
        Ok(())
    }

    /// Creates pods in growing batches. What fails ends it; those not tried are not expected any more.
    pub async fn create(&self, replica_set: &ReplicaSet, count: usize) -> Option<Failure> {
        let owner = Owner::of(replica_set);
        self.expectations
            .lock()
            .expect_creations(&owner, count, elapsed());
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
            self.expectations.lock().saw_creation(&owner);
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
        let owner = Owner::of(replica_set);
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
                    expectations.doubt(&owner, Doubt::Creation { name });
                } else {
                    expectations.saw_creation(&owner);
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
    pub async fn delete(
        &self,
        replica_set: &ReplicaSet,
        pods: &[Arc<Pod>],
    ) -> (Option<Failure>, Vec<Arc<Pod>>) {
        let owner = Owner::of(replica_set);
        let uids = pods.iter().filter_map(|pod| pod.uid());
        self.expectations
            .lock()
            .expect_deletions(&owner, uids, elapsed());
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
        let owner = Owner::of(replica_set);
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
    use super::super::testing::{Server, context, replica_set};
    use super::*;

    fn writes(server: &Arc<Mutex<Server>>) -> PodWrites {
        PodWrites::new(context(server))
    }

    #[tokio::test]
    async fn a_creation_whose_answer_is_lost_creates_one_pod() {
        let server = Arc::new(Mutex::new(Server {
            lost: 3,
            ..Server::default()
        }));
        let writes = writes(&server);
        assert_eq!(writes.create(&replica_set(), 8).await, None);
        assert_eq!(server.lock().pods.len(), 8);
        // They are all to be seen yet.
        assert_eq!(
            writes
                .expectations
                .lock()
                .creating(&Owner::of(&replica_set())),
            8
        );
    }

    #[tokio::test]
    async fn what_is_refused_is_tried_once_and_expected_no_more() {
        let server = Arc::new(Mutex::new(Server {
            room: Some(0),
            ..Server::default()
        }));
        let writes = writes(&server);
        let failure = writes.create(&replica_set(), 8).await;
        assert_eq!(failure, Some(Failure::Create("exceeded quota".into())));
        assert_eq!(server.lock().creations(), 1);
        assert!(
            writes
                .expectations
                .lock()
                .are_met(&Owner::of(&replica_set()), elapsed())
        );
    }

    #[tokio::test]
    async fn what_is_refused_from_some_pod_on_ends_the_batch_in_which_that_is() {
        // Wanted, room, and then the requests and the pods.
        let cases = [(10, 5, 7, 5), (100, 10, 15, 10), (10, 10, 10, 10)];
        for (wanted, room, requests, pods) in cases {
            let server = Arc::new(Mutex::new(Server {
                room: Some(room),
                ..Server::default()
            }));
            let writes = writes(&server);
            let failure = writes.create(&replica_set(), wanted).await;
            assert_eq!(failure.is_some(), room < wanted);
            let server = server.lock();
            assert_eq!((server.creations(), server.pods.len()), (requests, pods));
            let creating = writes.expectations.lock();
            assert_eq!(creating.creating(&Owner::of(&replica_set())), pods);
        }
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_already_is_no_failure_and_not_waited_for() {
        let writes = writes(&Arc::default());
        let mut pod = pod_from_template(&replica_set());
        pod.metadata.name = Some("a".into());
        pod.metadata.uid = Some("a-uid".into());
        let done = writes.delete(&replica_set(), &[Arc::new(pod)]).await;
        assert_eq!(done, (None, Vec::new()));
        let owner = Owner::of(&replica_set());
        assert!(writes.expectations.lock().are_met(&owner, elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_arrived_is_in_doubt_until_the_server_says_that_it_is_not_there() {
        let server = Arc::new(Mutex::new(Server {
            cut: true,
            ..Server::default()
        }));
        let writes = writes(&server);
        assert!(writes.create(&replica_set(), 1).await.is_some());
        writes.settle_doubts(&replica_set()).await.unwrap_err();
        assert_eq!(
            writes
                .expectations
                .lock()
                .doubts(&Owner::of(&replica_set()))
                .len(),
            1
        );
        server.lock().cut = false;
        writes.settle_doubts(&replica_set()).await.unwrap();
        assert!(
            writes
                .expectations
                .lock()
                .are_met(&Owner::of(&replica_set()), elapsed())
        );
    }

    #[test]
    fn names_fit_into_a_label() {
        let name = random_name(&"n".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(random_name("web").starts_with("web-"));
    }
}
