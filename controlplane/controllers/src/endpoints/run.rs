//! The loop around a service's endpoints, in either form.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{self, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{is_namespace_terminating, is_not_found};
use keelson_component::{Change, Key, Outcome, Queue, Store, merge_patch, work};
use kube::ResourceExt;
use kube::api::Patch;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::slices::{MANAGED_BY, MANAGED_BY_LABEL};
use super::triggers::Triggers;
use super::{is_ours, legacy, selects, slices};
use crate::common::pods::node_name;
use crate::context::{Context, delete_this};
use crate::informers::{BY_SERVICE, Informers};

/// Which form to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Slices.
    Slices,
    /// The old single object.
    Legacy,
}

/// The controller of endpoints in one form.
#[derive(Clone)]
pub struct Endpoints {
    context: Context,
    form: Form,
    endpoints_max: usize,
    batch_period: Duration,
    queue: Queue<Key>,
    triggers: Arc<Mutex<Triggers>>,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    legacy: Store<v1::Endpoints>,
}

impl Endpoints {
    /// Listens to the informers.
    ///
    /// What happens to pods is taken together for `batch_period`: a hundred pods that start are not a hundred writes.
    pub fn new(
        context: Context,
        informers: &mut Informers,
        form: Form,
        endpoints_max: usize,
        batch_period: Duration,
    ) -> Self {
        let this = Endpoints {
            context,
            form,
            endpoints_max,
            batch_period,
            queue: Queue::default(),
            triggers: Arc::default(),
            services: informers.services().store(),
            pods: informers.pods().store(),
            nodes: match form {
                Form::Slices => informers.nodes().store(),
                Form::Legacy => Store::default(),
            },
            slices: match form {
                Form::Slices => informers.endpoint_slices().store(),
                Form::Legacy => Store::default(),
            },
            legacy: match form {
                Form::Slices => Store::default(),
                Form::Legacy => informers.endpoints().store(),
            },
        };
        let queue = this.queue.clone();
        informers.services().on_change(move |change| {
            let (Change::Applied { new: service, .. } | Change::Deleted { last: service }) = change;
            queue.add(Key::of(&***service));
        });
        let own = this.clone();
        informers
            .pods()
            .on_change(move |change| own.pod_changed(change));
        match form {
            Form::Slices => {
                let own = this.clone();
                informers.endpoint_slices().on_change(move |change| {
                    let (Change::Applied { new: slice, .. } | Change::Deleted { last: slice }) =
                        change;
                    if is_managed(slice)
                        && let Some(service) = slice.labels().get(slices::SERVICE_LABEL)
                    {
                        let namespace = slice.namespace().unwrap_or_default();
                        own.queue.add(Key::new(namespace, service.as_str()));
                    }
                });
                let own = this.clone();
                informers
                    .nodes()
                    .on_change(move |change| own.node_changed(change));
            }
            Form::Legacy => {
                let queue = this.queue.clone();
                informers.endpoints().on_change(move |change| {
                    let (Change::Applied { new: object, .. } | Change::Deleted { last: object }) =
                        change;
                    queue.add(Key::of(&***object));
                });
            }
        }
        this
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, workers: usize, stop: CancellationToken) {
        let sync = |key: Key| async { self.sync(key).await };
        work(self.queue.clone(), workers, stop, sync).await;
    }

    fn pod_changed(&self, change: &Change<'_, Pod>) {
        let (old, new) = match change {
            Change::Applied { old, new } => (old.map(|old| &**old), Some(&***new)),
            Change::Deleted { last } => (Some(&***last), None),
        };
        if let (Some(old), Some(new)) = (old, new)
            && !differs(old, new)
        {
            return;
        }
        let Some(namespace) = old.or(new).and_then(|pod| pod.namespace()) else {
            return;
        };
        for service in self.services.in_namespace(&namespace) {
            let Some(spec) = &service.spec else { continue };
            let mut pods = [old, new].into_iter().flatten();
            if pods.any(|pod| selects(spec, pod.metadata.labels.as_ref())) {
                self.queue.add_after(Key::of(&*service), self.batch_period);
            }
        }
    }

    /// A node came, or moved to another zone: its endpoints tell so.
    fn node_changed(&self, change: &Change<'_, Node>) {
        const ZONE: &str = "topology.kubernetes.io/zone";
        if let Change::Applied { old, new } = change {
            let before = old.and_then(|old| old.labels().get(ZONE));
            if new.labels().get(ZONE) == before {
                return;
            }
            let pods = self
                .pods
                .indexed(crate::informers::BY_NODE, &new.name_any());
            for pod in pods {
                let (old, new) = (None, &pod);
                self.pod_changed(&Change::Applied { old, new });
            }
        }
    }

