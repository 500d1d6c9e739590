//! Deleting: at once, after a grace period, or when the last finalizer is gone.

use serde_json::Value;

use super::api::{Guess, shown, stored_form};
use super::options::{DeleteOptions, Propagation};
use super::update::is_finished;
use super::{Api, Author, Outcome, Reply, Request};
use crate::admission;
use crate::clock;
use crate::resources::Resource;
use crate::status::{self, ApiError, ApiResult};
use crate::storage::Put;
use crate::value;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Longer periods, which may be asked for, become this one: 68 years, so that their end is a time that can be written.
const GRACE_MAX_S: i64 = i32::MAX as i64;

/// What deleting came to.
pub(crate) struct Deleted {
    /// The object as it was last.
    pub object: Value,
    /// Whether it is gone.
    pub gone: bool,
}

impl Api {
    pub(super) async fn delete(&self, request: &Request) -> ApiResult<Outcome> {
        let resource = request.resource;
        let options = self.delete_options(request).await?;
        admission::may_delete(request)?;
        let deleted = self
            .delete_object(
                Author::User(&request.user),
                resource,
                &request.namespace,
                &request.name,
                &options,
            )
            .await?;
        Ok(answer(resource, deleted).into())
    }

    /// Deletes one object.
    pub(crate) async fn delete_object(
        &self,
        by: Author<'_>,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> ApiResult<Deleted> {
        let key = resource.key(namespace, name);
        let missing = || ApiError::not_found(resource.subject(name));
        let guess = self.guess(resource, &key, options.dry_run);
        let mut guess = guess.await?.ok_or_else(missing)?;
        loop {
            let step = admission::check_deletion_by_node(by, resource, &guess.object)
                .and_then(|()| check(resource, &guess.object, options))
                .map(|()| next(resource, &guess.object, options));
            let step = match step {
                Ok(step) if guess.is_fresh || !matches!(step, Step::Wait) => step,
                _ if !guess.is_fresh => {
                    guess = self.fresh(&key).await?.ok_or_else(missing)?;
                    continue;
                }
                Err(error) => return Err(error),
                Ok(_) => unreachable!("a fresh object was handled above"),
            };
            let mut object = match step {
                Step::Wait => {
                    return Ok(Deleted {
                        object: shown(resource, guess.object),
                        gone: false,
                    });
                }
                Step::Mark(object) | Step::Remove(object) if options.dry_run => {
                    return Ok(Deleted {
                        object: shown(resource, object),
                        gone: false,
                    });
                }
                Step::Mark(ref object) | Step::Remove(ref object) => object.clone(),
            };
            let gone = matches!(step, Step::Remove(_));
            let written = if gone {
                let held = resource.rules.claims(&object);
                self.store.delete(&key, guess.revision, &held).await?
            } else {
                let put = Put::over(guess.revision, key.as_str(), stored_form(&object)?);
                self.put(resource, &put).await?
            };
            match written {
                Ok(revision) => {
                    let path = ["metadata", "resourceVersion"];
                    value::set(&mut object, &path, revision.to_string());
                    return Ok(Deleted {
                        object: shown(resource, object),
                        gone,
                    });
                }
                Err(found) => guess = Guess::fresh(&found.object.ok_or_else(missing)?)?,
            }
        }
    }
}

/// What is answered to a delete.
pub(super) fn answer(resource: &'static Resource, deleted: Deleted) -> Reply {
    if !deleted.gone || resource.rules.returns_deleted() {
        return Reply::object(resource, deleted.object);
    }
    let name = value::name(&deleted.object);
    let mut details = status::details(resource.group, resource.plural, name);
    value::set(&mut details, &["uid"], value::uid(&deleted.object));
    Reply::Value {
        code: 200,
        value: serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }),
    }
}

