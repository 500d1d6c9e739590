//! Events: what `kubectl describe` tells of an object's past.
//!
//! They are written in the background and in order. Losing one harms nobody: a full queue or a crash may.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::error::is_not_found;
use crate::{Connect, Correlator, Occurrence, Write};

/// How many occurrences may wait to be written; more are lost.
const QUEUE_MAX: usize = 1000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody may have to look.
    Warning,
}

/// Takes events of one component. Cloning shares the queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

/// What an event says it is about.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: object.namespace(),
        name: Some(object.name_any()),
        uid: object.uid(),
        resource_version: object.resource_version(),
        ..ObjectReference::default()
    }
}

impl Recorder {
    /// A recorder for `component` (as in `deployment-controller`), and the task that writes what it takes.
    pub fn new(
        connect: Connect,
        component: &str,
        stop: CancellationToken,
    ) -> (Recorder, impl Future<Output = ()> + use<>) {
        let (queue, mut occurrences) = mpsc::channel(QUEUE_MAX);
        let component = component.to_owned();
        let write = async move {
            let mut writer = Writer {
                connect,
                component,
                correlator: Correlator::default(),
            };
            while let Some(occurrence) = occurrences.recv().await {
                writer.write(occurrence).await;
            }
        };
        let task = async move {
            stop.run_until_cancelled(write).await;
        };
        (Recorder { queue }, task)
    }

    /// A recorder that writes nothing.
    pub fn silent() -> Recorder {
        Recorder {
            queue: mpsc::channel(1).0,
        }
    }

    /// Records that something happened. Never waits.
    pub fn record(&self, object: ObjectReference, event: EventType, reason: &str, message: String) {
        let occurrence = Occurrence {
            object,
            kind: match event {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            },
            reason: reason.to_owned(),
            message,
        };
        if self.queue.try_send(occurrence).is_err() {
            debug!(reason, "an event was lost: too many wait to be written");
        }
    }
}

struct Writer {
    connect: Connect,
    component: String,
    correlator: Correlator,
}

impl Writer {
    async fn write(&mut self, occurrence: Occurrence) {
        let now = Timestamp::now();
        let mut write = self.correlator.next(&occurrence, now);
        // An event that was to be counted up may have expired; then it starts anew.
        for _ in 0..2 {
            let result = match &write {
                Write::Drop => return,
                Write::Create { name, message } => {
                    self.create(&occurrence, name, message, now).await
                }
                Write::Count {
                    name,
                    message,
                    count,
                    ..
                } => {
                    let result = self.count(&occurrence, name, message, *count, now).await;
                    if result.as_ref().is_err_and(is_not_found) {
                        self.correlator.forget(name);
                        write = self.correlator.next(&occurrence, now);
                        continue;
                    }
                    result
                }
            };
            if let Err(error) = result {
                debug!(reason = occurrence.reason, %error, "an event was lost");
            }
            return;
        }
    }

    fn api(&self, object: &ObjectReference) -> Api<Event> {
        // Events of objects without a namespace live in `default`.
        let namespace = object.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.connect.client.clone(), namespace)
    }

    async fn create(
        &self,
        occurrence: &Occurrence,
        name: &str,
        message: &str,
        now: Timestamp,
    ) -> kube::Result<()> {
        let api = self.api(&occurrence.object);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: api.namespace().map(str::to_owned),
                ..ObjectMeta::default()
            },
            involved_object: occurrence.object.clone(),
            type_: Some(occurrence.kind.to_owned()),
            reason: Some(occurrence.reason.clone()),
            message: Some(message.to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                ..EventSource::default()
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        api.create(&self.connect.post(), &event).await.map(drop)
    }

    async fn count(
        &self,
        occurrence: &Occurrence,
        name: &str,
        message: &str,
        count: i32,
        now: Timestamp,
    ) -> kube::Result<()> {
        let patch = json!({"count": count, "message": message, "lastTimestamp": Time(now)});
        let api = self.api(&occurrence.object);
        let patch = Patch::Merge(&patch);
        api.patch(name, &self.connect.patch(), &patch)
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use k8s_openapi::api::core::v1::Pod;
    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;

    type Requests = Arc<Mutex<Vec<(String, String, Value)>>>;

    /// A server that notes what it is asked, and has forgotten every event of the reason `Forgotten`.
    fn server(requests: Requests) -> Connect {
        let answer = move |request: http::Request<kube::client::Body>| {
            let requests = requests.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map_err(std::io::Error::other)?
                    .to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
                let code = if method == "PATCH" && path.contains("forgetful") {
                    404
                } else {
                    200
                };
                requests.lock().push((method, path, body.clone()));
                let reply = match code {
                    404 => serde_json::json!({"kind": "Status", "code": 404, "reason": "NotFound"}),
                    _ => serde_json::json!({"metadata": {}, "involvedObject": {}}),
                };
                let body = http_body_util::Full::from(reply.to_string());
                let response = http::Response::builder().status(code).body(body);
                response.map_err(|error| std::io::Error::other(error.to_string()))
            }
        };
        Connect {
            client: kube::Client::new(tower::service_fn(answer), "default"),
            name: "tester".into(),
            ca_pem: None,
        }
    }

    fn pod(name: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("dev".into());
        pod
    }

    async fn recorded(names: &[&str]) -> Vec<(String, String, Value)> {
        let requests = Requests::default();
        let (recorder, write) = Recorder::new(
            server(requests.clone()),
            "test-controller",
            CancellationToken::new(),
        );
        for name in names {
            recorder.record(
                reference(&pod(name)),
                EventType::Warning,
                "Failed",
                "it failed".into(),
            );
        }
        drop(recorder);
        write.await;
        requests.lock().clone()
    }

    #[tokio::test]
    async fn an_event_is_written_once_and_then_counted_up() {
        let requests = recorded(&["a", "a"]).await;
        let (method, path, created) = &requests[0];
        assert_eq!(
            (method.as_str(), path.as_str()),
            ("POST", "/api/v1/namespaces/dev/events")
        );
        assert_eq!(created["count"], 1);
        assert_eq!(created["involvedObject"]["kind"], "Pod");
        assert_eq!(created["source"]["component"], "test-controller");
        assert_eq!(created["type"], "Warning");
        let (method, path, counted) = &requests[1];
        let name = created["metadata"]["name"].as_str().unwrap();
        assert_eq!(method, "PATCH");
        assert!(path.ends_with(name));
        assert_eq!(counted["count"], 2);
        assert_eq!(requests.len(), 2);
    }

    #[tokio::test]
    async fn an_event_that_has_expired_is_written_anew() {
        let requests = recorded(&["forgetful", "forgetful"]).await;
        let methods: Vec<_> = requests
            .iter()
            .map(|(method, ..)| method.as_str())
            .collect();
        assert_eq!(methods, ["POST", "PATCH", "POST"]);
        assert_eq!(requests[2].2["count"], 1);
    }
}
