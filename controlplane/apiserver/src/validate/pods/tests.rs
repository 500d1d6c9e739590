use serde_json::json;

use super::*;

fn errors(spec: Value) -> Vec<String> {
    let mut errors = Vec::new();
    validate_spec(&spec, SpecOf::Pod, "spec", &mut errors);
    errors.iter().map(FieldError::to_string).collect()
}

#[test]
fn a_pod_needs_a_container_with_name_and_image() {
    assert_eq!(errors(json!({})), ["spec.containers: Required value"]);
    assert_eq!(
        errors(json!({"containers": [{}]})),
        [
            "spec.containers[0].name: Required value",
            "spec.containers[0].image: Required value"
        ]
    );
}

#[test]
fn names_and_ports_are_not_given_twice() {
    let container = json!({"name": "a", "image": "a", "ports": [{"name": "x", "containerPort": 1}, {"name": "x",
        "containerPort": 70_000}]});
    assert_eq!(
        errors(json!({"containers": [container, {"name": "a", "image": "a"}]})),
        [
            "spec.containers[0].ports[1].name: Duplicate value: \"x\"",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[1].name: Duplicate value: \"a\""
        ]
    );
}

#[test]
fn a_pods_image_may_change_and_its_command_may_not() {
    let pod = |image: &str, command: &str| json!({"spec": {"containers": [{"image": image, "command": [command]}]}});
    let mut errors = Vec::new();
    validate_update(&pod("b", "x"), &pod("a", "x"), &mut errors);
    assert!(errors.is_empty());
    validate_update(&pod("a", "y"), &pod("a", "x"), &mut errors);
    assert_eq!(errors.len(), 1);
}

