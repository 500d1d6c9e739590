use serde_json::{Value, json};

use super::*;
use crate::runtime::hollow::Hollow;

const NODE: &str = "n";

/// A server to which everything is well.
fn connect() -> Connect {
    let answer = |request: http::Request<kube::client::Body>| {
        let name = request.uri().path().split('/').nth(6).unwrap_or_default();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}});
        let body = http_body_util::Full::from(pod.to_string());
        let response = http::Response::builder().body(body);
        std::future::ready(response.map_err(|error| std::io::Error::other(error.to_string())))
    };
    Connect {
        client: kube::Client::new(tower::service_fn(answer), "default"),
        name: "kubelet".into(),
        ca_pem: None,
    }
}

/// An agent of a node that has room for a single pod's address.
fn agent(pods: &[Pod]) -> Agent<Hollow> {
    let range = "10.0.0.0/30".parse().unwrap();
    let node = OwnNode {
        address: "127.0.0.1".into(),
        addresses: Mutex::new(Addresses::new(range)),
    };
    let store = Store::default();
    for pod in pods {
        store.apply(Arc::new(pod.clone()), |_| ());
    }
    Agent::new(
        connect(),
        Hollow::default(),
        HashMap::from([(NODE.to_owned(), node)]),
        store,
        Queue::default(),
        Recorder::silent(),
    )
}

fn pod(name: &str, annotations: Value, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "annotations": annotations},
        "spec": {"nodeName": NODE, "restartPolicy": "Never", "containers": [{"name": "c"}]},
        "status": status,
    }))
    .unwrap()
}

fn job(name: &str) -> Pod {
    pod(
        name,
        json!({"hollow.keelson.dev/exit-after": "0s"}),
        json!({}),
    )
}

fn running(name: &str) -> Pod {
    pod(
        name,
        json!({}),
        json!({"phase": "Running", "podIP": "10.0.0.2"}),
    )
}

fn new_address(agent: &Agent<Hollow>) -> anyhow::Result<IpAddr> {
    agent.nodes[NODE].addresses.lock().take("new", None)
}

#[tokio::test]
async fn a_pod_that_has_ended_leaves_its_address_to_others() {
    let agent = agent(&[job("first"), job("second")]);
    for name in ["first", "second"] {
        let done = agent.reconcile(Key::new("default", name)).await.unwrap();
        assert_eq!(done, Outcome::Done, "{name}");
    }
    new_address(&agent).unwrap();
}

#[tokio::test]
async fn addresses_are_taken_up_from_pods_that_have_not_ended() {
    let over = pod(
        "over",
        json!({}),
        json!({"phase": "Succeeded", "podIP": "10.0.0.2"}),
    );
    let agent = agent(&[over]);
    agent.take_up_addresses();
    assert_eq!(new_address(&agent).unwrap().to_string(), "10.0.0.2");
}

#[tokio::test]
async fn an_address_that_was_taken_up_comes_back_when_its_pod_is_gone() {
    let agent = agent(&[running("p")]);
    agent.take_up_addresses();
    assert!(new_address(&agent).is_err());
    agent.pods.remove(&running("p"), |_| ());
    agent.reconcile(Key::new("default", "p")).await.unwrap();
    new_address(&agent).unwrap();
}

#[tokio::test]
async fn two_pods_that_say_to_have_one_address_do_not_keep_the_agent_from_starting() {
    let agent = agent(&[running("p"), running("q")]);
    agent.take_up_addresses();
    assert!(new_address(&agent).is_err());
}
