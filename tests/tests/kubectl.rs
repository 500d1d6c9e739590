//! A person's session with the real kubectl, on a whole cluster: everything it prints is compared with what kubectl prints
//! on a Kubernetes, but for ages, addresses and chance.

use std::path::Path;
use std::process::Stdio;

use keelson_tests::peers::workspace;
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use keelson_tests::whole::{Kubectl, Whole, masked};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test]
async fn a_session_with_kubectl_prints_what_its_user_knows() {
    let turn = Turn::take().await;
    let mut whole = Whole::start(&turn, &[]).await;
    let kubectl = whole.kubectl("1.37");
    a_deployment_is_applied_and_shown(&kubectl).await;
    it_is_described(&kubectl).await;
    it_is_scaled_and_watched(&kubectl).await;
    it_is_rolled_out_and_back(&kubectl).await;
    it_is_exposed(&kubectl).await;
    settings_are_made(&kubectl).await;
    objects_are_changed_in_every_way(&kubectl, whole.dir()).await;
    the_api_is_described(&kubectl).await;
    nodes_are_maintained(&kubectl).await;
    everything_is_deleted(&kubectl).await;
    assert!(whole.stop().success());
}

#[tokio::test]
async fn an_older_kubectl_prints_the_same() {
    let turn = Turn::take().await;
    let mut whole = Whole::start(&turn, &[]).await;
    let kubectl = whole.kubectl("1.33");
    a_deployment_is_applied_and_shown(&kubectl).await;
    it_is_described(&kubectl).await;
    it_is_scaled_and_watched(&kubectl).await;
    it_is_rolled_out_and_back(&kubectl).await;
    it_is_exposed(&kubectl).await;
    assert!(whole.stop().success());
}

fn example(name: &str) -> String {
    let path = workspace().join("examples").join(name);
    path.display().to_string()
}

fn file(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).expect("a file can be written");
    path.display().to_string()
}

async fn a_deployment_is_applied_and_shown(kubectl: &Kubectl) {
    let created = kubectl.says("create namespace development").await;
    assert_eq!(created, "namespace/development created");
    assert_eq!(
        kubectl.says("get namespaces").await,
        "NAME STATUS AGE\n\
         default Active AGE\n\
         development Active AGE\n\
         kube-node-lease Active AGE\n\
         kube-public Active AGE\n\
         kube-system Active AGE"
    );
    let apply = format!("apply -f {}", example("nginx-deployment.yaml"));
    assert_eq!(
        kubectl.says(&apply).await,
        "deployment.apps/nginx-deployment created"
    );
    assert_eq!(
        kubectl.says(&apply).await,
        "deployment.apps/nginx-deployment unchanged"
    );
    is_rolled_out(kubectl).await;
    assert_eq!(
        kubectl.says("get deploy,rs,pods -o wide").await,
        "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR\n\
         deployment.apps/nginx-deployment 3/3 3 3 AGE nginx nginx:1.14.2 app=nginx\n\
         \n\
         NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR\n\
         replicaset.apps/nginx-deployment-HASH 3 3 3 AGE nginx nginx:1.14.2 app=nginx,pod-template-hash=HASH\n\
         \n\
         NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES\n\
         pod/nginx-deployment-HASH-XXXXX 1/1 Running 0 AGE POD-IP NODE <none> <none>\n\
         pod/nginx-deployment-HASH-XXXXX 1/1 Running 0 AGE POD-IP NODE <none> <none>\n\
         pod/nginx-deployment-HASH-XXXXX 1/1 Running 0 AGE POD-IP NODE <none> <none>"
    );
    assert_eq!(
        kubectl
            .says("get pods --show-labels -l app=nginx --no-headers")
            .await
            .lines()
            .next(),
        Some("nginx-deployment-HASH-XXXXX 1/1 Running 0 AGE app=nginx,pod-template-hash=HASH")
    );
}

async fn is_rolled_out(kubectl: &Kubectl) {
    let said = kubectl
        .says("rollout status deployment/nginx-deployment --timeout=60s")
        .await;
    let last = said.lines().last();
    assert_eq!(
        last,
        Some("deployment \"nginx-deployment\" successfully rolled out"),
        "{said}"
    );
}

