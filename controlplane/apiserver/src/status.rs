//! Failures as the API tells them: a `Status` with the code, the reason and the words that clients know.

use serde_json::{Value, json};

/// Why one field of an object is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It must be given.
    Required,
    /// It has a value that cannot be.
    Invalid,
    /// It has none of the few values that can be.
    NotSupported,
    /// It is given twice.
    Duplicate,
    /// It must not be given, or changed, here.
    Forbidden,
    /// It is too long.
    TooLong,
    /// What it names does not exist.
    NotFound,
}

/// One refused field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    fault: Fault,
    field: String,
    value: Value,
    detail: String,
}

impl FieldError {
    /// A field that is missing.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(Fault::Required, field, Value::Null, detail)
    }

    /// A field with a value that cannot be.
    pub fn invalid(
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> FieldError {
        FieldError::new(Fault::Invalid, field, value.into(), detail)
    }

    /// A field that must not be given or changed.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(Fault::Forbidden, field, Value::Null, detail)
    }

    /// A value that is there already.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::new(Fault::Duplicate, field, value.into(), "")
    }

    /// A value that names nothing.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::new(Fault::NotFound, field, value.into(), "")
    }

    /// A value that is none of `supported`.
    pub fn not_supported(
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> FieldError {
        let listed: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = format!("supported values: {}", listed.join(", "));
        FieldError::new(Fault::NotSupported, field, value.into(), detail)
    }

    /// A value of more than `most` bytes.
    pub fn too_long(field: impl Into<String>, most: usize) -> FieldError {
        let detail = format!("may not be more than {most} bytes");
        FieldError::new(Fault::TooLong, field, Value::Null, detail)
    }

    fn new(
        fault: Fault,
        field: impl Into<String>,
        value: Value,
        detail: impl Into<String>,
    ) -> FieldError {
        FieldError {
            fault,
            field: field.into(),
            value,
            detail: detail.into(),
        }
    }

    /// The message without the field, as a cause has it.
    fn body(&self) -> String {
        let kind = match self.fault {
            Fault::Required => "Required value",
            Fault::Invalid => "Invalid value",
            Fault::NotSupported => "Unsupported value",
            Fault::Duplicate => "Duplicate value",
            Fault::Forbidden => "Forbidden",
            Fault::TooLong => "Too long",
            Fault::NotFound => "Not found",
        };
        let mut text = match self.fault {
            Fault::Required | Fault::Forbidden | Fault::TooLong => kind.to_owned(),
            _ => format!("{kind}: {}", self.value),
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    fn cause(&self) -> Value {
        let reason = match self.fault {
            Fault::Required => "FieldValueRequired",
            Fault::Invalid => "FieldValueInvalid",
            Fault::NotSupported => "FieldValueNotSupported",
            Fault::Duplicate => "FieldValueDuplicate",
            Fault::Forbidden => "FieldValueForbidden",
            Fault::TooLong => "FieldValueTooLong",
            Fault::NotFound => "FieldValueNotFound",
        };
        json!({"reason": reason, "message": self.body(), "field": self.field})
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// A request's failure.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    code: u16,
    reason: &'static str,
    message: String,
    details: Value,
    /// What the caller is told beside the Status.
    warning: Option<String>,
}

/// What a handler gives.
pub type ApiResult<T> = Result<T, ApiError>;

/// The resource and object that a failure is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// "" for core.
    pub group: &'a str,
    /// The plural name, as in paths.
    pub resource: &'a str,
    /// "" where it is about no single object.
    pub name: &'a str,
}

impl Subject<'_> {
    /// `deployments.apps`
    fn qualified(&self) -> String {
        match self.group {
            "" => self.resource.to_owned(),
            group => format!("{}.{group}", self.resource),
        }
    }

    fn details(&self) -> Value {
        details(self.group, self.resource, self.name)
    }
}

/// A Status's details, without what is empty.
pub fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = serde_json::Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), value.into());
        }
    }
    Value::Object(details)
}

impl ApiError {
    fn new(
        code: u16,
        reason: &'static str,
        message: impl Into<String>,
        details: Value,
    ) -> ApiError {
        ApiError {
            code,
            reason,
            message: message.into(),
            details,
            warning: None,
        }
    }

