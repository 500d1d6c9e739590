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

/// The server's own words, where it had any. The client's error prints the whole answer, twice.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// An error with all its causes, on one line, in the server's own words.
pub fn describe(error: &anyhow::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in error.chain() {
        let api = cause.downcast_ref::<kube::Error>();
        words.push(api.map_or_else(|| cause.to_string(), message));
        if api.is_some_and(|error| matches!(error, kube::Error::Api(_))) {
            // What is behind it is the same again.
            break;
        }
    }
    words.join(": ")
}

/// The first error of the API server in a chain of causes.
pub fn api_error(error: &anyhow::Error) -> Option<&kube::Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// A failure that is part of optimistic concurrency, and is nobody's fault.
pub fn is_expected(error: &anyhow::Error) -> bool {
    api_error(error).is_some_and(|error| is_conflict(error) || is_not_found(error))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use kube::core::Status;

    use super::*;

    fn api(code: u16, reason: &str, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
    }

    #[test]
    fn errors_are_told_apart_by_code_and_reason() {
        let taken = api(409, "AlreadyExists", "");
        let changed = api(409, "Conflict", "");
        assert!(is_already_exists(&taken) && !is_conflict(&taken));
        assert!(is_conflict(&changed) && !is_already_exists(&changed));
        assert!(is_not_found(&api(404, "NotFound", "")));
        let going = "unable to create new content in namespace dev because it is being terminated";
        assert!(is_namespace_terminating(&api(403, "Forbidden", going)));
        assert!(!is_namespace_terminating(&api(403, "Forbidden", "no")));
    }

    #[test]
    fn what_somebody_else_changed_is_expected_and_what_fails_is_not() {
        let wrapped = |error| Err::<(), _>(error).context("writing").unwrap_err();
        assert!(is_expected(&wrapped(api(409, "Conflict", ""))));
        assert!(!is_expected(&wrapped(api(500, "InternalError", ""))));
        assert!(!is_expected(&anyhow::anyhow!("no")));
    }

    #[test]
    fn an_error_is_described_once_in_the_servers_words() {
        let error =
            Err::<(), _>(api(409, "Conflict", "it has changed")).context("writing the status");
        assert_eq!(
            describe(&error.unwrap_err()),
            "writing the status: it has changed"
        );
    }
}