async fn it_is_described(kubectl: &Kubectl) {
    let described = kubectl.says("describe deployment nginx-deployment").await;
    let without_time: Vec<&str> = described
        .lines()
        .filter(|line| !line.starts_with("CreationTimestamp: "))
        .collect();
    assert_eq!(
        without_time.join("\n"),
        "Name: nginx-deployment\n\
         Namespace: default\n\
         Labels: app=nginx\n\
         Annotations: deployment.kubernetes.io/revision: 1\n\
         Selector: app=nginx\n\
         Replicas: 3 desired | 3 updated | 3 total | 3 available | 0 unavailable\n\
         StrategyType: RollingUpdate\n\
         MinReadySeconds: 0\n\
         RollingUpdateStrategy: 25% max unavailable, 25% max surge\n\
         Pod Template:\n\
         Labels: app=nginx\n\
         Containers:\n\
         nginx:\n\
         Image: nginx:1.14.2\n\
         Port: 80/TCP\n\
         Host Port: 0/TCP\n\
         Environment: <none>\n\
         Mounts: <none>\n\
         Volumes: <none>\n\
         Node-Selectors: <none>\n\
         Tolerations: <none>\n\
         Conditions:\n\
         Type Status Reason\n\
         ---- ------ ------\n\
         Available True MinimumReplicasAvailable\n\
         Progressing True NewReplicaSetAvailable\n\
         OldReplicaSets: <none>\n\
         NewReplicaSet: nginx-deployment-HASH (3/3 replicas created)\n\
         Events:\n\
         Type Reason Age From Message\n\
         ---- ------ ---- ---- -------\n\
         Normal ScalingReplicaSet AGE deployment-controller Scaled up replica set nginx-deployment-HASH from 0 to 3"
    );
    let name = "get pods -l app=nginx -o jsonpath={.items[0].metadata.name}";
    let name = kubectl.run(name).await.stdout;
    let pod = kubectl.says(&format!("describe pod {name}")).await;
    for part in [
        "Status: Running",
        "Controlled By: ReplicaSet/nginx-deployment-HASH",
        "Ready: True",
        "QoS Class: BestEffort",
        "Tolerations: node.kubernetes.io/not-ready:NoExecute op=Exists for AGE",
        "Normal Scheduled AGE default-scheduler Successfully assigned default/nginx-deployment-HASH-XXXXX to NODE",
    ] {
        assert!(pod.contains(part), "{part:?} is not in\n{pod}");
    }
}

async fn it_is_scaled_and_watched(kubectl: &Kubectl) {
    let mut watch =
        tokio::process::Command::from(kubectl.command(&["get", "pods", "-w", "--no-headers"]));
    watch.stdout(Stdio::piped()).kill_on_drop(true);
    let mut watch = watch.spawn().expect("kubectl starts");
    let stdout = watch.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines();
    let mut next = async || {
        let line = wait::soon("a line of a watch", lines.next_line()).await;
        masked(&line.expect("it can be read").expect("the watch goes on"))
    };
    for _ in 0..3 {
        assert_eq!(
            next().await,
            "nginx-deployment-HASH-XXXXX 1/1 Running 0 AGE"
        );
    }
    let scaled = kubectl
        .says("scale deployment/nginx-deployment --replicas=10")
        .await;
    assert_eq!(scaled, "deployment.apps/nginx-deployment scaled");
    is_rolled_out(kubectl).await;
    let mut ready = 0;
    while ready < 7 {
        let line = next().await;
        ready += usize::from(line == "nginx-deployment-HASH-XXXXX 1/1 Running 0 AGE");
    }
    assert_eq!(
        kubectl.says("get deployment nginx-deployment").await,
        "NAME READY UP-TO-DATE AVAILABLE AGE\nnginx-deployment 10/10 10 10 AGE"
    );
    let refused = kubectl
        .refuses("scale deployment/nginx-deployment --current-replicas=3 --replicas=5")
        .await;
    assert_eq!(refused, "error: Expected replicas to be 3, was 10\n");
}

