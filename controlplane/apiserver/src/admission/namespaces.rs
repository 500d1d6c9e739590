//! Nothing is made in a namespace that is not there, or is going away.

use serde_json::Value;

use crate::resources;
use crate::rest::{Api, Request};
use crate::status::{ApiError, ApiResult};
use crate::value;

/// Namespaces that are always there.
pub const SYSTEM: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// Those of them that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// The namespace in the body is that of the path, or is not there.
pub fn check_namespace_of(request: &Request, object: &mut Value) -> ApiResult<()> {
    let said = value::namespace(object).to_owned();
    if !request.resource.namespaced {
        if !said.is_empty() {
            value::remove(object, &["metadata", "namespace"]);
        }
        return Ok(());
    }
    if said.is_empty() {
        value::set(
            object,
            &["metadata", "namespace"],
            request.namespace.as_str(),
        );
    } else if said != request.namespace {
        return Err(ApiError::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request, ({said} != {})",
            request.namespace
        )));
    }
    Ok(())
}

/// Whether something may be made in the request's namespace.
pub async fn namespace_is_open(api: &Api, request: &Request) -> ApiResult<()> {
    if !request.resource.namespaced {
        return Ok(());
    }
    let name = request.namespace.as_str();
    let namespaces = resources::namespaces();
    let cache = api.caches.of(namespaces);
    let mut found = cache.get(name);
    if found.is_none() {
        // Perhaps it was made a moment ago.
        api.caches.catch_up().await?;
        found = cache.get(name);
    }
    let Some(entry) = found else {
        return Err(ApiError::not_found(namespaces.subject(name)));
    };
    // Its phase is a selectable field, so that the namespace need not be decoded.
    if entry.field(namespaces, "status.phase") == "Terminating" {
        return Err(ApiError::namespace_terminating(request.subject(), name));
    }
    Ok(())
}

/// Whether the request's object may be deleted.
pub fn may_delete(request: &Request) -> ApiResult<()> {
    let is_namespace = request.resource.storage == "namespaces";
    if is_namespace && IMMORTAL.contains(&request.name.as_str()) {
        return Err(ApiError::forbidden(
            request.subject(),
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}
