//! Changing objects: read, change, compare and write, and again if somebody else was faster.
//!
//! The first attempt works on the cached object, which saves a read; whatever is not a plain success on it is tried
//! again on what the store has. A change that changes nothing writes nothing.

use std::collections::HashSet;

use serde_json::Value;

use super::api::{Guess, shown, stored_form, unshown};
use super::codec::{self, gvk};
use super::managed::{self, Writer};
use super::{Api, Author, Outcome, Reply, Request, WriteOptions};
use crate::admission::{self, Taken};
use crate::resources::Resource;
use crate::status::{ApiError, ApiResult, FieldError};
use crate::storage::{Found, Put};
use crate::validate::metadata;
use crate::value;

/// Which part of an object a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All but the status.
    Main,
    /// The status.
    Status,
    /// A namespace's `spec.finalizers`.
    Finalize,
    /// All but the status, by the server itself: the rules for clients do not hold.
    Internal,
}

/// What is to be changed, by whom.
pub(super) struct Change<'a> {
    pub resource: &'static Resource,
    pub namespace: &'a str,
    pub name: &'a str,
    pub part: Part,
    pub options: &'a WriteOptions,
    /// How managed fields name the part.
    pub subresource: &'a str,
    /// In whose name, which decides about what may be changed of it.
    pub by: Author<'a>,
}

impl<'a> Change<'a> {
    pub(super) fn of(request: &'a Request, options: &'a WriteOptions) -> Change<'a> {
        Change {
            resource: request.resource,
            namespace: &request.namespace,
            name: &request.name,
            part: match request.part() {
                "status" => Part::Status,
                "finalize" => Part::Finalize,
                _ => Part::Main,
            },
            options,
            subresource: request.part(),
            by: Author::User(&request.user),
        }
    }
}

/// What a caller makes of an object that he is shown; and what he is to be warned of.
pub(super) type Changed = ApiResult<(Value, Vec<String>)>;

impl Api {
    pub(super) async fn update(&self, request: &Request) -> ApiResult<Outcome> {
        let resource = request.resource;
        let options = WriteOptions::of(request)?;
        let (mut object, warnings) =
            codec::decode_body(request, gvk(resource), options.validation)?;
        admission::check_namespace_of(request, &mut object)?;
        check_name_of(request, &mut object)?;
        let change = Change::of(request, &options);
        let changed = self
            .modify(&change, |_| Ok((object.clone(), Vec::new())))
            .await;
        // Who says which version he means does not mean one that never was.
        let is_versioned = !value::str_at(&object, &["metadata", "resourceVersion"]).is_empty();
        let creates =
            resource.rules.creates_on_update() && change.part == Part::Main && !is_versioned;
        match changed {
            Ok((object, _)) => Ok(Outcome {
                reply: Reply::object(resource, object),
                warnings,
            }),
            Err(error) if creates && error.reason() == "NotFound" => {
                self.create_decoded(request, object, warnings, &options)
                    .await
            }
            Err(error) => Err(error),
        }
    }

    /// Changes an object as `mutate` says, which may be asked more than once.
    pub(super) async fn modify(
        &self,
        change: &Change<'_>,
        mutate: impl Fn(&Value) -> Changed,
    ) -> Changed {
        let resource = change.resource;
        let key = resource.key(change.namespace, change.name);
        let missing = || ApiError::not_found(resource.subject(change.name));
        let guess = self.guess(resource, &key, change.options.dry_run);
        let mut guess = guess.await?.ok_or_else(missing)?;
        let mut taken = Taken::default();
        loop {
            let old = shown(resource, guess.object.clone());
            let attempt = mutate(&old)
                .and_then(|(new, warnings)| Ok((prepare(change, &old, new)?, warnings)));
            let (new, warnings) = match attempt {
                Ok(done) if guess.is_fresh || done.0 != old => done,
                // What fails or changes nothing may do so because the cache is behind.
                _ if !guess.is_fresh => {
                    guess = self.fresh(&key).await?.ok_or_else(missing)?;
                    continue;
                }
                Err(error) => return Err(error),
                Ok(_) => unreachable!("a fresh object was handled above"),
            };
            if new == old {
                return Ok((new, warnings));
            }
            match self.commit(change, &guess, &old, new, &mut taken).await? {
                Ok(object) => return Ok((object, warnings)),
                Err(Some(fresh)) => guess = fresh,
                Err(None) => return Err(missing()),
            }
        }
    }

