//! The operations of a document.

use super::json::Json;
use super::schemas::{Used, group_version_kind, reference};
use super::{Resource, Subresource};
use crate::table::{Element, Scalar, Schemas, Shape, Type};

/// What most clients send: the server goes by the content type.
const ANY: &[&str] = &["*/*"];
const JSON: &[&str] = &["application/json"];
const LIST: &[&str] = &["application/json", "application/json;stream=watch"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

pub(super) struct Writer<'a, 's> {
    pub schemas: &'s Schemas,
    pub group: &'a str,
    pub version: &'a str,
    pub out: &'a mut Json,
    pub used: &'a mut Used<'s>,
}

/// One operation of a path.
struct Operation<'a, 's> {
    method: &'static str,
    /// As in `x-kubernetes-action`.
    action: &'static str,
    /// What it does, in words.
    description: String,
    /// After the verb and the group, in the operation's id.
    verb: &'static str,
    subject: String,
    /// The kind that it is about.
    ty: Type<'s>,
    /// The options whose fields are query parameters, of `meta/v1`.
    options: &'a [&'static str],
    /// The body that it takes, and in which encodings.
    request: Option<(Type<'s>, &'static [&'static str])>,
    response: Type<'s>,
    encodings: &'static [&'static str],
    /// The statuses of success.
    statuses: &'static [&'static str],
}

impl<'s> Writer<'_, 's> {
    /// Writes the paths of all resources, and that of the discovery document.
    pub fn all(&mut self, resources: &[Resource<'s>]) {
        self.out.raw("{");
        let root = format!("/{}/", super::path(self.group, self.version));
        self.discovery(&root);
        for resource in resources {
            self.resource(&root, resource);
        }
        self.out.raw("}");
        for name in ["DeleteOptions", "Patch", "Status", "WatchEvent"] {
            self.used.add_named(self.schemas, name);
        }
    }

    fn meta(&self, name: &str) -> Option<Type<'s>> {
        self.schemas
            .named(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"))
    }

    fn discovery(&mut self, root: &str) {
        let Some(list) = self.meta("APIResourceList") else {
            return;
        };
        self.used.add(list);
        let id = format!("get{}APIResources", self.group_version_name());
        self.out.entry(root, |out| {
            out.object(|out| {
                out.entry("get", |out| {
                    out.object(|out| {
                        out.entry("description", |out| out.text("get available resources"));
                        out.entry("operationId", |out| out.text(&id));
                        out.entry("responses", |out| responses(out, &["200"], list, JSON));
                    });
                });
            });
        });
    }

    fn resource(&mut self, root: &str, resource: &Resource<'s>) {
        let Resource {
            name,
            ty,
            namespaced,
            verbs,
            subresources,
        } = resource;
        let kind = ty.name();
        let scope = if *namespaced { "Namespaced" } else { "" };
        let subject = format!("{scope}{kind}");
        let list = self
            .schemas
            .kind(self.group, self.version, &format!("{kind}List"))
            .unwrap_or(*ty);
        let collection = match namespaced {
            true => format!("{root}namespaces/{{namespace}}/{name}"),
            false => format!("{root}{name}"),
        };
        let object = format!("{collection}/{{name}}");

        let listing = |subject: String| Operation {
            description: format!("list or watch objects of kind {kind}"),
            options: &["ListOptions"],
            encodings: LIST,
            ..operation("get", "list", "list", subject, *ty, list)
        };
        let mut at_collection = Vec::new();
        if verbs.contains(&"list") {
            at_collection.push(listing(subject.clone()));
        }
        if verbs.contains(&"create") {
            at_collection.push(create(*ty, *ty, subject.clone()));
        }
        let (options, status) = (self.meta("DeleteOptions"), self.meta("Status"));
        if let (true, Some(options), Some(status)) =
            (verbs.contains(&"deletecollection"), options, status)
        {
            at_collection.push(Operation {
                description: format!("delete collection of {kind}"),
                options: &["DeleteOptions", "ListOptions"],
                request: Some((options, ANY)),
                ..operation(
                    "delete",
                    "deletecollection",
                    "delete",
                    format!("Collection{subject}"),
                    *ty,
                    status,
                )
            });
        }
        self.path(&collection, &[("namespace", *namespaced)], at_collection);

        let mut at_object = changes(*ty, &subject, verbs, self.meta("Patch"));
        if let (true, Some(options), Some(status)) = (verbs.contains(&"delete"), options, status) {
            // What goes at once comes back whole for pods and services, and as a status for others.
            at_object.push(Operation {
                description: format!("delete {} {kind}", article(kind)),
                options: &["DeleteOptions"],
                request: Some((options, ANY)),
                statuses: &["200", "202"],
                ..operation("delete", "delete", "delete", subject.clone(), *ty, status)
            });
        }
        self.path(
            &object,
            &[("name", true), ("namespace", *namespaced)],
            at_object,
        );

        for subresource in subresources {
            self.subresource(&object, resource, subresource);
        }
        if *namespaced && verbs.contains(&"list") {
            let operation = listing(format!("{kind}ForAllNamespaces"));
            self.path(&format!("{root}{name}"), &[], vec![operation]);
        }
    }

    fn subresource(
        &mut self,
        object: &str,
        resource: &Resource<'s>,
        subresource: &Subresource<'s>,
    ) {
        let Subresource { name, ty, verbs } = subresource;
        let scope = if resource.namespaced {
            "Namespaced"
        } else {
            ""
        };
        let subject = format!("{scope}{}{}", resource.ty.name(), capitalized(name));
        let mut operations = changes(*ty, &subject, verbs, self.meta("Patch"));
        if verbs.contains(&"create") {
            operations.push(create(*ty, *ty, subject));
        }
        for operation in &mut operations {
            let of = format!(
                "{name} of {} {}",
                article(resource.ty.name()),
                resource.ty.name()
            );
            let (does, _) = operation.description.split_once(' ').unwrap_or_default();
            let partially = if operation.action == "patch" {
                "partially update"
            } else {
                does
            };
            operation.description = format!("{partially} {of}");
        }
        self.path(
            &format!("{object}/{name}"),
            &[("name", true), ("namespace", resource.namespaced)],
            operations,
        );
    }

    fn path(
        &mut self,
        path: &str,
        parameters: &[(&str, bool)],
        operations: Vec<Operation<'_, 's>>,
    ) {
        if operations.is_empty() {
            return;
        }
        for operation in &operations {
            let request = operation.request.map(|(ty, _)| ty);
            [Some(operation.ty), Some(operation.response), request]
                .into_iter()
                .flatten()
                .for_each(|ty| self.used.add(ty));
        }
        let (schemas, tag, name) = (self.schemas, self.tag(), self.group_version_name());
        let of = (self.group, self.version);
        self.out.entry(path, |out| {
            out.object(|out| {
                for operation in &operations {
                    out.entry(operation.method, |out| {
                        out.object(|out| operation.write(schemas, of, &tag, &name, out))
                    });
                }
                out.entry("parameters", |out| {
                    let named = parameters
                        .iter()
                        .filter(|(_, present)| *present)
                        .map(|(name, _)| *name);
                    out.list(named.chain(["pretty"]), path_parameter);
                });
            });
        });
    }

    /// `AppsV1`, `CoreV1`, `RbacAuthorizationV1`.
    fn group_version_name(&self) -> String {
        let words: String = self.group_words().map(capitalized).collect();
        words + &capitalized(self.version)
    }

    /// `apps_v1`, `core_v1`, `rbacAuthorization_v1`.
    fn tag(&self) -> String {
        let mut words = self.group_words();
        let first = words.next().unwrap_or_default().to_owned();
        format!(
            "{first}{}_{}",
            words.map(capitalized).collect::<String>(),
            self.version
        )
    }

    fn group_words(&self) -> impl Iterator<Item = &str> {
        let group = if self.group.is_empty() {
            "core"
        } else {
            self.group
        };
        group.strip_suffix(".k8s.io").unwrap_or(group).split('.')
    }
}

