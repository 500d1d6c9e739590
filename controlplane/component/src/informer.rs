//! A store that follows the API server, and tells whoever asked what changed.

use std::fmt::Debug;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::follow::Follow;
use crate::{Change, Store};

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;
type Trim<K> = Box<dyn Fn(&mut K) + Send + Sync>;

/// One kind's watch, shared by all who want to know of it.
///
/// Handlers are called one change at a time, in the order of the watch, after the store has the change. They must be
/// quick: they are for putting keys on queues.
pub struct Informer<K> {
    store: Store<K>,
    handlers: Vec<Handler<K>>,
    trim: Trim<K>,
    fields: Option<String>,
    synced: CancellationToken,
}

impl<K: Resource> Default for Informer<K> {
    fn default() -> Self {
        Informer {
            store: Store::default(),
            handlers: Vec::new(),
            trim: Box::new(|_| ()),
            fields: None,
            synced: CancellationToken::new(),
        }
    }
}

impl<K: Resource> Informer<K> {
    /// An informer that drops, besides managed fields, what nobody here reads.
    pub fn trimmed(trim: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        Informer {
            trim: Box::new(trim),
            ..Informer::default()
        }
    }

    /// Only objects that a field selector selects.
    pub fn fields(self, selector: &str) -> Self {
        let fields = Some(selector.to_owned());
        Informer { fields, ..self }
    }

    /// What it knows. Complete once [`Informer::synced`] has returned.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Calls `handler` for every change from now on.
    pub fn on_change(&mut self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.handlers.push(Box::new(handler));
    }

    /// Cancelled (that is, reached) when the store has had everything that was there at the start.
    pub fn synced(&self) -> CancellationToken {
        self.synced.clone()
    }

    /// Takes in one event of a watch. `listing` holds what a list has given so far.
    fn take(&self, event: Event<K>, listing: &mut Vec<Arc<K>>) {
        let tell = |change: Change<'_, K>| {
            for handler in &self.handlers {
                handler(&change);
            }
        };
        let trimmed = |mut object: K| {
            object.managed_fields_mut().clear();
            (self.trim)(&mut object);
            Arc::new(object)
        };
        match event {
            Event::Init => listing.clear(),
            Event::InitApply(object) => listing.push(trimmed(object)),
            Event::InitDone => {
                self.store.replace(std::mem::take(listing), tell);
                self.synced.cancel();
            }
            Event::Apply(object) => self.store.apply(trimmed(object), tell),
            Event::Delete(object) => self.store.remove(&object, tell),
        }
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Follows the API server until `stop`. It never gives up: it lists again, with a back-off, after every error.
    pub async fn run(self, api: Api<K>, stop: CancellationToken) {
        let mut listing = Vec::new();
        let follow = Follow::new(api, self.fields.clone());
        let following = follow.run(|event| self.take(event, &mut listing));
        stop.run_until_cancelled(following).await;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use std::time::Duration;

    use kube::api::ObjectMeta;
    use parking_lot::Mutex;

    use super::*;

    fn map(name: &str, version: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            uid: Some(name.into()),
            resource_version: Some(version.into()),
            managed_fields: Some(vec![Default::default()]),
            ..ObjectMeta::default()
        };
        ConfigMap {
            metadata,
            data: Some([("k".into(), "v".into())].into()),
            ..ConfigMap::default()
        }
    }

