//! Whom the loop looks at because of what, and what it asks of the API server.

use serde_json::{Value, json};

use super::*;
use crate::testing::{client, context, failure};

const PERIOD: Duration = Duration::from_secs(1);
const PATH: &str = "/api/v1/namespaces/default/endpoints";

/// A server that keeps the endpoints of one service.
#[derive(Default)]
struct Server {
    object: Option<Value>,
    version: u64,
    requests: Vec<String>,
}

impl Server {
    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.requests.push(format!("{method} {path}"));
        let version = json!(self.version.to_string());
        match (method, &mut self.object) {
            ("POST", object @ None) => *object = Some(body.clone()),
            ("PATCH", Some(object)) if body["metadata"]["resourceVersion"] == version => {
                object["subsets"] = body["subsets"].clone();
            }
            ("PATCH", Some(_)) => return failure(409, "it was changed"),
            ("DELETE", object @ Some(_)) => {
                *object = None;
                return (200, json!({"kind": "Status", "status": "Success"}));
            }
            _ => return failure(404, "there are none"),
        }
        self.version += 1;
        let object = self.object.as_mut().unwrap();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        (200, object.clone())
    }

    fn stored(&self) -> v1::Endpoints {
        serde_json::from_value(self.object.clone().unwrap()).unwrap()
    }

    /// The addresses that are ready, and those that are not.
    fn addresses(&self) -> [Vec<String>; 2] {
        let stored = self.stored();
        let subsets = || stored.subsets.iter().flatten();
        let of = |list: &Option<Vec<v1::EndpointAddress>>| -> Vec<String> {
            list.iter().flatten().map(|one| one.ip.clone()).collect()
        };
        [
            subsets().flat_map(|one| of(&one.addresses)).collect(),
            subsets()
                .flat_map(|one| of(&one.not_ready_addresses))
                .collect(),
        ]
    }
}

struct World {
    server: Arc<Mutex<Server>>,
    controller: Endpoints,
}

impl World {
    /// With the service, and nothing told of it yet.
    fn new() -> World {
        let server = Arc::<Mutex<Server>>::default();
        let own = server.clone();
        let client = client(move |method, path, body| own.lock().answer(method, path, &body));
        let controller = Endpoints::new(
            context(client),
            &mut Informers::default(),
            Form::Legacy,
            100,
            PERIOD,
        );
        let world = World { server, controller };
        let service = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "web-uid"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "web"}, "ports": [{"port": 80}]},
        });
        let service: Service = serde_json::from_value(service).unwrap();
        world.controller.services.apply(Arc::new(service), |_| ());
        world
    }

    fn see(&self, pod: Pod) {
        let own = &self.controller;
        own.pods
            .apply(Arc::new(pod), |change| own.pod_changed(&change));
    }

    /// The store catches up with the server.
    fn catch_up(&self) {
        let stored = self.server.lock().stored();
        self.controller.legacy.apply(Arc::new(stored), |_| ());
    }

    async fn sync(&self) -> anyhow::Result<Outcome> {
        self.controller.sync(key()).await
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.server.lock().requests)
    }
}

fn key() -> Key {
    Key::new("default", "web")
}

fn pod(namespace: &str, ready: bool) -> Pod {
    let ready = if ready { "True" } else { "False" };
    let pod = json!({
        "metadata": {"name": "a", "namespace": namespace, "uid": "a", "labels": {"app": "web"}},
        "spec": {"containers": []},
        "status": {
            "phase": "Running", "podIP": "10.1.0.1", "conditions": [{"type": "Ready", "status": ready}],
        },
    });
    serde_json::from_value(pod).unwrap()
}

#[tokio::test]
async fn endpoints_of_a_service_that_is_gone_are_deleted_if_they_are_ours() {
    for ours in [true, false] {
        let world = World::new();
        world.see(pod("default", true));
        world.sync().await.unwrap();
        let service = world.controller.services.get(&key()).unwrap();
        world.controller.services.remove(&service, |_| ());
        if !ours {
            world.server.lock().object.as_mut().unwrap()["metadata"]["labels"] = json!({});
        }
        // As after a start: all that is known is that they are there.
        world.catch_up();
        world.take();
        world.sync().await.unwrap();
        let deleted = [format!("DELETE {PATH}/web")];
        assert_eq!(world.take(), deleted[..usize::from(ours)]);
    }
}

#[tokio::test]
async fn endpoints_that_somebody_deletes_are_there_again() {
    let world = World::new();
    world.see(pod("default", true));
    for _ in 0..2 {
        world.sync().await.unwrap();
        assert_eq!(world.take(), [format!("POST {PATH}")]);
        world.catch_up();
        world.sync().await.unwrap();
        assert!(world.take().is_empty());
        let stored = world.server.lock().stored();
        world.server.lock().object = None;
        world.controller.legacy.remove(&stored, |_| ());
    }
}

#[tokio::test]
async fn the_last_state_is_told_once_the_store_has_what_was_written_before() {
    let world = World::new();
    let ip = || vec!["10.1.0.1".to_owned()];
    world.see(pod("default", true));
    world.sync().await.unwrap();
    world.catch_up();
    world.see(pod("default", false));
    world.sync().await.unwrap();
    assert_eq!(world.server.lock().addresses(), [vec![], ip()]);
    // Ready again, which is what the store still has: there seems to be nothing to do.
    world.see(pod("default", true));
    world.sync().await.unwrap();
    assert_eq!(world.server.lock().addresses(), [vec![], ip()]);
    world.catch_up();
    world.sync().await.unwrap();
    assert_eq!(world.server.lock().addresses(), [ip(), vec![]]);
    // What is written on an outdated version is refused, and tried again.
    let mut other = pod("default", true);
    other.metadata.name = Some("b".into());
    other.status.as_mut().unwrap().pod_ip = Some("10.1.0.2".into());
    world.see(other);
    world.sync().await.unwrap_err();
    world.catch_up();
    world.sync().await.unwrap();
    assert_eq!(world.server.lock().addresses()[0].len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_pods_within_a_period_is_looked_at_once_and_what_matters_to_nobody_never() {
    use futures::FutureExt;
    let world = World::new();
    let queue = &world.controller.queue;
    let mut gone = pod("default", true);
    for ready in [true, false, true] {
        gone = pod("default", ready);
        world.see(gone.clone());
        assert_eq!(queue.next().now_or_never(), None, "it waits for more");
    }
    tokio::time::sleep(2 * PERIOD).await;
    assert_eq!(queue.next().now_or_never(), Some(key()));
    queue.done(&key());
    // Nothing that an endpoint would show; another namespace; other labels.
    let mut restarted = gone;
    restarted.metadata.resource_version = Some("9".into());
    restarted.status.as_mut().unwrap().message = Some("so far so good".into());
    world.see(restarted);
    world.see(pod("elsewhere", true));
    let mut unlike = pod("default", true);
    unlike.metadata.name = Some("db".into());
    unlike.metadata.labels = Some([("app".into(), "db".into())].into());
    world.see(unlike);
    tokio::time::sleep(2 * PERIOD).await;
    assert_eq!(queue.next().now_or_never(), None);
    world.sync().await.unwrap();
    assert_eq!(world.server.lock().addresses()[0].len(), 1);
}
