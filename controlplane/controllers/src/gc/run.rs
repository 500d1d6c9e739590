//! The loop around the garbage collector: it follows every resource that can be deleted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use keelson_component::error::{is_conflict, is_not_found};
use keelson_component::{Change, EventType, Informer, Outcome, Queue, work};
use kube::api::{DeleteParams, ObjectMeta, Patch, Preconditions};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::decide::{Action, OwnerState, Policy, decide};
use super::graph::{Graph, Identity, Node, Work};
use super::{FOREGROUND, ORPHAN};
use crate::context::Context;
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
    /// By group and kind.
    resources: Arc<Mutex<HashMap<(String, String), Resource>>>,
    /// Owners that were looked for and are gone, as their dependents name them. A UID never comes back.
    absent: Arc<Mutex<HashSet<(String, String)>>>,
    /// The kinds that the process watches anyhow, by group and plural.
    shared: Vec<(String, String)>,
    /// The watches of which not everything is known yet, or was not when somebody last asked.
    begun: Arc<Mutex<Vec<CancellationToken>>>,
}

fn group_of(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

impl Collector {
    /// Listens to the informers that the process has anyhow.
    pub fn new(context: Context, informers: &mut Informers) -> Self {
        let mut this = Collector {
            context,
            queue: Queue::default(),
            graph: Arc::default(),
            resources: Arc::default(),
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
        for resource in found {
            let needed = ["list", "watch", "delete"];
            // Events have no owners, and there are many.
            if !needed.iter().all(|verb| resource.can(verb)) || resource.api.plural == "events" {
                continue;
            }
            let key = (resource.api.group.clone(), resource.api.kind.clone());
            self.resources.lock().insert(key, resource.clone());
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

    /// Whether the graph has every object that there was when its kind began to be watched.
    fn knows_all(&self) -> bool {
        let mut begun = self.begun.lock();
        begun.retain(|synced| !synced.is_cancelled());
        begun.is_empty()
    }

    fn api(&self, api_version: &str, kind: &str, namespace: &str) -> Option<Api<Meta>> {
        let key = (group_of(api_version).to_owned(), kind.to_owned());
        let resource = self.resources.lock().get(&key).cloned()?;
        let client = self.context.connect.client.clone();
        Some(if resource.namespaced {
            Api::namespaced_with(client, namespace, &resource.api)
        } else {
            Api::all_with(client, &resource.api)
        })
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

    /// An object, live; if it is not there any more, the graph is told.
    async fn live(&self, identity: &Identity) -> anyhow::Result<Option<(Api<Meta>, Meta)>> {
        let api = self.api(&identity.api_version, &identity.kind, &identity.namespace);
        let api = api.with_context(|| format!("no resource of kind {} is known", identity.kind))?;
        let live = api.get_opt(&identity.name).await?;
        match live.filter(|live| live.uid().as_ref() == Some(&identity.uid)) {
            Some(live) => Ok(Some((api, live))),
            None => {
                let work = self.graph.lock().remove(&identity.uid);
                work.into_iter().for_each(|work| self.queue.add(work));
                Ok(None)
            }
        }
    }

    async fn consider(&self, uid: &str) -> anyhow::Result<()> {
        let node = match self.graph.lock().get(uid) {
            None => return Ok(()),
            Some(node) if node.deleted && !node.foreground => return Ok(()),
            Some(node) => node.clone(),
        };
        if !node.foreground && self.is_plainly_owned(&node) {
            return Ok(());
        }
        let Some((api, live)) = self.live(&node.identity).await? else {
            return Ok(());
        };
        if node.foreground {
            return self.finish_foreground(&api, &live, uid).await;
        }
        let mut owners = Vec::new();
        for reference in live.owner_references() {
            let state = self.owner_state(&node.identity, reference).await?;
            owners.push((reference.clone(), state));
        }
        let (has_dependents, has_waiting) = {
            let graph = self.graph.lock();
            let waiting = graph.dependents(uid).any(|dependent| dependent.foreground);
            (graph.dependents(uid).next().is_some(), waiting)
        };
        match decide(&live.metadata, &owners, has_dependents, has_waiting) {
            Action::Keep => Ok(()),
            Action::DropOwners(uids) => {
                let keep = |owner: &&OwnerReference| !uids.contains(&owner.uid);
                self.set_owners(&api, &live, keep, |_| ()).await
            }
            Action::Delete { policy, unblock } => {
                let mut live = live;
                if unblock {
                    let unblock =
                        |owner: &mut OwnerReference| owner.block_owner_deletion = Some(false);
                    self.set_owners(&api, &live, |_| true, unblock).await?;
                    live = api.get(&live.name_any()).await?;
                }
                self.delete(&api, &live.metadata, policy).await
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

    fn is_namespaced(&self, reference: &OwnerReference) -> bool {
        let key = (
            group_of(&reference.api_version).to_owned(),
            reference.kind.clone(),
        );
        let resources = self.resources.lock();
        resources
            .get(&key)
            .is_some_and(|resource| resource.namespaced)
    }

    fn tell_of_namespace(&self, dependent: &Identity, owner: &OwnerReference) {
        let object = ObjectReference {
            api_version: Some(dependent.api_version.clone()),
            kind: Some(dependent.kind.clone()),
            name: Some(dependent.name.clone()),
            uid: Some(dependent.uid.clone()),
            ..ObjectReference::default()
        };
        let message = format!(
            "its owner {} {} lives in a namespace, and it does not",
            owner.kind, owner.name
        );
        let recorder = &self.context.recorder;
        recorder.record(
            object,
            EventType::Warning,
            "OwnerRefInvalidNamespace",
            message,
        );
    }

    async fn owner_state(
        &self,
        dependent: &Identity,
        reference: &OwnerReference,
    ) -> anyhow::Result<OwnerState> {
        let known = {
            let graph = self.graph.lock();
            graph
                .owner(dependent, reference)
                .map(|owner| owner.foreground)
        };
        match known {
            Some(true) => return Ok(OwnerState::Waiting),
            Some(false) => return Ok(OwnerState::Solid),
            None => (),
        }
        if dependent.namespace.is_empty() && self.is_namespaced(reference) {
            // It is in no namespace where its owner could be looked for; that is a mistake, and no reason to delete it.
            self.tell_of_namespace(dependent, reference);
            return Ok(OwnerState::Solid);
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
            return Ok(OwnerState::Absent);
        }
        // Whatever the graph does not know is looked for by its name, and must be the one of that UID.
        let (version, kind) = (&reference.api_version, &reference.kind);
        let api = self.api(version, kind, &dependent.namespace);
        let api =
            api.with_context(|| format!("no resource of the owner's kind {kind} is known"))?;
        let live = api.get_opt(&reference.name).await?;
        let Some(live) = live.filter(|live| live.uid().as_ref() == Some(&reference.uid)) else {
            let mut absent = self.absent.lock();
            if absent.len() >= ABSENT_MAX {
                absent.clear();
            }
            absent.insert(absence);
            return Ok(OwnerState::Absent);
        };
        let waits = Node::of(version, kind, &live.metadata).is_some_and(|node| node.foreground);
        Ok(if waits {
            OwnerState::Waiting
        } else {
            OwnerState::Solid
        })
    }

    /// An owner that goes after its dependents: it may go when none holds it up, and those that do shall go.
    async fn finish_foreground(
        &self,
        api: &Api<Meta>,
        live: &Meta,
        uid: &str,
    ) -> anyhow::Result<()> {
        let blocking: Vec<Node> = {
            let graph = self.graph.lock();
            graph
                .dependents(uid)
                .filter(|node| node.blocks(uid))
                .cloned()
                .collect()
        };
        if blocking.is_empty() {
            return self.drop_finalizer(api, live, FOREGROUND).await;
        }
        for node in blocking.into_iter().filter(|node| !node.deleted) {
            self.queue.add(Work::Consider(node.identity.uid));
        }
        Ok(())
    }

    async fn orphan(&self, uid: &str) -> anyhow::Result<()> {
        let (identity, dependents) = {
            let graph = self.graph.lock();
            let Some(node) = graph.get(uid).filter(|node| node.orphaning) else {
                return Ok(());
            };
            let dependents: Vec<_> = graph
                .dependents(uid)
                .map(|node| node.identity.clone())
                .collect();
            (node.identity.clone(), dependents)
        };
        for dependent in dependents {
            if let Some((api, live)) = self.live(&dependent).await? {
                let keep = |owner: &&OwnerReference| owner.uid != uid;
                self.set_owners(&api, &live, keep, |_| ()).await?;
            }
        }
        match self.live(&identity).await? {
            Some((api, live)) => self.drop_finalizer(&api, &live, ORPHAN).await,
            None => Ok(()),
        }
    }

    async fn set_owners(
        &self,
        api: &Api<Meta>,
        live: &Meta,
        keep: impl Fn(&&OwnerReference) -> bool,
        change: impl Fn(&mut OwnerReference),
    ) -> anyhow::Result<()> {
        let mut owners: Vec<_> = live
            .owner_references()
            .iter()
            .filter(keep)
            .cloned()
            .collect();
        owners.iter_mut().for_each(change);
        if owners == live.owner_references() {
            return Ok(());
        }
        let owners = if owners.is_empty() {
            Value::Null
        } else {
            json!(owners)
        };
        self.patch(api, live, json!({"ownerReferences": owners}))
            .await
    }

    async fn drop_finalizer(&self, api: &Api<Meta>, live: &Meta, name: &str) -> anyhow::Result<()> {
        let mut finalizers = live.finalizers().to_vec();
        finalizers.retain(|known| known != name);
        if finalizers.len() == live.finalizers().len() {
            return Ok(());
        }
        self.patch(api, live, json!({"finalizers": finalizers}))
            .await
    }

    async fn patch(&self, api: &Api<Meta>, live: &Meta, mut metadata: Value) -> anyhow::Result<()> {
        metadata["uid"] = json!(live.uid());
        metadata["resourceVersion"] = json!(live.resource_version());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match api
            .patch(&live.name_any(), &self.context.connect.patch(), &patch)
            .await
        {
            Err(error) if is_not_found(&error) => Ok(()),
            result => result
                .map(drop)
                .with_context(|| format!("changing {}", live.name_any())),
        }
    }

    async fn delete(
        &self,
        api: &Api<Meta>,
        live: &ObjectMeta,
        policy: Policy,
    ) -> anyhow::Result<()> {
        let params = match policy {
            Policy::Background => DeleteParams::background(),
            Policy::Foreground => DeleteParams::foreground(),
            Policy::Orphan => DeleteParams::orphan(),
        };
        // The version too: whoever gave it another owner meanwhile wants it to stay.
        let params = params.preconditions(Preconditions {
            uid: live.uid.clone(),
            resource_version: live.resource_version.clone(),
        });
        let name = live.name.clone().unwrap_or_default();
        match api.delete(&name, &params).await {
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) if is_conflict(&error) => {
                Err(error).with_context(|| format!("{name} has changed"))
            }
            result => result.map(drop).with_context(|| format!("deleting {name}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_component::{Connect, Recorder};

    use super::*;

    /// A collector whose every request is refused, with a role that has a pod for its owner.
    fn collector() -> Collector {
        let answer = |_: http::Request<kube::client::Body>| {
            let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            std::future::ready(Err::<http::Response<kube::client::Body>, _>(error))
        };
        let connect = Connect {
            client: kube::Client::new(tower::service_fn(answer), "default"),
            name: "tester".into(),
            ca_pem: None,
        };
        let recorder = Recorder::silent();
        Collector::new(Context { connect, recorder }, &mut Informers::default())
    }

    fn going(finalizer: &str) -> Node {
        let meta = json!({
            "name": "owner", "namespace": "default", "uid": "owner", "finalizers": [finalizer],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        });
        let meta = serde_json::from_value(meta).unwrap();
        Node::of("apps/v1", "Deployment", &meta).unwrap()
    }

    #[tokio::test]
    async fn no_owner_goes_before_all_its_dependents_can_be_known() {
        let kinds = [
            (ORPHAN, Work::Orphan as fn(String) -> Work),
            (FOREGROUND, Work::Consider),
        ];
        for (finalizer, work) in kinds {
            let collector = collector();
            let synced = CancellationToken::new();
            collector.begun.lock().push(synced.clone());
            collector.graph.lock().observe(going(finalizer));
            let outcome = collector.sync(work("owner".into())).await.unwrap();
            assert_eq!(outcome, Outcome::After(LOOK_AGAIN));
            synced.cancel();
            // Now it is tried.
            collector.sync(work("owner".into())).await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn an_owner_in_no_namespace_that_could_be_is_no_reason_to_delete() {
        let collector = collector();
        let pods = ("".to_owned(), "Pod".to_owned());
        let resource = Resource {
            api: kube::api::ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()),
            namespaced: true,
            verbs: Vec::new(),
        };
        collector.resources.lock().insert(pods, resource);
        let dependent = Identity {
            api_version: "rbac.authorization.k8s.io/v1".into(),
            kind: "ClusterRole".into(),
            namespace: String::new(),
            name: "role".into(),
            uid: "role".into(),
        };
        let reference = OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: "owner".into(),
            uid: "owner".into(),
            ..OwnerReference::default()
        };
        let state = collector.owner_state(&dependent, &reference).await;
        assert_eq!(state.unwrap(), OwnerState::Solid);
    }
}
