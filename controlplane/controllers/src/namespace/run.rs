//! The loop around namespaces that are being deleted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{is_not_found, is_unsupported, message};
use keelson_component::{Change, Key, Outcome, Queue, Store, work};
use kube::api::{DeleteParams, ListParams, Patch};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::patience::Patience;
use super::{Action, FINALIZER, Left, Observed, due, is_ending, reconcile};
use crate::common::meta::is_deleted;
use crate::context::{Context, IN_FLIGHT_MAX, status_patch};
use crate::discovery::{Resource, discover};
use crate::informers::Informers;

/// The longest pause before what failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// How often to look within one go: for pods, for the rest, and whether all has gone.
const LOOKS_MAX: usize = 3;

/// The controller that empties namespaces.
#[derive(Clone)]
pub struct Namespaces {
    context: Context,
    queue: Queue<Key>,
    namespaces: Store<Namespace>,
    pods: Store<Pod>,
    /// Of those that are being emptied.
    patience: Arc<Mutex<HashMap<String, Patience>>>,
}

/// What a look has found.
#[derive(Default)]
struct Found {
    left: Vec<Left>,
    /// By resource, in the server's words.
    failures: BTreeMap<String, String>,
}

impl Namespaces {
    /// Listens to the informers.
    pub fn new(context: Context, informers: &mut Informers) -> Self {
        let this = Namespaces {
            context,
            queue: Queue::with_retry_max(RETRY_MAX),
            namespaces: informers.namespaces().store(),
            pods: informers.pods().store(),
            patience: Arc::default(),
        };
        let queue = this.queue.clone();
        informers.namespaces().on_change(move |change| {
            if let Change::Applied { new, .. } = change
                && is_deleted(&new.metadata)
            {
                queue.add(Key::of(&***new));
            }
        });
        let own = this.clone();
        informers.pods().on_change(move |change| {
            if let Change::Deleted { last } = change {
                own.pod_gone(last);
            }
        });
        this
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, workers: usize, stop: CancellationToken) {
        let sync = |key: Key| async { self.sync(key).await };
        work(self.queue.clone(), workers, stop, sync).await;
    }

    /// The last pod's end is waited for: the rest may go.
    fn pod_gone(&self, pod: &Pod) {
        let key = Key::new("", pod.namespace().unwrap_or_default());
        let namespace = self.namespaces.get(&key);
        if namespace.is_some_and(|namespace| is_deleted(&namespace.metadata))
            && !self.pods.has_namespace(&key.name)
        {
            self.queue.add(key);
        }
    }

    async fn sync(&self, key: Key) -> anyhow::Result<Outcome> {
        let api = Api::<Namespace>::all(self.context.connect.client.clone());
        // Live: what the store has may be what we changed ourselves a moment ago.
        let Some(mut namespace) = api.get_opt(&key.name).await?.filter(is_ending) else {
            self.patience.lock().remove(&key.name);
            return Ok(Outcome::Done);
        };
        let (resources, discovery_failure) = self.resources().await;
        let found = self.empty(&key.name, &resources).await;
        let failures: Vec<String> = found.failures.into_values().collect();
        let actions = reconcile(&Observed {
            namespace: &namespace,
            left: &found.left,
            discovery_failure: discovery_failure.as_deref(),
            failures: &failures,
            now: Timestamp::now(),
        });
        for action in actions {
            match action {
                Action::SetStatus(status) => {
                    let version = namespace.resource_version();
                    if let Some(patch) = status_patch(version, &namespace.status, &status) {
                        let params = self.context.connect.patch();
                        namespace = api
                            .patch_status(&key.name, &params, &Patch::Merge(patch))
                            .await
                            .context("writing the status")?;
                    }
                }
                Action::Finalize => {
                    self.finalize(&api, namespace).await?;
                    self.patience.lock().remove(&key.name);
                    return Ok(Outcome::Done);
                }
            }
        }
        if !failures.is_empty() {
            bail!("{}", failures.join(", "))
        }
        let left = found.left.iter().map(|left| left.count).sum();
        let mut patience = self.patience.lock();
        let pause = patience.entry(key.name).or_default().after(left);
        Ok(Outcome::After(pause))
    }

