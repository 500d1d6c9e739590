//! Who answers a request: a service of gRPC, or the HTTP paths.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Cx, Poll};

use axum::response::IntoResponse;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use keelson_proto::etcdserverpb::cluster_server::ClusterServer;
use keelson_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use keelson_raft::Parts;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tower::Service;

use super::Serves;
use super::exchange::exchange;
use super::observe::is_grpc;
use super::streamed::Messages;
use super::unary::unary;
use crate::Api;
use crate::cluster::Cluster;
use crate::context::Context;
use crate::http::routes as http_routes;
use crate::kv::Kv;
use crate::lease::Lease;
use crate::maintenance::Maintenance;
use crate::watch::{WatchService, WatchSettings};

/// etcd's room for what gRPC adds to a request; what is beyond never gets so far as to be refused by size.
const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// In the words of Go's HTTP server.
const NOT_FOUND: (StatusCode, &str) = (StatusCode::NOT_FOUND, "404 page not found\n");

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// What one listening socket serves. Cheap to clone: each connection has one, and each request needs it once.
pub(super) struct Router<P: Parts>(Arc<Services<P>>);

impl<P: Parts> Clone for Router<P> {
    fn clone(&self) -> Self {
        Router(self.0.clone())
    }
}

struct Services<P: Parts> {
    serves: Serves,
    context: Arc<Context<P>>,
    /// The most bytes of a message.
    limit: usize,
    watch: WatchService<P::Engine>,
    cluster: ClusterServer<Cluster<P>>,
    maintenance: MaintenanceServer<Maintenance<P>>,
    health: HealthServer<HealthService>,
    http: axum::Router,
}

impl<P: Parts> Router<P> {
    pub(super) fn new(api: &Api<P>, serves: Serves) -> Self {
        let context = || api.context.clone();
        let limit = api
            .context
            .options
            .max_request_bytes
            .saturating_add(GRPC_OVERHEAD_BYTES);
        let member = &api.context.member;
        Router(Arc::new(Services {
            serves,
            context: context(),
            limit,
            watch: WatchService::new(member.hub().clone(), watch_settings(&api.context, limit)),
            cluster: ClusterServer::new(Cluster(context())).max_decoding_message_size(limit),
            maintenance: MaintenanceServer::new(Maintenance(context()))
                .max_decoding_message_size(limit),
            health: api.health.clone(),
            http: http_routes(context()).fallback(async || NOT_FOUND),
        }))
    }
}

impl<P: Parts, B> Service<Request<B>> for Router<P>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        // By what it says it is, as etcd does, and not by its path: what does not call itself a call is not let through to a
        // service as one, nor can a web page make one.
        match (is_grpc(request.headers()), self.0.serves) {
            (true, Serves::Everything | Serves::Grpc) => self.0.grpc(request),
            (false, Serves::Everything | Serves::Http) => self.0.http(request),
            _ => not_found(request),
        }
    }
}

impl<P: Parts> Services<P> {
    /// Asks the service that a path names.
    fn grpc<B>(&self, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let Some((service, method)) = request
            .uri()
            .path()
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
        else {
            return not_found(request);
        };
        // The calls that there are many of go the short way. A macro, since each has types of its own.
        macro_rules! short {
            ($service:ident, $method:ident) => {{
                let (service, limit) = ($service(self.context.clone()), self.limit);
                Box::pin(async move {
                    Ok(unary(request, limit, async move |request| {
                        service.$method(request).await
                    })
                    .await)
                })
            }};
        }
        match (service, method) {
            ("etcdserverpb.KV", "Range") => short!(Kv, range),
            ("etcdserverpb.KV", "Put") => short!(Kv, put),
            ("etcdserverpb.KV", "DeleteRange") => short!(Kv, delete_range),
            ("etcdserverpb.KV", "Txn") => short!(Kv, txn),
            ("etcdserverpb.KV", "Compact") => short!(Kv, compact),
            ("etcdserverpb.KV", "RangeStream") => {
                let (kv, limit) = (Kv(self.context.clone()), self.limit);
                Box::pin(async move {
                    Ok(unary(request, limit, async move |request| {
                        kv.range_stream(request).await.map(Messages)
                    })
                    .await)
                })
            }
            ("etcdserverpb.KV", _) => answered(Status::unimplemented("").into_http()),
            ("etcdserverpb.Watch", _) => self.watch.clone().call(request),
            ("etcdserverpb.Lease", "LeaseGrant") => short!(Lease, lease_grant),
            ("etcdserverpb.Lease", "LeaseRevoke") => short!(Lease, lease_revoke),
            ("etcdserverpb.Lease", "LeaseTimeToLive") => short!(Lease, lease_time_to_live),
            ("etcdserverpb.Lease", "LeaseLeases") => short!(Lease, lease_leases),
            ("etcdserverpb.Lease", "LeaseKeepAlive") => {
                let lease = Lease(self.context.clone());
                let open = |metadata: &_| lease.lease_keep_alive(metadata);
                answered(exchange(request, self.limit, open))
            }
            ("etcdserverpb.Lease", _) => answered(Status::unimplemented("").into_http()),
            ("etcdserverpb.Cluster", _) => self.cluster.clone().call(request),
            ("etcdserverpb.Maintenance", _) => self.maintenance.clone().call(request),
            ("grpc.health.v1.Health", _) => self.health.clone().call(request),
            _ => not_found(request),
        }
    }

    fn http<B>(&self, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let answer = self.http.clone().call(request);
        Box::pin(async move { Ok(answer.await?.map(Body::new)) })
    }
}

/// Says that there is nothing at a path: to a call, as grpc-go says it.
fn not_found<B>(request: Request<B>) -> Answer {
    let response = if is_grpc(request.headers()) {
        let service = request.uri().path().trim_start_matches('/');
        let service = service.split('/').next().unwrap_or("");
        Status::unimplemented(format!("unknown service {service}")).into_http()
    } else if request.method() == Method::HEAD {
        NOT_FOUND.0.into_response().map(Body::new)
    } else {
        NOT_FOUND.into_response().map(Body::new)
    };
    answered(response)
}

fn answered(response: Response<Body>) -> Answer {
    Box::pin(std::future::ready(Ok(response)))
}

fn watch_settings<P: Parts>(context: &Arc<Context<P>>, request_bytes_max: usize) -> WatchSettings {
    let (member, context) = (context.member.clone(), context.clone());
    let election_timeout = context.options.election_timeout;
    WatchSettings {
        leader_lost: Arc::new(move || member.leader_lost()),
        is_learner: Arc::new(move || context.is_learner()),
        election_timeout,
        request_bytes_max,
    }
}
