//! The OpenAPI documents that clients read.

use std::collections::HashSet;

use keelson_schema::openapi::{self, Resource, Subresource};
use keelson_schema::{Schemas, Type};
use serde_json::{Value, json};

fn kind(group: &str, kind: &str) -> Type<'static> {
    Schemas::kubernetes()
        .kind(group, "v1", kind)
        .expect("a kind of the table")
}

fn resource(name: &str, ty: Type<'static>, namespaced: bool) -> Resource<'static> {
    let verbs = vec![
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    Resource {
        name: name.to_owned(),
        ty,
        namespaced,
        verbs,
        subresources: Vec::new(),
    }
}

fn apps() -> Vec<u8> {
    let mut deployments = resource("deployments", kind("apps", "Deployment"), true);
    for (name, ty) in [
        ("status", kind("apps", "Deployment")),
        ("scale", kind("autoscaling", "Scale")),
    ] {
        let verbs = vec!["get", "patch", "update"];
        deployments.subresources.push(Subresource {
            name: name.to_owned(),
            ty,
            verbs,
        });
    }
    let resources = [
        deployments,
        resource("replicasets", kind("apps", "ReplicaSet"), true),
    ];
    openapi::document(Schemas::kubernetes(), "apps", "v1", &resources, "v1.37.0")
}

fn core() -> Vec<u8> {
    let mut pods = resource("pods", kind("", "Pod"), true);
    let eviction = kind("policy", "Eviction");
    pods.subresources.push(Subresource {
        name: "eviction".to_owned(),
        ty: eviction,
        verbs: vec!["create"],
    });
    let resources = [
        pods,
        resource("nodes", kind("", "Node"), false),
        resource("services", kind("", "Service"), true),
    ];
    openapi::document(Schemas::kubernetes(), "", "v1", &resources, "v1.37.0")
}

fn parsed(document: &[u8]) -> Value {
    serde_json::from_slice(document).expect("a document is JSON")
}

fn schema(document: &[u8], name: &str) -> Value {
    parsed(document)["components"]["schemas"][name].take()
}

fn parameters(operation: &Value) -> Vec<&str> {
    let parameters = operation["parameters"]
        .as_array()
        .expect("an operation has parameters");
    parameters
        .iter()
        .filter_map(|parameter| parameter["name"].as_str())
        .collect()
}

/// Calls `visit` with each object in a value.
fn visit(value: &Value, seen: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            seen(object);
            object.values().for_each(|value| visit(value, seen));
        }
        Value::Array(items) => items.iter().for_each(|item| visit(item, seen)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema_and_every_schema_is_referred_to() {
    for document in [apps(), core()] {
        let document = parsed(&document);
        let mut referred = HashSet::new();
        visit(&document, &mut |object| {
            let reference = object.get("$ref").and_then(Value::as_str);
            referred.extend(reference.map(|reference| {
                reference
                    .trim_start_matches("#/components/schemas/")
                    .to_owned()
            }));
        });
        let schemas = document["components"]["schemas"]
            .as_object()
            .expect("schemas");
        let defined: HashSet<String> = schemas.keys().cloned().collect();
        assert_eq!(
            referred.difference(&defined).collect::<Vec<_>>(),
            Vec::<&String>::new()
        );
        // WatchEvent is what a watch streams, which OpenAPI cannot say.
        let unused: Vec<_> = defined
            .difference(&referred)
            .filter(|name| !name.ends_with("WatchEvent"))
            .collect();
        assert_eq!(unused, Vec::<&String>::new());
    }
}

#[test]
fn no_object_has_an_entry_twice() {
    for document in [apps(), core()] {
        assert_eq!(
            parsed(&document).to_string().len(),
            document.len(),
            "an entry is there twice"
        );
    }
}

#[test]
fn each_path_has_its_operations() {
    let document = parsed(&apps());
    let operations = |path: &str| {
        let path = document["paths"][path].as_object().expect("a path");
        let named = path.iter().filter(|(method, _)| *method != "parameters");
        let mut operations: Vec<_> = named
            .map(|(method, operation)| {
                let of = |key: &str| operation[key].as_str().unwrap_or_default().to_owned();
                format!(
                    "{method} {} {}",
                    of("x-kubernetes-action"),
                    of("operationId")
                )
            })
            .collect();
        operations.sort();
        operations
    };
    assert_eq!(
        operations("/apis/apps/v1/namespaces/{namespace}/deployments"),
        [
            "delete deletecollection deleteAppsV1CollectionNamespacedDeployment",
            "get list listAppsV1NamespacedDeployment",
            "post post createAppsV1NamespacedDeployment",
        ]
    );
    assert_eq!(
        operations("/apis/apps/v1/namespaces/{namespace}/deployments/{name}"),
        [
            "delete delete deleteAppsV1NamespacedDeployment",
            "get get readAppsV1NamespacedDeployment",
            "patch patch patchAppsV1NamespacedDeployment",
            "put put replaceAppsV1NamespacedDeployment",
        ]
    );
    assert_eq!(
        operations("/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"),
        [
            "get get readAppsV1NamespacedDeploymentScale",
            "patch patch patchAppsV1NamespacedDeploymentScale",
            "put put replaceAppsV1NamespacedDeploymentScale",
        ]
    );
    assert_eq!(
        operations("/apis/apps/v1/deployments"),
        ["get list listAppsV1DeploymentForAllNamespaces"]
    );
}

#[test]
fn kubectl_finds_the_parameters_by_which_it_asks_for_validation() {
    let document = parsed(&apps());
    let object = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(
        parameters(&object["patch"]),
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    assert_eq!(
        object["patch"]["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let collection = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
    assert_eq!(
        parameters(&collection["post"]),
        ["dryRun", "fieldManager", "fieldValidation"]
    );
    assert!(parameters(&collection["get"]).contains(&"sendInitialEvents"));
    assert!(!parameters(&collection["delete"]).contains(&"watch"));
}

#[test]
fn a_subresource_is_of_the_kind_that_it_holds() {
    let document = parsed(&core());
    let eviction =
        &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"];
    assert_eq!(eviction["operationId"], "createCoreV1NamespacedPodEviction");
    assert_eq!(eviction["description"], "create eviction of a Pod");
    assert_eq!(
        eviction["x-kubernetes-group-version-kind"],
        json!({"group": "policy", "version": "v1", "kind": "Eviction"})
    );
}

#[test]
fn a_kind_says_what_it_is_and_what_it_needs() {
    let pod = schema(&core(), "io.k8s.api.core.v1.Pod");
    assert_eq!(
        pod["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Pod"}])
    );
    assert!(pod["properties"]["apiVersion"]["description"].is_string());
    assert_eq!(
        pod["properties"]["metadata"],
        json!({
            "allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}],
            "default": {},
            "description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/\
                            sig-architecture/api-conventions.md#metadata",
        })
    );
    let port = schema(&core(), "io.k8s.api.core.v1.ContainerPort");
    assert_eq!(port["required"], json!(["containerPort"]));
    assert_eq!(port["properties"]["protocol"]["default"], "TCP");
}

#[test]
fn lists_say_how_they_are_merged() {
    let mut container = schema(&core(), "io.k8s.api.core.v1.Container");
    let mut ports = container["properties"]["ports"].take();
    ports["description"].take();
    assert_eq!(
        ports,
        json!({
            "description": null,
            "items": {
                "allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.ContainerPort"}],
                "default": {},
            },
            "type": "array",
            "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
            "x-kubernetes-list-type": "map",
            "x-kubernetes-patch-merge-key": "containerPort",
            "x-kubernetes-patch-strategy": "merge",
        })
    );
}

#[test]
fn enumerations_list_their_values_and_what_they_mean() {
    let mut container = schema(&core(), "io.k8s.api.core.v1.Container");
    let policy = container["properties"]["imagePullPolicy"].take();
    assert_eq!(policy["enum"], json!(["Always", "IfNotPresent", "Never"]));
    let description = policy["description"].as_str().expect("a description");
    let always = "\n\nPossible enum values:\n - `\"Always\"` means that kubelet always attempts to pull the latest image.";
    assert!(description.contains(always), "{description}");
}

#[test]
fn values_of_special_forms_have_schemas_of_their_own() {
    let mut quantity = schema(&core(), "io.k8s.apimachinery.pkg.api.resource.Quantity");
    assert_eq!(
        quantity["oneOf"].take(),
        json!([{"type": "string"}, {"type": "number"}])
    );
    let mut port = schema(&core(), "io.k8s.apimachinery.pkg.util.intstr.IntOrString");
    assert_eq!(port["format"].take(), "int-or-string");
    let mut time = schema(&core(), "io.k8s.apimachinery.pkg.apis.meta.v1.Time");
    assert_eq!(
        (time["type"].take(), time["format"].take()),
        (json!("string"), json!("date-time"))
    );
}

#[test]
fn the_index_leads_to_each_document_by_its_hash() {
    let hash = openapi::hash(b"document");
    assert_eq!(hash.len(), 128);
    let index = openapi::index([("api/v1", hash.as_str()), ("apis/apps/v1", "X")].into_iter());
    assert_eq!(
        parsed(&index),
        json!({"paths": {
            "api/v1": {"serverRelativeURL": format!("/openapi/v3/api/v1?hash={hash}")},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=X"},
        }})
    );
}

#[test]
fn the_same_resources_make_the_same_document() {
    assert_eq!(openapi::hash(&apps()), openapi::hash(&apps()));
    assert_eq!(
        (openapi::path("", "v1"), openapi::path("apps", "v1")),
        ("api/v1".into(), "apis/apps/v1".into())
    );
}
