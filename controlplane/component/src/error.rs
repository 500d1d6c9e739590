//! What an error of the API server means for whoever retries.

/// Whether the API server answered with this HTTP code.
fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// The object is not there (any more).
pub fn is_not_found(error: &kube::Error) -> bool {
    has_code(error, 404)
}

/// The name is taken.
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

/// Somebody else changed the object since we saw it: look again, and decide again.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason != "AlreadyExists")
}

/// The server does not know how to do that for this resource.
pub fn is_unsupported(error: &kube::Error) -> bool {
    has_code(error, 405) || has_code(error, 404)
}

/// A create was refused because its namespace is being deleted: there is no point in trying again.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
        || (status.code == 403 && status.message.contains("being terminated"))
}

/// The first error of the API server in a chain of causes.
pub fn api_error(error: &anyhow::Error) -> Option<&kube::Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// A failure that is part of optimistic concurrency, and is nobody's fault.
pub fn is_expected(error: &anyhow::Error) -> bool {
    api_error(error).is_some_and(|error| is_conflict(error) || is_not_found(error))
}