    /// A server without streaming lists, which has one object, and one more for whoever watches.
    fn old_server(asked: Arc<Mutex<Vec<String>>>) -> kube::Client {
        let answer = move |request: http::Request<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            asked.lock().push(query.clone());
            let object = |name: &str, version: &str| serde_json::to_value(map(name, version));
            let (code, body) = if query.contains("sendInitialEvents") {
                let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":422,
                    "reason":"Invalid","message":"sendInitialEvents is forbidden"}"#;
                (422, status.to_owned())
            } else if query.contains("watch=true") {
                let added =
                    serde_json::json!({"type": "ADDED", "object": object("b", "2").unwrap()});
                (200, format!("{added}\n"))
            } else {
                let list = serde_json::json!({
                    "kind": "ConfigMapList", "apiVersion": "v1",
                    "metadata": {"resourceVersion": "1"}, "items": [object("a", "1").unwrap()],
                });
                (200, list.to_string())
            };
            let body = http_body_util::Full::from(body);
            let response = http::Response::builder().status(code).body(body);
            std::future::ready(response.map_err(|error| std::io::Error::other(error.to_string())))
        };
        kube::Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_streaming_lists_is_listed_and_then_watched() {
        let asked = Arc::default();
        let api = Api::<ConfigMap>::all(old_server(Arc::clone(&asked)));
        let informer = Informer::<ConfigMap>::default().fields("metadata.name!=c");
        let (store, synced) = (informer.store(), informer.synced());
        let stop = CancellationToken::new();
        let running = tokio::spawn(informer.run(api, stop.clone()));
        synced.cancelled().await;
        assert!(store.get(&crate::Key::new("default", "a")).is_some());
        while store.get(&crate::Key::new("default", "b")).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
        running.await.unwrap();
        let asked = asked.lock();
        assert!(asked[0].contains("sendInitialEvents=true"));
        // At no revision in particular: what a cache happens to have may be older than what we wrote.
        assert!(asked[0].ends_with("resourceVersion="));
        assert!(
            asked[1..]
                .iter()
                .all(|query| !query.contains("sendInitialEvents"))
        );
        assert!(
            asked
                .iter()
                .all(|query| query.contains("fieldSelector=metadata.name%21%3Dc"))
        );
    }

    /// A server that refuses to begin watches from before it was started, and has another object since.
    fn restarted_server(lists: Arc<Mutex<u32>>) -> kube::Client {
        let answer = move |request: http::Request<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let watch = |name: &str, version: &str| {
                let bookmark = serde_json::json!({"type": "BOOKMARK", "object": {
                    "kind": "ConfigMap", "apiVersion": "v1",
                    "metadata": {
                        "resourceVersion": version,
                        "annotations": {"k8s.io/initial-events-end": "true"},
                    },
                }});
                let added = serde_json::json!({"type": "ADDED", "object": map(name, version)});
                format!("{added}\n{bookmark}\n")
            };
            let (code, body) = if query.contains("sendInitialEvents") {
                let mut lists = lists.lock();
                *lists += 1;
                (
                    200,
                    if *lists == 1 {
                        watch("before", "1")
                    } else {
                        watch("since", "9")
                    },
                )
            } else {
                let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":410,
                    "reason":"Expired","message":"too old resource version"}"#;
                (410, status.to_owned())
            };
            let body = http_body_util::Full::from(body);
            let response = http::Response::builder().status(code).body(body);
            std::future::ready(response.map_err(|error| std::io::Error::other(error.to_string())))
        };
        kube::Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_refused_as_expired_lists_again() {
        let api = Api::<ConfigMap>::all(restarted_server(Arc::default()));
        let informer = Informer::<ConfigMap>::default();
        let store = informer.store();
        let stop = CancellationToken::new();
        let running = tokio::spawn(informer.run(api, stop.clone()));
        while store.get(&crate::Key::new("default", "since")).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(store.get(&crate::Key::new("default", "before")).is_none());
        stop.cancel();
        running.await.unwrap();
    }

    #[test]
    fn it_has_synced_when_the_list_is_complete_and_not_before() {
        let informer = Informer::<ConfigMap>::default();
        let mut listing = vec![];
        informer.take(Event::Init, &mut listing);
        informer.take(Event::InitApply(map("a", "1")), &mut listing);
        assert!(!informer.synced.is_cancelled());
        assert!(informer.store().is_empty());
        informer.take(Event::InitDone, &mut listing);
        assert!(informer.synced.is_cancelled());
        assert_eq!(informer.store().len(), 1);
    }

    #[test]
    fn what_vanished_while_it_was_not_watching_is_told_as_deleted() {
        let told = Arc::new(Mutex::new(vec![]));
        let mut informer = Informer::<ConfigMap>::default();
        let sink = told.clone();
        informer.on_change(move |change| {
            if let Change::Deleted { last } = change {
                sink.lock().push(last.name_any());
            }
        });
        let mut listing = vec![];
        for event in [
            Event::Init,
            Event::InitApply(map("a", "1")),
            Event::InitApply(map("b", "2")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(map("b", "2")),
            Event::InitDone,
        ] {
            informer.take(event, &mut listing);
        }
        assert_eq!(*told.lock(), ["a"]);
    }

    #[test]
    fn managed_fields_and_what_is_trimmed_take_no_memory() {
        let informer = Informer::<ConfigMap>::trimmed(|map| map.data = None);
        informer.take(Event::Apply(map("a", "1")), &mut vec![]);
        let known = &informer.store().all()[0];
        assert!(
            known
                .metadata
                .managed_fields
                .as_ref()
                .is_none_or(Vec::is_empty)
        );
        assert_eq!(known.data, None);
    }
}