    /// The HTTP status.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The machine's word for what is wrong.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The words for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the caller is to be warned of.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Adds to the words.
    pub fn with_message(mut self, message: impl Into<String>) -> ApiError {
        self.message = message.into();
        self
    }

    /// There is no such object.
    pub fn not_found(of: Subject<'_>) -> ApiError {
        let message = format!("{} {:?} not found", of.qualified(), of.name);
        ApiError::new(404, "NotFound", message, of.details())
    }

    /// There is no such resource.
    pub fn no_such_resource() -> ApiError {
        let message = "the server could not find the requested resource";
        // Details without a name: kubectl looks there to tell a path that is missing from an object that is.
        ApiError::new(404, "NotFound", message, json!({}))
    }

    /// There is one of that name already.
    pub fn already_exists(of: Subject<'_>) -> ApiError {
        let message = format!("{} {:?} already exists", of.qualified(), of.name);
        ApiError::new(409, "AlreadyExists", message, of.details())
    }

    /// No free name was found for `generateName`.
    pub fn generate_name_conflict(of: Subject<'_>) -> ApiError {
        let message = format!(
            "{} {:?} already exists, the server was not able to generate a unique name for the object",
            of.qualified(),
            of.name
        );
        ApiError::new(409, "AlreadyExists", message, of.details())
    }