async fn it_is_rolled_out_and_back(kubectl: &Kubectl) {
    let image = "set image deployment/nginx-deployment nginx=nginx:1.27";
    assert_eq!(
        kubectl.says(image).await,
        "deployment.apps/nginx-deployment image updated"
    );
    is_rolled_out(kubectl).await;
    let sets = kubectl.says("get rs -o wide --no-headers").await;
    // Their order is that of their hashes.
    let mut sets: Vec<&str> = sets.lines().collect();
    sets.sort_unstable();
    assert_eq!(
        sets,
        [
            "nginx-deployment-HASH 0 0 0 AGE nginx nginx:1.14.2 app=nginx,pod-template-hash=HASH",
            "nginx-deployment-HASH 10 10 10 AGE nginx nginx:1.27 app=nginx,pod-template-hash=HASH",
        ]
    );
    let history = "rollout history deployment/nginx-deployment";
    assert_eq!(
        kubectl.says(history).await,
        "deployment.apps/nginx-deployment\nREVISION CHANGE-CAUSE\n1 <none>\n2 <none>\n"
    );
    let second = kubectl
        .says("rollout history deployment/nginx-deployment --revision=2")
        .await;
    assert!(
        second.starts_with("deployment.apps/nginx-deployment with revision #2\nPod Template:"),
        "{second}"
    );
    assert!(second.contains("Image: nginx:1.27"), "{second}");
    for (verb, said) in [
        ("pause", "paused"),
        ("resume", "resumed"),
        ("restart", "restarted"),
    ] {
        let line = format!("rollout {verb} deployment/nginx-deployment");
        assert_eq!(
            kubectl.says(&line).await,
            format!("deployment.apps/nginx-deployment {said}")
        );
    }
    is_rolled_out(kubectl).await;
    let undo = "rollout undo deployment/nginx-deployment --to-revision=1";
    assert_eq!(
        kubectl.says(undo).await,
        "deployment.apps/nginx-deployment rolled back"
    );
    is_rolled_out(kubectl).await;
    let image =
        "get deployment nginx-deployment -o jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.says(image).await, "nginx:1.14.2");
    assert_eq!(
        kubectl.says(history).await,
        "deployment.apps/nginx-deployment\nREVISION CHANGE-CAUSE\n2 <none>\n3 <none>\n4 <none>\n",
        "what returns is the newest"
    );
    let refused = kubectl
        .refuses("rollout undo deployment/nginx-deployment --to-revision=9")
        .await;
    let last = refused.lines().last();
    assert_eq!(
        last,
        Some("error: unable to find specified revision 9 in history"),
        "{refused}"
    );
}

async fn it_is_exposed(kubectl: &Kubectl) {
    let exposed = kubectl
        .says("expose deployment nginx-deployment --port=80")
        .await;
    assert_eq!(exposed, "service/nginx-deployment exposed");
    wait::until("ten endpoints", async || {
        let slices = kubectl
            .says("get endpointslices -l kubernetes.io/service-name=nginx-deployment")
            .await;
        if slices.contains("+ 7 more...") {
            Ok(())
        } else {
            Err(slices)
        }
    })
    .await;
    let shown = kubectl.run("get endpoints,endpointslices,svc").await;
    assert_eq!(
        shown.stderr,
        "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n"
    );
    assert_eq!(
        masked(&shown.stdout),
        "NAME ENDPOINTS AGE\n\
         endpoints/kubernetes 127.0.0.1:PORT AGE\n\
         endpoints/nginx-deployment POD-IP:80,POD-IP:80,POD-IP:80 + 7 more... AGE\n\
         \n\
         NAME ADDRESSTYPE PORTS ENDPOINTS AGE\n\
         endpointslice.discovery.k8s.io/kubernetes IPv4 PORT 127.0.0.1 AGE\n\
         endpointslice.discovery.k8s.io/nginx-deployment-HASH IPv4 80 POD-IP,POD-IP,POD-IP + 7 more... AGE\n\
         \n\
         NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE\n\
         service/kubernetes ClusterIP SERVICE-IP <none> 443/TCP AGE\n\
         service/nginx-deployment ClusterIP SERVICE-IP <none> 80/TCP AGE"
            .replace("PORT AGE", &format!("{} AGE", api_port(kubectl).await))
            .replace("IPv4 PORT", &format!("IPv4 {}", api_port(kubectl).await))
    );
    let described = kubectl.says("describe service nginx-deployment").await;
    for part in [
        "Selector: app=nginx",
        "TargetPort: 80/TCP",
        "Endpoints: POD-IP:80,POD-IP:80,POD-IP:80 + 7 more...",
    ] {
        assert!(described.contains(part), "{part:?} is not in\n{described}");
    }
}

