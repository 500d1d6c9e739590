//! What every namespace has: a default service account, and the certificate of the API server's authority.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use keelson_component::error::{is_already_exists, is_namespace_terminating, is_not_found};
use keelson_component::{Change, Key, Outcome, Queue, Store, merge_patch, work};
use kube::api::{ObjectMeta, Patch};
use kube::{Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::common::meta::is_deleted;
use crate::context::Context;
use crate::informers::Informers;

const SERVICE_ACCOUNT: &str = "default";
const ROOT_CA_MAP: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
     guaranteed across distributions of Kubernetes clusters.";

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the service account.
    CreateServiceAccount,
    /// Create the map with the certificate.
    CreateRootCa(Box<ConfigMap>),
    /// Put the map right.
    UpdateRootCa(Box<ConfigMap>),
}

/// Says what is missing in a namespace.
pub fn reconcile(
    namespace: &Namespace,
    has_service_account: bool,
    map: Option<&ConfigMap>,
    root_ca: Option<&str>,
) -> Vec<Action> {
    let phase = namespace
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if is_deleted(&namespace.metadata) || phase == Some("Terminating") {
        return Vec::new();
    }
    let mut actions = Vec::new();
    if !has_service_account {
        actions.push(Action::CreateServiceAccount);
    }
    let Some(root_ca) = root_ca else {
        return actions;
    };
    let data = BTreeMap::from([(ROOT_CA_KEY.to_owned(), root_ca.to_owned())]);
    match map {
        None => {
            let annotations = BTreeMap::from([(DESCRIPTION.into(), DESCRIPTION_TEXT.into())]);
            let metadata = ObjectMeta {
                name: Some(ROOT_CA_MAP.into()),
                namespace: namespace.metadata.name.clone(),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            };
            actions.push(Action::CreateRootCa(Box::new(ConfigMap {
                metadata,
                data: Some(data),
                ..ConfigMap::default()
            })));
        }
        Some(map) if map.data.as_ref() != Some(&data) => {
            let mut map = map.clone();
            map.data = Some(data);
            actions.push(Action::UpdateRootCa(Box::new(map)));
        }
        Some(_) => (),
    }
    actions
}

/// The controller of what every namespace has.
#[derive(Clone)]
pub struct Defaults {
    context: Context,
    root_ca: Option<String>,
    queue: Queue<Key>,
    namespaces: Store<Namespace>,
    service_accounts: Store<ServiceAccount>,
    maps: Store<ConfigMap>,
}

impl Defaults {
    /// Listens to the informers. Without a root certificate there are no maps of it.
    pub fn new(context: Context, informers: &mut Informers, root_ca: Option<String>) -> Self {
        let this = Defaults {
            context,
            root_ca,
            queue: Queue::default(),
            namespaces: informers.namespaces().store(),
            service_accounts: informers.default_service_accounts().store(),
            maps: informers.root_ca_maps().store(),
        };
        let queue = this.queue.clone();
        informers.namespaces().on_change(move |change| {
            if let Change::Applied { new, .. } = change {
                queue.add(Key::of(&***new));
            }
        });
        let queue = this.queue.clone();
        informers
            .default_service_accounts()
            .on_change(move |change| {
                if let Change::Deleted { last } = change {
                    queue.add(Key::new("", last.namespace().unwrap_or_default()));
                }
            });
        let queue = this.queue.clone();
        informers.root_ca_maps().on_change(move |change| {
            let (Change::Applied { new: map, .. } | Change::Deleted { last: map }) = change;
            queue.add(Key::new("", map.namespace().unwrap_or_default()));
        });
        this
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, workers: usize, stop: CancellationToken) {
        let sync = |key: Key| async { self.sync(key).await };
        work(self.queue.clone(), workers, stop, sync).await;
    }

    async fn sync(&self, key: Key) -> anyhow::Result<Outcome> {
        let Some(namespace) = self.namespaces.get(&key) else {
            return Ok(Outcome::Done);
        };
        let in_it = |name: &str| Key::new(&*key.name, name);
        let account = self.service_accounts.get(&in_it(SERVICE_ACCOUNT));
        let map = self.maps.get(&in_it(ROOT_CA_MAP));
        let actions = reconcile(
            &namespace,
            account.is_some(),
            map.as_deref(),
            self.root_ca.as_deref(),
        );
        for action in actions {
            match action {
                Action::CreateServiceAccount => {
                    let mut account = ServiceAccount::default();
                    account.metadata.name = Some(SERVICE_ACCOUNT.into());
                    self.create(&key.name, &account).await?;
                }
                Action::CreateRootCa(map) => self.create(&key.name, &*map).await?,
                Action::UpdateRootCa(new) => {
                    if let Some(patch) = map.as_deref().and_then(|old| merge_patch(old, &*new)) {
                        let api = self.context.api::<ConfigMap>(&key.name);
                        let params = self.context.connect.patch();
                        api.patch(ROOT_CA_MAP, &params, &Patch::Merge(patch))
                            .await
                            .context("putting the root certificate right")?;
                    }
                }
            }
        }
        Ok(Outcome::Done)
    }

    async fn create<K>(&self, namespace: &str, object: &K) -> anyhow::Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api = self.context.api::<K>(namespace);
        match api.create(&self.context.connect.post(), object).await {
            // There already, or there is no place for it any more.
            Err(error)
                if is_already_exists(&error)
                    || is_not_found(&error)
                    || is_namespace_terminating(&error) =>
            {
                Ok(())
            }
            result => result
                .map(drop)
                .context("creating what every namespace has"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(phase: &str) -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("dev".into());
        namespace.status.get_or_insert_default().phase = Some(phase.into());
        namespace
    }

    #[test]
    fn what_is_missing_is_created_and_what_is_wrong_put_right() {
        let active = namespace("Active");
        let actions = reconcile(&active, false, None, Some("PEM"));
        let [Action::CreateServiceAccount, Action::CreateRootCa(map)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(reconcile(&active, true, Some(map), Some("PEM")), []);
        let actions = reconcile(&active, true, Some(map), Some("NEW"));
        let [Action::UpdateRootCa(map)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(map.data.as_ref().unwrap()["ca.crt"], "NEW");
        assert_eq!(reconcile(&active, true, None, None), []);
    }

    #[test]
    fn a_namespace_that_is_going_is_given_nothing() {
        assert_eq!(
            reconcile(&namespace("Terminating"), false, None, Some("PEM")),
            []
        );
    }
}
