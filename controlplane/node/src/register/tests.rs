use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::*;

fn config() -> NodeConfig {
    NodeConfig {
        name: "n".into(),
        address: "127.0.0.1".into(),
        pod_range: None,
        capacity: BTreeMap::new(),
        labels: BTreeMap::new(),
        runtime: "hollow://0".into(),
        version: "v1.37.0".into(),
        lease_duration_s: 40,
    }
}

/// A server that has this node, if any, and notes what is written.
fn server(node: Option<Value>) -> (Connect, Arc<Mutex<Vec<String>>>) {
    let written = Arc::<Mutex<Vec<String>>>::default();
    let notes = written.clone();
    let answer = move |request: http::Request<kube::client::Body>| {
        let method = request.method().clone();
        if method != http::Method::GET {
            notes
                .lock()
                .push(format!("{method} {}", request.uri().path()));
        }
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
            "reason": "NotFound", "message": "there is no such node"});
        let made = json!({"metadata": {"name": "n", "uid": "new"}});
        let (code, body) = match (&node, method) {
            (Some(node), _) => (200, node.clone()),
            (None, http::Method::GET) => (404, missing),
            (None, _) => (201, made),
        };
        let body = http_body_util::Full::from(body.to_string());
        let response = http::Response::builder().status(code).body(body);
        std::future::ready(response.map_err(|error| std::io::Error::other(error.to_string())))
    };
    let connect = Connect {
        client: kube::Client::new(tower::service_fn(answer), "default"),
        name: "kubelet".into(),
        ca_pem: None,
    };
    (connect, written)
}

fn object() -> Value {
    let mut object = config().object(Timestamp::UNIX_EPOCH);
    object["metadata"]["uid"] = "u".into();
    object
}

/// What is written by one look after the node, and its UID then.
async fn looked_after(node: Option<Value>) -> (Vec<String>, String) {
    let (connect, written) = server(node);
    let (mut owner, mut told) = ("u".to_owned(), Instant::now());
    look_after(&connect, &config(), &mut owner, &mut told)
        .await
        .unwrap();
    (written.lock().clone(), owner)
}

#[tokio::test]
async fn a_node_that_others_took_for_lost_says_at_once_that_it_is_well() {
    let mut lost = object();
    lost["status"]["conditions"][3]["status"] = "Unknown".into();
    lost["status"]["conditions"][3]["reason"] = "NodeStatusUnknown".into();
    let (written, _) = looked_after(Some(lost)).await;
    assert_eq!(written, ["PATCH /api/v1/nodes/n/status"]);
}

#[tokio::test]
async fn a_node_that_is_well_writes_nothing() {
    let (written, owner) = looked_after(Some(object())).await;
    assert_eq!((written, owner.as_str()), (vec![], "u"));
}

#[tokio::test]
async fn a_node_that_was_deleted_is_registered_again() {
    let (written, owner) = looked_after(None).await;
    assert_eq!(written, ["POST /api/v1/nodes"]);
    assert_eq!(
        owner, "new",
        "its Lease belongs to the node that is there now"
    );
}
