//! What the verbs work with, and which of them a request wants.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::Rng;
use serde_json::Value;

use super::options::{DeleteOptions, DryRun};
use super::{Outcome, Reply, Request, codec};
use crate::cache::{Caches, Entry};
use crate::resources::{ClusterIps, Resource};
use crate::status::{ApiError, ApiResult};
use crate::storage::{ExpiryLeases, Put, Revision, Store, Stored, Written};
use crate::value;

/// How the API server is set up.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Where services get their addresses.
    pub cluster_ips: ClusterIps,
    /// Where services get their node ports.
    pub node_ports: RangeInclusive<u16>,
    /// How long Events are kept.
    pub event_ttl: Duration,
    /// A watch that says nothing about its end lasts at least so long, and at most twice.
    pub watch_at_least: Duration,
    /// Whether a pod's service account must exist.
    pub service_accounts: bool,
}

/// The API, whoever calls it.
pub struct Api {
    pub(crate) store: Store,
    pub(crate) caches: Arc<Caches>,
    pub(crate) options: ApiOptions,
    leases: ExpiryLeases,
}

impl Api {
    /// The API over a store and the caches that are fed from it.
    pub fn new(store: Store, caches: Arc<Caches>, options: ApiOptions) -> Api {
        let leases = ExpiryLeases::new(store.clone(), options.event_ttl);
        Api {
            store,
            caches,
            options,
            leases,
        }
    }

    /// Carries a request out that is allowed.
    pub async fn handle(&self, verb: &str, request: &Request) -> ApiResult<Outcome> {
        let mut outcome = self.carry_out(verb, request).await?;
        let deprecation = request.resource.rules.deprecation();
        outcome.warnings.extend(deprecation.map(str::to_owned));
        if let Reply::Object { object, .. } = &outcome.reply
            && matches!(verb, "create" | "update" | "patch")
            && request.part().is_empty()
        {
            let warnings = request.resource.rules.warnings(object);
            outcome.warnings.extend(warnings);
        }
        Ok(outcome)
    }

    async fn carry_out(&self, verb: &str, request: &Request) -> ApiResult<Outcome> {
        let offered = match request.subresource {
            Some(part) => part.verbs,
            None => request.resource.verbs,
        };
        if !offered.contains(&verb) {
            return Err(ApiError::method_not_allowed());
        }
        // Each on the heap, so that a read does not take the memory of the largest write.
        let verb: BoxFuture<'_, ApiResult<Outcome>> = match (verb, request.part()) {
            ("get", "" | "status") => self.get(request).boxed(),
            ("get", "scale") => self.get_scale(request).boxed(),
            ("get", "log") => self.logs(request).boxed(),
            ("list", _) => self.list(request).boxed(),
            ("watch", _) => self.watch(request).boxed(),
            ("create", "") => self.create(request).boxed(),
            ("create", "binding") => self.bind(request).boxed(),
            ("create", "eviction") => self.evict(request).boxed(),
            ("update", "scale") => self.update_scale(request).boxed(),
            ("patch", "scale") => self.patch_scale(request).boxed(),
            ("update", _) => self.update(request).boxed(),
            ("patch", _) => self.patch(request).boxed(),
            ("delete", "") => self.delete(request).boxed(),
            ("deletecollection", "") => self.delete_collection(request).boxed(),
            _ => return Err(ApiError::method_not_allowed()),
        };
        verb.await
    }

    async fn get(&self, request: &Request) -> ApiResult<Outcome> {
        let asked = request.query.get("resourceVersion");
        if asked.is_empty() {
            // No older than the request: the store itself is asked.
            let stored = self.read(request).await?;
            let object = shown(request.resource, object_of(&stored)?);
            return Ok(Reply::object(request.resource, object).into());
        }
        self.caches.wait_for(parse_revision(asked)?).await?;
        let key = request
            .resource
            .cache_key(&request.namespace, &request.name);
        let cache = self.caches.of(request.resource);
        let entry = cache
            .get(&key)
            .ok_or_else(|| ApiError::not_found(request.subject()))?;
        let object = shown(request.resource, entry.object());
        Ok(Reply::object(request.resource, object).into())
    }

    /// The object of a request as the store has it now.
    pub(super) async fn read(&self, request: &Request) -> ApiResult<Stored> {
        let found = self.store.get(&request.key()).await?;
        found.ok_or_else(|| ApiError::not_found(request.subject()))
    }

    /// The object at `key` as the cache has it, which may be a little old, or as the store has it. What is not written
    /// is not found to be old either, so a dry run begins with the store.
    pub(super) async fn guess(
        &self,
        resource: &Resource,
        key: &str,
        dry_run: DryRun,
    ) -> ApiResult<Option<Guess>> {
        let cached = key
            .strip_prefix(&resource.prefix())
            .and_then(|key| self.caches.of(resource).get(key))
            .filter(|_| !dry_run);
        match cached {
            Some(entry) => Ok(Some(Guess::cached(&entry))),
            None => self.fresh(key).await,
        }
    }

    pub(super) async fn fresh(&self, key: &str) -> ApiResult<Option<Guess>> {
        let stored = self.store.get(key).await?;
        stored.map(|stored| Guess::fresh(&stored)).transpose()
    }

    /// Writes an object; one that goes away by itself, with a lease.
    pub(super) async fn put(&self, resource: &Resource, put: &Put) -> ApiResult<Written> {
        Ok(match resource.rules.expires() {
            true => self.leases.write(put).await?,
            false => self.store.write(put, None).await?,
        })
    }

    /// The uid of an object that must be there.
    pub(crate) async fn uid_of(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> ApiResult<String> {
        let found = self.fresh(&resource.key(namespace, name)).await?;
        let found = found.ok_or_else(|| ApiError::not_found(resource.subject(name)))?;
        Ok(value::uid(&found.object).to_owned())
    }

    pub(super) async fn delete_options(&self, request: &Request) -> ApiResult<DeleteOptions> {
        let body = match request.body.is_empty() {
            true => None,
            false => Some(codec::decode_options(request, "DeleteOptions")?),
        };
        DeleteOptions::of(request, body.as_ref())
    }

    /// A name for `generateName`.
    pub(super) fn generated_name(base: &str) -> String {
        // Without vowels, and without what is easily mistaken, so that no words come out.
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut random = rand::rng();
        let mut name: String = base.chars().take(58).collect();
        name.extend((0..5).map(|_| LETTERS[random.random_range(0..LETTERS.len())] as char));
        name
    }
}

