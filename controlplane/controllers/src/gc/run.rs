//! The loop around the garbage collector: it follows every resource that can be deleted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use keelson_component::error::is_not_found;
use keelson_component::{Change, EventType, Informer, Outcome, Queue, work};
use kube::api::{DeleteParams, Patch, Preconditions};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::decide::{Action, OwnerState, Policy, decide};
use super::graph::{Graph, Identity, Node, Work};
use super::kinds::Kinds;
use super::{FOREGROUND, ORPHAN};
use crate::context::{Context, IN_FLIGHT_MAX};
use crate::discovery::{Resource, discover};
use crate::informers::Informers;

/// How often to look whether there are new resources.
const REDISCOVER: Duration = Duration::from_secs(30);
/// By when the watches of all resources must have begun; one that cannot must not hold up the others for ever.
const SYNC_TIME_MAX: Duration = Duration::from_secs(30);

/// When to look again at what cannot be done yet.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many absent owners are remembered: a replica set with a thousand pods is looked for once.
const ABSENT_MAX: usize = 500;

type Meta = PartialObjectMeta<DynamicObject>;

/// The garbage collector.
#[derive(Clone)]
pub struct Collector {
    context: Context,
    queue: Queue<Work>,
    graph: Arc<Mutex<Graph>>,
    kinds: Arc<Mutex<Kinds>>,
    /// Whether the kinds of all groups were known at any time.
    discovered_all: Arc<AtomicBool>,
    /// Owners that were looked for and are gone, as their dependents name them. A UID never comes back.
    absent: Arc<Mutex<HashSet<(String, String)>>>,
    /// The kinds that the process watches anyhow, by group and plural.
    shared: Vec<(String, String)>,
    /// The watches of which not everything is known yet, or was not when somebody last asked.
    begun: Arc<Mutex<Vec<CancellationToken>>>,
}

impl Collector {
    /// Listens to the informers that the process has anyhow.
    pub fn new(context: Context, informers: &mut Informers) -> Self {
        let mut this = Collector {
            context,
            queue: Queue::default(),
            graph: Arc::default(),
            kinds: Arc::default(),
            discovered_all: Arc::default(),
            absent: Arc::default(),
            shared: Vec::new(),
            begun: Arc::default(),
        };
        macro_rules! share {
            ($($kind:ident),*) => {$(this.share(informers.$kind());)*};
        }
        share!(
            deployments,
            replica_sets,
            pods,
            services,
            endpoints,
            endpoint_slices,
            nodes
        );
        share!(leases, namespaces);
        this
    }

    fn share<K>(&mut self, informer: &mut Informer<K>)
    where
        K: kube::Resource<DynamicType = ()> + 'static,
    {
        let api_version = K::api_version(&()).into_owned();
        let kind = K::kind(&()).into_owned();
        self.shared
            .push((K::group(&()).into_owned(), K::plural(&()).into_owned()));
        let own = self.clone();
        informer.on_change(move |change| own.observe(&api_version, &kind, change));
    }

    fn observe<K: kube::Resource>(&self, api_version: &str, kind: &str, change: &Change<'_, K>) {
        let work = match change {
            Change::Applied { new, .. } => match Node::of(api_version, kind, new.meta()) {
                Some(node) => self.graph.lock().observe(node),
                None => return,
            },
            Change::Deleted { last } => {
                let uid = last.meta().uid.as_deref().unwrap_or_default();
                self.kinds.lock().forget(uid);
                self.graph.lock().remove(uid)
            }
        };
        work.into_iter().for_each(|work| self.queue.add(work));
    }

