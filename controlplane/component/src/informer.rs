//! A store that follows the API server, and tells whoever asked what changed.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Config, Event, InitialListStrategy};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{Change, Store};

/// The longest pause between two attempts to list or watch.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(50);

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// One kind's watch, shared by all who want to know of it.
///
/// Handlers are called one change at a time, in the order of the watch, after the store has the change. They must be
/// quick: they are for putting keys on queues.
pub struct Informer<K> {
    store: Store<K>,
    handlers: Vec<Handler<K>>,
    trim: fn(&mut K),
    fields: Option<String>,
    synced: CancellationToken,
}

impl<K: Resource> Default for Informer<K> {
    fn default() -> Self {
        Informer {
            store: Store::default(),
            handlers: Vec::new(),
            trim: |_| (),
            fields: None,
            synced: CancellationToken::new(),
        }
    }
}

impl<K: Resource> Informer<K> {
    /// An informer that drops, besides managed fields, what nobody here reads.
    pub fn trimmed(trim: fn(&mut K)) -> Self {
        Informer {
            trim,
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
        stop.run_until_cancelled(self.follow(api)).await;
    }

    async fn follow(self, api: Api<K>) {
        // A streaming list costs the server no second copy of everything; a server that has none says so.
        let mut strategy = InitialListStrategy::StreamingList;
        let mut backoff = BACKOFF_MIN;
        'restart: loop {
            let config = Config {
                initial_list_strategy: strategy.clone(),
                field_selector: self.fields.clone(),
                ..Config::default()
            };
            let mut events = std::pin::pin!(watcher::watcher(api.clone(), config));
            let mut listing = Vec::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        backoff = BACKOFF_MIN;
                        self.take(event, &mut listing);
                    }
                    Err(error) if strategy != InitialListStrategy::ListWatch && refused(&error) => {
                        debug!(url = api.resource_url(), %error, "no streaming lists: listing instead");
                        strategy = InitialListStrategy::ListWatch;
                        continue 'restart;
                    }
                    Err(error) => {
                        // The first is often the end of an old connection, and says nothing.
                        if backoff > BACKOFF_MIN * 4 {
                            warn!(url = api.resource_url(), %error, "cannot watch");
                        }
                        let jitter = 0.5 + rand::random::<f64>() / 2.0;
                        tokio::time::sleep(backoff.mul_f64(jitter)).await;
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                    }
                }
            }
        }
    }
}

/// The server does not take `sendInitialEvents`: 422 with the feature off, 400 from one that does not know it.
fn refused(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code,
        watcher::Error::WatchError(status) => status.code,
        _ => return false,
    };
    matches!(code, 400 | 422)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
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
