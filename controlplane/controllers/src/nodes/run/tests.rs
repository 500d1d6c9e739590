//! What is asked of the API server, and what happens when it refuses.

use std::sync::Arc;

use keelson_component::Recorder;
use parking_lot::Mutex;
use serde_json::Value;

use super::super::zones::Rates;
use super::testing::{Server, node, pod, serve};
use super::*;

/// The controller over two nodes, of one of which nothing is heard, and these pods on it.
fn nodes(context: Context, server: &Arc<Mutex<Server>>, pods: Vec<Pod>) -> Nodes {
    let second = Duration::from_secs(1);
    let settings = Settings {
        grace: second * 50,
        startup_grace: second * 60,
        rates: Rates {
            normal: 0.1,
            secondary: 0.01,
            unhealthy_threshold: 0.55,
            large_zone: 50,
        },
    };
    let nodes = Nodes::new(context, &mut Informers::default(), settings, second * 5);
    for node in [node("n0", "True", &[]), node("n1", "Unknown", &[])] {
        let value = serde_json::to_value(&node).unwrap();
        server.lock().nodes.insert(node.name_any(), value);
        nodes.nodes.apply(Arc::new(node), |_| ());
    }
    for pod in pods {
        nodes.pods.apply(Arc::new(pod), |_| ());
    }
    nodes
}

#[tokio::test]
async fn a_pod_that_cannot_be_marked_is_tried_again_and_holds_up_no_other() {
    let server = Arc::<Mutex<Server>>::default();
    server.lock().refused = [("a", 500), ("b", 404), ("c", 409)].into();
    let mut going = pod("e", "True");
    going.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
    let ready = ["a", "b", "c", "d"].map(|name| pod(name, "True"));
    let mut pods = Vec::from(ready);
    pods.extend([going, pod("not-ready", "False")]);
    let nodes = nodes(serve(&server), &server, pods);
    let mut lifecycle = Lifecycle::default();
    let all = ["a", "b", "c", "d", "e"].map(|name| format!("PATCH {name}"));
    nodes.look(&mut lifecycle).await;
    assert_eq!(server.lock().writes[0].1["metadata"]["uid"], "a-uid");
    assert_eq!(server.lock().take(), all);
    server.lock().refused.remove("a");
    nodes.look(&mut lifecycle).await;
    assert_eq!(server.lock().take(), all);
    // That one has gone, or is another now, is no failure.
    nodes.look(&mut lifecycle).await;
    assert_eq!(server.lock().take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn nodes_and_their_pods_are_told_what_happened_to_them() {
    let server = Arc::<Mutex<Server>>::default();
    let mut context = serve(&server);
    let stop = CancellationToken::new();
    let (recorder, write) = Recorder::new(context.connect.clone(), "node-controller", stop.clone());
    context.recorder = recorder;
    let writing = tokio::spawn(write);
    let nodes = nodes(context, &server, vec![pod("a", "True")]);
    let mut lifecycle = Lifecycle::default();
    nodes.look(&mut lifecycle).await;
    nodes.look(&mut lifecycle).await;
    nodes.nodes.remove(&node("n1", "Unknown", &[]), |_| ());
    nodes.look(&mut lifecycle).await;
    let told = || async {
        while server.lock().events.len() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let enough = tokio::time::timeout(Duration::from_secs(10), told()).await;
    assert!(enough.is_ok(), "{:?}", server.lock().events);
    stop.cancel();
    writing.await.unwrap();
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<_> = server
        .lock()
        .events
        .iter()
        .map(|event| {
            let about = &event["involvedObject"];
            assert_eq!(text(about, "uid"), format!("{}-uid", text(about, "name")));
            (
                text(event, "type"),
                text(event, "reason"),
                text(event, "message"),
            )
        })
        .collect();
    told.sort();
    let expected = [
        (
            "Normal",
            "RegisteredNode",
            "Node n0 event: Registered Node n0 in Controller",
        ),
        (
            "Normal",
            "RegisteredNode",
            "Node n1 event: Registered Node n1 in Controller",
        ),
        (
            "Normal",
            "RemovingNode",
            "Node n1 event: Removing Node n1 from Controller",
        ),
        ("Warning", "NodeNotReady", "Node is not ready"),
    ];
    let expected = expected
        .map(|(kind, reason, message)| (kind.to_owned(), reason.to_owned(), message.to_owned()));
    assert_eq!(told, expected);
}
