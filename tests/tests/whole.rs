//! A whole cluster, and what may go wrong in it: nodes that vanish, objects that nobody can help; and who else may stand
//! under it and use it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use keelson_tests::controlplane::programs::{self, Programs, Victim};
use keelson_tests::peers::{Server, peer, workspace};
use keelson_tests::tool;
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use keelson_tests::whole::{Kubectl, Whole, masked};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

/// Of a silent node: how long it may be (as [`Programs`] has it), and how long its pods then stay.
const GRACE: Duration = Duration::from_secs(3);
const TOLERATION: Duration = Duration::from_secs(1);
/// A node's Lease is renewed every second at the latest: so long before its death it may have been silent.
const RENEWAL: Duration = Duration::from_secs(1);
/// For all that must happen then, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(8);

#[tokio::test]
async fn the_pods_of_a_node_that_vanishes_are_elsewhere_within_the_configured_time() {
    let turn = Turn::take().await;
    let mut programs = Programs::start(&turn, Server::under_test(), 2).await;
    let client = programs.client().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let web = deployment("web", 4, TOLERATION);
    deployments
        .create(&PostParams::default(), &web)
        .await
        .expect("it can be created");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let of_node = async |node: &str| {
        let fields = format!("spec.nodeName={node}");
        let found = pods.list(&ListParams::default().fields(&fields)).await;
        found.expect("pods can be listed").items
    };
    wait::until("two pods on each node", async || {
        is_available(&deployments, 4).await?;
        let mut on = [of_node("node-1").await, of_node("node-2").await];
        for found in &mut on {
            found.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        }
        on.sort_by_key(Vec::len);
        let [few, many] = on.each_ref().map(Vec::len);
        match (few, many) {
            (2, 2) => return Ok(()),
            // The scheduler had not heard of both when it began: a new pod will be where there are fewer.
            (0, 4) | (1, 3) => {
                let name = on[1][0].name_any();
                let deleted = pods.delete(&name, &DeleteParams::default()).await;
                deleted.expect("it can be deleted");
            }
            _ => {}
        }
        Err(format!("there are {few} and {many}"))
    })
    .await;

    let killed = Instant::now();
    programs
        .kill(Victim::Component(programs.place_of("node-2")), None)
        .await;
    wait::until("all pods on the other node", async || {
        programs.tend();
        let ready = of_node("node-1")
            .await
            .iter()
            .filter(|pod| is_ready(pod))
            .count();
        if ready == 4 {
            Ok(())
        } else {
            Err(format!("there are {ready}"))
        }
    })
    .await;
    let took = killed.elapsed();
    assert!(
        took >= GRACE - RENEWAL,
        "a node that may live still has lost its pods after {took:?}"
    );
    assert!(took <= GRACE + TOLERATION + SLACK, "it took {took:?}");

    // As on Kubernetes, nobody knows whether they have ended, until somebody says that their node will not return.
    let left = of_node("node-2").await;
    assert_eq!(left.len(), 2);
    assert!(
        left.iter()
            .all(|pod| pod.metadata.deletion_timestamp.is_some() && !is_ready(pod))
    );
    let nodes: Api<Node> = Api::all(client);
    let taints = nodes
        .get("node-2")
        .await
        .expect("it is known still")
        .spec
        .and_then(|spec| spec.taints);
    let unreachable = |effect: &str| {
        let mut taints = taints.iter().flatten();
        taints.any(|taint| taint.key == "node.kubernetes.io/unreachable" && taint.effect == effect)
    };
    assert!(
        unreachable("NoSchedule") && unreachable("NoExecute"),
        "{taints:?}"
    );
    nodes
        .delete("node-2", &DeleteParams::default())
        .await
        .expect("it can be deleted");
    wait::until("its pods to be given up", async || {
        programs.tend();
        match of_node("node-2").await.len() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await;
    programs.assert_nobody_failed();
}

#[tokio::test]
async fn what_cannot_be_helped_does_not_hold_up_others_nor_what_is_asked_next() {
    let turn = Turn::take().await;
    let whole = Whole::start(&turn, &[]).await;
    let kubectl = whole.kubectl("1.37");
    // As many as there are workers, so that one of them which waited would be missed.
    for number in 0..5 {
        let refused = deployment(&format!("refused-{number}"), 3, TOLERATION);
        let mut refused = serde_json::to_value(refused).expect("it can be written");
        refused["spec"]["template"]["spec"]["serviceAccountName"] = json!("nobody");
        let file = file(
            whole.dir(),
            &format!("refused-{number}.json"),
            &refused.to_string(),
        );
        kubectl.says(&format!("create -f {file}")).await;
    }
    wait::until("refusals", async || {
        let line = "get deployments -o jsonpath={.items[*].status.conditions[?(@.type==\"ReplicaFailure\")].message}";
        let said = kubectl.run(line).await.stdout;
        let why = "error looking up service account default/nobody: serviceaccount \"nobody\" not found";
        if said.matches(why).count() == 5 { Ok(()) } else { Err(said) }
    })
    .await;
    kubectl
        .says("create deployment good --image=nginx --replicas=3")
        .await;
    is_rolled_out(&kubectl, "good").await;
    kubectl.says("scale deployment good --replicas=5").await;
    is_rolled_out(&kubectl, "good").await;
    let shown = kubectl.says("get deployments --no-headers").await;
    assert!(
        shown.contains("good 5/5 5 5 AGE") && shown.contains("refused-0 0/3 0 0 AGE"),
        "{shown}"
    );
    let events = kubectl
        .says("get events --field-selector reason=FailedCreate --no-headers")
        .await;
    assert!(
        events.contains("Warning FailedCreate replicaset/refused-"),
        "{events}"
    );

    kubectl.says("create serviceaccount nobody").await;
    for number in 0..5 {
        is_rolled_out(&kubectl, &format!("refused-{number}")).await;
    }
}

#[tokio::test]
async fn a_real_etcd_carries_a_deployment_that_is_rolled_out_scaled_and_exposed() {
    let turn = Turn::take().await;
    let mut whole = Whole::start_on(&turn, Server::Etcd35, &[]).await;
    let kubectl = whole.kubectl("1.37");
    kubectl
        .says("create deployment web --image=nginx:1 --replicas=3")
        .await;
    is_rolled_out(&kubectl, "web").await;
    kubectl.says("set image deployment/web nginx=nginx:2").await;
    is_rolled_out(&kubectl, "web").await;
    kubectl.says("scale deployment/web --replicas=5").await;
    is_rolled_out(&kubectl, "web").await;
    kubectl.says("expose deployment web --port=80").await;
    wait::until("five endpoints", async || {
        let line = "get endpointslices -l kubernetes.io/service-name=web -o jsonpath={.items[*].endpoints[*].addresses[0]}";
        let said = kubectl.says(line).await;
        if said.matches("POD-IP").count() == 5 { Ok(()) } else { Err(said) }
    })
    .await;
    let sets = kubectl.says("get replicasets --no-headers").await;
    let sizes = sets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, sizes)| sizes);
    let mut sizes: Vec<&str> = sizes.collect();
    sizes.sort_unstable();
    assert_eq!(sizes, ["0 0 0 AGE", "5 5 5 AGE"]);
    let undone = kubectl.says("rollout undo deployment/web").await;
    assert_eq!(undone, "deployment.apps/web rolled back");
    is_rolled_out(&kubectl, "web").await;
    kubectl.says("delete deployment web").await;
    kubectl
        .says("wait --for=delete pod -l app=web --timeout=60s")
        .await;
    assert!(whole.stop().success());
}

