//! Nothing is made in a namespace that is not there, or is going away.

use serde_json::Value;

use crate::cache::Entry;
use crate::resources;
use crate::rest::{Api, Request};
use crate::status::{ApiError, ApiResult, Subject};
use crate::storage::{Guard, Stored};
use crate::value;

/// Namespaces that are always there.
pub const SYSTEM: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// Those of them that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// Whether those that cannot be deleted have been made: who asks for anything before that is told that there is no `default`.
pub fn system_namespaces_are_there(api: &Api) -> bool {
    let cache = api.caches.of(resources::namespaces());
    IMMORTAL.iter().all(|name| cache.get(name).is_some())
}

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

/// Whether something may be made in the request's namespace. Gives what must not have changed when it is written, for
/// what lives in one: whoever deletes a namespace changes it first, so nothing is made in it behind his back.
pub async fn namespace_is_open(
    api: &Api,
    request: &Request,
    subject: Subject<'_>,
) -> ApiResult<Option<Guard>> {
    if !request.resource.namespaced {
        return Ok(None);
    }
    let name = request.namespace.as_str();
    let cache = api.caches.of(resources::namespaces());
    let cached = open(subject, name, cache.get(name).as_deref());
    if cached.is_ok() {
        return cached.map(Some);
    }
    // Perhaps it was made, or made again, a moment ago.
    api.caches.catch_up().await?;
    open(subject, name, cache.get(name).as_deref()).map(Some)
}

/// The same of a namespace that had changed when the object was to be written, as the store has it.
pub fn namespace_is_still_open(
    subject: Subject<'_>,
    name: &str,
    found: Option<&Stored>,
) -> ApiResult<Guard> {
    let namespaces = resources::namespaces();
    let entry =
        found.and_then(|found| Entry::of_stored(namespaces, name, found.revision, &found.value));
    open(subject, name, entry.as_ref())
}

fn open(subject: Subject<'_>, name: &str, namespace: Option<&Entry>) -> ApiResult<Guard> {
    let namespaces = resources::namespaces();
    let Some(entry) = namespace else {
        return Err(ApiError::not_found(namespaces.subject(name)));
    };
    // Its phase is a selectable field, so that the namespace need not be decoded.
    if entry.field(namespaces, "status.phase") == "Terminating" {
        return Err(ApiError::namespace_terminating(subject, name));
    }
    Ok(Guard {
        key: namespaces.key("", name),
        revision: entry.revision(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(phase: &str) -> Stored {
        Stored {
            key: "/registry/namespaces/a".to_owned(),
            value: json!({"metadata": {"name": "a"}, "status": {"phase": phase}})
                .to_string()
                .into(),
            revision: 7,
        }
    }

    fn subject() -> Subject<'static> {
        Subject {
            group: "",
            resource: "configmaps",
            name: "m",
        }
    }

    #[test]
    fn a_namespace_that_changed_in_the_meantime_may_still_be_open() {
        let guard = namespace_is_still_open(subject(), "a", Some(&found("Active"))).unwrap();
        assert_eq!(
            (guard.key.as_str(), guard.revision),
            ("/registry/namespaces/a", 7)
        );
    }

    #[test]
    fn nothing_is_made_in_a_namespace_that_is_being_deleted_or_gone() {
        let terminating = namespace_is_still_open(subject(), "a", Some(&found("Terminating")));
        let error = terminating.unwrap_err();
        assert_eq!(error.code(), 403);
        assert_eq!(
            error.message(),
            "configmaps \"m\" is forbidden: unable to create new content in namespace a because it is being terminated"
        );
        let gone = namespace_is_still_open(subject(), "a", None).unwrap_err();
        assert_eq!(
            (gone.code(), gone.message()),
            (404, "namespaces \"a\" not found")
        );
    }
}