    /// The object is not what the caller takes it for.
    pub fn conflict(of: Subject<'_>, why: &str) -> ApiError {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            of.qualified(),
            of.name
        );
        ApiError::new(409, "Conflict", message, of.details())
    }

    /// The object has changed since the caller read it.
    pub fn modified(of: Subject<'_>) -> ApiError {
        ApiError::conflict(
            of,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// The object breaks rules. `group` and `kind` are the object's.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> ApiError {
        let qualified = match group {
            "" => kind.to_owned(),
            group => format!("{kind}.{group}"),
        };
        let list: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        let list = match list.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let mut details = details(group, kind, name);
        details["causes"] = errors.iter().map(FieldError::cause).collect();
        let message = format!("{qualified} {name:?} is invalid: {list}");
        ApiError::new(422, "Invalid", message, details)
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "BadRequest", message, Value::Null)
    }

    /// The patch does not fit the object. Clients that test and set know the Status by its exact words, and it has no place
    /// for the cause, so that is a warning.
    pub fn unprocessable(why: impl Into<String>) -> ApiError {
        let message = "the server rejected our request due to an error in our request";
        let mut error = ApiError::new(422, "Invalid", message, json!({}));
        error.warning = Some(why.into());
        error
    }

    /// The caller may not do that, or nobody may now.
    pub fn forbidden(of: Subject<'_>, why: impl std::fmt::Display) -> ApiError {
        let message = match (of.resource, of.name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", of.qualified()),
            (_, name) => format!("{} {name:?} is forbidden: {why}", of.qualified()),
        };
        ApiError::new(403, "Forbidden", message, of.details())
    }

    /// The namespace is going away.
    pub fn namespace_terminating(of: Subject<'_>, namespace: &str) -> ApiError {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut error = ApiError::forbidden(of, why);
        error.details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        error
    }

    /// Nobody knows who calls.
    pub fn unauthorized() -> ApiError {
        ApiError::new(401, "Unauthorized", "Unauthorized", Value::Null)
    }

    /// The resource knows no such verb.
    pub fn method_not_allowed() -> ApiError {
        let message = "the server does not allow this method on the requested resource";
        ApiError::new(405, "MethodNotAllowed", message, Value::Null)
    }

    /// It is understood, and there is nobody here who could do it.
    pub fn not_implemented(message: impl Into<String>) -> ApiError {
        ApiError::new(501, "NotImplemented", message, Value::Null)
    }

    /// Nothing that the caller accepts can be answered.
    pub fn not_acceptable(accepted: &[&str]) -> ApiError {
        let message = format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        );
        ApiError::new(406, "NotAcceptable", message, Value::Null)
    }

    /// The body is of a type that is not understood here.
    pub fn unsupported_media_type(accepted: &[&str]) -> ApiError {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        ApiError::new(415, "UnsupportedMediaType", message, Value::Null)
    }

    /// What was asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> ApiError {
        ApiError::new(410, "Expired", message, Value::Null)
    }

    /// A watch or list begins before what is kept.
    pub fn too_old(asked: i64, oldest: i64) -> ApiError {
        ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// A page cannot be continued; `inconsistent` is the token that goes on anyway.
    pub fn continue_expired(inconsistent: Option<String>) -> ApiError {
        match inconsistent {
            Some(token) => {
                let mut error = ApiError::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new \
                     list without the continue parameter, or use the continue token in this response to retrieve the \
                     remainder of the results. Continuing with the provided token results in an inconsistent list - \
                     objects that were created, modified, or deleted between the time the first chunk was returned and \
                     now may show up in the list.",
                );
                error.details = json!({"continue": token});
                error
            }
            None => ApiError::expired("The resourceVersion for the provided list is too old."),
        }
    }

    /// The caller asks for a revision that was not reached.
    pub fn too_large_resource_version(asked: i64, current: i64) -> ApiError {
        let details = json!({
            "retryAfterSeconds": 1,
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        });
        let message = format!("Too large resource version: {asked}, current: {current}");
        ApiError::new(504, "Timeout", format!("Timeout: {message}"), details)
    }

    /// The body is larger than can be taken.
    pub fn too_large(limit: usize) -> ApiError {
        let message = format!("Request entity too large: limit is {limit}");
        ApiError::new(413, "RequestEntityTooLarge", message, Value::Null)
    }

    /// Not now: try again in a while.
    pub fn too_many_requests(message: impl Into<String>, retry_after_s: u32) -> ApiError {
        let details = json!({"retryAfterSeconds": retry_after_s});
        ApiError::new(429, "TooManyRequests", message, details)
    }

    /// Adds a cause to the details.
    pub fn with_cause(mut self, reason: &str, message: &str) -> ApiError {
        if !self.details.is_object() {
            self.details = json!({});
        }
        self.details["causes"] = json!([{"reason": reason, "message": message}]);
        self
    }

    /// The answer did not come in time; whether the request was carried out is not known.
    pub fn timeout(message: impl Into<String>) -> ApiError {
        ApiError::new(504, "Timeout", message, Value::Null)
    }

    /// The store cannot be reached.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        let details = json!({"retryAfterSeconds": 1});
        ApiError::new(503, "ServiceUnavailable", message, details)
    }

    /// Something failed that is not the caller's.
    pub fn internal(message: impl std::fmt::Display) -> ApiError {
        let message = format!("Internal error occurred: {message}");
        ApiError::new(500, "InternalError", message, Value::Null)
    }

    /// Seconds after which the caller should try again.
    pub fn retry_after_s(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds")?.as_u64()
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut metadata = json!({});
        let mut details = self.details.clone();
        if let Some(token) = details.get("continue").cloned() {
            metadata["continue"] = token;
            details = Value::Null;
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if details.is_object() {
            status["details"] = details;
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: Subject<'static> = Subject {
        group: "apps",
        resource: "deployments",
        name: "web",
    };

    #[test]
    fn messages_are_those_that_kubectls_users_know() {
        assert_eq!(
            ApiError::not_found(DEPLOYMENT).message(),
            "deployments.apps \"web\" not found"
        );
        assert_eq!(
            ApiError::already_exists(DEPLOYMENT).message(),
            "deployments.apps \"web\" already exists"
        );
        let required = FieldError::required("spec.selector", "");
        let invalid = FieldError::invalid("metadata.name", "A_b", "must be lower case");
        assert_eq!(
            ApiError::invalid("apps", "Deployment", "web", &[required, invalid]).message(),
            "Deployment.apps \"web\" is invalid: [spec.selector: Required value, metadata.name: Invalid value: \"A_b\": must \
             be lower case]"
        );
    }

    #[test]
    fn a_status_names_its_subject_and_leaves_out_what_is_empty() {
        let status = ApiError::not_found(DEPLOYMENT).status();
        assert_eq!(status["details"]["kind"], "deployments");
        assert_eq!(status["code"], 404);
        assert!(
            ApiError::bad_request("no")
                .status()
                .get("details")
                .is_none()
        );
    }
}