fn check(resource: &Resource, object: &Value, options: &DeleteOptions) -> ApiResult<()> {
    let subject = resource.subject(value::name(object));
    if let Some(uid) = options
        .uid
        .as_deref()
        .filter(|uid| *uid != value::uid(object))
    {
        let own = value::uid(object);
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
        return Err(ApiError::conflict(subject, &why));
    }
    let own = value::str_at(object, &["metadata", "resourceVersion"]);
    if let Some(version) = options.resource_version.as_deref().filter(|rv| *rv != own) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {own}"
        );
        return Err(ApiError::conflict(subject, &why));
    }
    Ok(())
}

enum Step {
    /// It is being deleted already, and this delete adds nothing.
    Wait,
    /// It stays for a while, marked as being deleted.
    Mark(Value),
    /// It goes.
    Remove(Value),
}

/// What a delete does to an object.
fn next(resource: &Resource, object: &Value, options: &DeleteOptions) -> Step {
    let mut object = object.clone();
    let before = object.clone();
    set_finalizers(&mut object, options.propagation);
    // A negative period means a second, as ever: one that was asked for, and the object's own.
    let bounded = |grace: i64| if grace < 0 { 1 } else { grace.min(GRACE_MAX_S) };
    let asked = options.grace_s.map(bounded);
    let grace = resource.rules.grace(&object, asked).map(bounded);
    let current = value::int_at(&object, &["metadata", "deletionGracePeriodSeconds"]);
    match (value::is_deleting(&object), grace) {
        (false, grace) => mark(resource, &mut object, grace.unwrap_or(0)),
        // The period may only become shorter.
        (true, Some(grace))
            if (asked.is_some() || grace == 0)
                && current.is_some_and(|current| grace < current) =>
        {
            shorten(&mut object, current.unwrap_or(0), grace);
        }
        _ => {}
    }
    if is_finished(resource, &object) {
        Step::Remove(object)
    } else if object == before {
        Step::Wait
    } else {
        Step::Mark(object)
    }
}

fn mark(resource: &Resource, object: &mut Value, grace_s: i64) {
    let when = clock::rfc3339(clock::now_s() + grace_s);
    value::set(object, &["metadata", "deletionTimestamp"], when);
    value::set(object, &["metadata", "deletionGracePeriodSeconds"], grace_s);
    if let Some(generation) = value::int_at(object, &["metadata", "generation"]) {
        value::set(object, &["metadata", "generation"], generation + 1);
    }
    resource.rules.begin_deletion(object);
}

fn shorten(object: &mut Value, current_s: i64, grace_s: i64) {
    let until = value::str_at(object, &["metadata", "deletionTimestamp"]);
    let began = clock::parse_rfc3339(until).unwrap_or_else(clock::now_s) - current_s;
    let when = clock::rfc3339((began + grace_s).max(began));
    value::set(object, &["metadata", "deletionTimestamp"], when);
    value::set(object, &["metadata", "deletionGracePeriodSeconds"], grace_s);
}