    /// Sets one part of an object, in the server's own name.
    pub(crate) async fn set_part(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        path: &[&str],
        to: &Value,
        options: &WriteOptions,
    ) -> ApiResult<()> {
        let change = Change {
            resource,
            namespace,
            name,
            part: Part::Main,
            options,
            subresource: "",
            by: Author::Server,
        };
        self.modify(&change, |old| {
            let mut new = old.clone();
            value::set(&mut new, path, to.clone());
            Ok((new, Vec::new()))
        })
        .await?;
        Ok(())
    }

    /// Writes a changed object, if it still is what it was. The inner error is what it is now.
    async fn commit(
        &self,
        change: &Change<'_>,
        guess: &Guess,
        old: &Value,
        mut new: Value,
        taken: &mut Taken,
    ) -> ApiResult<Result<Value, Option<Guess>>> {
        let resource = change.resource;
        let key = resource.key(change.namespace, change.name);
        let held = resource.rules.claims(old);
        let asked = new.clone();
        // The last that held a deleted object has let it go. It is given nothing any more.
        let is_over = is_finished(resource, &new);
        let (claims, releases) = match is_over {
            true => Default::default(),
            false => admission::claims_of_change(self, resource, old, &mut new, taken)?,
        };
        let put = Put {
            claims,
            releases,
            ..Put::over(
                guess.revision,
                key.as_str(),
                stored_form(&unshown(resource, new.clone()))?,
            )
        };
        if change.options.dry_run {
            admission::check_asked_claims(self, resource, &asked, &held).await?;
            return Ok(Ok(new));
        }
        let written = match is_over {
            true => self.store.delete(&key, guess.revision, &held).await?,
            false => self.put(resource, &put).await?,
        };
        match written {
            Ok(revision) => {
                let path = ["metadata", "resourceVersion"];
                value::set(&mut new, &path, revision.to_string());
                Ok(Ok(new))
            }
            Err(Found { object: None, .. }) => Ok(Err(None)),
            Err(Found {
                object: Some(found),
                ..
            }) => {
                if found.revision == guess.revision && !put.claims.is_empty() {
                    admission::check_asked_claims(self, resource, &asked, &held).await?;
                    *taken = Taken::look(self).await?;
                }
                Ok(Err(Some(Guess::fresh(&found)?)))
            }
        }
    }
}

/// Whether nothing holds a deleted object any more.
pub(super) fn is_finished(resource: &Resource, object: &Value) -> bool {
    value::is_deleting(object)
        && value::list_at(object, &["metadata", "finalizers"]).is_empty()
        && !resource.rules.is_held(object)
        && value::int_at(object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
}

/// The name in the body is that of the path, or is not there.
fn check_name_of(request: &Request, object: &mut Value) -> ApiResult<()> {
    let said = value::name(object).to_owned();
    if said.is_empty() {
        value::set(object, &["metadata", "name"], request.name.as_str());
    } else if said != request.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({said}) does not match the name on the URL ({})",
            request.name
        )));
    }
    Ok(())
}

