//! Random objects of every kind survive every encoding.

mod common;

use common::Random;
use keelson_schema::{Schemas, decode, protobuf};
use proptest::prelude::*;
use serde_json::{Value, json};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]

    #[test]
    fn an_object_of_any_kind_is_the_same_in_every_encoding(seed: u64) {
        let mut random = Random::new(seed);
        for ty in Schemas::kubernetes().types().filter(|ty| ty.is_kind()) {
            let made = random.object(ty);
            let decoded = decode::value(ty, made).expect("an object of its type");
            prop_assert_eq!(&decoded.faults, &[]);
            let object = decoded.value;

            let again = decode::value(ty, object.clone()).expect("an object of its type");
            prop_assert_eq!(&again.value, &object, "decoding is idempotent");

            let json = decode::json(ty, object.to_string().as_bytes()).expect("JSON");
            prop_assert_eq!(&json.value, &object);
            prop_assert_eq!(json.faults, []);

            let body = protobuf::encode(ty, &object).expect("encodes");
            let decoded = decode::protobuf(ty, &body).expect("protobuf");
            prop_assert_eq!(&decoded.value, &object, "{:?}", ty);
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(seed: u64, cut in 0_usize..400, flip in 0_usize..400) {
        let mut random = Random::new(seed);
        let ty = Schemas::kubernetes().kind("", "v1", "Pod").expect("a kind");
        let pod = decode::value(ty, random.object(ty)).expect("a pod").value;
        let mut body = protobuf::encode(ty, &pod).expect("encodes");
        let length = body.len();
        body[flip % length] ^= 1 << (flip % 8);
        let _ = decode::protobuf(ty, &body);
        body.truncate(cut.min(length));
        let _ = decode::protobuf(ty, &body);
    }

    #[test]
    fn objects_are_the_same_in_yaml(seed: u64) {
        let mut random = Random::new(seed);
        let ty = Schemas::kubernetes().kind("apps", "v1", "Deployment").expect("a kind");
        let object = decode::value(ty, random.object(ty)).expect("a deployment").value;
        // JSON is YAML, but for how it escapes what is outside the basic plane.
        let yaml = decode::yaml(ty, object.to_string().as_bytes()).expect("YAML");
        prop_assert_eq!(yaml.value, object);
        prop_assert_eq!(yaml.faults, []);
    }
}

/// The bodies are those that kubectl 1.37 sends for `create namespace development`, `create deployment web --image=nginx
/// --replicas=3 --port=80` and `create secret generic s --from-literal=a=1`.
#[test]
fn what_kubectl_creates_is_read_as_it_would_be_from_json() {
    let decoded = |body: &[u8]| {
        let body = decode::Body::parse(decode::Encoding::Protobuf, body).expect("a body");
        let meta = body.type_meta().expect("a kind");
        let (group, version) = meta.group_version();
        let ty = Schemas::kubernetes()
            .kind(group, version, &meta.kind)
            .expect("a known kind");
        body.decode(ty).expect("an object").value
    };
    assert_eq!(
        decoded(include_bytes!("bodies/create-namespace.pb")),
        json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "development"}, "spec": {}, "status": {},
        })
    );
    assert_eq!(
        decoded(include_bytes!("bodies/create-deployment.pb")),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [
                            {"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}], "resources": {}},
                        ],
                    },
                },
            },
            "status": {},
        })
    );
    assert_eq!(
        decoded(include_bytes!("bodies/create-secret.pb")),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "MQ=="}})
    );
}

#[test]
fn a_list_of_several_kinds_is_read() {
    let schemas = Schemas::kubernetes();
    let (list, secret) = (
        schemas.kind("", "v1", "List"),
        schemas.kind("", "v1", "Secret"),
    );
    let (list, secret) = (list.expect("a kind"), secret.expect("a kind"));
    let item = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "dg=="}});
    let item = protobuf::encode(secret, &item).expect("encodes");
    // Field 2 of the list has in its field 1 the item in its envelope.
    let raw = [&[0x0a, item.len() as u8], item.as_slice()].concat();
    let message = [&[0x12, raw.len() as u8], raw.as_slice()].concat();
    let body = [
        b"k8s\0\x12",
        [message.len() as u8].as_slice(),
        message.as_slice(),
    ]
    .concat();
    let decoded = decode::protobuf(list, &body).expect("a list").value;
    assert_eq!(decoded["items"][0]["kind"], "Secret");
    assert_eq!(decoded["items"][0]["data"], json!({"k": "dg=="}));
}

/// A field of a message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

/// A ControllerRevision, whose data may be anything.
fn revision_of(data: &[u8]) -> Vec<u8> {
    let meta = [field(1, b"apps/v1"), field(2, b"ControllerRevision")].concat();
    let message = field(2, &field(1, data));
    [b"k8s\0".to_vec(), field(1, &meta), field(2, &message)].concat()
}

fn decode_revision(body: &[u8]) -> Result<Value, String> {
    let ty = Schemas::kubernetes().kind("apps", "v1", "ControllerRevision");
    decode::protobuf(ty.expect("a kind"), body)
        .map(|decoded| decoded.value)
        .map_err(|error| error.to_string())
}

#[test]
fn json_in_protobuf_is_no_deeper_than_can_be_read_back() {
    let nested = |levels: usize| {
        let json = [
            r#"{"a":"#.repeat(levels - 1),
            "{}".to_owned(),
            "}".repeat(levels - 1),
        ];
        decode_revision(&revision_of(json.concat().as_bytes()))
    };
    let deepest = nested(126).expect("as deep as JSON may be");
    let read = serde_json::from_str::<Value>(&deepest.to_string());
    assert_eq!(read.expect("what was read can be read"), deepest);
    assert_eq!(nested(127).expect_err("too deep"), "exceeded max depth");
}

#[test]
fn objects_in_objects_end_before_the_stack_does() {
    let mut body = revision_of(b"{}");
    for _ in 0..5_000 {
        body = revision_of(&body);
    }
    assert_eq!(
        decode_revision(&body).expect_err("too deep"),
        "exceeded max depth"
    );
}

#[test]
fn what_is_no_protobuf_is_refused() {
    let ty = Schemas::kubernetes().kind("", "v1", "Pod").expect("a kind");
    let message = |body: &[u8]| {
        decode::protobuf(ty, body)
            .expect_err("no protobuf")
            .to_string()
    };
    assert_eq!(message(b""), "empty data");
    assert_eq!(
        message(b"{}"),
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
    assert_eq!(message(b"k8s\0\x12\x7f"), "unexpected EOF");
}

#[test]
fn a_random_object_has_something_in_it() {
    let ty = Schemas::kubernetes().kind("", "v1", "Pod").expect("a kind");
    let size = |seed| Random::new(seed).object(ty).to_string().len();
    assert!((0..10).map(size).max() > Some(1000));
    assert!(matches!(Random::new(1).object(ty), Value::Object(_)));
}
