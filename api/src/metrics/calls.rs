//! gRPC calls by method and code: `grpc_server_started_total` and `grpc_server_handled_total`, with the labels that
//! etcd's have.
//!
//! The counters of every method are made beforehand, so that counting a call takes no lock, and a client that makes
//! up method names makes no new ones.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tonic::Code;

/// The methods by service and kind. "bidi" ones of these go on until somebody ends them.
const METHODS: &[(&str, &str, &[&str])] = &[
    (
        "etcdserverpb.KV",
        "unary",
        &["Range", "Put", "DeleteRange", "Txn", "Compact"],
    ),
    ("etcdserverpb.KV", "server_stream", &["RangeStream"]),
    ("etcdserverpb.Watch", "bidi_stream", &["Watch"]),
    (
        "etcdserverpb.Lease",
        "unary",
        &[
            "LeaseGrant",
            "LeaseRevoke",
            "LeaseTimeToLive",
            "LeaseLeases",
        ],
    ),
    ("etcdserverpb.Lease", "bidi_stream", &["LeaseKeepAlive"]),
    (
        "etcdserverpb.Cluster",
        "unary",
        &[
            "MemberAdd",
            "MemberRemove",
            "MemberUpdate",
            "MemberList",
            "MemberPromote",
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        "unary",
        &[
            "Alarm",
            "Status",
            "Defragment",
            "Hash",
            "HashKV",
            "MoveLeader",
            "Downgrade",
        ],
    ),
    ("etcdserverpb.Maintenance", "server_stream", &["Snapshot"]),
    ("grpc.health.v1.Health", "unary", &["Check"]),
    ("grpc.health.v1.Health", "bidi_stream", &["Watch"]),
];

/// The codes in the order of their numbers, by grpc-go's names.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Started {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

/// The counters of one method.
pub(crate) struct Call {
    started: Counter,
    handled: [Counter; CODES.len()],
    /// The call goes on until somebody ends it: at shutdown that is us.
    pub(crate) endless: bool,
}

impl Call {
    pub(crate) fn started(&self) {
        self.started.inc();
    }

    pub(crate) fn handled(&self, code: Code) {
        if let Some(counter) = self.handled.get(code as usize) {
            counter.inc();
        }
    }
}

/// The counters of all methods.
pub(crate) struct Calls {
    by_path: HashMap<String, Arc<Call>>,
    other: Arc<Call>,
}

impl Calls {
    pub(crate) fn new(registry: &mut Registry) -> Calls {
        let started = Family::<Started, Counter>::default();
        let handled = Family::<Handled, Counter>::default();
        registry.register(
            "grpc_server_started",
            "RPCs started on the server",
            started.clone(),
        );
        registry.register(
            "grpc_server_handled",
            "RPCs completed on the server, by code",
            handled.clone(),
        );
        let call = |grpc_type, grpc_service, grpc_method| {
            Arc::new(Call {
                started: started
                    .get_or_create(&Started {
                        grpc_type,
                        grpc_service,
                        grpc_method,
                    })
                    .clone(),
                handled: CODES.map(|grpc_code| {
                    handled
                        .get_or_create(&Handled {
                            grpc_type,
                            grpc_service,
                            grpc_method,
                            grpc_code,
                        })
                        .clone()
                }),
                endless: grpc_type == "bidi_stream",
            })
        };
        let mut by_path = HashMap::new();
        for (service, kind, methods) in METHODS {
            for method in *methods {
                by_path.insert(format!("/{service}/{method}"), call(kind, service, method));
            }
        }
        Calls {
            by_path,
            other: call("unary", "unknown", "unknown"),
        }
    }

    /// The counters of the method at a path.
    pub(crate) fn of(&self, path: &str) -> &Arc<Call> {
        self.by_path.get(path).unwrap_or(&self.other)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code_under_etcds_labels() {
        let mut registry = Registry::default();
        let calls = Calls::new(&mut registry);
        calls.of("/etcdserverpb.KV/Put").started();
        calls.of("/etcdserverpb.KV/Put").handled(Code::Unavailable);
        calls.of("/made.up/Method").handled(Code::Unimplemented);
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let labels = "grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\"";
        assert!(
            page.contains(&format!("grpc_server_started_total{{{labels}}} 1")),
            "{page}"
        );
        assert!(page.contains(&format!(
            "grpc_server_handled_total{{{labels},grpc_code=\"Unavailable\"}} 1"
        )));
        assert!(page.contains("grpc_method=\"unknown\",grpc_code=\"Unimplemented\"} 1"));
    }

    #[test]
    fn watches_and_keep_alives_are_endless_and_snapshots_are_not() {
        let calls = Calls::new(&mut Registry::default());
        assert!(calls.of("/etcdserverpb.Watch/Watch").endless);
        assert!(calls.of("/etcdserverpb.Lease/LeaseKeepAlive").endless);
        assert!(!calls.of("/etcdserverpb.Maintenance/Snapshot").endless);
    }
}