    /// Deletes what is due, until nothing is or it does not help. Says what is left then.
    async fn empty(&self, namespace: &str, resources: &[Resource]) -> Found {
        let mut refused: BTreeMap<String, String> = BTreeMap::new();
        let mut found = Found::default();
        for _ in 0..LOOKS_MAX {
            found = self.look(namespace, resources).await;
            let due = due(&found.left);
            let due: Vec<&Resource> = resources
                .iter()
                .filter(|resource| due.contains(&resource.name().as_str()))
                .filter(|resource| !refused.contains_key(&resource.name()))
                .collect();
            if due.is_empty() {
                break;
            }
            let deletions = due.into_iter().map(|resource| async {
                let result = self.delete_all(namespace, resource).await;
                (resource.name(), result)
            });
            let deletions: Vec<_> = deletions.collect();
            let mut results = stream::iter(deletions).buffer_unordered(IN_FLIGHT_MAX);
            while let Some((name, result)) = results.next().await {
                if let Err(error) = result {
                    refused.insert(name, message(&error));
                }
            }
        }
        // What has gone all the same, or was deleted by somebody else, did not fail.
        refused.retain(|name, _| {
            let mut left = found.left.iter();
            left.any(|left| left.resource == *name && left.untouched > 0)
        });
        found.failures.append(&mut refused);
        found
    }

    /// The resources that may be in a namespace, and why there may be more.
    async fn resources(&self) -> (Vec<Resource>, Option<String>) {
        match discover(&self.context.connect.client).await {
            Ok(discovered) => {
                let failure = discovered.failure();
                let mut resources = discovered.resources;
                resources.retain(|resource| resource.namespaced && resource.can("list"));
                resources.retain(|resource| resource.can("delete"));
                // The same objects under another name.
                resources.retain(|resource| resource.name() != "events.events.k8s.io");
                (resources, failure)
            }
            Err(error) => (Vec::new(), Some(message(&error))),
        }
    }

    fn api(&self, namespace: &str, resource: &Resource) -> Api<PartialObjectMeta<DynamicObject>> {
        let client = self.context.connect.client.clone();
        Api::namespaced_with(client, namespace, &resource.api)
    }

    async fn look(&self, namespace: &str, resources: &[Resource]) -> Found {
        let looks = resources.iter().map(|resource| async move {
            let result = self.look_at(namespace, resource).await;
            (resource.name(), result)
        });
        let looks: Vec<_> = looks.collect();
        let mut found = Found::default();
        let mut results = stream::iter(looks).buffer_unordered(IN_FLIGHT_MAX);
        while let Some((name, result)) = results.next().await {
            match result {
                Ok(left) => found.left.push(left),
                Err(error) => drop(found.failures.insert(name, message(&error))),
            }
        }
        found.left.sort_by(|a, b| a.resource.cmp(&b.resource));
        found
    }

    async fn look_at(&self, namespace: &str, resource: &Resource) -> kube::Result<Left> {
        let api = self.api(namespace, resource);
        let mut left = Left {
            resource: resource.name(),
            ..Left::default()
        };
        let mut params = ListParams::default().limit(500);
        loop {
            let list = match api.list(&params).await {
                // Discovery told of it, but it cannot be listed: nothing of it can be in the namespace.
                Err(error) if is_unsupported(&error) => return Ok(left),
                result => result?,
            };
            for object in &list.items {
                left.count += 1;
                left.untouched += usize::from(!is_deleted(&object.metadata));
                let mut by_name: BTreeMap<String, usize> = std::mem::take(&mut left.finalizers);
                for name in object.finalizers() {
                    *by_name.entry(name.clone()).or_default() += 1;
                }
                left.finalizers = by_name;
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(left),
            }
        }
    }

    async fn delete_all(&self, namespace: &str, resource: &Resource) -> kube::Result<()> {
        let api = self.api(namespace, resource);
        let params = DeleteParams::background();
        if resource.can("deletecollection") {
            match api.delete_collection(&params, &ListParams::default()).await {
                Err(error) if is_unsupported(&error) => (),
                result => return result.map(drop),
            }
        }
        for object in api.list(&ListParams::default()).await? {
            match api.delete(&object.name_any(), &params).await {
                Err(error) if is_not_found(&error) => (),
                result => drop(result?),
            }
        }
        Ok(())
    }

    async fn finalize(&self, api: &Api<Namespace>, mut namespace: Namespace) -> anyhow::Result<()> {
        let finalizers = &mut namespace.spec.get_or_insert_default().finalizers;
        finalizers
            .get_or_insert_default()
            .retain(|name| name != FINALIZER);
        let name = namespace.name_any();
        let post = self.context.connect.post();
        let result: kube::Result<Namespace> = api
            .replace_subresource("finalize", &name, &post, &namespace)
            .await;
        match result {
            Err(error) if is_not_found(&error) => Ok(()),
            result => result.map(drop).context("finalizing"),
        }
    }
}

#[cfg(test)]
mod tests;