async fn api_port(kubectl: &Kubectl) -> String {
    let line = "get endpoints kubernetes -o jsonpath={.subsets[0].ports[0].port}";
    kubectl.says(line).await
}

async fn settings_are_made(kubectl: &Kubectl) {
    for (line, said) in [
        (
            "create configmap colours --from-literal=sky=blue --from-literal=grass=green",
            "configmap/colours created",
        ),
        (
            "create secret generic key --from-literal=door=4711",
            "secret/key created",
        ),
        ("get configmap colours", "NAME DATA AGE\ncolours 2 AGE"),
        ("get secret key", "NAME TYPE DATA AGE\nkey Opaque 1 AGE"),
        ("get secret key -o jsonpath={.data.door}", "NDcxMQ=="),
    ] {
        assert_eq!(kubectl.says(line).await, said, "{line}");
    }
    let apply = format!("apply -f {}", example("settings.yaml"));
    assert_eq!(
        kubectl.says(&apply).await,
        "configmap/settings created\nsecret/credentials created\nservice/nginx created"
    );
    assert_eq!(
        kubectl.says(&apply).await,
        "configmap/settings unchanged\nsecret/credentials configured\nservice/nginx unchanged",
        "what is given as stringData is sent again, since it is not what is stored"
    );
    let described = kubectl.says("describe configmap colours").await;
    assert!(described.contains("sky:\n----\nblue"), "{described}");
    let refused = kubectl.refuses("create configmap colours").await;
    assert_eq!(
        refused,
        "error: failed to create configmap: configmaps \"colours\" already exists\n"
    );
}

async fn objects_are_changed_in_every_way(kubectl: &Kubectl, dir: &Path) {
    for (line, said) in [
        (
            "label deployment nginx-deployment tier=front",
            "deployment.apps/nginx-deployment labeled",
        ),
        (
            "label deployment nginx-deployment tier-",
            "deployment.apps/nginx-deployment unlabeled",
        ),
        (
            "annotate deployment nginx-deployment owner=me",
            "deployment.apps/nginx-deployment annotated",
        ),
        (
            "patch configmap colours -p {\"data\":{\"sky\":\"grey\"}}",
            "configmap/colours patched",
        ),
        (
            "patch configmap colours --type=merge -p {\"data\":{\"grass\":null}}",
            "configmap/colours patched",
        ),
        (
            "patch configmap colours --type=json -p [{\"op\":\"add\",\"path\":\"/data/sun\",\"value\":\"red\"}]",
            "configmap/colours patched",
        ),
        (
            "patch configmap colours -p {\"data\":{\"sky\":\"grey\"}}",
            "configmap/colours patched (no change)",
        ),
        (
            "get configmap colours -o jsonpath={.data}",
            "{\"sky\":\"grey\",\"sun\":\"red\"}",
        ),
        (
            "create configmap ghost --from-literal=a=b --dry-run=server",
            "configmap/ghost created (server dry run)",
        ),
    ] {
        assert_eq!(kubectl.says(line).await, said, "{line}");
    }
    assert_eq!(
        kubectl.refuses("get configmap ghost").await,
        "Error from server (NotFound): configmaps \"ghost\" not found\n"
    );
    let mut edit = kubectl.command(&["edit", "configmap", "colours"]);
    edit.env("KUBE_EDITOR", "sed -i s/grey/black/");
    let edited = keelson_tests::tool::stdout(edit).await;
    assert_eq!(edited, "configmap/colours edited\n");

    let colours = |sky: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: colours}}, data: {{sky: {sky}, sun: red}}}}\n"
        )
    };
    let same = file(dir, "colours.yaml", &colours("black"));
    let replaced = kubectl.says(&format!("replace -f {same}")).await;
    assert_eq!(replaced, "configmap/colours replaced");
    let other = file(dir, "other.yaml", &colours("white"));
    let differs = kubectl.run(&format!("diff -f {other}")).await;
    assert!(
        !differs.success,
        "diff says with its exit code that there is a difference"
    );
    assert!(
        differs.stdout.contains("-  sky: black\n+  sky: white\n"),
        "{differs:?}"
    );

    a_mistake_is_told(kubectl, dir).await;
    let waited = kubectl
        .says("wait --for=condition=Available deployment/nginx-deployment --timeout=30s")
        .await;
    assert_eq!(waited, "deployment.apps/nginx-deployment condition met");
}