const PYTHON_SAYS: &str = "\
watched: available
informed: 3 pods ready
scaled: 5
patched: 1.27
rolled out: 5
continued: 5
conflict: 409 Conflict
deleted: gone
";

#[tokio::test]
async fn programs_on_other_clients_see_their_deployments_done() {
    let turn = Turn::take().await;
    let whole = Whole::start(&turn, &[]).await;
    let mut python = Command::new(peer("python-kubernetes/bin/python"));
    python
        .arg(workspace().join("tests/clients/kubernetes_client.py"))
        .arg(whole.kubeconfig());
    assert_eq!(tool::stdout(python).await, PYTHON_SAYS);
    let client = programs::client(whole.kubeconfig()).await;
    a_reflector_follows(client.clone()).await;
    a_controller_reconciles(client).await;
}

/// kube-rs' own cache of pods has what there is, and follows it.
async fn a_reflector_follows(client: Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let (store, writer) = reflector::store::<Pod>();
    let config = watcher::Config::default()
        .labels("app=mirrored")
        .streaming_lists();
    let stream = watcher(pods, config).default_backoff().reflect(writer);
    let follow = tokio::spawn(stream.for_each(|_| std::future::ready(())));
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let made = deployment("mirrored", 3, TOLERATION);
    deployments
        .create(&PostParams::default(), &made)
        .await
        .expect("it can be created");
    let has = async |count: usize| {
        wait::until("the reflector to follow", async || {
            let ready = store.state().iter().filter(|pod| is_ready(pod)).count();
            let all = store.state().len();
            if (ready, all) == (count, count) {
                Ok(())
            } else {
                Err(format!("{ready} of {all}"))
            }
        })
        .await;
    };
    has(3).await;
    let patch = json!({"spec": {"replicas": 1}});
    let parameters = PatchParams::default();
    deployments
        .patch_scale("mirrored", &parameters, &Patch::Merge(&patch))
        .await
        .expect("it can be scaled");
    has(1).await;
    deployments
        .delete("mirrored", &DeleteParams::default())
        .await
        .expect("it can be deleted");
    has(0).await;
    follow.abort();
}

