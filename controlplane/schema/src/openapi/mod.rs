//! OpenAPI v3 documents: what a group version serves, and every type that it reaches.
//!
//! Clients find the documents through an index, and each by a hash of its bytes, so that they may keep one for ever.
//! Documents are made when they are asked for: that of the core group is 1.5 MB, and few clients ask.

mod json;
mod paths;
mod schemas;

use sha2::{Digest, Sha512};

use crate::table::{Schemas, Type};
use json::Json;

/// A resource that a group version serves.
#[derive(Debug, Clone)]
pub struct Resource<'s> {
    /// Plural, as in paths: `deployments`.
    pub name: String,
    /// What it holds.
    pub ty: Type<'s>,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Of `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update` and `watch`.
    pub verbs: Vec<&'static str>,
    /// What is served below an object.
    pub subresources: Vec<Subresource<'s>>,
}

/// Something that is served below an object of a resource.
#[derive(Debug, Clone)]
pub struct Subresource<'s> {
    /// As in `deployments/web/scale`: `scale`.
    pub name: String,
    /// What is read and written there, which may be of another group.
    pub ty: Type<'s>,
    /// Of `create`, `get`, `patch` and `update`.
    pub verbs: Vec<&'static str>,
}

/// The document of a group version, as JSON. `server` is the version that the server says it has, as in `v1.37.0`.
pub fn document(
    schemas: &Schemas,
    group: &str,
    version: &str,
    resources: &[Resource<'_>],
    server: &str,
) -> Vec<u8> {
    let mut out = Json::default();
    out.object(|out| {
        out.entry("openapi", |out| out.text("3.0.0"));
        out.entry("info", |out| {
            out.object(|out| {
                out.entry("title", |out| out.text("Kubernetes"));
                out.entry("version", |out| out.text(server));
            });
        });
        let mut used = schemas::Used::default();
        out.entry("paths", |out| {
            let mut writer = paths::Writer {
                schemas,
                group,
                version,
                out,
                used: &mut used,
            };
            writer.all(resources);
        });
        out.entry("components", |out| {
            out.object(|out| {
                out.entry("schemas", |out| {
                    schemas::write(schemas, (group, version), used, out)
                });
                out.entry("securitySchemes", |out| out.raw(SECURITY));
            });
        });
        out.entry("security", |out| out.raw(r#"[{"BearerToken":[]}]"#));
    });
    out.finish()
}

const SECURITY: &str = r#"{"BearerToken":{"description":"Bearer Token authentication","in":"header","name":"authorization","type":"apiKey"}}"#;

/// The path of a group version, below `/openapi/v3/` and in the server: `api/v1` or `apis/apps/v1`.
pub fn path(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

/// What the index says of a document, so that a client need not ask again for one that has not changed.
pub fn hash(document: &[u8]) -> String {
    Sha512::digest(document)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

/// The index, which is served at `/openapi/v3`, from paths and hashes of documents.
pub fn index<'a>(documents: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Json::default();
    out.object(|out| {
        out.entry("paths", |out| {
            out.object(|out| {
                for (path, hash) in documents {
                    let url = format!("/openapi/v3/{path}?hash={hash}");
                    out.entry(path, |out| {
                        out.object(|out| out.entry("serverRelativeURL", |out| out.text(&url)))
                    });
                }
            });
        });
    });
    out.finish()
}
