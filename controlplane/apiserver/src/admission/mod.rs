//! Admission: what has to hold around an object, and what is added to it, before it is stored.
//!
//! Here is what needs more than the object itself: its namespace, its service account, free addresses.

mod addresses;
mod namespaces;
mod own_node;
mod pods;

use serde_json::Value;

pub use addresses::{Taken, check_asked_claims, claims_of_change, claims_of_new};
pub use namespaces::{
    SYSTEM as SYSTEM_NAMESPACES, check_namespace_of, may_delete, namespace_is_open,
    namespace_is_still_open, system_namespaces_are_there,
};

pub use own_node::{check_change_of_node, check_deletion_by_node, check_new_of_node};

use crate::resources::Resource;
use crate::rest::Api;
use crate::status::ApiResult;

/// Adds to a new object what depends on others.
pub async fn mutate_new(api: &Api, resource: &Resource, object: &mut Value) -> ApiResult<()> {
    if resource.storage == "pods" {
        pods::default_tolerations(object);
        pods::service_account(api, object).await?;
    }
    Ok(())
}
