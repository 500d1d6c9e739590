//! Every flag that etcd 3.4 to 3.7 knows, and what it is to us.

use super::EXPERIMENTAL;

/// A flag.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// Under which heading the help shows it.
    pub group: Group,
    /// Whether it is a switch: `--name` means `--name=true`.
    pub switch: bool,
    /// Whether its old name, with `experimental-` before it, is known too.
    pub experimental: bool,
    /// The default as the help shows it.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What becomes of it.
    pub standing: Standing,
}

/// What becomes of a flag that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does what it says.
    Built,
    /// It means nothing here: a warning says why.
    Ignored(&'static str),
    /// It is not built, and going on without it would not be what was asked for.
    Refused(&'static str),
}

/// The headings of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Group {
    Member,
    Clustering,
    Limits,
    Compaction,
    Observability,
    Other,
    Security,
}

impl Group {
    /// In the order of the help.
    pub const ALL: [Group; 7] = [
        Group::Member,
        Group::Clustering,
        Group::Limits,
        Group::Compaction,
        Group::Observability,
        Group::Other,
        Group::Security,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Member => "Member",
            Group::Clustering => "Clustering",
            Group::Limits => "Limits",
            Group::Compaction => "Compaction",
            Group::Observability => "Logs and metrics",
            Group::Other => "Other",
            Group::Security => "Security (not supported yet: refused)",
        }
    }
}

/// Finds a flag by its name, or by its old experimental one.
pub fn find(name: &str) -> Option<&'static Flag> {
    let by_name = |name: &str| TABLE.iter().find(|flag| flag.name == name);
    by_name(name).or_else(|| {
        name.strip_prefix(EXPERIMENTAL)
            .and_then(by_name)
            .filter(|flag| flag.experimental)
    })
}

const fn value(
    name: &'static str,
    group: Group,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        group,
        switch: false,
        experimental: false,
        default,
        help,
        standing: Standing::Built,
    }
}

const fn switch(
    name: &'static str,
    group: Group,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        switch: true,
        ..value(name, group, default, help)
    }
}

const fn ignored(name: &'static str, why: &'static str) -> Flag {
    Flag {
        standing: Standing::Ignored(why),
        ..value(name, Group::Other, "", "")
    }
}

const fn refused(name: &'static str, why: &'static str) -> Flag {
    Flag {
        standing: Standing::Refused(why),
        ..value(name, Group::Security, "", "")
    }
}

const fn is_switch(flag: Flag) -> Flag {
    Flag {
        switch: true,
        ..flag
    }
}

const fn was_experimental(flag: Flag) -> Flag {
    Flag {
        experimental: true,
        ..flag
    }
}

const BBOLT: &str = "it is about etcd's storage engine, and kvd has another";
const TUNING: &str = "kvd has nothing to tune there";
const V2: &str = "etcd's v2 API is not served";
const GATEWAY: &str = "the JSON gateway is not there yet";
const CHECKS: &str =
    "kvd does not compare its members' data by itself yet; see kvctl endpoint hashkv";
const TRACING: &str = "distributed tracing is not there";
const LOG_ROTATION: &str = "kvd does not rotate logs; let the system do it";
const TLS: &str = "TLS is not there yet";
const AUTH: &str = "authentication is not there yet";
const DISCOVERY: &str = "members are found by --initial-cluster alone";

