//! What the tests share: a store to run on, a server on it, and a client for it.

mod client;
mod objects;
mod server;
mod shared;
mod stores;

pub use client::{Client, Watch};
pub use objects::{names, revision, token};
pub use server::Server;
pub(crate) use shared::on_shared_servers;
pub use shared::{Place, run};
pub use stores::{RunningStore, StoreKind, program_in_peers};

/// Runs the same test on kvd and on etcd: `on_each_store!(name, |store| async move { … })`.
macro_rules! on_each_store {
    ($name:ident, $test:expr) => {
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn kvd() {
                ($test)(RunningStore::start(StoreKind::Kvd).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn etcd() {
                ($test)(RunningStore::start(StoreKind::Etcd).await).await;
            }
        }
    };
}
pub(crate) use on_each_store;