/// What kubectl prints of each mistake is what it prints on Kubernetes, and nothing is stored.
async fn a_mistake_is_told(kubectl: &Kubectl, dir: &Path) {
    let write = |name: &str, content: &str| file(dir, name, content);
    let version = async |object: &str| {
        let line = format!("get {object} -o jsonpath={{.metadata.resourceVersion}}");
        kubectl.says(&line).await
    };
    let made = (
        version("configmap/colours").await,
        version("deployment/nginx-deployment").await,
    );
    let web = |spec: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: wrong}}\nspec:\n  {spec}\n  \
             selector: {{matchLabels: {{app: web}}}}\n  \
             template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: nginx}}]}}}}\n"
        )
    };
    let unknown = write("unknown.yaml", &web("replica: 3"));
    let typed = write("typed.yaml", &web("replicas: three"));
    let invalid = write("invalid.yaml", &web("replicas: -1"));
    let cannot = "Deployment in version \"v1\" cannot be handled as a Deployment";
    for verb in ["create", "apply"] {
        for (path, why) in [
            (
                &unknown,
                "strict decoding error: unknown field \"spec.replica\"",
            ),
            (
                &typed,
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
        ] {
            assert_eq!(
                kubectl.refuses(&format!("{verb} -f {path}")).await,
                format!(
                    "Error from server (BadRequest): error when creating \"{path}\": {cannot}: {why}\n"
                )
            );
        }
        assert_eq!(
            kubectl.refuses(&format!("{verb} -f {invalid}")).await,
            "The Deployment \"wrong\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0\n"
        );
    }
    let colours = |version: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: colours{version}}}, data: {{sky: red}}}}\n"
        )
    };
    let taken = write("taken.yaml", &colours(""));
    assert_eq!(
        kubectl.refuses(&format!("create -f {taken}")).await,
        format!(
            "Error from server (AlreadyExists): error when creating \"{taken}\": configmaps \"colours\" already exists\n"
        )
    );
    let stale = write("stale.yaml", &colours(", resourceVersion: \"1\""));
    assert_eq!(
        kubectl.refuses(&format!("replace -f {stale}")).await,
        format!(
            "Error from server (Conflict): error when replacing \"{stale}\": Operation cannot be fulfilled on configmaps \
             \"colours\": the object has been modified; please apply your changes to the latest version and try again\n"
        )
    );
    let immutable = "patch deployment nginx-deployment --type=merge -p \
                     {\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"other\"}}}}";
    assert_eq!(
        kubectl.refuses(immutable).await,
        "The Deployment \"nginx-deployment\" is invalid: \n\
         * spec.template.metadata.labels: Invalid value: {\"app\":\"nginx\"}: `selector` does not match template `labels`\n\
         * spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"other\"}}: field is immutable\n"
    );
    let warned = kubectl
        .run(&format!(
            "create -f {unknown} --validate=warn --dry-run=server"
        ))
        .await;
    assert_eq!(
        (warned.stdout.as_str(), warned.stderr.as_str()),
        (
            "deployment.apps/wrong created (server dry run)\n",
            "Warning: unknown field \"spec.replica\"\n"
        )
    );
    assert_eq!(
        kubectl.refuses("get deployment wrong").await,
        "Error from server (NotFound): deployments.apps \"wrong\" not found\n"
    );
    let kept = (
        version("configmap/colours").await,
        version("deployment/nginx-deployment").await,
    );
    assert_eq!(kept, made);
}

