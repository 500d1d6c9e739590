//! What a request says about how it is to be carried out.

use serde_json::Value;

use super::codec::FieldValidation;
use super::request::{Query, Request};
use crate::status::{ApiError, ApiResult, FieldError};
use crate::value;

/// The bytes of a manager's name.
const MANAGER_MAX: usize = 128;

/// Whether a write is only to be tried.
pub type DryRun = bool;

/// The options of creates, updates and patches.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Everything but the write.
    pub dry_run: DryRun,
    /// In whose name fields are owned.
    pub manager: String,
    /// What is done about fields that the schema does not know.
    pub validation: FieldValidation,
}

impl WriteOptions {
    /// Reads them.
    pub fn of(request: &Request) -> ApiResult<WriteOptions> {
        let query = &request.query;
        let manager = match query.get("fieldManager") {
            "" => manager_of(&request.user_agent),
            manager if manager.len() > MANAGER_MAX => {
                let error = FieldError::too_long("fieldManager", MANAGER_MAX);
                return Err(invalid("CreateOptions", error));
            }
            manager => manager,
        };
        let validation = match query.get("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                let known = ["Ignore", "Strict", "Warn"];
                let error = FieldError::not_supported("fieldValidation", other, &known);
                return Err(invalid("CreateOptions", error));
            }
        };
        Ok(WriteOptions {
            dry_run: dry_run(query)?,
            manager: match manager {
                "" => "unknown".to_owned(),
                manager => manager.to_owned(),
            },
            validation,
        })
    }
}

/// A client that does not say so is named after the program that it is, as much of it as a name may have.
fn manager_of(user_agent: &str) -> &str {
    let program = user_agent.split('/').next().unwrap_or("");
    let fits = (0..=program.len().min(MANAGER_MAX)).rev();
    let end = fits.into_iter().find(|end| program.is_char_boundary(*end));
    &program[..end.unwrap_or(0)]
}

fn invalid(kind: &str, error: FieldError) -> ApiError {
    ApiError::invalid("meta.k8s.io", kind, "", &[error])
}

fn dry_run(query: &Query) -> ApiResult<DryRun> {
    for value in query.all("dryRun") {
        if value != "All" {
            let error = FieldError::not_supported("dryRun", value, &["All"]);
            return Err(invalid("CreateOptions", error));
        }
    }
    Ok(query.has("dryRun"))
}

/// What happens to what an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes it later.
    Background,
    /// It goes first.
    Foreground,
    /// It stays.
    Orphan,
}

/// The options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Everything but the write.
    pub dry_run: DryRun,
    /// How long it may take, in seconds.
    pub grace_s: Option<i64>,
    /// What happens to what the object owns, if the caller says so.
    pub propagation: Option<Propagation>,
    /// Only this object, not one of the same name.
    pub uid: Option<String>,
    /// Only as it was then.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads them from the body, or from the query if there is none.
    pub fn of(request: &Request, body: Option<&Value>) -> ApiResult<DeleteOptions> {
        let query = &request.query;
        let mut options = match body {
            Some(body) => DeleteOptions::of_object(body)?,
            None => DeleteOptions {
                grace_s: query.number("gracePeriodSeconds")?,
                propagation: propagation(query.get("propagationPolicy"))?.or_else(|| {
                    query
                        .flag("orphanDependents")
                        .then_some(Propagation::Orphan)
                }),
                ..DeleteOptions::default()
            },
        };
        options.dry_run |= dry_run(query)?;
        Ok(options)
    }

    /// Reads a `DeleteOptions` object.
    pub fn of_object(object: &Value) -> ApiResult<DeleteOptions> {
        let text = |path: &[&str]| value::at(object, path).as_str().map(str::to_owned);
        let given = propagation(value::str_at(object, &["propagationPolicy"]))?;
        let old = match value::at(object, &["orphanDependents"]).as_bool() {
            Some(true) => Some(Propagation::Orphan),
            Some(false) => Some(Propagation::Background),
            None => None,
        };
        if given.is_some() && old.is_some() {
            let error = FieldError::invalid(
                "propagationPolicy",
                value::str_at(object, &["propagationPolicy"]),
                "orphanDependents and deletionPropagation cannot be both set",
            );
            return Err(invalid("DeleteOptions", error));
        }
        let dry_run = value::list_at(object, &["dryRun"]);
        if let Some(bad) = dry_run.iter().find(|one| *one != "All") {
            let error = FieldError::not_supported("dryRun", bad.clone(), &["All"]);
            return Err(invalid("DeleteOptions", error));
        }
        Ok(DeleteOptions {
            dry_run: !dry_run.is_empty(),
            grace_s: value::int_at(object, &["gracePeriodSeconds"]),
            propagation: given.or(old),
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
        })
    }
}

fn propagation(text: &str) -> ApiResult<Option<Propagation>> {
    Ok(Some(match text {
        "" => return Ok(None),
        "Background" => Propagation::Background,
        "Foreground" => Propagation::Foreground,
        "Orphan" => Propagation::Orphan,
        other => {
            let known = ["Background", "Foreground", "Orphan"];
            let error = FieldError::not_supported("propagationPolicy", other, &known);
            return Err(invalid("DeleteOptions", error));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_program_with_a_long_name_manages_fields_under_a_part_of_it() {
        assert_eq!(manager_of("kubectl/v1.37.0 (linux)"), "kubectl");
        assert_eq!(manager_of(&"ä".repeat(100)), "ä".repeat(64));
    }

    #[test]
    fn delete_options_are_read() {
        let options = DeleteOptions::of_object(
            &json!({"propagationPolicy": "Foreground", "gracePeriodSeconds": 5,
            "preconditions": {"uid": "u"}, "dryRun": ["All"]}),
        );
        let options = options.unwrap();
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!((options.grace_s, options.dry_run), (Some(5), true));
        assert_eq!(options.uid.as_deref(), Some("u"));
        assert!(DeleteOptions::of_object(&json!({"propagationPolicy": "Sideways"})).is_err());
        assert!(DeleteOptions::of_object(&json!({"dryRun": ["Some"]})).is_err());
    }
}
