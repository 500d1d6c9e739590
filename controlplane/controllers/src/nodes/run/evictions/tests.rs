//! Who is looked at because of what, and what is asked of the API server then.

use k8s_openapi::api::core::v1::Toleration;
use serde_json::json;

use super::super::super::taints::UNREACHABLE;
use super::super::testing::{Server, node, pod, serve};
use super::*;
use crate::testing::queued;

fn evictions(server: &Arc<Mutex<Server>>) -> Evictions {
    Evictions::new(serve(server), &mut Informers::default())
}

impl Evictions {
    /// As the informers do.
    fn see_node(&self, node: Node) {
        self.nodes
            .apply(Arc::new(node), |change| self.node_changed(&change));
    }

    fn see_pod(&self, pod: Pod) {
        self.pods
            .apply(Arc::new(pod), |change| self.pod_changed(&change));
    }

    /// Does what is due; a pod that shall leave later is not waited for.
    async fn work(&self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for name in queued(&self.queue) {
            outcomes.push(self.sync(Key::new("default", name)).await.unwrap());
        }
        outcomes
    }
}

fn tolerating(seconds: Option<i64>) -> Pod {
    let mut pod = pod("a", "True");
    let toleration = seconds.map(|seconds| Toleration {
        key: Some(UNREACHABLE.into()),
        operator: Some("Exists".into()),
        effect: Some(NO_EXECUTE.into()),
        toleration_seconds: Some(seconds),
        ..Toleration::default()
    });
    pod.spec.as_mut().unwrap().tolerations = Some(toleration.into_iter().collect());
    pod
}

#[tokio::test]
async fn a_pod_leaves_when_its_node_is_tainted_and_is_told_why_first() {
    let server = Arc::<Mutex<Server>>::default();
    let evictions = evictions(&server);
    evictions.see_node(node("n1", "True", &[]));
    evictions.see_pod(tolerating(None));
    assert_eq!(evictions.work().await, [Outcome::Done]);
    // Nothing of the node that matters has changed.
    evictions.see_node(node("n1", "Unknown", &[]));
    assert_eq!(evictions.work().await, []);
    assert!(server.lock().writes.is_empty());
    evictions.see_node(node("n1", "Unknown", &[UNREACHABLE]));
    assert_eq!(evictions.work().await, [Outcome::Done]);
    let [(patch, status), (delete, how)] = &server.lock().writes[..] else {
        panic!("{:?}", server.lock().writes)
    };
    assert_eq!((patch.as_str(), delete.as_str()), ("PATCH a", "DELETE a"));
    let told = &status["status"]["conditions"][0];
    assert_eq!(
        (&told["type"], &told["reason"]),
        (&json!("DisruptionTarget"), &json!("DeletionByTaintManager"))
    );
    assert_eq!(status["metadata"]["uid"], "a-uid");
    assert_eq!(how["preconditions"]["uid"], "a-uid");
}

#[tokio::test]
async fn a_pod_stays_if_the_taint_goes_before_it_has_tolerated_it_for_long_enough() {
    let server = Arc::<Mutex<Server>>::default();
    let evictions = evictions(&server);
    evictions.see_node(node("n1", "Unknown", &[UNREACHABLE]));
    evictions.see_pod(tolerating(Some(300)));
    let outcomes = evictions.work().await;
    assert!(matches!(outcomes[..], [Outcome::After(rest)] if rest > Duration::from_secs(200)));
    evictions.see_node(node("n1", "True", &[]));
    assert_eq!(evictions.work().await, [Outcome::Done]);
    assert!(server.lock().writes.is_empty());
}

#[tokio::test]
async fn a_pod_that_tolerates_no_more_leaves_at_once_and_no_other_of_its_name() {
    let server = Arc::<Mutex<Server>>::default();
    let evictions = evictions(&server);
    evictions.see_node(node("n1", "Unknown", &[UNREACHABLE]));
    evictions.see_pod(tolerating(Some(300)));
    evictions.work().await;
    assert!(server.lock().writes.is_empty());
    // Another has taken its name, which the store does not know.
    server.lock().refused.insert("a", 409);
    evictions.see_pod(tolerating(None));
    assert_eq!(evictions.work().await, [Outcome::Done]);
    assert_eq!(server.lock().take(), ["PATCH a"]);
    server.lock().refused.clear();
    evictions.see_pod(tolerating(Some(0)));
    assert_eq!(evictions.work().await, [Outcome::Done]);
    assert_eq!(server.lock().take(), ["DELETE a", "PATCH a"]);
}
