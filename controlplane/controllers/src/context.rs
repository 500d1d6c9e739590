//! What every controller's loop is given, and the writes that several of them make.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::bail;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use keelson_component::error::is_not_found;
use keelson_component::{Connect, EventType, Recorder, changes, reference};
use kube::api::{DeleteParams, Patch, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::common::meta::is_deleted;
use crate::common::owner::controller_reference;

/// How many requests of one kind of work are on their way at once.
pub const IN_FLIGHT_MAX: usize = 32;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time on this process' monotonic clock.
pub fn elapsed() -> Duration {
    STARTED.elapsed()
}

/// A connection, and where events go. Cloning shares both.
#[derive(Clone)]
pub struct Context {
    /// The connection.
    pub connect: Connect,
    /// Takes this controller's events.
    pub recorder: Recorder,
}

impl Context {
    /// The objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.connect.client.clone(), namespace)
    }

    /// Records what happened to an object.
    pub fn tell<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        event: EventType,
        reason: &str,
        message: String,
    ) {
        self.recorder
            .record(reference(object), event, reason, message);
    }

    /// Replaces an object's owner references, if it is still at the version that was read.
    pub async fn set_owners<K>(&self, object: &K, owners: &[OwnerReference]) -> kube::Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let patch = json!({"metadata": {
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "ownerReferences": if owners.is_empty() { Value::Null } else { json!(owners) },
        }});
        let api = self.api::<K>(&object.namespace().unwrap_or_default());
        api.patch(
            &object.name_any(),
            &self.connect.patch(),
            &Patch::Merge(patch),
        )
        .await
    }

    /// Makes `owner` the one who manages an object that has none, if the owner really still is there: the store may be
    /// behind, and a deleted owner must not take on anything. Says whether the object was still there.
    pub async fn adopt<O, K>(&self, owner: &O, object: &K) -> anyhow::Result<bool>
    where
        O: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let namespace = owner.namespace().unwrap_or_default();
        let live = self.api::<O>(&namespace).get(&owner.name_any()).await?;
        if live.uid() != owner.uid() {
            bail!(
                "{namespace}/{} was replaced by another of that name",
                owner.name_any()
            );
        }
        if is_deleted(live.meta()) {
            bail!("{namespace}/{} has just been deleted", owner.name_any());
        }
        // Who is named already, and does not manage it, is named once.
        let mut owners = object.owner_references().to_vec();
        owners.retain(|reference| Some(&reference.uid) != owner.meta().uid.as_ref());
        owners.push(controller_reference(owner));
        match self.set_owners(object, &owners).await {
            Err(error) if is_not_found(&error) => Ok(false),
            result => Ok(result.map(|_| true)?),
        }
    }

    /// Takes `owner` out of an object's owner references.
    pub async fn release<O, K>(&self, owner: &O, object: &K) -> kube::Result<()>
    where
        O: Resource,
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let mut owners = object.owner_references().to_vec();
        owners.retain(|reference| Some(&reference.uid) != owner.meta().uid.as_ref());
        self.set_owners(object, &owners).await.map(drop)
    }

    /// Writes a status, if the object is still at `version`.
    pub async fn set_status<K, S>(
        &self,
        object: &K,
        version: Option<String>,
        old: &Option<S>,
        new: &S,
    ) -> kube::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
        S: Serialize,
    {
        let api = self.api::<K>(&object.namespace().unwrap_or_default());
        if let Some(patch) = status_patch(version, old, new) {
            let (name, params) = (object.name_any(), self.connect.patch());
            api.patch_status(&name, &params, &Patch::Merge(patch))
                .await?;
        }
        Ok(())
    }
}

/// The merge patch of a status, if there is anything to change.
pub fn status_patch<S: Serialize>(
    version: Option<String>,
    old: &Option<S>,
    new: &S,
) -> Option<Value> {
    let old = serde_json::to_value(old).expect("a status serializes");
    let new = serde_json::to_value(new).expect("a status serializes");
    let old = if old.is_null() { json!({}) } else { old };
    let status = changes(&old, &new)?;
    Some(json!({"metadata": {"resourceVersion": version}, "status": status}))
}

/// Deletes this very object, and no other of its name.
pub fn delete_this<K: Resource>(object: &K) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions {
        uid: object.meta().uid.clone(),
        resource_version: None,
    })
}

/// Whether a request that failed so may have been carried out all the same.
pub fn may_have_happened(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500,
        kube::Error::BuildRequest(_) | kube::Error::HttpError(_) | kube::Error::Auth(_) => false,
        error => !found_nobody(error),
    }
}

/// Whether a request was never sent, since nobody took the connection.
fn found_nobody(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn what_nobody_took_has_not_happened_and_what_was_cut_off_may_have() {
        let failed = |kind: ErrorKind| kube::Error::Service(Error::from(kind).into());
        assert!(!may_have_happened(&failed(ErrorKind::ConnectionRefused)));
        assert!(may_have_happened(&failed(ErrorKind::ConnectionReset)));
    }
}
