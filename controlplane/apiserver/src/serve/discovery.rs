//! Discovery: which groups, versions and resources there are. Made once from the table.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::VERSION;
use super::body::ReplyBody;
use super::http::response;
use super::reviews::REVIEWS;
use crate::resources::{self, Resource};

/// What the index lists beside discovery's own paths.
const OTHER_PATHS: [&str; 7] = [
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/version",
];

/// All discovery documents, by path.
pub struct Documents {
    plain: BTreeMap<String, Document>,
    /// By version of the aggregated form, and path.
    aggregated: BTreeMap<(&'static str, &'static str), Document>,
    groups: Vec<Group>,
}

/// A document that does not change while the server runs.
pub struct Document {
    body: Bytes,
    content_type: &'static str,
    /// In quotes, as in the header.
    etag: String,
}

/// A version of a group. Each group has one, so far.
struct Group {
    name: &'static str,
    version: &'static str,
    resources: Vec<Entry>,
}

/// A resource, or what is only asked (reviews).
struct Entry {
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    verbs: &'static [&'static str],
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    subresources: Vec<Part>,
}

struct Part {
    name: &'static str,
    kind: (&'static str, &'static str, &'static str),
    verbs: &'static [&'static str],
}

impl Entry {
    fn of(resource: &'static Resource) -> Entry {
        Entry {
            plural: resource.plural,
            singular: resource.singular,
            kind: resource.kind,
            namespaced: resource.namespaced,
            verbs: resource.verbs,
            short_names: resource.short_names,
            categories: resource.categories,
            subresources: resource
                .subresources
                .iter()
                .map(|part| Part {
                    name: part.name,
                    kind: part.kind,
                    verbs: part.verbs,
                })
                .collect(),
        }
    }
}

fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut add = |name: &'static str, version: &'static str, entry: Entry| match groups
        .iter_mut()
        .find(|group| group.name == name && group.version == version)
    {
        Some(group) => group.resources.push(entry),
        None => groups.push(Group {
            name,
            version,
            resources: vec![entry],
        }),
    };
    for resource in resources::ALL {
        add(resource.group, resource.version, Entry::of(resource));
    }
    for review in REVIEWS {
        let entry = Entry {
            plural: review.plural,
            singular: review.singular,
            kind: review.kind,
            namespaced: review.namespaced,
            verbs: &["create"],
            short_names: &[],
            categories: &[],
            subresources: Vec::new(),
        };
        add(review.group, review.version, entry);
    }
    for group in &mut groups {
        group.resources.sort_by_key(|entry| entry.plural);
    }
    groups
}

fn group_version(group: &Group) -> String {
    match group.name {
        "" => group.version.to_owned(),
        name => format!("{name}/{}", group.version),
    }
}

impl Documents {
    /// Makes them.
    pub fn new() -> Documents {
        let groups = groups();
        let mut plain = BTreeMap::new();
        plain.insert("/api".to_owned(), Document::json(&api_versions()));
        plain.insert("/apis".to_owned(), Document::json(&group_list(&groups)));
        for group in &groups {
            let path = match group.name {
                "" => format!("/api/{}", group.version),
                name => {
                    let one = api_group(group);
                    plain.insert(format!("/apis/{name}"), Document::json(&one));
                    format!("/apis/{name}/{}", group.version)
                }
            };
            plain.insert(path, Document::json(&resource_list(group)));
        }
        let index = json!({"paths": plain.keys().map(String::as_str).chain(OTHER_PATHS).collect::<Vec<_>>()});
        plain.insert(String::new(), Document::json(&index));
        let mut aggregated = BTreeMap::new();
        for version in ["v2", "v2beta1"] {
            for path in ["/api", "/apis"] {
                let document = Document::aggregated(&groups, path, version);
                aggregated.insert((version, path), document);
            }
        }
        Documents {
            plain,
            aggregated,
            groups,
        }
    }

    /// The document of a path without the slash at its end, aggregated if the client understands that.
    pub fn find(&self, path: &str, aggregated: Option<&'static str>) -> Option<&Document> {
        let found = aggregated.and_then(|version| {
            let path = ["/api", "/apis"].into_iter().find(|one| *one == path)?;
            self.aggregated.get(&(version, path))
        });
        found.or_else(|| self.plain.get(path))
    }

