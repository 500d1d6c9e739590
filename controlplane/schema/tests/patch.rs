//! Patches of each kind, as the API server applies them.

mod common;

use keelson_schema::patch::{Error, Kind, Patch};
use keelson_schema::{Schemas, Shape, Type, decode};
use proptest::prelude::*;
use serde_json::{Value, json};

fn kind(group: &str, kind: &str) -> Type<'static> {
    Schemas::kubernetes()
        .kind(group, "v1", kind)
        .expect("a kind of the table")
}

fn apply(kind: Kind, ty: Type<'_>, object: &Value, patch: &Value) -> Result<Value, Error> {
    Patch::parse(kind, patch.to_string().as_bytes())?.apply(ty, object.clone())
}

fn strategic(ty: Type<'_>, object: &Value, patch: &Value) -> Value {
    apply(Kind::Strategic, ty, object, patch).expect("applies")
}

/// Applies a patch to a pod's spec.
fn pod(spec: Value, patch: Value) -> Value {
    strategic(
        kind("", "Pod"),
        &json!({"spec": spec}),
        &json!({"spec": patch}),
    )["spec"]
        .take()
}

fn pod_error(spec: Value, patch: Value) -> Error {
    apply(
        Kind::Strategic,
        kind("", "Pod"),
        &json!({"spec": spec}),
        &json!({"spec": patch}),
    )
    .expect_err("is refused")
}

mod strategic_merge {
    use super::*;

    #[test]
    fn fields_are_added_changed_and_deleted_by_null() {
        let config = json!({"data": {"a": "1", "b": "2"}, "immutable": false});
        let patch = json!({"data": {"a": "3", "b": null, "c": "4", "d": null}, "immutable": null, "binaryData": {"x": null}});
        let patched = strategic(kind("", "ConfigMap"), &config, &patch);
        assert_eq!(
            patched,
            json!({"data": {"a": "3", "c": "4"}, "binaryData": {}})
        );
    }

