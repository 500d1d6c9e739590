//! Creating objects.

use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::Value;

use super::api::{stored_form, unshown};
use super::codec::{self, gvk};
use super::managed::{self, Writer};
use super::{Api, Outcome, Reply, Request, WriteOptions};
use crate::admission::{self, Taken};
use crate::clock;
use crate::resources::Resource;
use crate::status::{ApiError, ApiResult};
use crate::storage::{Guard, Put, Revision};
use crate::validate::metadata;
use crate::value;

/// How often another name is tried for `generateName`.
const NAMES_MAX: usize = 8;

impl Api {
    pub(super) async fn create(&self, request: &Request) -> ApiResult<Outcome> {
        let resource = request.resource;
        let options = WriteOptions::of(request)?;
        let (mut object, warnings) =
            codec::decode_body(request, gvk(resource), options.validation)?;
        admission::check_namespace_of(request, &mut object)?;
        self.create_decoded(request, object, warnings, &options)
            .await
    }

    /// Makes a decoded object a stored one, and answers with it.
    pub(super) async fn create_decoded(
        &self,
        request: &Request,
        object: Value,
        warnings: Vec<String>,
        options: &WriteOptions,
    ) -> ApiResult<Outcome> {
        admission::check_new_of_node(self, request, &object).await?;
        let resource = request.resource;
        let subject = resource.subject(value::name(&object));
        let namespace = admission::namespace_is_open(self, request, subject).await?;
        let object = self
            .create_object(resource, object, options, namespace)
            .await?;
        let reply = Reply::Object {
            code: 201,
            resource,
            object,
        };
        Ok(Outcome { reply, warnings })
    }

    /// Makes a decoded object a stored one, and gives it as it is shown. `namespace` is where it is made, if that must
    /// still be open then.
    pub(crate) async fn create_object(
        &self,
        resource: &'static Resource,
        object: Value,
        options: &WriteOptions,
        mut namespace: Option<Guard>,
    ) -> ApiResult<Value> {
        let mut object = self.prepare_new(resource, object)?;
        admission::mutate_new(self, resource, &mut object).await?;
        resource.rules.prepare_create(&mut object);
        let generate = value::name(&object).is_empty()
            && !value::str_at(&object, &["metadata", "generateName"]).is_empty();
        for attempt in 1.. {
            if generate {
                let base = value::str_at(&object, &["metadata", "generateName"]);
                let name = Api::generated_name(base);
                value::set(&mut object, &["metadata", "name"], name);
                // A name can be a part of a default.
                resource.rules.default(&mut object);
            }
            let stored = self.store_new(resource, &mut object, options, &mut namespace);
            let taken = match stored.await? {
                Ok(revision) => {
                    let revision = revision.to_string();
                    if !options.dry_run {
                        value::set(&mut object, &["metadata", "resourceVersion"], revision);
                    }
                    return Ok(object);
                }
                Err(taken) => taken,
            };
            let subject = resource.subject(&taken);
            if !generate {
                return Err(ApiError::already_exists(subject));
            }
            if attempt >= NAMES_MAX {
                return Err(ApiError::generate_name_conflict(subject));
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Sets what the server sets.
    fn prepare_new(&self, resource: &'static Resource, mut object: Value) -> ApiResult<Value> {
        if !value::str_at(&object, &["metadata", "resourceVersion"]).is_empty() {
            return Err(ApiError::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "selfLink",
            "managedFields",
        ] {
            value::remove(&mut object, &["metadata", field]);
        }
        value::set(&mut object, &["metadata", "uid"], new_uid());
        value::set(
            &mut object,
            &["metadata", "creationTimestamp"],
            clock::now_rfc3339(),
        );
        resource.rules.default(&mut object);
        if resource.rules.counts_generation() {
            value::set(&mut object, &["metadata", "generation"], 1);
        }
        Ok(object)
    }

    /// Validates and writes. The inner error is the name that is taken.
    async fn store_new(
        &self,
        resource: &'static Resource,
        object: &mut Value,
        options: &WriteOptions,
        namespace: &mut Option<Guard>,
    ) -> ApiResult<Result<Revision, String>> {
        let name = value::name(object).to_owned();
        validate_new(resource, object)?;
        let api_version = resource.api_version();
        let writer = Writer {
            manager: &options.manager,
            api_version: &api_version,
            subresource: "",
        };
        managed::update(
            codec::type_of(gvk(resource))?,
            &writer,
            &Value::Null,
            object,
        );
        let key = resource.key(value::namespace(object), &name);
        if options.dry_run {
            admission::check_asked_claims(self, resource, object, &[]).await?;
        }
        let mut taken = Taken::default();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            // Addresses are drawn before the object is stored, and settled with it.
            let mut wanted = object.clone();
            let claims = admission::claims_of_new(self, resource, &mut wanted, &taken)?;
            let bytes = stored_form(&unshown(resource, wanted.clone()))?;
            if options.dry_run {
                let is_there = self.store.get(&key).await?.is_some();
                *object = wanted;
                return Ok(if is_there { Err(name) } else { Ok(0) });
            }
            let put = Put {
                claims,
                guard: namespace.clone(),
                ..Put::new(key.as_str(), bytes)
            };
            let found = match self.put(resource, &put).await? {
                Ok(revision) => {
                    *object = wanted;
                    return Ok(Ok(revision));
                }
                Err(found) if found.object.is_some() => return Ok(Err(name)),
                Err(found) => found,
            };
            if Instant::now() >= deadline {
                return Err(ApiError::internal("no free address was found in time"));
            }
            let now = found.guard.as_ref().map(|stored| stored.revision);
            match namespace {
                Some(guard) if now != Some(guard.revision) => {
                    let subject = resource.subject(&name);
                    let at = value::namespace(object);
                    *guard = admission::namespace_is_still_open(subject, at, found.guard.as_ref())?;
                }
                _ => {
                    admission::check_asked_claims(self, resource, object, &[]).await?;
                    taken = Taken::look(self).await?;
                }
            }
        }
    }
}

fn validate_new(resource: &'static Resource, object: &Value) -> ApiResult<()> {
    let mut errors = Vec::new();
    metadata::validate(resource, object, &mut errors);
    resource.rules.validate(object, &mut errors);
    resource.rules.validate_new(object, &mut errors);
    match errors.is_empty() {
        true => Ok(()),
        false => {
            let name = value::name(object);
            Err(ApiError::invalid(
                resource.group,
                resource.kind,
                name,
                &errors,
            ))
        }
    }
}

/// A random (version 4) UUID.
pub(crate) fn new_uid() -> String {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| &hex[from..to];
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_random_uuids() {
        let uid = new_uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
        assert!(matches!(uid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(uid, new_uid());
    }
}