async fn the_api_is_described(kubectl: &Kubectl) {
    let version = kubectl.says("version").await;
    assert!(version.contains("Client Version: v1.37."), "{version}");
    assert!(version.contains("Server Version: v1.37."), "{version}");
    let explained = kubectl.says("explain deployment.spec.replicas").await;
    for part in [
        "GROUP: apps",
        "KIND: Deployment",
        "VERSION: v1",
        "FIELD: replicas <integer>",
    ] {
        assert!(explained.contains(part), "{explained}");
    }
    let resources = kubectl.says("api-resources").await;
    for row in [
        "pods po v1 true Pod",
        "namespaces ns v1 false Namespace",
        "deployments deploy apps/v1 true Deployment",
        "endpointslices discovery.k8s.io/v1 true EndpointSlice",
        "leases coordination.k8s.io/v1 true Lease",
    ] {
        assert!(
            resources.lines().any(|line| line == row),
            "{row:?} is not in\n{resources}"
        );
    }
    assert_eq!(kubectl.says("auth can-i create deployments").await, "yes");
    let refused = kubectl.run("auth can-i create deployments --as jane").await;
    assert_eq!((refused.success, refused.stdout.as_str()), (false, "no\n"));
    let events = kubectl
        .says("get events --field-selector involvedObject.kind=Deployment")
        .await;
    assert!(
        events.starts_with("LAST SEEN TYPE REASON OBJECT MESSAGE\n"),
        "{events}"
    );
    assert!(
        events.contains(
            "Normal ScalingReplicaSet deployment/nginx-deployment \
             Scaled up replica set nginx-deployment-HASH from 3 to 10"
        ),
        "{events}"
    );
    let events = kubectl
        .says("events --for deployment/nginx-deployment")
        .await;
    assert!(
        events.starts_with("LAST SEEN TYPE REASON OBJECT MESSAGE\n"),
        "{events}"
    );
}

async fn nodes_are_maintained(kubectl: &Kubectl) {
    assert_eq!(
        kubectl.says("get nodes").await,
        "NAME STATUS ROLES AGE VERSION\nNODE Ready <none> AGE v1.37.0\nNODE Ready <none> AGE v1.37.0"
    );
    assert_eq!(
        kubectl
            .says("taint nodes node-2 dedicated=tests:PreferNoSchedule")
            .await,
        "node/node-2 tainted"
    );
    assert_eq!(kubectl.says("cordon node-2").await, "node/node-2 cordoned");
    assert_eq!(
        kubectl.says("get node node-2").await,
        "NAME STATUS ROLES AGE VERSION\nNODE Ready,SchedulingDisabled <none> AGE v1.37.0"
    );
    let drained = kubectl
        .says("drain node-2 --ignore-daemonsets --timeout=60s")
        .await;
    assert!(
        drained.starts_with("node/node-2 already cordoned\n"),
        "{drained}"
    );
    assert!(
        drained.contains("pod/nginx-deployment-HASH-XXXXX evicted"),
        "{drained}"
    );
    assert!(drained.ends_with("node/node-2 drained"), "{drained}");
    is_rolled_out(kubectl).await;
    let elsewhere =
        "get pods -l app=nginx --field-selector spec.nodeName=node-1,status.phase=Running -o name";
    assert_eq!(kubectl.says(elsewhere).await.lines().count(), 10);
    assert_eq!(
        kubectl.says("uncordon node-2").await,
        "node/node-2 uncordoned"
    );
    assert_eq!(
        kubectl.says("taint nodes node-2 dedicated-").await,
        "node/node-2 untainted"
    );
    let described = kubectl.says("describe node node-1").await;
    for part in [
        "Unschedulable: false",
        "PodCIDR: POD-IP/24",
        "Non-terminated Pods: (10 in total)",
    ] {
        assert!(described.contains(part), "{part:?} is not in\n{described}");
    }
}

async fn everything_is_deleted(kubectl: &Kubectl) {
    let delete = format!("delete -f {}", example("nginx-deployment.yaml"));
    assert_eq!(
        kubectl.says(&delete).await,
        "deployment.apps \"nginx-deployment\" deleted from default namespace"
    );
    let gone = "wait --for=delete pod -l app=nginx --timeout=60s";
    kubectl.says(gone).await;
    assert_eq!(
        kubectl
            .says("get deploy,rs,pods -l app=nginx -o name")
            .await,
        ""
    );
    assert_eq!(
        kubectl
            .says("delete namespace development --timeout=30s")
            .await,
        "namespace \"development\" deleted"
    );
    let refused = kubectl.refuses("get namespace development").await;
    assert_eq!(
        refused,
        "Error from server (NotFound): namespaces \"development\" not found\n"
    );
}
