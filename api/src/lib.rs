//! What a client can call: etcd's gRPC services, and health, version and metrics over HTTP, on the same port.
//!
//! **Guarantees**: a request is validated wholly before anything is proposed; every error leaves with etcd's text and
//! code; headers are filled as etcd fills them; a request that is malformed or too large costs its sender an error
//! and nothing else.
//!
//! **Leaves to others**: consensus and forwarding (`keelson-raft`), what a command does (`keelson-store`), which
//! watcher gets which event (`keelson-watch`), sockets' addresses and the process around it (`kvd`).
//!
//! Auth, locks, elections and downgrades are not here yet: gRPC says Unimplemented.

mod cluster;
mod context;
mod error;
mod http;
pub mod identity;
mod kv;
mod lease;
mod maintenance;
mod metrics;
mod server;
pub mod snapshot;
mod txn;
pub mod version;
mod watch;

use std::sync::Arc;

use keelson_proto::commandpb::command;
use keelson_proto::etcdserverpb::CompactionRequest;
use keelson_raft::{Member, Parts};
use keelson_store::Revision;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use context::Context;
pub use context::Options;
pub use error::Failure;
pub use metrics::Metrics;
pub use server::{ServerOptions, Serves, serve};

/// A member's API, ready to be served.
pub struct Api<P: Parts> {
    context: Arc<Context<P>>,
    health: HealthServer<HealthService>,
}

impl<P: Parts> Api<P> {
    /// The API of a member that runs, if perhaps it has not recovered yet. Serves nobody yet: see [`serve`].
    pub fn new(member: Member<P>, options: Options, metrics: Arc<Metrics>) -> Api<P> {
        let stopping = CancellationToken::new();
        let context = Arc::new(Context {
            member,
            options,
            metrics,
            stopping,
        });
        context
            .metrics
            .add(metrics::member::MemberCollector(Arc::downgrade(&context)));
        // Says SERVING of the server as a whole, as etcd does.
        let health = HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()));
        Api { context, health }
    }

    /// Ends [`serve`]: accepts nobody any more, ends what would go on for ever, and lets the rest finish.
    pub fn stop(&self) {
        self.context.stopping.cancel();
    }

    /// Has the cluster compact its history, as an operator's policy asks.
    pub async fn compact(&self, revision: Revision) -> Result<(), Failure> {
        let request = CompactionRequest {
            revision: revision.0,
            physical: false,
        };
        self.context
            .propose(command::Request::Compact(request))
            .await
            .map(drop)
    }

    /// Raises the NOSPACE alarm for this member, unless it is up already: its disk runs full.
    pub async fn raise_no_space(&self) -> Result<(), Failure> {
        self.context.raise_no_space().await
    }
}

impl<P: Parts> Clone for Api<P> {
    fn clone(&self) -> Self {
        Api {
            context: self.context.clone(),
            health: self.health.clone(),
        }
    }
}
