//! A server for many tests, each in a namespace of its own: what a test costs is then what it does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use keelson_apiserver::storage::{Connection, Store};
use serde_json::json;
use tokio::runtime::Runtime;

use super::{Client, RunningStore, Server, StoreKind};

/// A server on a store, as long as a test uses it.
struct Shared {
    server: Arc<Server>,
    runtime: Runtime,
}

/// Where a test is.
pub struct Place {
    pub server: Arc<Server>,
    /// Which no other test uses.
    pub namespace: String,
    /// The administrator's.
    pub client: Client,
}

/// Runs a test on the server that tests on that kind of store share: the one that is there, or a new one.
pub fn run<T: Future<Output = ()>>(kind: StoreKind, test: impl FnOnce(Place) -> T) {
    static SERVERS: [Mutex<Weak<Shared>>; 2] = [Mutex::new(Weak::new()), Mutex::new(Weak::new())];
    let slot = &SERVERS[usize::from(kind == StoreKind::Etcd)];
    // Held while the server starts; a test that fails meanwhile has left nothing half done in it.
    let mut server = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = server.upgrade().unwrap_or_else(|| Arc::new(start(kind)));
    *server = Arc::downgrade(&shared);
    drop(server);
    shared.runtime.block_on(async {
        test(Place::on(shared.server.clone()).await).await;
    });
}

fn start(kind: StoreKind) -> Shared {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let server = runtime.block_on(async { Server::start(RunningStore::start(kind).await).await });
    let server = Arc::new(server);
    Shared { server, runtime }
}

impl Place {
    /// A place of its own on a server.
    pub async fn on(server: Arc<Server>) -> Place {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            namespace: format!("place-{number}"),
            client: server.client(Some("admin")),
            server,
        };
        place.make_namespace(&place.namespace).await;
        place
    }

    /// A place on a server that no other test uses: for what is done to the whole store.
    pub async fn alone(running: RunningStore, flags: &[&str]) -> Place {
        Place::on(Arc::new(Server::start_with(running, flags).await)).await
    }

    /// The path of a core resource in the test's namespace.
    pub fn core(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}", self.namespace)
    }

    /// The path of a resource of another group in the test's namespace.
    pub fn grouped(&self, group_version: &str, resource: &str) -> String {
        format!(
            "/apis/{group_version}/namespaces/{}/{resource}",
            self.namespace
        )
    }

    /// The path of config maps, which have no rules of their own.
    pub fn maps(&self) -> String {
        self.core("configmaps")
    }

    pub async fn make_namespace(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name}});
        self.client
            .post("/api/v1/namespaces", &namespace)
            .await
            .ok();
    }

    /// The store below the server, as the server sees it.
    pub async fn store(&self) -> Store {
        self.server.store().open().await
    }

    /// A key in the store that belongs to the test.
    pub fn key(&self, name: &str) -> String {
        format!("/registry/pods/{}/{name}", self.namespace)
    }
}

impl RunningStore {
    /// The store as the API server sees it.
    pub async fn open(&self) -> Store {
        let endpoints = vec![self.endpoint.clone()];
        let tls = None;
        Store::connect(&Connection { endpoints, tls })
            .await
            .expect("the store is there")
    }
}

/// Makes tests of functions that take a [`Place`]: each runs on kvd and on etcd.
macro_rules! on_shared_servers {
    ($($test:ident),+ $(,)?) => {
        mod kvd {
            $(#[test]
            fn $test() {
                crate::support::run(crate::support::StoreKind::Kvd, super::$test);
            })+
        }

        mod etcd {
            $(#[test]
            fn $test() {
                crate::support::run(crate::support::StoreKind::Etcd, super::$test);
            })+
        }
    };
}
pub(crate) use on_shared_servers;