    /// Works until `stop`. The shared stores must be complete.
    pub async fn run(self, workers: usize, stop: CancellationToken) {
        let mut watches = JoinSet::new();
        let mut watched = Vec::new();
        let begin = async {
            while let Err(error) = self.watch_new(&mut watches, &mut watched, &stop).await {
                warn!(%error, "cannot discover the resources");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let begun = self.begun.lock().clone();
            let all = join_all(begun.iter().map(CancellationToken::cancelled));
            if tokio::time::timeout(SYNC_TIME_MAX, all).await.is_err() {
                warn!(
                    "not all resources can be watched: no owner that has its dependents wait can go"
                );
            }
        };
        if stop.run_until_cancelled(begin).await.is_none() {
            return;
        }
        let rediscover = async {
            loop {
                tokio::time::sleep(REDISCOVER).await;
                if let Err(error) = self.watch_new(&mut watches, &mut watched, &stop).await {
                    warn!(%error, "cannot discover the resources");
                }
            }
        };
        let sync = |item: Work| async { self.sync(item).await };
        let working = work(self.queue.clone(), workers, stop.clone(), sync);
        tokio::select! {
            () = rediscover => (),
            () = working => (),
        }
    }

    /// Begins to watch the resources that are not watched yet.
    async fn watch_new(
        &self,
        watches: &mut JoinSet<()>,
        watched: &mut Vec<String>,
        stop: &CancellationToken,
    ) -> kube::Result<()> {
        let found = discover(&self.context.connect.client).await?;
        match found.failure() {
            None => self.discovered_all.store(true, Ordering::Relaxed),
            Some(why) => warn!(why, "going on with what is known"),
        }
        for resource in found.resources {
            self.serve(&resource);
            let needed = ["list", "watch", "delete"];
            // Events have no owners, and there are many.
            if !needed.iter().all(|verb| resource.can(verb)) || resource.api.plural == "events" {
                continue;
            }
            let name = resource.name();
            let plural = (resource.api.group.clone(), resource.api.plural.clone());
            if self.shared.contains(&plural) || watched.contains(&name) {
                continue;
            }
            debug!(resource = name, "watching");
            watched.push(name);
            let mut informer = Informer::<Meta>::trimmed(|object| {
                object.metadata.labels = None;
                object.metadata.annotations = None;
            });
            self.begun.lock().push(informer.synced());
            let (own, api) = (self.clone(), resource.api.clone());
            informer.on_change(move |change| own.observe(&api.api_version, &api.kind, change));
            let client = self.context.connect.client.clone();
            let api = Api::<Meta>::all_with(client, &resource.api);
            watches.spawn(informer.run(api, stop.clone()));
        }
        Ok(())
    }

    /// A kind is served: those who have an owner of it can look for that one, whether the kind is watched or not.
    fn serve(&self, resource: &Resource) {
        if !resource.can("get") {
            return;
        }
        let waited = self.kinds.lock().serve(resource.clone());
        let work = waited.into_iter().map(Work::Consider);
        work.for_each(|work| self.queue.add(work));
    }

    /// Whether all kinds are known, and the graph has every object that there was when its kind began to be watched.
    fn knows_all(&self) -> bool {
        if !self.discovered_all.load(Ordering::Relaxed) {
            return false;
        }
        let mut begun = self.begun.lock();
        begun.retain(|synced| !synced.is_cancelled());
        begun.is_empty()
    }

    fn api(&self, resource: &Resource, namespace: &str) -> Api<Meta> {
        let client = self.context.connect.client.clone();
        if resource.namespaced {
            Api::namespaced_with(client, namespace, &resource.api)
        } else {
            Api::all_with(client, &resource.api)
        }
    }

    /// Where an object of the graph is.
    fn place(&self, of: &Identity) -> anyhow::Result<Api<Meta>> {
        let kinds = self.kinds.lock();
        let resource = kinds.get(&of.api_version, &of.kind);
        let resource =
            resource.with_context(|| format!("no resource of kind {} is known", of.kind))?;
        Ok(self.api(resource, &of.namespace))
    }

    async fn sync(&self, item: Work) -> anyhow::Result<Outcome> {
        let needs_all = match &item {
            Work::Consider(uid) => self
                .graph
                .lock()
                .get(uid)
                .is_some_and(|node| node.foreground),
            Work::Orphan(_) => true,
        };
        // A dependent that is not known is one that would not be left behind, or not be waited for.
        if needs_all && !self.knows_all() {
            return Ok(Outcome::After(LOOK_AGAIN));
        }
        match item {
            Work::Consider(uid) => self.consider(&uid).await?,
            Work::Orphan(uid) => self.orphan(&uid).await?,
        }
        Ok(Outcome::Done)
    }

    /// An object is gone, though the watch has not told so yet.
    fn gone(&self, uid: &str) {
        let work = self.graph.lock().remove(uid);
        work.into_iter().for_each(|work| self.queue.add(work));
    }

    async fn consider(&self, uid: &str) -> anyhow::Result<()> {
        let node = match self.graph.lock().get(uid) {
            None => return Ok(()),
            Some(node) if node.deleted && !node.foreground => return Ok(()),
            Some(node) => node.clone(),
        };
        if node.foreground {
            return self.finish_foreground(&node).await;
        }
        if self.is_plainly_owned(&node) {
            return Ok(());
        }
        let mut owners = Vec::new();
        for reference in &node.owners {
            let Some(state) = self.owner_state(&node.identity, reference).await? else {
                debug!(
                    object = node.identity.name,
                    kind = reference.kind,
                    "the owner's kind is not served"
                );
                return Ok(());
            };
            owners.push((reference.clone(), state));
        }
        let (has_dependents, has_waiting) = {
            let graph = self.graph.lock();
            let waiting = graph.owned_by(uid).any(|dependent| dependent.foreground);
            (graph.owned_by(uid).next().is_some(), waiting)
        };
        match decide(&node.finalizers, &owners, has_dependents, has_waiting) {
            Action::Keep => Ok(()),
            Action::DropOwners(uids) => {
                let keep = |owner: &&OwnerReference| !uids.contains(&owner.uid);
                self.set_owners(&node, keep, |_| ()).await.map(drop)
            }
            Action::Delete { policy, unblock } => {
                let mut version = node.version.clone();
                if unblock {
                    let unblock = |owner: &mut OwnerReference| {
                        let blocks = &mut owner.block_owner_deletion;
                        *blocks = blocks.map(|_| false);
                    };
                    version = self.set_owners(&node, |_| true, unblock).await?;
                }
                self.delete(&node.identity, version, policy).await
            }
        }
    }

    /// Whether all owners are there, as far as the graph knows, and none waits: then there is nothing to look for.
    fn is_plainly_owned(&self, node: &Node) -> bool {
        let graph = self.graph.lock();
        let solid = |owner| {
            graph
                .owner(&node.identity, owner)
                .is_some_and(|owner| !owner.foreground)
        };
        node.owners.iter().all(solid)
    }

    fn tell_of_namespace(&self, dependent: &Identity, owner: &OwnerReference) {
        let object = ObjectReference {
            api_version: Some(dependent.api_version.clone()),
            kind: Some(dependent.kind.clone()),
            namespace: Some(dependent.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(dependent.name.clone()),
            uid: Some(dependent.uid.clone()),
            ..ObjectReference::default()
        };
        let place = if dependent.namespace.is_empty() {
            "a namespace, and it does not"
        } else {
            "another namespace"
        };
        let message = format!("its owner {} {} lives in {place}", owner.kind, owner.name);
        let recorder = &self.context.recorder;
        recorder.record(
            object,
            EventType::Warning,
            "OwnerRefInvalidNamespace",
            message,
        );
    }

    /// How it is with an owner; `None` if its kind is not served, so that nobody can tell. The dependent is considered
    /// again when it is.
    async fn owner_state(
        &self,
        dependent: &Identity,
        reference: &OwnerReference,
    ) -> anyhow::Result<Option<OwnerState>> {
        let known = {
            let graph = self.graph.lock();
            graph
                .owner(dependent, reference)
                .map(|owner| owner.foreground)
        };
        match known {
            Some(true) => return Ok(Some(OwnerState::Waiting)),
            Some(false) => return Ok(Some(OwnerState::Solid)),
            None => (),
        }
        let (version, kind) = (&reference.api_version, &reference.kind);
        let served = self.kinds.lock().get_or_wait(version, kind, &dependent.uid);
        let Some(resource) = served else {
            return Ok(None);
        };
        if dependent.namespace.is_empty() && resource.namespaced {
            // It is in no namespace where its owner could be looked for; that is a mistake, and no reason to delete it.
            self.tell_of_namespace(dependent, reference);
            return Ok(Some(OwnerState::Solid));
        }
        if self.graph.lock().is_out_of_reach(dependent, reference) {
            self.tell_of_namespace(dependent, reference);
        }
        let name = format!(
            "{} {} {}",
            reference.api_version, reference.kind, reference.name
        );
        let absence = (
            format!("{}/{name}", dependent.namespace),
            reference.uid.clone(),
        );
        if self.absent.lock().contains(&absence) {
            return Ok(Some(OwnerState::Absent));
        }
        // Whatever the graph does not know is looked for by its name, and must be the one of that UID.
        let api = self.api(&resource, &dependent.namespace);
        let live = api.get_opt(&reference.name).await?;
        let Some(live) = live.filter(|live| live.uid().as_ref() == Some(&reference.uid)) else {
            let mut absent = self.absent.lock();
            if absent.len() >= ABSENT_MAX {
                absent.clear();
            }
            absent.insert(absence);
            return Ok(Some(OwnerState::Absent));
        };
        let waits = Node::of(version, kind, &live.metadata).is_some_and(|node| node.foreground);
        Ok(Some(if waits {
            OwnerState::Waiting
        } else {
            OwnerState::Solid
        }))
    }

    /// An owner that goes after its dependents: it may go when none holds it up, and those that do shall go.
    async fn finish_foreground(&self, node: &Node) -> anyhow::Result<()> {
        let uid = &node.identity.uid;
        let blocking: Vec<Node> = {
            let graph = self.graph.lock();
            graph
                .owned_by(uid)
                .filter(|dependent| dependent.blocks(uid))
                .cloned()
                .collect()
        };
        if blocking.is_empty() {
            return self.drop_finalizer(node, FOREGROUND).await;
        }
        for dependent in blocking.into_iter().filter(|dependent| !dependent.deleted) {
            self.queue.add(Work::Consider(dependent.identity.uid));
        }
        Ok(())
    }

    async fn orphan(&self, uid: &str) -> anyhow::Result<()> {
        let (node, dependents) = {
            let graph = self.graph.lock();
            let Some(node) = graph.get(uid).filter(|node| node.orphaning) else {
                return Ok(());
            };
            let dependents: Vec<_> = graph.owned_by(uid).cloned().collect();
            (node.clone(), dependents)
        };
        let keep = |owner: &&OwnerReference| owner.uid != uid;
        let drops = dependents
            .iter()
            .map(|dependent| self.set_owners(dependent, keep, |_| ()));
        let drops: Vec<_> = drops.collect();
        let mut results = stream::iter(drops).buffer_unordered(IN_FLIGHT_MAX);
        while let Some(result) = results.next().await {
            result?;
        }
        self.drop_finalizer(&node, ORPHAN).await
    }

    /// Keeps some owners, changed. Returns the version that the object has then.
    async fn set_owners(
        &self,
        node: &Node,
        keep: impl Fn(&&OwnerReference) -> bool,
        change: impl Fn(&mut OwnerReference),
    ) -> anyhow::Result<Option<String>> {
        let mut owners: Vec<_> = node.owners.iter().filter(keep).cloned().collect();
        owners.iter_mut().for_each(change);
        if owners == node.owners {
            return Ok(node.version.clone());
        }
        let owners = if owners.is_empty() {
            Value::Null
        } else {
            json!(owners)
        };
        self.patch(node, json!({"ownerReferences": owners})).await
    }

    async fn drop_finalizer(&self, node: &Node, name: &str) -> anyhow::Result<()> {
        let mut finalizers = node.finalizers.clone();
        finalizers.retain(|known| known != name);
        self.patch(node, json!({"finalizers": finalizers}))
            .await
            .map(drop)
    }

    /// Changes an object's metadata, if it is still as the graph has it. Returns the version that it has then.
    async fn patch(&self, node: &Node, mut metadata: Value) -> anyhow::Result<Option<String>> {
        let of = &node.identity;
        metadata["uid"] = json!(of.uid);
        metadata["resourceVersion"] = json!(node.version);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let params = self.context.connect.patch();
        match self.place(of)?.patch(&of.name, &params, &patch).await {
            Ok(changed) => Ok(changed.resource_version()),
            Err(error) if is_not_found(&error) => {
                self.gone(&of.uid);
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("changing {}", of.name)),
        }
    }

    async fn delete(
        &self,
        of: &Identity,
        version: Option<String>,
        policy: Policy,
    ) -> anyhow::Result<()> {
        let params = match policy {
            Policy::Background => DeleteParams::background(),
            Policy::Foreground => DeleteParams::foreground(),
            Policy::Orphan => DeleteParams::orphan(),
        };
        // The version too: whoever gave it another owner meanwhile wants it to stay.
        let params = params.preconditions(Preconditions {
            uid: Some(of.uid.clone()),
            resource_version: version,
        });
        match self.place(of)?.delete(&of.name, &params).await {
            Err(error) if is_not_found(&error) => self.gone(&of.uid),
            result => drop(result.with_context(|| format!("deleting {}", of.name))?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
