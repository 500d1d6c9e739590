//! What differs from kind to kind when objects are made, changed and deleted.

use serde_json::Value;

use crate::status::FieldError;
use crate::validate::names;
use crate::value;

/// How long an object may take to go.
pub type Grace = Option<i64>;

/// A kind's own rules. What is generic (metadata, names, namespaces, the split of status and spec) is done for all.
pub trait Rules: Sync {
    /// What is wrong with a name.
    fn check_name(&self, name: &str) -> Vec<String> {
        names::dns_subdomain(name)
    }

    /// Whether `metadata.generation` counts changes of what is desired.
    fn counts_generation(&self) -> bool {
        false
    }

    /// Whether what is desired differs.
    fn desires_differ(&self, new: &Value, old: &Value) -> bool {
        !value::same(value::at(new, &["spec"]), value::at(old, &["spec"]))
    }

    /// Whether `status` is written at a path of its own only.
    fn splits_status(&self) -> bool {
        false
    }

    /// Whether a write to the status may change labels too.
    fn status_takes_labels(&self) -> bool {
        false
    }

    /// Sets what is not given.
    fn default(&self, _object: &mut Value) {}

    /// Brings a new object into its first state.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Keeps what an update must not change.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Keeps what a write to the status must not take away.
    fn prepare_status(&self, _new: &mut Value, _old: &Value) {}

    /// What is wrong with an object that is to be made, beside what is wrong with any.
    fn validate_new(&self, _object: &Value, _errors: &mut Vec<FieldError>) {}

    /// What is wrong with an object.
    fn validate(&self, _object: &Value, _errors: &mut Vec<FieldError>) {}

    /// What is wrong with a change.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}

    /// What who makes or changes an object is told, though it is stored.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// What everyone is told who reads or writes such objects.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }

    /// For how long a deleted object stays, of which `asked` was asked for; none: it goes at once.
    fn grace(&self, _object: &Value, _asked: Option<i64>) -> Grace {
        None
    }

    /// Whether something other than finalizers holds a deleted object.
    fn is_held(&self, _object: &Value) -> bool {
        false
    }

    /// What happens to an object when its deletion begins.
    fn begin_deletion(&self, _object: &mut Value) {}

    /// Whether deleting answers with the object; else it answers with a Status.
    fn returns_deleted(&self) -> bool {
        false
    }

    /// The keys that an object holds beside its own, so that no other has the same.
    fn claims(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Whether objects go away by themselves after a while.
    fn expires(&self) -> bool {
        false
    }

    /// Whether a PUT of what is not there creates it.
    fn creates_on_update(&self) -> bool {
        false
    }
}

/// "field is immutable", if it was changed.
pub fn immutable(new: &Value, old: &Value, path: &[&str], errors: &mut Vec<FieldError>) {
    let (new, old) = (value::at(new, path), value::at(old, path));
    if !value::same(new, old) {
        errors.push(FieldError::invalid(
            path.join("."),
            new.clone(),
            "field is immutable",
        ));
    }
}

/// A number that must not be negative.
pub fn not_negative(object: &Value, path: &[&str], errors: &mut Vec<FieldError>) {
    match value::int_at(object, path) {
        Some(number) if number < 0 => errors.push(FieldError::invalid(
            path.join("."),
            number,
            "must be greater than or equal to 0",
        )),
        _ => {}
    }
}
