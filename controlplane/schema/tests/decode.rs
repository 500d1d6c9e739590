//! What becomes of JSON bodies: right ones, and those with each sort of fault.

use keelson_schema::{Schemas, Type, decode};
use serde_json::{Value, json};

fn kind(group: &str, version: &str, kind: &str) -> Type<'static> {
    Schemas::kubernetes()
        .kind(group, version, kind)
        .expect("a kind of the table")
}

fn deployment(body: &Value) -> decode::Decoded {
    decode::json(
        kind("apps", "v1", "Deployment"),
        body.to_string().as_bytes(),
    )
    .expect("a deployment")
}

fn faults(ty: Type<'_>, body: &str) -> Vec<String> {
    decode::json(ty, body.as_bytes())
        .expect("an object")
        .faults
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn error(ty: Type<'_>, body: &str) -> String {
    decode::json(ty, body.as_bytes())
        .expect_err("a wrong body")
        .to_string()
}

#[test]
fn an_object_is_stored_as_kubernetes_stores_it() {
    let decoded = deployment(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "creationTimestamp": null, "labels": {"app": "web", "empty": null}},
        "spec": {
            "replicas": 0,
            "paused": false,
            "selector": {"matchLabels": {"app": "web"}, "matchExpressions": []},
            "template": {
                "spec": {
                    "hostNetwork": false,
                    "containers": [{
                        "name": "web",
                        "image": "nginx",
                        "env": [{"name": "EMPTY", "value": ""}],
                        "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}},
                        "livenessProbe": {"httpGet": {"port": "http"}},
                    }],
                },
            },
        },
    }));
    assert_eq!(decoded.faults, []);
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web", "empty": ""}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {},
                "template": {
                    "metadata": {},
                    "spec": {
                        "containers": [{
                            "name": "web",
                            "image": "nginx",
                            "env": [{"name": "EMPTY"}],
                            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                            "livenessProbe": {"httpGet": {"port": "http"}},
                        }],
                    },
                },
            },
            "status": {},
        })
    );
}

#[test]
fn unknown_fields_are_named_by_their_path_and_pruned() {
    let decoded = deployment(&json!({
        "metadata": {"Name": "names are compared exactly"},
        "spec": {"foo": {"bar": 1}, "template": {"spec": {"containers": [{}, {"imagee": "x"}]}}},
        "extra": 1,
    }));
    assert_eq!(
        decode::strict_error(&decoded.faults),
        "strict decoding error: unknown field \"extra\", unknown field \"metadata.Name\", unknown field \"spec.foo\", \
         unknown field \"spec.template.spec.containers[1].imagee\""
    );
    assert_eq!(decoded.value["metadata"], json!({}));
    assert!(decoded.value.get("extra").is_none());
}

#[test]
fn duplicate_fields_are_named_and_the_last_one_counts() {
    let body = r#"{
        "spec": {"replicas": 1, "replicas": 2, "replicas": 3, "unknown": {"a": 1, "a": 2}},
        "metadata": {"labels": {"a.b/c": "1", "a.b/c": "2"}}
    }"#;
    assert_eq!(
        faults(kind("apps", "v1", "Deployment"), body),
        [
            r#"duplicate field "spec.replicas""#,
            r#"duplicate field "metadata.labels.a.b/c""#,
            r#"unknown field "spec.unknown""#
        ]
    );
    let decoded =
        decode::json(kind("apps", "v1", "Deployment"), body.as_bytes()).expect("an object");
    assert_eq!(decoded.value["spec"]["replicas"], 3);
}

#[test]
fn a_wrong_type_is_refused_in_the_words_that_users_know() {
    let cases = [
        (
            json!({"spec": {"replicas": "3"}}),
            "string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 1.5}}),
            "number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 3_000_000_000_u64}}),
            "number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"metadata": {"labels": []}}),
            "array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"imagePullPolicy": true}]}}}}),
            "bool into Go struct field Container.spec.template.spec.containers.imagePullPolicy of type v1.PullPolicy",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}}}),
            "string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"env": [{"name": "a", "value": 1}]}]}}}}),
            "number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": 1}}]}}}}),
            "number into Go struct field ResourceRequirements.spec.template.spec.containers.resources.limits of type \
             v1.ResourceList",
        ),
        // A struct that JSON inlines is a field to Go.
        (
            json!({"spec": {"template": {"spec": {"volumes": [{"name": "v", "emptyDir": 1}]}}}}),
            "number into Go struct field Volume.spec.template.spec.volumes.VolumeSource.emptyDir of type \
             v1.EmptyDirVolumeSource",
        ),
        (
            json!({"spec": "x"}),
            "string into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (json!([]), "array into Go value of type v1.Deployment"),
    ];
    for (body, expected) in cases {
        let message = error(kind("apps", "v1", "Deployment"), &body.to_string());
        assert_eq!(message, format!("json: cannot unmarshal {expected}"));
    }
}