/// An object that is about to be changed.
pub(super) struct Guess {
    /// As stored, with its resource version.
    pub object: Value,
    /// Of which revision.
    pub revision: Revision,
    /// Whether it was read from the store after the request came.
    pub is_fresh: bool,
}

impl Guess {
    fn cached(entry: &Entry) -> Guess {
        Guess {
            object: entry.object(),
            revision: entry.revision(),
            is_fresh: false,
        }
    }

    pub(super) fn fresh(stored: &Stored) -> ApiResult<Guess> {
        Ok(Guess {
            object: object_of(stored)?,
            revision: stored.revision,
            is_fresh: true,
        })
    }
}

/// What is stored, with its resource version.
pub(super) fn object_of(stored: &Stored) -> ApiResult<Value> {
    let mut object: Value = serde_json::from_slice(&stored.value)
        .map_err(|error| ApiError::internal(format!("{} is no JSON: {error}", stored.key)))?;
    value::set(
        &mut object,
        &["metadata", "resourceVersion"],
        stored.revision.to_string(),
    );
    Ok(object)
}

/// What is to be stored: without the resource version, which the store knows. What could not be read back is refused.
pub(super) fn stored_form(object: &Value) -> ApiResult<Vec<u8>> {
    if keelson_schema::depth(object) > keelson_schema::DEPTH_MAX {
        return Err(ApiError::bad_request("exceeded max depth"));
    }
    let mut object = object.clone();
    value::remove(&mut object, &["metadata", "resourceVersion"]);
    let bytes = serde_json::to_vec(&object).map_err(ApiError::internal)?;
    debug_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
    Ok(bytes)
}

/// In the form in which the resource shows it.
pub fn shown(resource: &Resource, object: Value) -> Value {
    match &resource.conversion {
        Some(conversion) => (conversion.show)(object),
        None => object,
    }
}

/// In the form in which it is stored.
pub(super) fn unshown(resource: &Resource, object: Value) -> Value {
    match &resource.conversion {
        Some(conversion) => (conversion.store)(object),
        None => object,
    }
}

/// A resource version that a client gives.
pub(super) fn parse_revision(text: &str) -> ApiResult<Revision> {
    match text.parse::<u64>() {
        Ok(number) if number <= i64::MAX as u64 => Ok(number as Revision),
        _ => {
            let error = crate::status::FieldError::invalid(
                "resourceVersion",
                text,
                format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
            );
            Err(ApiError::invalid(
                "meta.k8s.io",
                "ListOptions",
                "",
                &[error],
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stored_can_be_read_back() {
        let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"a": inner}));
        let deepest = nested(keelson_schema::DEPTH_MAX);
        let bytes = stored_form(&deepest).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), deepest);
        let refused = stored_form(&nested(keelson_schema::DEPTH_MAX + 1));
        assert_eq!(refused.unwrap_err().code(), 400);
    }
}