/// A controller of kube-rs' keeps a config map for each deployment, which goes with it.
async fn a_controller_reconciles(client: Client) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let config = watcher::Config::default;
    let reconcile = |deployment: Arc<Deployment>, client: Arc<Client>| async move {
        let maps: Api<ConfigMap> = Api::default_namespaced((*client).clone());
        let name = format!("about-{}", deployment.name_any());
        let status = deployment.status.clone().unwrap_or_default();
        let available = status.available_replicas.unwrap_or_default();
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: deployment.owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(
                "available".into(),
                available.to_string(),
            )])),
            ..ConfigMap::default()
        };
        match maps.get_opt(&name).await? {
            None => drop(maps.create(&PostParams::default(), &map).await?),
            Some(known) if known.data == map.data => {}
            Some(_) => {
                let patch = json!({"data": map.data});
                maps.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await?;
            }
        }
        Ok::<Action, kube::Error>(Action::await_change())
    };
    let again = |_: Arc<Deployment>, _: &kube::Error, _: Arc<Client>| {
        Action::requeue(Duration::from_millis(100))
    };
    let controller = Controller::new(deployments.clone(), config())
        .owns(maps.clone(), config())
        .run(reconcile, again, Arc::new(client));
    let running = tokio::spawn(controller.for_each(|_| std::future::ready(())));
    let made = deployment("kept", 2, TOLERATION);
    deployments
        .create(&PostParams::default(), &made)
        .await
        .expect("it can be created");
    let says = async |available: &str| {
        wait::until("the controller's config map", async || {
            let map = maps
                .get("about-kept")
                .await
                .map_err(|error| error.to_string())?;
            let said = map.data.unwrap_or_default().remove("available");
            if said.as_deref() == Some(available) {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        })
        .await;
    };
    says("2").await;
    // Who takes it away is found out, since its owner watches.
    maps.delete("about-kept", &DeleteParams::default())
        .await
        .expect("it can be deleted");
    says("2").await;
    deployments
        .delete("kept", &DeleteParams::default())
        .await
        .expect("it can be deleted");
    wait::until("the config map to go with its owner", async || {
        match maps
            .get_opt("about-kept")
            .await
            .map_err(|error| error.to_string())?
        {
            None => Ok(()),
            Some(_) => Err("it is there".to_owned()),
        }
    })
    .await;
    running.abort();
}

/// A deployment whose pods leave a node that is not well after this time.
fn deployment(name: &str, replicas: i32, toleration: Duration) -> Deployment {
    let toleration = |key: &str| {
        let seconds = toleration.as_secs();
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})
    };
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [{"name": "main", "image": "nginx"}],
                    "tolerations": [
                        toleration("node.kubernetes.io/not-ready"),
                        toleration("node.kubernetes.io/unreachable"),
                    ],
                },
            },
        },
    });
    serde_json::from_value(deployment).expect("it is one")
}

async fn is_available(deployments: &Api<Deployment>, replicas: i32) -> Result<(), String> {
    let web = deployments
        .get("web")
        .await
        .map_err(|error| error.to_string())?;
    let available = web.status.and_then(|status| status.available_replicas);
    if available == Some(replicas) {
        Ok(())
    } else {
        Err(format!("{available:?}"))
    }
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn is_rolled_out(kubectl: &Kubectl, name: &str) {
    let line = format!("rollout status deployment/{name} --timeout=60s");
    let said = kubectl.run(&line).await;
    let done = format!("deployment \"{name}\" successfully rolled out");
    assert_eq!(
        masked(&said.stdout).lines().last(),
        Some(done.as_str()),
        "{said:?}"
    );
}

fn file(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).expect("a file can be written");
    path.display().to_string()
}