impl<'s> Used<'s> {
    fn add_named(&mut self, schemas: &'s Schemas, name: &str) {
        let ty = schemas.named(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"));
        ty.into_iter().for_each(|ty| self.add(ty));
    }
}

fn operation<'s>(
    method: &'static str,
    action: &'static str,
    verb: &'static str,
    subject: String,
    ty: Type<'s>,
    response: Type<'s>,
) -> Operation<'static, 's> {
    Operation {
        method,
        action,
        description: String::new(),
        verb,
        subject,
        ty,
        options: &[],
        request: None,
        response,
        encodings: JSON,
        statuses: &["200"],
    }
}

fn create<'s>(ty: Type<'s>, response: Type<'s>, subject: String) -> Operation<'static, 's> {
    Operation {
        description: format!("create {} {}", article(ty.name()), ty.name()),
        options: &["CreateOptions"],
        request: Some((ty, ANY)),
        statuses: &["200", "201", "202"],
        ..operation("post", "post", "create", subject, ty, response)
    }
}

/// Reading, replacing and patching one object.
fn changes<'s>(
    ty: Type<'s>,
    subject: &str,
    verbs: &[&str],
    patch: Option<Type<'s>>,
) -> Vec<Operation<'static, 's>> {
    let mut operations = Vec::new();
    let the = format!("the specified {}", ty.name());
    if verbs.contains(&"get") {
        operations.push(Operation {
            description: format!("read {the}"),
            ..operation("get", "get", "read", subject.to_owned(), ty, ty)
        });
    }
    if verbs.contains(&"update") {
        operations.push(Operation {
            description: format!("replace {the}"),
            options: &["UpdateOptions"],
            request: Some((ty, ANY)),
            statuses: &["200", "201"],
            ..operation("put", "put", "replace", subject.to_owned(), ty, ty)
        });
    }
    if let (true, Some(patch)) = (verbs.contains(&"patch"), patch) {
        operations.push(Operation {
            description: format!("partially update {the}"),
            options: &["PatchOptions"],
            request: Some((patch, PATCHES)),
            statuses: &["200", "201"],
            ..operation("patch", "patch", "patch", subject.to_owned(), ty, ty)
        });
    }
    operations
}