    #[test]
    fn long_lists_are_merged_in_no_time() {
        const MANY: usize = 50_000;
        let name = |n: usize| format!("example.com/{n}");
        let names = |from: usize| {
            (from..from + MANY)
                .map(|n| name(n).into())
                .collect::<Vec<Value>>()
        };
        let env = |from: usize| {
            let all = (from..from + MANY).map(|n| json!({"name": name(n), "value": "x"}));
            all.collect::<Vec<Value>>()
        };
        let pod = |from: usize| {
            json!({"metadata": {"finalizers": names(from)},
            "spec": {"containers": [{"name": "a", "env": env(from)}]}})
        };
        let mut patch = pod(MANY / 2);
        patch["metadata"]["$setElementOrder/finalizers"] = names(MANY / 2).into();
        patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = names(0)[..10].into();
        let began = std::time::Instant::now();
        let patched = strategic(kind("", "Pod"), &pod(0), &patch);
        let count = |list: &Value| list.as_array().unwrap().len();
        assert_eq!(
            count(&patched["spec"]["containers"][0]["env"]),
            MANY * 3 / 2
        );
        assert_eq!(count(&patched["metadata"]["finalizers"]), MANY * 3 / 2 - 10);
        // Each with each, it takes minutes.
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn an_empty_patch_changes_nothing() {
        let config = json!({"data": {"a": "1"}});
        assert_eq!(
            strategic(kind("", "ConfigMap"), &config, &json!({})),
            config
        );
    }

    #[test]
    fn a_map_of_resources_is_merged_key_by_key() {
        let patched = pod(
            json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}),
            json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "2", "memory": null}}}]}),
        );
        assert_eq!(
            patched,
            json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "2"}}}]})
        );
    }

    #[test]
    fn items_with_the_same_key_are_merged_and_new_ones_come_first() {
        let patched = pod(
            json!({"containers": [{"name": "a", "image": "a:1", "tty": true}, {"name": "b", "image": "b:1"}]}),
            json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "a", "image": "a:2"}]}),
        );
        assert_eq!(
            patched,
            json!({"containers": [
                {"name": "c", "image": "c:1"},
                {"name": "a", "image": "a:2", "tty": true},
                {"name": "b", "image": "b:1"},
            ]})
        );
    }

    #[test]
    fn an_item_is_deleted_by_its_key() {
        let patched = pod(
            json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
            json!({"containers": [{"name": "b", "$patch": "delete"}, {"name": "nobody", "$patch": "delete"}]}),
        );
        assert_eq!(
            patched,
            json!({"containers": [{"name": "a"}, {"name": "c"}]})
        );
    }

    #[test]
    fn a_list_is_replaced_where_an_item_says_so() {
        let patched = pod(
            json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b"}]}),
            json!({"containers": [{"name": "z"}, {"name": "a"}, {"$patch": "replace"}]}),
        );
        assert_eq!(
            patched,
            json!({"containers": [{"name": "z"}, {"name": "a"}]})
        );
        let emptied = pod(
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"$patch": "replace"}]}),
        );
        assert_eq!(emptied, json!({"containers": []}));
    }

    #[test]
    fn a_list_without_a_merge_strategy_is_replaced() {
        let patched = pod(
            json!({"containers": [{"name": "a", "args": ["x", "y"]}], "tolerations": [{"key": "a"}]}),
            json!({"containers": [{"name": "a", "args": ["z"]}], "tolerations": [{"key": "b"}]}),
        );
        assert_eq!(
            patched,
            json!({"containers": [{"name": "a", "args": ["z"]}], "tolerations": [{"key": "b"}]})
        );
    }

    #[test]
    fn ports_are_merged_by_number() {
        let service = json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}, {"port": 443}]}});
        let patch = json!({"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 53}]}});
        assert_eq!(
            strategic(kind("", "Service"), &service, &patch),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 8080, "name": "http"}, {"port": 53}, {"port": 443}]}})
        );
    }

    #[test]
    fn an_object_is_replaced_or_emptied_where_it_says_so() {
        let spec = json!({"nodeSelector": {"a": "1", "b": "2"}, "hostNetwork": true});
        let replaced = pod(
            spec.clone(),
            json!({"nodeSelector": {"$patch": "replace", "c": "3"}}),
        );
        assert_eq!(
            replaced,
            json!({"nodeSelector": {"c": "3"}, "hostNetwork": true})
        );
        let emptied = pod(spec, json!({"nodeSelector": {"$patch": "delete"}}));
        assert_eq!(emptied, json!({"nodeSelector": {}, "hostNetwork": true}));
    }

    #[test]
    fn only_retained_keys_stay() {
        let deployment = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let patched = strategic(kind("apps", "Deployment"), &deployment, &patch);
        assert_eq!(patched, json!({"spec": {"strategy": {"type": "Recreate"}}}));

        let volumes = pod(
            json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "a", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}),
        );
        assert_eq!(
            volumes,
            json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}]})
        );
    }

    #[test]
    fn retained_keys_must_name_what_the_patch_writes() {
        let refused = Error::Invalid("invalid patch format of retainKeys".to_owned());
        let spec = json!({"volumes": [{"name": "a", "emptyDir": {}}]});
        let lacking =
            json!({"volumes": [{"name": "a", "$retainKeys": ["name"], "hostPath": {"path": "/"}}]});
        assert_eq!(pod_error(spec.clone(), lacking), refused);
        let no_list = json!({"volumes": [{"name": "a", "$retainKeys": "name"}]});
        assert_eq!(pod_error(spec, no_list), refused);
    }

    #[test]
    fn a_list_of_plain_values_is_a_set() {
        let object = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
        let patched = strategic(
            kind("", "Pod"),
            &object,
            &json!({"metadata": {"finalizers": ["b", "d"]}}),
        );
        assert_eq!(
            patched,
            json!({"metadata": {"finalizers": ["a", "b", "d", "c"]}})
        );
        let patch =
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "c", "nobody"]}});
        assert_eq!(
            strategic(kind("", "Pod"), &object, &patch),
            json!({"metadata": {"finalizers": ["b"]}})
        );
    }

    #[test]
    fn values_are_added_deleted_and_put_in_order_at_once() {
        let object = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
        let patch = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["b"],
            "$setElementOrder/finalizers": ["d", "c", "a"],
            "finalizers": ["d"],
        }});
        assert_eq!(
            strategic(kind("", "Pod"), &object, &patch),
            json!({"metadata": {"finalizers": ["d", "c", "a"]}})
        );
    }

    #[test]
    fn an_order_is_set_around_what_only_the_server_knows() {
        let named = |names: &[&str]| {
            names
                .iter()
                .map(|name| json!({"name": name}))
                .collect::<Value>()
        };
        let patched = pod(
            json!({"containers": named(&["1", "2", "3", "4", "5"])}),
            json!({"$setElementOrder/containers": named(&["5", "3", "1"])}),
        );
        assert_eq!(
            patched,
            json!({"containers": named(&["2", "4", "5", "3", "1"])})
        );
    }

    #[test]
    fn kubectl_changes_one_item_and_tells_the_order_of_all() {
        let patched = pod(
            json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "sidecar"}, {"name": "b", "image": "b:1"}]}),
            json!({
                "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "b", "image": "b:2"}],
            }),
        );
        assert_eq!(
            patched,
            json!({"containers": [{"name": "sidecar"}, {"name": "b", "image": "b:2"}, {"name": "a", "image": "a:1"}]})
        );
    }

    #[test]
    fn a_new_item_takes_the_place_of_a_deleted_one() {
        let patched = pod(
            json!({"containers": [{"name": "sidecar"}, {"name": "old"}]}),
            json!({
                "$setElementOrder/containers": [{"name": "new"}],
                "containers": [{"name": "new"}, {"name": "old", "$patch": "delete"}],
            }),
        );
        assert_eq!(
            patched,
            json!({"containers": [{"name": "sidecar"}, {"name": "new"}]})
        );
    }

    #[test]
    fn an_order_for_a_list_that_is_not_there_is_of_no_consequence() {
        let patched = pod(
            json!({}),
            json!({"$setElementOrder/containers": [{"name": "a"}]}),
        );
        assert_eq!(patched, json!({}));
        let added = pod(
            json!({}),
            json!({
                "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
                "containers": [{"name": "a"}, {"name": "b"}, {"name": "c", "$patch": "delete"}],
            }),
        );
        assert_eq!(added, json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    }

    #[test]
    fn an_order_must_name_the_items_of_the_patch_as_they_stand() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let wrong = json!({
            "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
            "containers": [{"name": "b"}, {"name": "a"}],
        });
        assert_eq!(
            pod_error(spec.clone(), wrong).to_string(),
            "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder/ list:\n[map[name:a] \
             map[name:b]]\n"
        );
        let no_list = json!({"$setElementOrder/containers": "a"});
        let expected = "expected a []interface {}, but received a string";
        assert_eq!(
            pod_error(spec, no_list),
            Error::Unsupported(expected.to_owned())
        );
    }

    #[test]
    fn new_values_lose_their_nulls_and_directives() {
        let patched = pod(
            json!({"containers": [{"name": "a"}]}),
            json!({
                "containers": [{"name": "b", "image": null, "$setElementOrder/env": [{"name": "x"}], "env": [
                    {"name": "x", "value": null}, {"name": "y", "$patch": "delete"},
                ]}],
                "affinity": {"nodeAffinity": {"$retainKeys": [], "x": null}},
            }),
        );
        assert_eq!(
            patched,
            json!({"containers": [{"name": "b", "env": [{"name": "x"}]}, {"name": "a"}], "affinity": {"nodeAffinity": {}}})
        );
    }

    #[test]
    fn a_value_of_another_type_takes_the_place_of_the_old_one() {
        let service = json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}});
        let patch = json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}});
        assert_eq!(
            strategic(kind("", "Service"), &service, &patch),
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}})
        );
        assert_eq!(
            pod(
                json!({"nodeSelector": {"a": "1"}}),
                json!({"nodeSelector": "x"})
            ),
            json!({"nodeSelector": "x"})
        );
    }

    #[test]
    fn an_embedded_type_merges_as_a_part_of_its_owner() {
        let patched = pod(
            json!({"volumes": [{"name": "a", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}]}),
            json!({"volumes": [{"name": "a", "configMap": {"optional": true}}]}),
        );
        assert_eq!(
            patched,
            json!({"volumes": [
                {"name": "a", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}], "optional": true}},
            ]})
        );
    }

    #[test]
    fn an_unknown_field_is_merged_and_found_later() {
        let ty = kind("", "Pod");
        let patched = pod(json!({"hostNetwork": true}), json!({"hostNetwerk": true}));
        let decoded = decode::value(ty, json!({"spec": patched})).expect("a pod");
        assert_eq!(
            decode::strict_error(&decoded.faults),
            r#"strict decoding error: unknown field "spec.hostNetwerk""#
        );
    }

    #[test]
    fn what_cannot_be_merged_says_why() {
        let spec = json!({"containers": [{"name": "a"}], "volumes": [{"name": "v"}]});
        let cases = [
            (
                json!({"containers": [{"image": "x"}]}),
                "map: map[image:x] does not contain declared merge key: name",
            ),
            (
                json!({"containers": [{"image": "x", "$patch": "delete"}]}),
                "map: map[$patch:delete image:x] does not contain declared merge key: name",
            ),
            (
                json!({"containers": [{"name": "a", "$patch": "fix"}]}),
                "unknown patch type: fix in map: map[$patch:fix name:a]",
            ),
            (
                json!({"containers": [{"$patch": "merge"}]}),
                "merging lists cannot yet be specified in the patch",
            ),
            (
                json!({"$patch": "fix"}),
                "unknown patch type: fix in map: map[$patch:fix]",
            ),
            (
                json!({"containers": ["a"]}),
                "list element types are not identical: [[map[name:a]] [a]]",
            ),
        ];
        for (patch, expected) in cases {
            assert_eq!(
                pod_error(spec.clone(), patch),
                Error::Unsupported(expected.to_owned())
            );
        }
        let lists = json!({"containers": [["a"]]});
        assert_eq!(
            pod_error(json!({"containers": []}), lists),
            Error::Unprocessable("lists of lists are not supported".to_owned())
        );
        let no_list = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}});
        assert_eq!(
            apply(
                Kind::Strategic,
                kind("", "Pod"),
                &json!({"metadata": {}}),
                &no_list
            ),
            Err(Error::Invalid(
                "invalid patch format of primitive list".to_owned()
            ))
        );
    }

    #[test]
    fn duplicate_fields_of_a_patch_are_faults() {
        let patch = Patch::parse(
            Kind::Strategic,
            br#"{"spec": {"replicas": 1, "replicas": 2}}"#,
        )
        .expect("a patch");
        let faults: Vec<_> = patch.faults().iter().map(ToString::to_string).collect();
        assert_eq!(faults, [r#"duplicate field "spec.replicas""#]);
    }
}

mod json_patch {
    use super::*;

    fn patched(object: Value, patch: Value) -> Result<Value, Error> {
        apply(Kind::Json, kind("", "ConfigMap"), &object, &patch)
    }

    #[test]
    fn operations_are_applied_in_turn() {
        let patch = json!([
            {"op": "test", "path": "/data/a", "value": "1"},
            {"op": "test", "path": "/data/nothing", "value": null},
            {"op": "replace", "path": "/data/a", "value": "2"},
            {"op": "add", "path": "/metadata/finalizers/-", "value": "y"},
            {"op": "move", "from": "/data/b", "path": "/data/c~1d"},
            {"op": "copy", "from": "/data/a", "path": "/data/e"},
            {"op": "remove", "path": "/metadata/finalizers/0"},
        ]);
        let object = json!({"data": {"a": "1", "b": "3"}, "metadata": {"finalizers": ["x"]}});
        let expected =
            json!({"data": {"a": "2", "c/d": "3", "e": "2"}, "metadata": {"finalizers": ["y"]}});
        assert_eq!(patched(object, patch), Ok(expected));
    }

    #[test]
    fn an_operation_that_does_not_fit_the_object_says_why() {
        let cases = [
            (
                json!({"op": "test", "path": "/data/a", "value": "2"}),
                "testing value /data/a failed: test failed",
            ),
            (
                json!({"op": "replace", "path": "/data/b", "value": "2"}),
                "replace operation does not apply: doc is missing key: /data/b: missing value",
            ),
            (
                json!({"op": "add", "path": "/spec/a/b", "value": 1}),
                "add operation does not apply: doc is missing path: \"/spec/a/b\": missing value",
            ),
            (
                json!({"op": "remove", "path": "/data/b"}),
                "error in remove for path: '/data/b': Unable to remove nonexistent key: b: missing value",
            ),
            (
                json!({"op": "remove", "path": "/list/7"}),
                "error in remove for path: '/list/7': Unable to access invalid index: 7: invalid index referenced",
            ),
            (
                json!({"op": "jump", "path": "/data/b"}),
                "Unexpected kind: jump",
            ),
        ];
        for (operation, expected) in cases {
            let error = patched(json!({"data": {"a": "1"}, "list": [1]}), json!([operation]));
            assert_eq!(error, Err(Error::Unprocessable(expected.to_owned())));
        }
    }

    #[test]
    fn ten_thousand_operations_are_the_most() {
        let patch = Value::Array(vec![
            json!({"op": "test", "path": "/x", "value": null});
            10_001
        ]);
        let expected = "The allowed maximum operations in a JSON patch is 10000, got 10001";
        assert_eq!(
            patched(json!({}), patch),
            Err(Error::TooLarge(expected.to_owned()))
        );
    }

    #[test]
    fn copies_do_not_double_an_object_without_end() {
        let doubling = json!({"op": "copy", "from": "/data", "path": "/data/b"});
        let patch = Value::Array(vec![doubling; 40]);
        let object = json!({"data": {"a": "x".repeat(100_000)}});
        assert!(matches!(patched(object, patch), Err(Error::TooLarge(_))));
    }

    #[test]
    fn nothing_is_written_deeper_than_it_can_be_read() {
        let deeper = |operation: &dyn Fn(&str) -> Value| {
            let paths = (1..200).map(|depth| format!("/data{}", "/a".repeat(depth)));
            let patch = paths.map(|path| operation(&path)).collect();
            patched(json!({"data": {}}), Value::Array(patch))
        };
        let added = deeper(&|path| json!({"op": "add", "path": path, "value": {}}));
        assert!(matches!(added, Err(Error::TooLarge(_))));
        // Each pair of moves puts what there is one level deeper.
        let pair = [
            json!({"op": "add", "path": "/b", "value": {}}),
            json!({"op": "move", "from": "/data", "path": "/b/data"}),
            json!({"op": "move", "from": "/b", "path": "/data"}),
        ];
        let patch = Value::Array(pair.iter().cycle().take(600).cloned().collect());
        assert!(matches!(
            patched(json!({"data": {}}), patch),
            Err(Error::TooLarge(_))
        ));
    }

    #[test]
    fn the_faults_of_a_patch_are_told_from_those_of_its_outcome() {
        let body =
            br#"[{"op": "add", "path": "/data/a", "path": "/data/b", "value": "1", "foo": 1}]"#;
        let patch = Patch::parse(Kind::Json, body).expect("a patch");
        let faults: Vec<_> = patch.faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                r#"json patch duplicate field "[0].path""#,
                r#"json patch unknown field "[0].foo""#
            ]
        );
    }

    #[test]
    fn a_body_that_is_no_list_is_refused() {
        let expected = "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
        assert_eq!(
            patched(json!({}), json!({})),
            Err(Error::Invalid(expected.to_owned()))
        );
    }
}