    /// Whether there is such a group and version.
    pub fn knows(&self, group: &str, version: &str) -> bool {
        self.groups
            .iter()
            .any(|one| one.name == group && one.version == version)
    }
}

impl Document {
    fn json(value: &Value) -> Document {
        Document::of(value, "application/json")
    }

    fn of(value: &Value, content_type: &'static str) -> Document {
        let body: Bytes = value.to_string().into();
        let etag = etag(&body);
        Document {
            body,
            content_type,
            etag,
        }
    }

    fn aggregated(groups: &[Group], path: &str, version: &'static str) -> Document {
        let items: Vec<Value> = groups
            .iter()
            .filter(|group| group.name.is_empty() == (path == "/api"))
            .map(aggregated_group)
            .collect();
        let content_type = match version {
            "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        };
        let value = json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": format!("apidiscovery.k8s.io/{version}"),
            "metadata": {},
            "items": items,
        });
        Document::of(&value, content_type)
    }

    /// The document, or that the client has it already.
    pub fn respond(&self, if_none_match: &str) -> Response<ReplyBody> {
        let known = if_none_match == self.etag;
        let (status, body) = match known {
            true => (StatusCode::NOT_MODIFIED, None),
            false => (StatusCode::OK, Some(self.body.clone())),
        };
        let mut response = response(status, self.content_type, ReplyBody::Whole(body));
        let headers = response.headers_mut();
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }
}

/// A strong entity tag of a body.
pub(super) fn etag(body: &[u8]) -> String {
    let hash = Sha256::digest(body);
    let hex: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("\"{hex}\"")
}

fn api_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    })
}

fn version_of(group: &Group) -> Value {
    json!({"groupVersion": group_version(group), "version": group.version})
}

fn api_group(group: &Group) -> Value {
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group.name,
        "versions": [version_of(group)],
        "preferredVersion": version_of(group),
    })
}

fn group_list(groups: &[Group]) -> Value {
    let groups: Vec<Value> = groups
        .iter()
        .filter(|group| !group.name.is_empty())
        .map(|group| {
            json!({
                "name": group.name,
                "versions": [version_of(group)],
                "preferredVersion": version_of(group),
            })
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resource_list(group: &Group) -> Value {
    let mut resources = Vec::new();
    for entry in &group.resources {
        let mut one = json!({
            "name": entry.plural,
            "singularName": entry.singular,
            "namespaced": entry.namespaced,
            "kind": entry.kind,
            "verbs": entry.verbs,
        });
        if !entry.short_names.is_empty() {
            one["shortNames"] = json!(entry.short_names);
        }
        if !entry.categories.is_empty() {
            one["categories"] = json!(entry.categories);
        }
        resources.push(one);
        for part in &entry.subresources {
            let (kind_group, version, kind) = part.kind;
            let mut one = json!({
                "name": format!("{}/{}", entry.plural, part.name),
                "singularName": "",
                "namespaced": entry.namespaced,
                "kind": kind,
                "verbs": part.verbs,
            });
            if (kind_group, version) != (group.name, group.version) {
                one["group"] = kind_group.into();
                one["version"] = version.into();
            }
            resources.push(one);
        }
    }
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group),
        "resources": resources,
    })
}

fn aggregated_group(group: &Group) -> Value {
    let kind_of = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let resources: Vec<Value> = group
        .resources
        .iter()
        .map(|entry| {
            let mut one = json!({
                "resource": entry.plural,
                "responseKind": kind_of((group.name, group.version, entry.kind)),
                "scope": if entry.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": entry.singular,
                "verbs": entry.verbs,
            });
            if !entry.short_names.is_empty() {
                one["shortNames"] = json!(entry.short_names);
            }
            if !entry.categories.is_empty() {
                one["categories"] = json!(entry.categories);
            }
            if !entry.subresources.is_empty() {
                one["subresources"] = entry
                    .subresources
                    .iter()
                    .map(|part| {
                        json!({
                            "subresource": part.name,
                            "responseKind": kind_of(part.kind),
                            "verbs": part.verbs,
                        })
                    })
                    .collect();
            }
            one
        })
        .collect();
    let mut metadata = json!({"creationTimestamp": null});
    if !group.name.is_empty() {
        metadata["name"] = group.name.into();
    }
    json!({
        "metadata": metadata,
        "versions": [{"version": group.version, "resources": resources, "freshness": "Current"}],
    })
}

/// What `/version` says.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    })
}

/// The machine in Go's words.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