impl Operation<'_, '_> {
    fn write(
        &self,
        schemas: &Schemas,
        of: (&str, &str),
        tag: &str,
        group_version: &str,
        out: &mut Json,
    ) {
        out.entry("description", |out| out.text(&self.description));
        // "deleteCoreV1CollectionNamespacedPod", "readAppsV1NamespacedDeploymentStatus".
        let id = format!("{}{group_version}{}", self.verb, self.subject);
        out.entry("operationId", |out| out.text(&id));
        if !self.options.is_empty() {
            out.entry("parameters", |out| self.parameters(schemas, out));
        }
        if let Some((ty, encodings)) = self.request {
            out.entry("requestBody", |out| {
                out.object(|out| {
                    out.entry("content", |out| content(out, encodings, ty));
                    if self.action != "delete" && self.action != "deletecollection" {
                        out.entry("required", |out| out.raw("true"));
                    }
                });
            });
        }
        out.entry("responses", |out| {
            responses(out, self.statuses, self.response, self.encodings)
        });
        out.entry("tags", |out| out.list([tag], |out, tag| out.text(tag)));
        out.entry("x-kubernetes-action", |out| out.text(self.action));
        let of = self.ty.group_version().unwrap_or(of);
        out.entry("x-kubernetes-group-version-kind", |out| {
            group_version_kind(of, self.ty.name(), out)
        });
    }

    fn parameters(&self, schemas: &Schemas, out: &mut Json) {
        let types = self.options.iter().filter_map(|name| {
            schemas.named(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"))
        });
        let mut fields: Vec<_> = types
            .flat_map(|ty| ty.fields())
            .filter(|field| field.element_type().is_none())
            .collect();
        // Deleting a collection lists, but does not watch. Shards are behind a gate that is shut.
        let is_watched = |name: &str| {
            self.action != "deletecollection" || !matches!(name, "watch" | "allowWatchBookmarks")
        };
        fields.retain(|field| is_watched(field.name()) && field.name() != "shardSelector");
        fields.sort_by_key(|field| field.name());
        out.list(fields, |out, field| {
            let kind = match field.element() {
                // A list in the query is its parameter several times.
                Element::Scalar(Scalar::Bool) => "boolean",
                Element::Scalar(Scalar::Int32 | Scalar::Int64) if field.shape() != Shape::List => {
                    "integer"
                }
                _ => "string",
            };
            out.object(|out| {
                out.entry("description", |out| out.escaped(&[field.doc()]));
                out.entry("in", |out| out.text("query"));
                out.entry("name", |out| out.text(field.name()));
                out.entry("schema", |out| typed(out, kind));
            });
        });
    }
}

fn typed(out: &mut Json, kind: &str) {
    out.object(|out| {
        out.entry("type", |out| out.text(kind));
        out.entry("uniqueItems", |out| out.raw("true"));
    });
}

fn path_parameter(out: &mut Json, name: &str) {
    let (description, place) = match name {
        "name" => ("name of the object", "path"),
        "namespace" => (
            "object name and auth scope, such as for teams and projects",
            "path",
        ),
        _ => ("If 'true', then the output is pretty printed.", "query"),
    };
    out.object(|out| {
        out.entry("description", |out| out.text(description));
        out.entry("in", |out| out.text(place));
        out.entry("name", |out| out.text(name));
        if place == "path" {
            out.entry("required", |out| out.raw("true"));
        }
        out.entry("schema", |out| typed(out, "string"));
    });
}

fn content(out: &mut Json, encodings: &[&str], ty: Type<'_>) {
    out.object(|out| {
        for encoding in encodings {
            out.entry(encoding, |out| {
                out.object(|out| {
                    out.entry("schema", |out| {
                        out.object(|out| out.entry("$ref", |out| out.text(&reference(ty))))
                    });
                });
            });
        }
    });
}

fn responses(out: &mut Json, statuses: &[&str], ty: Type<'_>, encodings: &[&str]) {
    out.object(|out| {
        for status in statuses {
            let description = match *status {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            out.entry(status, |out| {
                out.object(|out| {
                    out.entry("content", |out| content(out, encodings, ty));
                    out.entry("description", |out| out.text(description));
                });
            });
        }
        out.entry("401", |out| {
            out.object(|out| out.entry("description", |out| out.text("Unauthorized")))
        });
    });
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) {
        "an"
    } else {
        "a"
    }
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
    first.to_uppercase() + rest
}