/// All flags, in the order of the help.
pub static TABLE: &[Flag] = &[
    value(
        "name",
        Group::Member,
        "default",
        "Name of this member, for people to read.",
    ),
    value(
        "data-dir",
        Group::Member,
        "${name}.etcd",
        "Directory of this member's data.",
    ),
    value(
        "wal-dir",
        Group::Member,
        "in the data directory",
        "Directory of the raft log, for a disk of its own.",
    ),
    value(
        "listen-client-urls",
        Group::Member,
        "http://localhost:2379",
        "Where clients are served, gRPC and HTTP.",
    ),
    value(
        "listen-client-http-urls",
        Group::Member,
        "",
        "Where clients are served HTTP alone; --listen-client-urls then serve gRPC alone.",
    ),
    value(
        "listen-peer-urls",
        Group::Member,
        "http://localhost:2380",
        "Where other members are served.",
    ),
    value(
        "heartbeat-interval",
        Group::Member,
        "100",
        "How often a leader says that it is alive, in milliseconds.",
    ),
    value(
        "election-timeout",
        Group::Member,
        "1000",
        "How long members wait for a leader, in milliseconds.",
    ),
    switch(
        "socket-reuse-port",
        Group::Member,
        "false",
        "Let other processes listen on the same ports.",
    ),
    switch(
        "socket-reuse-address",
        Group::Member,
        "true",
        "Listen on an address that was in use a moment ago.",
    ),
    value(
        "config-file",
        Group::Member,
        "",
        "YAML file with these flags; all others are then ignored.",
    ),
    value(
        "initial-advertise-peer-urls",
        Group::Clustering,
        "http://localhost:2380",
        "Where other members reach this one.",
    ),
    value(
        "initial-cluster",
        Group::Clustering,
        "${name}=${initial-advertise-peer-urls}",
        "The first members and where they are reached: name=url,name=url,…",
    ),
    value(
        "initial-cluster-state",
        Group::Clustering,
        "new",
        "'new' to found the cluster, 'existing' to join one after 'kvctl member add'. A member that has data ignores it.",
    ),
    value(
        "initial-cluster-token",
        Group::Clustering,
        "etcd-cluster",
        "Tells this cluster from others with the same members' addresses.",
    ),
    value(
        "advertise-client-urls",
        Group::Clustering,
        "http://localhost:2379",
        "Where clients reach this member.",
    ),
    switch(
        "strict-reconfig-check",
        Group::Clustering,
        "true",
        "Refuse changes of the membership that would endanger the quorum.",
    ),
    was_experimental(value(
        "max-learners",
        Group::Clustering,
        "1",
        "How many learners the cluster may have.",
    )),
    value(
        "quota-backend-bytes",
        Group::Limits,
        "0",
        "How many bytes the store may hold before it raises the NOSPACE alarm; 0 means the disk less a reserve, below 0 no quota.",
    ),
    value(
        "max-txn-ops",
        Group::Limits,
        "128",
        "How many operations a transaction may have.",
    ),
    value(
        "max-request-bytes",
        Group::Limits,
        "1572864",
        "How large a request may be.",
    ),
    value(
        "max-concurrent-streams",
        Group::Limits,
        "4294967295",
        "How many calls a client may have open on a connection.",
    ),
    value(
        "grpc-keepalive-interval",
        Group::Limits,
        "2h",
        "How often an idle client is pinged; 0 means never.",
    ),
    value(
        "grpc-keepalive-timeout",
        Group::Limits,
        "20s",
        "How long the answer to a ping may take.",
    ),
    value(
        "auto-compaction-mode",
        Group::Compaction,
        "periodic",
        "'periodic' keeps a time of history, 'revision' a number of revisions.",
    ),
    value(
        "auto-compaction-retention",
        Group::Compaction,
        "0",
        "How much: 5m, 1h, 10 (hours), or a number of revisions; 0 keeps all.",
    ),
    value(
        "log-level",
        Group::Observability,
        "info",
        "debug, info, warn, error, panic or fatal.",
    ),
    value(
        "log-format",
        Group::Observability,
        "console for people, else json",
        "'json' or 'console'.",
    ),
    value(
        "log-outputs",
        Group::Observability,
        "default",
        "'default' (stderr), 'stderr', 'stdout', or files: comma-separated.",
    ),
    value(
        "listen-metrics-urls",
        Group::Observability,
        "",
        "Where /metrics and /health are served besides the client URLs.",
    ),
    was_experimental(value(
        "watch-progress-notify-interval",
        Group::Other,
        "10m",
        "How often a watch that asked for it is told that nothing has happened.",
    )),
    // Known to etcd, and without a meaning here.
    ignored("snapshot-count", "snapshots go by the size of the log"),
    was_experimental(ignored(
        "snapshot-catchup-entries",
        "what is kept of the log goes by its size",
    )),
    ignored("max-snapshots", "old snapshots are removed at once"),
    ignored(
        "max-wals",
        "old log segments are removed when they are no longer needed",
    ),
    is_switch(ignored("initial-election-tick-advance", TUNING)),
    is_switch(ignored("pre-vote", "elections always have a pre-vote")),
    ignored(
        "grpc-keepalive-min-time",
        "clients may ping as often as they like",
    ),
    is_switch(ignored("enable-grpc-gateway", GATEWAY)),
    ignored("cors", GATEWAY),
    ignored("feature-gates", TUNING),
    ignored("raft-read-timeout", TUNING),
    ignored("raft-write-timeout", TUNING),
    ignored("backend-bbolt-freelist-type", BBOLT),
    ignored("backend-batch-interval", BBOLT),
    ignored("backend-batch-limit", BBOLT),
    was_experimental(is_switch(ignored("memory-mlock", BBOLT))),
    was_experimental(ignored("bootstrap-defrag-threshold-megabytes", BBOLT)),
    was_experimental(is_switch(ignored(
        "txn-mode-write-with-shared-buffer",
        BBOLT,
    ))),
    was_experimental(is_switch(ignored(
        "stop-grpc-service-on-defrag",
        "defragmenting does not block",
    ))),
    was_experimental(ignored(
        "compaction-batch-limit",
        "compaction does not work in batches",
    )),
    was_experimental(ignored(
        "compaction-sleep-interval",
        "compaction does not work in batches",
    )),
    was_experimental(ignored("warning-apply-duration", TUNING)),
    was_experimental(ignored("warning-unary-request-duration", TUNING)),
    was_experimental(ignored(
        "downgrade-check-time",
        "there is nothing to downgrade to",
    )),
    was_experimental(ignored("wait-cluster-ready-timeout", TUNING)),
    was_experimental(is_switch(ignored(
        "enable-lease-checkpoint",
        "a new leader gives every lease its full time",
    ))),
    was_experimental(is_switch(ignored(
        "enable-lease-checkpoint-persist",
        "a new leader gives every lease its full time",
    ))),
    was_experimental(is_switch(ignored("initial-corrupt-check", CHECKS))),
    was_experimental(ignored("corrupt-check-time", CHECKS)),
    was_experimental(is_switch(ignored("compact-hash-check-enabled", CHECKS))),
    was_experimental(ignored("compact-hash-check-time", CHECKS)),
    was_experimental(is_switch(ignored("enable-distributed-tracing", TRACING))),
    was_experimental(ignored("distributed-tracing-address", TRACING)),
    was_experimental(ignored("distributed-tracing-service-name", TRACING)),
    was_experimental(ignored("distributed-tracing-instance-id", TRACING)),
    was_experimental(ignored("distributed-tracing-sampling-rate", TRACING)),
    ignored("metrics", "all metrics are always there"),
    is_switch(ignored("enable-pprof", "Go's profiler is not there")),
    ignored("logger", "there is one logger"),
    is_switch(ignored("debug", "use --log-level=debug")),
    ignored("log-package-levels", "use --log-level"),
    is_switch(ignored("enable-log-rotation", LOG_ROTATION)),
    ignored("log-rotation-config-json", LOG_ROTATION),
    is_switch(ignored("enable-v2", V2)),
    was_experimental(ignored("enable-v2v3", V2)),
    ignored("v2-deprecation", V2),
    ignored("proxy", "there is no proxy mode"),
    ignored("proxy-failure-wait", "there is no proxy mode"),
    ignored("proxy-refresh-interval", "there is no proxy mode"),
    ignored("proxy-dial-timeout", "there is no proxy mode"),
    ignored("proxy-write-timeout", "there is no proxy mode"),
    ignored("proxy-read-timeout", "there is no proxy mode"),
    is_switch(ignored("unsafe-no-fsync", "kvd always syncs")),
    // Not built, and not to be ignored.
    refused("cert-file", TLS),
    refused("key-file", TLS),
    is_switch(refused("client-cert-auth", TLS)),
    refused("client-cert-file", TLS),
    refused("client-key-file", TLS),
    refused("client-crl-file", TLS),
    refused("client-cert-allowed-hostname", TLS),
    refused("trusted-ca-file", TLS),
    refused("ca-file", TLS),
    is_switch(refused("auto-tls", TLS)),
    refused("peer-cert-file", TLS),
    refused("peer-key-file", TLS),
    is_switch(refused("peer-client-cert-auth", TLS)),
    refused("peer-client-cert-file", TLS),
    refused("peer-client-key-file", TLS),
    refused("peer-trusted-ca-file", TLS),
    refused("peer-ca-file", TLS),
    refused("peer-cert-allowed-cn", TLS),
    refused("peer-cert-allowed-hostname", TLS),
    is_switch(refused("peer-auto-tls", TLS)),
    refused("peer-crl-file", TLS),
    was_experimental(is_switch(refused("peer-skip-client-san-verification", TLS))),
    refused("self-signed-cert-validity", TLS),
    refused("cipher-suites", TLS),
    refused("tls-min-version", TLS),
    refused("tls-max-version", TLS),
    refused(
        "host-whitelist",
        "requests are not checked for the host that they name",
    ),
    refused("auth-token", AUTH),
    refused("auth-token-ttl", AUTH),
    refused("bcrypt-cost", AUTH),
    is_switch(refused("force-new-cluster", "use kvctl snapshot restore")),
    refused("discovery", DISCOVERY),
    refused("discovery-token", DISCOVERY),
    refused("discovery-endpoints", DISCOVERY),
    refused("discovery-dial-timeout", DISCOVERY),
    refused("discovery-request-timeout", DISCOVERY),
    refused("discovery-keepalive-time", DISCOVERY),
    refused("discovery-keepalive-timeout", DISCOVERY),
    is_switch(refused("discovery-insecure-transport", DISCOVERY)),
    is_switch(refused("discovery-insecure-skip-tls-verify", DISCOVERY)),
    refused("discovery-cert", DISCOVERY),
    refused("discovery-key", DISCOVERY),
    refused("discovery-cacert", DISCOVERY),
    refused("discovery-user", DISCOVERY),
    refused("discovery-password", DISCOVERY),
    refused("discovery-fallback", DISCOVERY),
    refused("discovery-proxy", DISCOVERY),
    refused("discovery-srv", DISCOVERY),
    refused("discovery-srv-name", DISCOVERY),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_flag_is_there_twice() {
        let names: BTreeSet<&str> = TABLE.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn what_is_built_is_explained() {
        for flag in TABLE.iter().filter(|flag| flag.standing == Standing::Built) {
            assert!(flag.help.ends_with(['.', '…']), "{}", flag.name);
        }
    }
}
