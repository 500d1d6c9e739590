//! OpenAPI v3: an index, and a document for each group version, by which kubectl validates, explains and diffs.
//!
//! A document is large and seldom asked for, so it is made when it is; only the index is kept, which has its hash.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use keelson_schema::Schemas;
use keelson_schema::openapi;

use super::VERSION;
use super::body::ReplyBody;
use super::http::response;
use super::reviews::REVIEWS;
use crate::resources;
use crate::rest::Query;
use crate::rest::codec::type_of;

const ROOT: &str = "/openapi/v3";

/// The documents of all group versions.
#[derive(Default)]
pub struct OpenApi {
    index: OnceLock<Index>,
}

struct Index {
    /// By path, as in the index.
    hashes: BTreeMap<String, String>,
    body: Bytes,
}

/// A group and its version.
type GroupVersion = (&'static str, &'static str);

impl OpenApi {
    /// The document of a path, if there is one there.
    pub fn respond(
        &self,
        path: &str,
        query: &Query,
        if_none_match: &str,
    ) -> Option<Response<ReplyBody>> {
        let rest = path.strip_prefix(ROOT)?;
        let index = self.index.get_or_init(make_index);
        if rest.is_empty() {
            let etag = super::discovery::etag(&index.body);
            return Some(document(index.body.clone(), &etag, "public", if_none_match));
        }
        let name = rest.strip_prefix('/')?;
        let hash = index.hashes.get(name)?;
        let (group, version) = group_versions()
            .into_iter()
            .find(|(g, v)| openapi::path(g, v) == name)?;
        // Who asks by hash may keep what he gets for ever.
        let caching = match query.get("hash") == hash {
            true => "public, immutable",
            false => "public",
        };
        let etag = format!("\"{hash}\"");
        let body = match if_none_match == etag {
            true => Bytes::new(),
            false => make(group, version).into(),
        };
        Some(document(body, &etag, caching, if_none_match))
    }
}

fn document(
    body: Bytes,
    etag: &str,
    caching: &'static str,
    if_none_match: &str,
) -> Response<ReplyBody> {
    let (status, body) = match if_none_match == etag {
        true => (StatusCode::NOT_MODIFIED, None),
        false => (StatusCode::OK, Some(body)),
    };
    let mut response = response(status, "application/json", ReplyBody::Whole(body));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

fn group_versions() -> Vec<GroupVersion> {
    let resources = resources::ALL.iter().map(|one| (one.group, one.version));
    let reviews = REVIEWS.iter().map(|one| (one.group, one.version));
    let mut all: Vec<GroupVersion> = resources.chain(reviews).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn make_index() -> Index {
    let hashes: BTreeMap<String, String> = group_versions()
        .into_iter()
        .map(|(group, version)| {
            (
                openapi::path(group, version),
                openapi::hash(&make(group, version)),
            )
        })
        .collect();
    let pairs = hashes
        .iter()
        .map(|(path, hash)| (path.as_str(), hash.as_str()));
    let body = openapi::index(pairs).into();
    Index { hashes, body }
}

fn make(group: &str, version: &str) -> Vec<u8> {
    let mut served: Vec<openapi::Resource<'static>> = Vec::new();
    for resource in resources::ALL {
        if (resource.group, resource.version) != (group, version) {
            continue;
        }
        let Ok(ty) = type_of((group, version, resource.kind)) else {
            continue;
        };
        let subresources = resource.subresources.iter().filter_map(|part| {
            Some(openapi::Subresource {
                name: part.name.to_owned(),
                ty: type_of(part.kind).ok()?,
                verbs: part.verbs.to_vec(),
            })
        });
        served.push(openapi::Resource {
            name: resource.plural.to_owned(),
            ty,
            namespaced: resource.namespaced,
            verbs: resource.verbs.to_vec(),
            subresources: subresources.collect(),
        });
    }
    for review in REVIEWS {
        if (review.group, review.version) != (group, version) {
            continue;
        }
        if let Ok(ty) = type_of((group, version, review.kind)) {
            served.push(openapi::Resource {
                name: review.plural.to_owned(),
                ty,
                namespaced: review.namespaced,
                verbs: vec!["create"],
                subresources: Vec::new(),
            });
        }
    }
    openapi::document(Schemas::kubernetes(), group, version, &served, VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_version_has_a_document() {
        let openapi = OpenApi::default();
        for (group, version) in group_versions() {
            let path = format!("{ROOT}/{}", openapi::path(group, version));
            let response = openapi.respond(&path, &Query::default(), "").unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
        }
        assert!(
            openapi
                .respond("/openapi/v2", &Query::default(), "")
                .is_none()
        );
        assert!(
            openapi
                .respond("/openapi/v3/apis/no/v1", &Query::default(), "")
                .is_none()
        );
    }
}
