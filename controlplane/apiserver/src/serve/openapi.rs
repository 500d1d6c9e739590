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

/// Version 2 of OpenAPI, which kubectl asks for when version 3 does not know a kind.
const OLD: &str = "/openapi/v2";
/// The type of version 2 in protobuf, the only one that kubectl takes. It asks with an `@` before the version, and
/// takes no answer that has one.
const OLD_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

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
        accept: &str,
        if_none_match: &str,
    ) -> Option<Response<ReplyBody>> {
        if path == OLD {
            return Some(old_document(accept));
        }
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

/// A document of version 2 that describes nothing: then kubectl looks for the kind itself, and says that there is none.
fn old_document(accept: &str) -> Response<ReplyBody> {
    const TITLE: &str = "Kubernetes";
    let (content_type, body) = match accept.contains("proto-openapi.spec.v2") {
        true => {
            // Document: swagger = 1, info = 2 (title = 1, version = 2), paths = 8, definitions = 9.
            let text = |tag: u8, text: &str| [&[tag, text.len() as u8], text.as_bytes()].concat();
            let info = [text(0x0a, TITLE), text(0x12, VERSION)].concat();
            let whole = [
                text(0x0a, "2.0"),
                vec![0x12, info.len() as u8],
                info,
                vec![0x42, 0],
                vec![0x4a, 0],
            ];
            (OLD_PROTOBUF, whole.concat())
        }
        false => {
            let info = serde_json::json!({"title": TITLE, "version": VERSION});
            let document =
                serde_json::json!({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}});
            ("application/json", document.to_string().into_bytes())
        }
    };
    response(
        StatusCode::OK,
        content_type,
        ReplyBody::Whole(Some(body.into())),
    )
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

    fn status(path: &str) -> Option<StatusCode> {
        let response = OpenApi::default().respond(path, &Query::default(), "", "");
        response.map(|response| response.status())
    }

    #[test]
    fn each_group_version_has_a_document() {
        for (group, version) in group_versions() {
            let path = format!("{ROOT}/{}", openapi::path(group, version));
            assert_eq!(status(&path), Some(StatusCode::OK), "{path}");
        }
        assert_eq!(status("/openapi/v3/apis/no/v1"), None);
        assert_eq!(status("/openapi/v4"), None);
    }
}