/// As Go does, which goes on after a wrong type, but not after a time that is none.
#[test]
fn of_two_wrong_values_the_first_is_told_unless_the_other_cannot_be_read_at_all() {
    let ty = kind("apps", "v1", "Deployment");
    let two = json!({"metadata": {"labels": 1}, "spec": {"replicas": "3"}});
    assert!(error(ty, &two.to_string()).contains("ObjectMeta.metadata.labels"));
    let time = json!({"kind": 1, "metadata": {"deletionTimestamp": "noon"}});
    assert!(error(ty, &time.to_string()).starts_with("parsing time \"noon\""));
}

#[test]
fn bytes_that_are_no_json_are_refused_in_gos_words() {
    let ty = kind("", "v1", "ConfigMap");
    for (body, expected) in [
        ("", "unexpected end of JSON input"),
        (r#"{"data": "#, "unexpected end of JSON input"),
        (
            "{data: 1}",
            "invalid character 'd' looking for beginning of object key string",
        ),
        (r#"{"data" 1}"#, "invalid character '1' after object key"),
        (
            r#"{"data": {} "kind"}"#,
            "invalid character '\"' after object key:value pair",
        ),
        (
            "nope",
            "invalid character 'o' in literal null (expecting 'u')",
        ),
        ("{} {}", "invalid character '{' after top-level value"),
    ] {
        assert_eq!(error(ty, body), expected, "{body}");
    }
}

#[test]
fn secrets_hold_base64() {
    let ty = kind("", "v1", "Secret");
    assert_eq!(
        faults(ty, r#"{"data": {"a": "aGVsbG8="}}"#),
        Vec::<String>::new()
    );
    assert_eq!(
        error(ty, r#"{"data": {"a": "no base64"}}"#),
        "illegal base64 data at input byte 2"
    );
}

#[test]
fn what_every_group_has_is_found_in_each() {
    let ty = kind("apps", "v1", "DeleteOptions");
    assert_eq!(
        ty.openapi_name(),
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
    );
    assert_eq!(
        faults(
            ty,
            r#"{"gracePeriodSeconds": 0, "propagationPolicy": "Orphan"}"#
        ),
        Vec::<String>::new()
    );
}

#[test]
fn a_body_says_what_it_is() {
    let meta = decode::type_meta(&json!({"apiVersion": "apps/v1", "kind": "Deployment"}))
        .expect("an object");
    assert_eq!(
        (meta.group_version(), meta.kind.as_str()),
        (("apps", "v1"), "Deployment")
    );
    assert_eq!(
        decode::type_meta(&json!({"kind": 1}))
            .expect_err("a wrong kind")
            .to_string(),
        "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type \
         string"
    );
}

#[test]
fn yaml_is_decoded_and_its_duplicate_keys_are_named_by_line() {
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  name: b\ndata:\n  on: \"1\"\n  8080: x\n";
    let decoded = decode::yaml(kind("", "v1", "ConfigMap"), body.as_bytes()).expect("a config map");
    assert_eq!(decoded.value["metadata"]["name"], "b");
    assert_eq!(decoded.value["data"], json!({"on": "1", "8080": "x"}));
    assert_eq!(
        decode::strict_error(&decoded.faults),
        "strict decoding error: yaml: unmarshal errors:\n  line 5: key \"name\" already set in map"
    );
    let broken = decode::yaml(kind("", "v1", "ConfigMap"), b"a: b: c")
        .expect_err("no YAML")
        .to_string();
    assert!(
        broken.starts_with("error converting YAML to JSON: yaml: "),
        "{broken}"
    );
}