/// The garbage collector is told by finalizers what to do with what the object owns.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let old = value::list_at(object, &["metadata", "finalizers"]);
    let mut finalizers: Vec<Value> = old
        .iter()
        .filter(|one| *one != FOREGROUND && *one != ORPHAN)
        .cloned()
        .collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
    }
    if finalizers != old {
        match finalizers.is_empty() {
            true => {
                value::remove(object, &["metadata", "finalizers"]);
            }
            false => value::set(object, &["metadata", "finalizers"], finalizers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources;
    use serde_json::json;

    fn pod() -> Value {
        json!({"metadata": {"name": "a", "generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}})
    }

    fn asked(grace_s: Option<i64>) -> DeleteOptions {
        DeleteOptions {
            grace_s,
            ..DeleteOptions::default()
        }
    }

    fn marked(step: Step) -> Value {
        match step {
            Step::Mark(object) => object,
            Step::Wait => panic!("it waits"),
            Step::Remove(_) => panic!("it is removed"),
        }
    }

    #[test]
    fn a_running_pod_gets_its_grace_period_and_a_new_generation() {
        let object = marked(next(resources::pods(), &pod(), &asked(None)));
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 30);
        assert_eq!(object["metadata"]["generation"], 2);
        assert!(value::is_deleting(&object));
    }

    #[test]
    fn the_grace_period_only_becomes_shorter() {
        let once = marked(next(resources::pods(), &pod(), &asked(Some(20))));
        assert!(matches!(
            next(resources::pods(), &once, &asked(Some(25))),
            Step::Wait
        ));
        assert!(matches!(
            next(resources::pods(), &once, &asked(None)),
            Step::Wait
        ));
        let twice = marked(next(resources::pods(), &once, &asked(Some(5))));
        assert_eq!(twice["metadata"]["deletionGracePeriodSeconds"], 5);
        assert_eq!(twice["metadata"]["generation"], 2);
        assert!(matches!(
            next(resources::pods(), &twice, &asked(Some(0))),
            Step::Remove(_)
        ));
    }

    #[test]
    fn a_grace_period_without_end_ends_at_a_time_that_can_be_read() {
        let mut patient = pod();
        patient["spec"]["terminationGracePeriodSeconds"] = i64::MAX.into();
        let asked_for = next(resources::pods(), &pod(), &asked(Some(i64::MAX)));
        let its_own = next(resources::pods(), &patient, &asked(None));
        for object in [asked_for, its_own].map(marked) {
            let until = value::str_at(&object, &["metadata", "deletionTimestamp"]);
            let left = clock::parse_rfc3339(until).unwrap() - clock::now_s();
            assert!((GRACE_MAX_S - 60..=GRACE_MAX_S).contains(&left), "{until}");
        }
    }

    #[test]
    fn a_negative_grace_period_is_a_second_and_ends() {
        let mut odd = pod();
        odd["spec"]["terminationGracePeriodSeconds"] = (-5).into();
        let marked = marked(next(resources::pods(), &odd, &asked(None)));
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 1);
        let step = next(resources::pods(), &marked, &asked(Some(0)));
        assert!(matches!(step, Step::Remove(_)));
    }

    #[test]
    fn finalizers_hold_what_is_deleted() {
        let mut object = json!({"metadata": {"name": "a", "finalizers": ["example.com/x"]}});
        let services = resources::services();
        object = marked(next(services, &object, &asked(None)));
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 0);
        assert!(matches!(next(services, &object, &asked(None)), Step::Wait));
        object["metadata"]["finalizers"] = json!([]);
        assert!(matches!(
            next(services, &object, &asked(None)),
            Step::Remove(_)
        ));
    }

    #[test]
    fn a_policy_that_was_written_as_a_finalizer_holds_until_another_is_asked_for() {
        let object = json!({"metadata": {"name": "a", "finalizers": [ORPHAN]}});
        let services = resources::services();
        let kept = marked(next(services, &object, &asked(None)));
        assert_eq!(kept["metadata"]["finalizers"], json!([ORPHAN]));
        let background = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        assert!(matches!(
            next(services, &object, &background),
            Step::Remove(_)
        ));
    }

    #[test]
    fn the_propagation_policy_becomes_a_finalizer() {
        let object = json!({"metadata": {"name": "a"}});
        let with = |propagation| DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        let services = resources::services();
        let foreground = marked(next(services, &object, &with(Propagation::Foreground)));
        assert_eq!(foreground["metadata"]["finalizers"], json!([FOREGROUND]));
        let orphan = marked(next(services, &foreground, &with(Propagation::Orphan)));
        assert_eq!(orphan["metadata"]["finalizers"], json!([ORPHAN]));
        let background = next(services, &object, &with(Propagation::Background));
        assert!(matches!(background, Step::Remove(_)));
    }

    #[test]
    fn a_namespace_terminates_until_it_is_finalized() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let mut object = marked(next(resources::namespaces(), &object, &asked(None)));
        assert_eq!(object["status"]["phase"], "Terminating");
        object["spec"]["finalizers"] = json!([]);
        let step = next(resources::namespaces(), &object, &asked(None));
        assert!(matches!(step, Step::Remove(_)));
    }
}