/// What is wrong with a container of a pod that has the volume `data`.
fn of_container(extra: &Value) -> Vec<String> {
    let mut container = json!({"name": "a", "image": "a"});
    value::map_mut(&mut container).extend(extra.as_object().cloned().unwrap_or_default());
    errors(json!({"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}))
}

#[test]
fn a_container_is_refused_where_and_as_kubernetes_does() {
    let at = "spec.containers[0]";
    for (container, expected) in [
        (
            json!({"imagePullPolicy": "Sometimes"}),
            "imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({"ports": [{"containerPort": 80, "protocol": "HTTP"}]}),
            "ports[0].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"ports": [{"containerPort": 80, "hostPort": 70_000}]}),
            "ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"env": [{"name": "a=b"}]}),
            "env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII \
             characters other than '='",
        ),
        (
            json!({"env": [{"name": "a", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            "env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            json!({"env": [{"name": "a", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}),
            "env[0].valueFrom.secretKeyRef.key: Required value",
        ),
        (
            json!({"envFrom": [{}]}),
            "envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            json!({"volumeMounts": [{"name": "other", "mountPath": "/a"}]}),
            "volumeMounts[0].name: Not found: \"other\"",
        ),
        (
            json!({"volumeMounts": [{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/a"}]}),
            "volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}}),
            "resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1500m",
        ),
        (
            json!({"resources": {"requests": {"example.com/gpu": "1"}}}),
            "resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            json!({"resources": {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "2"}}}),
            "resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2",
        ),
        (
            json!({"resources": {"limits": {"memory": "-1Gi"}}}),
            "resources.limits[memory]: Invalid value: \"-1Gi\": must be greater than or equal to 0",
        ),
        (
            json!({"livenessProbe": {}}),
            "livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}}),
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            json!({"readinessProbe": {"tcpSocket": {"port": 0}}}),
            "readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"lifecycle": {"preStop": {"exec": {}}}}),
            "lifecycle.preStop.exec.command: Required value",
        ),
    ] {
        assert_eq!(of_container(&container), [format!("{at}.{expected}")]);
    }
    assert_eq!(
        of_container(&json!({"resources": {"limits": {"gpu": "1"}}})),
        [
            "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers"
        ]
    );
}

#[test]
fn a_container_that_says_all_of_it_right_passes() {
    let container = json!({
        "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080, "protocol": "TCP"}],
        "env": [{"name": "A", "value": "b"}, {"name": "my.env", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}],
        "envFrom": [{"prefix": "X_", "secretRef": {"name": "s"}}],
        "volumeMounts": [{"name": "data", "mountPath": "/a", "subPath": "b/c"}],
        "resources": {"requests": {"cpu": "1", "example.com/gpu": "1"}, "limits": {"cpu": "1", "example.com/gpu": "1",
            "memory": "1Gi"}},
        "livenessProbe": {"httpGet": {"path": "/", "port": "http", "scheme": "HTTP"}, "successThreshold": 1},
        "readinessProbe": {"grpc": {"port": 9000}, "successThreshold": 2},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    });
    assert_eq!(of_container(&container), Vec::<String>::new());
}

#[test]
fn a_pod_is_refused_where_and_as_kubernetes_does() {
    for (spec, expected) in [
        (
            json!({"volumes": [{"name": "a", "configMap": {}}]}),
            "spec.volumes[0].configMap.name: Required value",
        ),
        (
            json!({"volumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "i", "livenessProbe": {"exec": {"command": ["a"]}}}]}),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            json!({"initContainers": [{"name": "a", "image": "i"}]}),
            "spec.initContainers[0].name: Duplicate value: \"a\"",
        ),
        (
            json!({"restartPolicy": "Sometimes"}),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            json!({"dnsPolicy": "None", "dnsConfig": {"searches": ["a"]}}),
            "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists", "effect": "Never"}]}),
            "spec.tolerations[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \
             \"NoExecute\"",
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Like"}]}),
            "spec.tolerations[0].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
        ),
        (
            json!({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must \
             have at least one node selector term",
        ),
        (
            json!({"affinity": {"podAffinity": {REQUIRED: [{"labelSelector": {"matchLabels": {"a": "b"}}}]}}}),
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be \
             empty",
        ),
        (
            json!({"schedulingGates": [{"name": "example.com/a"}, {"name": "example.com/a"}]}),
            "spec.schedulingGates[1]: Duplicate value: \"example.com/a\"",
        ),
        (
            json!({"affinity": {"podAffinity": {REQUIRED: [{"topologyKey": "a", "labelSelector":
                {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c d"]}]}}]}}}),
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].\
             values[1]: Invalid value: \"c d\": a valid label must be an empty string or consist of alphanumeric characters, \
             '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
             '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
    ] {
        let mut pod = json!({"containers": [{"name": "a", "image": "a"}]});
        value::map_mut(&mut pod).extend(spec.as_object().cloned().unwrap_or_default());
        assert_eq!(errors(pod), [expected]);
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

#[test]
fn a_port_of_the_node_is_wanted_once() {
    let container = |name: &str| json!({"name": name, "image": "a", "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]});
    assert_eq!(
        errors(json!({"containers": [container("a"), container("b")]})),
        ["spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//80\""]
    );
    let mut other = container("a");
    other["ports"][0]["hostPort"] = 81.into();
    assert_eq!(
        errors(json!({"hostNetwork": true, "containers": [other]})),
        [
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
        ]
    );
}

#[test]
fn a_pods_containers_are_not_added_and_its_time_does_not_grow() {
    let pod = |count: usize, deadline: i64| json!({"spec": {"activeDeadlineSeconds": deadline, "containers": vec![json!({}); count]}});
    let changed = |new: &Value| {
        let mut errors = Vec::new();
        validate_update(new, &pod(1, 10), &mut errors);
        errors.iter().map(FieldError::to_string).collect::<Vec<_>>()
    };
    assert_eq!(changed(&pod(1, 5)), Vec::<String>::new());
    assert_eq!(
        changed(&pod(2, 10)),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    assert_eq!(
        changed(&pod(1, 11)),
        [
            "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"
        ]
    );
}

#[test]
fn a_template_may_leave_the_nodes_ports_to_its_pods() {
    let port = |host: i64| json!({"containerPort": 80, "hostPort": host});
    let with = |host: i64| json!({"hostNetwork": true, "containers": [{"name": "a", "image": "a", "ports": [port(host)]}]});
    let of = |host: i64, of: SpecOf| {
        let mut errors = Vec::new();
        validate_spec(&with(host), of, "spec", &mut errors);
        errors.len()
    };
    assert_eq!((of(0, SpecOf::Template), of(80, SpecOf::Template)), (0, 0));
    assert_eq!((of(81, SpecOf::Template), of(0, SpecOf::Pod)), (1, 1));
}

#[test]
fn a_new_pod_has_no_ephemeral_containers_nor_a_node_while_it_is_held_back() {
    let mut errors = Vec::new();
    let spec = json!({"ephemeralContainers": [{"name": "a"}], "schedulingGates": [{"name": "a"}], "nodeName": "n1"});
    validate_new(&spec, &mut errors);
    let said: Vec<String> = errors.iter().map(FieldError::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"
        ]
    );
}

#[test]
fn a_negative_grace_period_is_warned_of_and_stored() {
    let spec = |seconds: i64| {
        json!({"terminationGracePeriodSeconds": seconds,
        "containers": [{"name": "a", "image": "a"}]})
    };
    assert_eq!(errors(spec(-1)), Vec::<String>::new());
    assert_eq!(
        (warnings(&spec(-1)).len(), warnings(&spec(0)).len()),
        (1, 0)
    );
}

#[test]
fn as_many_as_a_request_has_room_for_are_judged_in_no_time() {
    const MANY: usize = 100_000;
    let all = |of: fn(usize) -> Value| (0..MANY).map(of).collect::<Vec<Value>>();
    let container = json!({"name": "a", "image": "a",
        "ports": all(|n| json!({"name": format!("p{n}"), "containerPort": 80, "hostPort": n % 65_000 + 1})),
        "volumeMounts": all(|n| json!({"name": format!("v{n}"), "mountPath": format!("/{n}")}))});
    let mut containers = all(|n| json!({"name": format!("c{n}"), "image": "a"}));
    containers.push(container);
    let volumes = all(|n| json!({"name": format!("v{n}"), "emptyDir": {}}));
    let began = std::time::Instant::now();
    // Ports of the node are wanted twice; nothing else is.
    let wrong = errors(json!({"containers": containers, "volumes": volumes}));
    assert!(
        wrong
            .iter()
            .all(|error| error.contains("hostPort: Duplicate value"))
    );
    assert!(wrong.len() >= MANY - 65_000);
    // Each with each, it takes a minute.
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}

#[test]
fn what_a_pods_deletion_costs_is_a_plain_integer_of_32_bits() {
    let key = "controller.kubernetes.io/pod-deletion-cost";
    let wrong = |cost: &str| {
        let mut errors = Vec::new();
        validate_annotations(&json!({key: cost}), "metadata.annotations", &mut errors);
        errors.iter().map(FieldError::to_string).collect::<Vec<_>>()
    };
    for cost in ["0", "10", "-10", "2147483647", "-2147483648"] {
        assert_eq!(wrong(cost), [""; 0], "{cost}");
    }
    for cost in [
        "",
        "+10",
        "007",
        "1.5",
        " 1",
        "cheap",
        "2147483648",
        "99999999999",
    ] {
        let expected = format!(
            "metadata.annotations[{key}]: Invalid value: {cost:?}: must be a 32bit integer"
        );
        assert_eq!(wrong(cost), [expected]);
    }
}

#[test]
fn pods_and_templates_are_asked_what_their_deletion_costs() {
    use crate::resources;
    let pod = json!({
        "metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "cheap"}},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    });
    let set = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}});
    let sets = resources::find("apps", "v1", "replicasets").unwrap();
    for (resource, object, at) in [
        (resources::pods(), &pod, "metadata.annotations["),
        (sets, &set, "spec.template.annotations["),
    ] {
        let mut errors = Vec::new();
        resource.rules.validate(object, &mut errors);
        let errors: Vec<_> = errors.iter().map(FieldError::to_string).collect();
        assert!(
            errors.iter().any(|error| error.starts_with(at)),
            "{errors:?}"
        );
    }
}