    async fn sync(&self, key: Key) -> anyhow::Result<Outcome> {
        let Some(service) = self.services.get(&key) else {
            // Slices go with their owner, which the garbage collector sees to. The old form has none.
            self.triggers.lock().forget(&key);
            self.forget(&key).await?;
            return Ok(Outcome::Done);
        };
        if !is_ours(&service) {
            return Ok(Outcome::Done);
        }
        let mut pods = self.pods.in_namespace(&key.namespace);
        let spec = service.spec.clone().unwrap_or_default();
        pods.retain(|pod| selects(&spec, pod.metadata.labels.as_ref()));
        let (triggered, seen) = self.triggers.lock().look(&service, &pods);
        match self.form {
            Form::Slices => self.sync_slices(&service, &pods, triggered).await?,
            Form::Legacy => self.sync_legacy(&key, &service, &pods, triggered).await?,
        }
        self.triggers.lock().remember(&service, seen);
        Ok(Outcome::Done)
    }

    async fn forget(&self, key: &Key) -> anyhow::Result<()> {
        if self.form == Form::Legacy
            && let Some(object) = self.legacy.get(key)
            && object
                .labels()
                .contains_key("endpoints.kubernetes.io/managed-by")
        {
            let api = self.context.api::<v1::Endpoints>(&key.namespace);
            match api.delete(&key.name, &delete_this(&*object)).await {
                Err(error) if is_not_found(&error) => (),
                result => drop(result.context("deleting the endpoints of a service that is gone")?),
            }
        }
        Ok(())
    }

    async fn sync_slices(
        &self,
        service: &Service,
        pods: &[Arc<Pod>],
        triggered: Option<Timestamp>,
    ) -> anyhow::Result<()> {
        let namespace = service.namespace().unwrap_or_default();
        let index = format!("{namespace}/{}", service.name_any());
        let mut existing = self.slices.indexed(BY_SERVICE, &index);
        existing.retain(|slice| is_managed(slice));
        let names = pods.iter().filter_map(|pod| node_name(pod));
        let nodes: BTreeMap<String, Arc<Node>> = names
            .filter_map(|name| {
                let node = self.nodes.get(&Key::new("", name))?;
                Some((name.to_owned(), node))
            })
            .collect();
        let actions = slices::reconcile(&slices::Observed {
            service,
            pods,
            nodes: &nodes,
            slices: &existing,
            is_taken: &|name: &str| self.slices.get(&Key::new(&namespace, name)).is_some(),
            endpoints_max: self.endpoints_max,
            triggered,
        });
        let api = self.context.api::<EndpointSlice>(&namespace);
        let connect = &self.context.connect;
        for action in actions {
            match action {
                slices::Action::Create(slice) => {
                    let result = api.create(&connect.post(), &slice).await;
                    if result.as_ref().is_err_and(is_namespace_terminating) {
                        return Ok(());
                    }
                    result.context("creating an endpoint slice")?;
                }
                slices::Action::Update { old, new } => {
                    if let Some(patch) = merge_patch(&*old, &*new) {
                        let (name, params) = (old.name_any(), connect.patch());
                        api.patch(&name, &params, &Patch::Merge(patch))
                            .await
                            .context("updating an endpoint slice")?;
                    }
                }
                slices::Action::Delete(slice) => {
                    match api.delete(&slice.name_any(), &delete_this(&*slice)).await {
                        Err(error) if is_not_found(&error) => (),
                        result => drop(result.context("deleting an endpoint slice")?),
                    }
                }
            }
        }
        Ok(())
    }

    async fn sync_legacy(
        &self,
        key: &Key,
        service: &Service,
        pods: &[Arc<Pod>],
        triggered: Option<Timestamp>,
    ) -> anyhow::Result<()> {
        let existing = self.legacy.get(key);
        let api = self.context.api::<v1::Endpoints>(&key.namespace);
        let connect = &self.context.connect;
        match legacy::reconcile(service, pods, existing.as_ref(), triggered) {
            None => (),
            Some(legacy::Action::Create(object)) => {
                match api.create(&connect.post(), &object).await {
                    Err(error) if is_namespace_terminating(&error) => (),
                    result => drop(result.context("creating endpoints")?),
                }
            }
            Some(legacy::Action::Update { old, new }) => {
                if let Some(patch) = merge_patch(&*old, &*new) {
                    let (name, params) = (old.name_any(), connect.patch());
                    api.patch(&name, &params, &Patch::Merge(patch))
                        .await
                        .context("updating endpoints")?;
                }
            }
        }
        Ok(())
    }
}

fn is_managed(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY_LABEL).map(String::as_str) == Some(MANAGED_BY)
}

/// Whether a pod's endpoint may be another now. Most changes of a pod are of no interest to its services.
fn differs(old: &Pod, new: &Pod) -> bool {
    use crate::common::meta::is_deleted;
    use crate::common::pods::{is_ready, is_terminal};
    let status = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.map(|status| (status.pod_ip.clone(), status.pod_ips.clone()))
    };
    old.metadata.labels != new.metadata.labels
        || old.uid() != new.uid()
        || is_deleted(&old.metadata) != is_deleted(&new.metadata)
        || is_ready(old) != is_ready(new)
        || is_terminal(old) != is_terminal(new)
        || node_name(old) != node_name(new)
        || status(old) != status(new)
}

#[cfg(test)]
mod tests;
