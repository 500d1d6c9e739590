use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::*;

const GET: &str = "GET /api/v1/nodes/n";

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

/// A server that has this node, if any, though perhaps not in its cache yet, and notes what is written, and what is asked
/// of more than its cache.
fn server(node: Option<Value>, is_cached: bool) -> (Connect, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let notes = asked.clone();
    let answer = move |request: http::Request<kube::client::Body>| {
        let method = request.method().clone();
        let of_cache = request.uri().query() == Some("&resourceVersion=0");
        if !of_cache {
            notes
                .lock()
                .push(format!("{method} {}", request.uri().path()));
        }
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
            "reason": "NotFound", "message": "there is no such node"});
        let made = json!({"metadata": {"name": "n", "uid": "new"}});
        let (code, body) = match (&node, method) {
            (Some(_), _) if of_cache && !is_cached => (404, missing),
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
    (connect, asked)
}

fn object() -> Value {
    let mut object = config().object(Timestamp::UNIX_EPOCH);
    object["metadata"]["uid"] = "u".into();
    object
}

/// What is asked by one look after the node, and its UID then.
async fn looked_after(node: Option<Value>, is_cached: bool) -> (Vec<String>, String) {
    let (connect, asked) = server(node, is_cached);
    let (mut owner, mut told) = ("u".to_owned(), Instant::now());
    look_after(&connect, &config(), &mut owner, &mut told)
        .await
        .unwrap();
    (asked.lock().clone(), owner)
}

#[tokio::test]
async fn a_node_that_others_took_for_lost_says_at_once_that_it_is_well() {
    let mut lost = object();
    lost["status"]["conditions"][3]["status"] = "Unknown".into();
    lost["status"]["conditions"][3]["reason"] = "NodeStatusUnknown".into();
    let (written, _) = looked_after(Some(lost), true).await;
    assert_eq!(written, ["PATCH /api/v1/nodes/n/status"]);
}

#[tokio::test]
async fn a_node_that_is_well_writes_nothing() {
    let (asked, owner) = looked_after(Some(object()), true).await;
    assert_eq!((asked, owner.as_str()), (vec![], "u"));
    // That it is gone must be known for sure.
    let (asked, owner) = looked_after(Some(object()), false).await;
    assert_eq!((asked, owner.as_str()), (vec![GET.into()], "u"));
}

#[tokio::test]
async fn a_node_that_was_deleted_is_registered_again() {
    let (written, owner) = looked_after(None, true).await;
    assert_eq!(written, [GET, "POST /api/v1/nodes"]);
    assert_eq!(
        owner, "new",
        "its Lease belongs to the node that is there now"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reaches_nobody_tries_less_and_less_often() {
    let tries = Arc::<Mutex<usize>>::default();
    let counted = tries.clone();
    let answer = move |_: http::Request<kube::client::Body>| {
        *counted.lock() += 1;
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        std::future::ready(Err::<http::Response<kube::client::Body>, _>(error))
    };
    let connect = Connect {
        client: kube::Client::new(tower::service_fn(answer), "default"),
        name: "kubelet".into(),
        ca_pem: None,
    };
    let (config, minute) = (config(), Duration::from_secs(60));
    let registering = tokio::time::timeout(minute, register(&connect, &config));
    assert!(registering.await.is_err());
    let found = std::mem::take(&mut *tries.lock());
    assert!((15..=25).contains(&found), "{found}");
    // Each beat is two requests.
    let (node, stop) = (Node::default(), CancellationToken::new());
    let beating = tokio::time::timeout(minute, heartbeat(&connect, &config, &node, stop));
    assert!(beating.await.is_err());
    let found = *tries.lock();
    assert!((30..=50).contains(&found), "{found}");
}
