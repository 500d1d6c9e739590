//! Where the Lease is kept: the API server, or a test's memory.

use std::future::Future;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;

use crate::error::{is_already_exists, is_conflict};

/// One Lease, written by compare-and-put.
pub trait Leases: Send + Sync {
    /// The Lease, if there is one.
    fn read(&self) -> impl Future<Output = anyhow::Result<Option<Lease>>> + Send;

    /// Writes the Lease: creates it if `lease` has no resource version, and otherwise replaces that very version.
    /// `None` if somebody else was first.
    fn write(&self, lease: &Lease) -> impl Future<Output = anyhow::Result<Option<Lease>>> + Send;
}

/// A Lease of the API server, by its name.
pub struct Served {
    /// The Leases of its namespace.
    pub api: Api<Lease>,
    /// Its name.
    pub name: String,
    /// As whom to write.
    pub post: PostParams,
}

impl Leases for Served {
    async fn read(&self) -> anyhow::Result<Option<Lease>> {
        Ok(self.api.get_opt(&self.name).await?)
    }

    async fn write(&self, lease: &Lease) -> anyhow::Result<Option<Lease>> {
        let result = if lease.metadata.resource_version.is_none() {
            self.api.create(&self.post, lease).await
        } else {
            self.api.replace(&self.name, &self.post, lease).await
        };
        match result {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if is_conflict(&error) || is_already_exists(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