mod merge_patch {
    use super::*;

    #[test]
    fn fields_are_merged_and_lists_replaced() {
        let object =
            json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]}});
        let patch = json!({"metadata": {"labels": {"a": null, "c": "3"}, "finalizers": ["z"]}});
        let expected = json!({"metadata": {"labels": {"b": "2", "c": "3"}, "finalizers": ["z"]}});
        assert_eq!(
            apply(Kind::Merge, kind("", "Pod"), &object, &patch),
            Ok(expected)
        );
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        let refused = Err(Error::Invalid("Invalid JSON Patch".to_owned()));
        assert_eq!(
            apply(Kind::Merge, kind("", "Pod"), &json!({}), &json!([])),
            refused
        );
    }
}

/// Leaves only the first of the items that are the same one to a merge, which cannot tell them apart.
fn without_twins(ty: Type<'_>, object: &mut Value) {
    let fields = object.as_object_mut().into_iter().flatten();
    for (field, value) in fields.filter_map(|(name, value)| Some((ty.field(name)?, value))) {
        if let (Value::Array(items), Some(_)) = (&mut *value, field.patch_strategy()) {
            let mut seen = Vec::new();
            items.retain(|item| {
                let identity = field
                    .patch_merge_key()
                    .map_or(Some(item), |key| item.get(key))
                    .cloned();
                let is_new = identity.is_some() && !seen.contains(&identity);
                seen.push(identity);
                is_new
            });
        }
        let Some(ty) = field.element_type() else {
            continue;
        };
        match (field.shape(), value) {
            (Shape::List, Value::Array(items)) => {
                items.iter_mut().for_each(|item| without_twins(ty, item))
            }
            (Shape::Single | Shape::Pointer, value) => without_twins(ty, value),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// An object may be laid over itself, or over nothing, by every patch that merges.
    #[test]
    fn an_object_as_a_patch_makes_itself(seed: u64) {
        let ty = kind("", "Service");
        let object = decode::value(ty, common::Random::new(seed).object(ty)).expect("a service").value;
        let merged = apply(Kind::Merge, ty, &json!({}), &object).expect("applies");
        prop_assert_eq!(&merged, &object);
        let merged = apply(Kind::Merge, ty, &object, &object).expect("applies");
        prop_assert_eq!(&merged, &object);
        let merged = apply(Kind::Strategic, ty, &json!({}), &object).expect("applies");
        prop_assert_eq!(&merged, &object);
    }

    /// A patch that is applied again finds nothing more to do.
    #[test]
    fn a_strategic_merge_is_idempotent(seed: u64, other: u64) {
        let ty = kind("", "Pod");
        let make = |seed| {
            let mut pod = decode::value(ty, common::Random::new(seed).object(ty)).expect("a pod").value;
            without_twins(ty, &mut pod);
            pod
        };
        let (object, patch) = (make(seed), make(other));
        if let Ok(once) = apply(Kind::Strategic, ty, &object, &patch) {
            let twice = apply(Kind::Strategic, ty, &once, &patch).expect("applies again");
            prop_assert_eq!(once, twice);
        }
    }
}