/// What a changed object becomes before it is stored.
fn prepare(change: &Change<'_>, old: &Value, mut new: Value) -> ApiResult<Value> {
    let resource = change.resource;
    let rules = resource.rules;
    check_preconditions(resource, old, &new)?;
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "selfLink",
    ] {
        value::copy(old, &mut new, &["metadata", field]);
    }
    for field in ["uid", "creationTimestamp"] {
        if value::at(&new, &["metadata", field]).is_null() {
            value::copy(old, &mut new, &["metadata", field]);
        }
    }
    let mut new = match change.part {
        Part::Status => {
            let mut new = status_of(resource, old, new);
            rules.prepare_status(&mut new, old);
            new
        }
        Part::Finalize => {
            let mut only = old.clone();
            value::copy(&new, &mut only, &["spec", "finalizers"]);
            only
        }
        Part::Main => {
            if rules.splits_status() {
                value::copy(old, &mut new, &["status"]);
            }
            rules.default(&mut new);
            rules.prepare_update(&mut new, old);
            new
        }
        Part::Internal => new,
    };
    if change.part == Part::Main && rules.counts_generation() && rules.desires_differ(&new, old) {
        let generation = value::int_at(old, &["metadata", "generation"]).unwrap_or(0);
        value::set(&mut new, &["metadata", "generation"], generation + 1);
    }
    admission::check_change_of_node(change.by, resource, old, &new)?;
    validate(change, old, &new)?;
    let api_version = resource.api_version();
    let writer = Writer {
        manager: &change.options.manager,
        api_version: &api_version,
        subresource: change.subresource,
    };
    managed::update(codec::type_of(gvk(resource))?, &writer, old, &mut new);
    Ok(new)
}

fn check_preconditions(resource: &Resource, old: &Value, new: &Value) -> ApiResult<()> {
    let said = value::str_at(new, &["metadata", "resourceVersion"]);
    let name = value::name(old);
    if !said.is_empty()
        && said != "0"
        && said != value::str_at(old, &["metadata", "resourceVersion"])
    {
        return Err(ApiError::modified(resource.subject(name)));
    }
    let (uid, own) = (value::uid(new), value::uid(old));
    if !uid.is_empty() && uid != own {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
        return Err(ApiError::conflict(resource.subject(name), &why));
    }
    Ok(())
}

fn status_of(resource: &Resource, old: &Value, new: Value) -> Value {
    let mut changed = old.clone();
    value::copy(&new, &mut changed, &["status"]);
    value::copy(&new, &mut changed, &["metadata", "annotations"]);
    value::copy(&new, &mut changed, &["metadata", "managedFields"]);
    if resource.rules.status_takes_labels() {
        value::copy(&new, &mut changed, &["metadata", "labels"]);
    }
    changed
}

fn validate(change: &Change<'_>, old: &Value, new: &Value) -> ApiResult<()> {
    let resource = change.resource;
    let mut errors = Vec::new();
    metadata::validate(resource, new, &mut errors);
    metadata::validate_update(new, old, &mut errors);
    if change.part == Part::Main {
        check_content(resource, old, new, &mut errors);
        resource.rules.validate_update(new, old, &mut errors);
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(
            resource.group,
            resource.kind,
            value::name(old),
            &errors,
        )),
    }
}

/// What is wrong with an object, but for what was already when its content was stored, by other rules than today's: it
/// can still be labelled, and let go.
fn check_content(resource: &Resource, old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let mut faults = Vec::new();
    resource.rules.validate(new, &mut faults);
    if faults.is_empty() {
        return;
    }
    let content = |object: &Value| {
        let mut content = object.clone();
        value::remove(&mut content, &["metadata"]);
        value::remove(&mut content, &["status"]);
        content
    };
    if value::same(&content(new), &content(old)) {
        let mut known = Vec::new();
        resource.rules.validate(old, &mut known);
        let known: HashSet<String> = known.iter().map(FieldError::to_string).collect();
        faults.retain(|fault| !known.contains(&fault.to_string()));
    }
    errors.append(&mut faults);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources;
    use serde_json::json;

    #[test]
    fn what_was_stored_by_other_rules_can_be_labelled_and_let_go_and_not_changed() {
        let pods = resources::pods();
        let pod = |image: &str, finalizers: Value| {
            json!({"metadata": {"name": "a", "finalizers": finalizers},
            "spec": {"containers": [{"name": "a", "image": image}], "dnsPolicy": "Never"}})
        };
        let faults = |new: &Value| {
            let mut errors = Vec::new();
            check_content(pods, &pod("a", json!(["example.com/x"])), new, &mut errors);
            errors.len()
        };
        assert_eq!(faults(&pod("a", json!([]))), 0);
        assert_eq!(faults(&pod("b", json!([]))), 1);
    }
}
