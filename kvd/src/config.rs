//! What a member is configured to be: the flags' words, understood and checked against each other, before anything
//! on the machine is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use keelson_api::identity::{cluster_id, member_id};
use keelson_proto::commandpb::{Membership, Node, Voters};
use keelson_store::MemberId;

use crate::auto_compaction::Retention;
use crate::flags::{FlagError, Settings, Source};
use crate::logging::{LogConfig, LogFormat, LogOutput};
use crate::values::{self, Listen, ValueError};

/// The longest election timeout, as in etcd.
const ELECTION_MS_MAX: u64 = 50_000;
/// An election timeout is at least so many heartbeats, as in etcd.
const HEARTBEATS_AN_ELECTION: u64 = 5;

/// The largest request that may be allowed: half of what the raft log takes for an entry. One that it did not take would end
/// the leader, and the next one.
const REQUEST_BYTES_MAX: usize = keelson_log::PAYLOAD_BYTES_MAX / 2;
/// Idle clients are pinged no oftener, as by etcd's gRPC library.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);

const CLIENT_URL: &str = "http://localhost:2379";
const PEER_URL: &str = "http://localhost:2380";

/// A member's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data_dir: PathBuf,
    /// Its raft log, if elsewhere.
    pub wal_dir: Option<PathBuf>,
    /// How often a leader says that it is alive.
    pub heartbeat: Duration,
    /// How long members wait for a leader.
    pub election: Duration,
    /// Where other members are served.
    pub listen_peer: Vec<Listen>,
    /// Where clients are served.
    pub listen_client: Vec<Listen>,
    /// Where clients are served HTTP alone.
    pub listen_client_http: Vec<Listen>,
    /// Where metrics are served besides.
    pub listen_metrics: Vec<Listen>,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// Where clients reach this member.
    pub advertise_client: Vec<String>,
    /// How it gets into its cluster.
    pub bootstrap: Bootstrap,
    /// Whether changes that endanger the quorum are refused.
    pub strict_reconfig: bool,
    /// How many learners the cluster may have.
    pub max_learners: usize,
    /// The quota in bytes: 0 for the default, below 0 for none.
    pub quota_bytes: i64,
    /// Operations a txn may have.
    pub max_txn_ops: usize,
    /// Bytes a request may have.
    pub max_request_bytes: usize,
    /// Calls a connection may have open.
    pub max_concurrent_streams: u32,
    /// How often idle clients are pinged.
    pub keepalive_interval: Option<Duration>,
    /// How long a ping's answer may take.
    pub keepalive_timeout: Duration,
    /// What history is kept.
    pub retention: Option<Retention>,
    /// How often idle watches are told so.
    pub watch_progress: Duration,
    /// The logs.
    pub log: LogConfig,
}

/// How a member without data gets into its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Whether it founds the cluster, or joins one.
    pub state: ClusterState,
    /// Whether `--initial-cluster` was given, and not only assumed.
    pub explicit: bool,
    /// The members' peer URLs by their names.
    pub members: BTreeMap<String, Vec<String>>,
    /// The cluster's token.
    pub token: String,
    /// This member's peer URLs, sorted.
    pub advertise_peer: Vec<String>,
}

/// What `--initial-cluster-state` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ClusterState {
    New,
    Existing,
}

impl Bootstrap {
    /// The id that this member has if it founds the cluster.
    pub fn founder_id(&self) -> MemberId {
        member_id(&self.advertise_peer, &self.token, None)
    }

    /// The id of the cluster that these members found.
    pub fn cluster_id(&self) -> u64 {
        let ids: Vec<MemberId> = self
            .members
            .values()
            .map(|urls| member_id(urls, &self.token, None))
            .collect();
        cluster_id(&ids)
    }

    /// The first membership: every founder votes.
    pub fn membership(&self) -> Membership {
        let mut nodes: Vec<Node> = self
            .members
            .values()
            .map(|urls| Node {
                id: member_id(urls, &self.token, None).0,
                peer_urls: urls.clone(),
                pending_voter: false,
            })
            .collect();
        nodes.sort_unstable_by_key(|node| node.id);
        let ids = nodes.iter().map(|node| node.id).collect();
        Membership {
            configs: vec![Voters { ids }],
            nodes,
        }
    }

    /// The peer URLs of the other members.
    pub fn other_urls(&self) -> Vec<String> {
        let ours: BTreeSet<&String> = self.advertise_peer.iter().collect();
        self.members
            .values()
            .flatten()
            .filter(|url| !ours.contains(url))
            .cloned()
            .collect()
    }
}

impl Config {
    /// Understands settings. `people_look` says whether standard error is a terminal.
    pub fn from_settings(settings: &Settings, people_look: bool) -> Result<Config, FlagError> {
        let read = Read(settings);
        let name: String = read.text("name", "default");
        // Empty, as etcd's own example of a configuration file has it, is not given.
        let data_dir = Some(read.text("data-dir", "")).filter(|dir| !dir.is_empty());
        let data_dir =
            data_dir.map_or_else(|| PathBuf::from(format!("{name}.etcd")), PathBuf::from);
        let heartbeat_ms: u64 = read.parsed("heartbeat-interval", "100", values::number)?;
        let election_ms: u64 = read.parsed("election-timeout", "1000", values::number)?;
        check_timing(settings, heartbeat_ms, election_ms)?;
        let listen_client = read.parsed("listen-client-urls", CLIENT_URL, values::listen_urls)?;
        let advertise_client = read.parsed("advertise-client-urls", CLIENT_URL, values::urls)?;
        if settings.get("listen-client-urls").is_some()
            && settings.get("advertise-client-urls").is_none()
        {
            return Err(FlagError::Invalid {
                place: settings.place("listen-client-urls"),
                problem:
                    "--advertise-client-urls is required with it: where clients reach this member"
                        .into(),
            });
        }
        Ok(Config {
            bootstrap: bootstrap(&read, &name)?,
            name,
            data_dir,
            wal_dir: Some(read.text("wal-dir", ""))
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from),
            heartbeat: Duration::from_millis(heartbeat_ms),
            election: Duration::from_millis(election_ms),
            listen_peer: read.parsed("listen-peer-urls", PEER_URL, values::listen_urls)?,
            listen_client,
            listen_client_http: read
                .optional("listen-client-http-urls", values::listen_urls)?
                .unwrap_or_default(),
            listen_metrics: read
                .optional("listen-metrics-urls", values::listen_urls)?
                .unwrap_or_default(),
            reuse_port: read.parsed("socket-reuse-port", "false", values::switch)?,
            reuse_address: read.parsed("socket-reuse-address", "true", values::switch)?,
            advertise_client,
            strict_reconfig: read.parsed("strict-reconfig-check", "true", values::switch)?,
            max_learners: read.at_least("max-learners", "1", 1)?,
            quota_bytes: read.parsed("quota-backend-bytes", "0", values::number)?,
            max_txn_ops: read.at_least("max-txn-ops", "128", 1)?,
            max_request_bytes: request_bytes(&read)?,
            max_concurrent_streams: read.at_least("max-concurrent-streams", "4294967295", 1)?,
            keepalive_interval: Some(read.time("grpc-keepalive-interval", "2h")?)
                .filter(|t| !t.is_zero())
                .map(|t| t.max(KEEPALIVE_MIN)),
            keepalive_timeout: read.time("grpc-keepalive-timeout", "20s")?,
            retention: retention(&read)?,
            watch_progress: read.time("watch-progress-notify-interval", "10m")?,
            log: log(&read, people_look)?,
        })
    }

    /// What an operator should know about this configuration.
    pub fn warnings(&self) -> Vec<String> {
        let open: BTreeSet<&str> = [
            &self.listen_client,
            &self.listen_client_http,
            &self.listen_peer,
            &self.listen_metrics,
        ]
        .into_iter()
        .flatten()
        .filter(|place| !place.is_loopback())
        .map(|place| place.url.as_str())
        .collect();
        if open.is_empty() {
            return Vec::new();
        }
        let open: Vec<&str> = open.into_iter().collect();
        vec![format!(
            "NOBODY IS ASKED WHO THEY ARE: whoever reaches {} can read and change everything. There is no TLS and no \
             authentication yet; listen on loopback, or let nobody in but those you trust",
            open.join(", ")
        )]
    }
}

/// Reads settings in the words of a kind.
struct Read<'a>(&'a Settings);

impl Read<'_> {
    fn text(&self, name: &str, default: &str) -> String {
        self.0
            .get(name)
            .map_or(default, |setting| &setting.value)
            .to_owned()
    }

    fn parsed<T>(
        &self,
        name: &str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<T, FlagError> {
        parse(&self.text(name, default)).map_err(|error| self.0.invalid(name, error))
    }

    /// A time; in a configuration file also, as etcd's have it, a number of nanoseconds.
    fn time(&self, name: &str, default: &str) -> Result<Duration, FlagError> {
        let in_file = self
            .0
            .get(name)
            .is_some_and(|setting| matches!(setting.source, Source::File(_)));
        self.parsed(name, default, |text| match text.parse::<u64>() {
            Ok(ns) if in_file => Ok(Duration::from_nanos(ns)),
            _ => values::duration(text),
        })
    }

    /// The value of a flag whose absence, or emptiness, means something.
    fn optional<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<Option<T>, FlagError> {
        match self.0.get(name) {
            Some(setting) if !setting.value.is_empty() => parse(&setting.value)
                .map(Some)
                .map_err(|error| self.0.invalid(name, error)),
            _ => Ok(None),
        }
    }

    fn at_least<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        default: &str,
        least: T,
    ) -> Result<T, FlagError> {
        let number = self.parsed(name, default, values::number::<T>)?;
        if number < least {
            return Err(self.0.invalid(name, format!("must be at least {least}")));
        }
        Ok(number)
    }
}

fn request_bytes(read: &Read<'_>) -> Result<usize, FlagError> {
    let bytes = read.at_least("max-request-bytes", "1572864", 1)?;
    if bytes > REQUEST_BYTES_MAX {
        let problem = format!("must be at most {REQUEST_BYTES_MAX}");
        return Err(read.0.invalid("max-request-bytes", problem));
    }
    Ok(bytes)
}

fn check_timing(settings: &Settings, heartbeat_ms: u64, election_ms: u64) -> Result<(), FlagError> {
    if heartbeat_ms == 0 {
        return Err(settings.invalid("heartbeat-interval", "must be greater than 0"));
    }
    if election_ms < heartbeat_ms.saturating_mul(HEARTBEATS_AN_ELECTION) {
        return Err(settings.invalid(
            "election-timeout",
            format!("{election_ms} ms must be at least {HEARTBEATS_AN_ELECTION} times the heartbeat's {heartbeat_ms} ms"),
        ));
    }
    if election_ms > ELECTION_MS_MAX {
        return Err(settings.invalid(
            "election-timeout",
            format!("must be at most {ELECTION_MS_MAX} ms"),
        ));
    }
    Ok(())
}

fn bootstrap(read: &Read<'_>, name: &str) -> Result<Bootstrap, FlagError> {
    let mut advertise_peer = read.parsed("initial-advertise-peer-urls", PEER_URL, values::urls)?;
    advertise_peer.sort_unstable();
    let state = match read.text("initial-cluster-state", "new").as_str() {
        "new" => ClusterState::New,
        "existing" => ClusterState::Existing,
        other => {
            let problem = format!("{other:?} is neither 'new' nor 'existing'");
            return Err(read.0.invalid("initial-cluster-state", problem));
        }
    };
    let given = Some(read.text("initial-cluster", "")).filter(|text| !text.is_empty());
    let explicit = given.is_some();
    let members = match given {
        Some(text) => {
            initial_cluster(&text).map_err(|problem| read.0.invalid("initial-cluster", problem))?
        }
        None => BTreeMap::from([(name.to_owned(), advertise_peer.clone())]),
    };
    match members.get(name) {
        None => {
            let problem = format!("it does not name this member, {name:?}");
            return Err(read.0.invalid("initial-cluster", problem));
        }
        Some(urls) if *urls != advertise_peer => {
            let problem = format!(
                "it says {name}={}, but --initial-advertise-peer-urls is {}",
                urls.join(","),
                advertise_peer.join(",")
            );
            return Err(read.0.invalid("initial-cluster", problem));
        }
        Some(_) => {}
    }
    let token = read.text("initial-cluster-token", "etcd-cluster");
    Ok(Bootstrap {
        state,
        explicit,
        members,
        token,
        advertise_peer,
    })
}

/// `name=url,name=url,…`; a name that is there twice has two URLs.
fn initial_cluster(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (name, url) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair:?} is not of the form name=url"))?;
        if name.is_empty() {
            return Err(format!("{pair:?} has no name"));
        }
        for url in values::urls(url).map_err(|error| error.to_string())? {
            if !seen.insert(url.clone()) {
                return Err(format!("{url} is there twice"));
            }
            members.entry(name.to_owned()).or_default().push(url);
        }
    }
    for urls in members.values_mut() {
        urls.sort_unstable();
    }
    Ok(members)
}

fn retention(read: &Read<'_>) -> Result<Option<Retention>, FlagError> {
    let text = read.text("auto-compaction-retention", "0");
    let invalid = |error: ValueError| read.0.invalid("auto-compaction-retention", error);
    match read.text("auto-compaction-mode", "periodic").as_str() {
        "revision" => {
            let revisions: i64 = values::number(&text).map_err(invalid)?;
            if revisions < 0 {
                return Err(read
                    .0
                    .invalid("auto-compaction-retention", "must not be negative"));
            }
            Ok((revisions > 0).then_some(Retention::Revisions(revisions)))
        }
        "periodic" => {
            // A number without a unit is one of hours.
            let period = match text.parse::<u32>() {
                Ok(hours) => Duration::from_secs(u64::from(hours) * 3600),
                Err(_) => values::duration(&text).map_err(invalid)?,
            };
            Ok((!period.is_zero()).then_some(Retention::Period(period)))
        }
        other => {
            let problem = format!("{other:?} is neither 'periodic' nor 'revision'");
            Err(read.0.invalid("auto-compaction-mode", problem))
        }
    }
}

fn log(read: &Read<'_>, people_look: bool) -> Result<LogConfig, FlagError> {
    let level = match read.text("log-level", "info").as_str() {
        "debug" => tracing::Level::DEBUG,
        "info" => tracing::Level::INFO,
        "warn" => tracing::Level::WARN,
        "error" | "dpanic" | "panic" | "fatal" => tracing::Level::ERROR,
        other => {
            return Err(read.0.invalid(
                "log-level",
                format!("{other:?} is not debug, info, warn or error"),
            ));
        }
    };
    let format = match read
        .text("log-format", if people_look { "console" } else { "json" })
        .as_str()
    {
        "console" => LogFormat::Console,
        "json" => LogFormat::Json,
        other => {
            return Err(read.0.invalid(
                "log-format",
                format!("{other:?} is neither 'json' nor 'console'"),
            ));
        }
    };
    let outputs = read
        .text("log-outputs", "default")
        .split(',')
        .map(str::trim)
        .filter(|output| !output.is_empty())
        .map(|output| match output {
            "default" | "stderr" | "systemd/journal" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            path => LogOutput::File(PathBuf::from(path)),
        })
        .collect();
    Ok(LogConfig {
        level,
        format,
        outputs,
        colour: people_look,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Request, parse};

    fn config(args: &[&str]) -> Result<Config, FlagError> {
        match parse(args.iter().map(|arg| (*arg).to_owned()), [])?.0 {
            Request::Run(settings) => Config::from_settings(&settings, false),
            other => panic!("{other:?}"),
        }
    }

    fn problem(args: &[&str]) -> String {
        let text = config(args).unwrap_err().to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    #[test]
    fn without_flags_a_member_is_etcds_default_one() {
        let config = config(&[]).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(
            (config.heartbeat, config.election),
            (Duration::from_millis(100), Duration::from_secs(1))
        );
        assert_eq!(
            format!("{:x}", config.bootstrap.founder_id().0),
            "8e9e05c52164694d"
        );
        assert_eq!(
            format!("{:x}", config.bootstrap.cluster_id()),
            "cdf818194e3a8c32"
        );
        assert_eq!(
            (config.max_txn_ops, config.max_request_bytes),
            (128, 1_572_864)
        );
        assert_eq!(config.keepalive_interval, Some(Duration::from_secs(7200)));
        assert_eq!(config.retention, None);
        assert_eq!(config.warnings(), Vec::<String>::new());
    }

    #[test]
    fn the_election_timeout_leaves_room_for_heartbeats() {
        assert!(
            problem(&["--heartbeat-interval=300"])
                .starts_with("--election-timeout: 1000 ms must be at least 5 times")
        );
        assert!(problem(&["--heartbeat-interval=0"]).starts_with("--heartbeat-interval: "));
        assert!(problem(&["--election-timeout=60000"]).contains("at most 50000"));
        assert!(
            problem(&["--heartbeat-interval=3689348814741910324"]).contains("at least 5 times")
        );
        assert!(
            problem(&["--election-timeout=1s"])
                .starts_with("--election-timeout: \"1s\" is not a number")
        );
        assert!(config(&["--heartbeat-interval=20", "--election-timeout=100"]).is_ok());
    }

    #[test]
    fn a_time_has_a_unit_and_idle_clients_are_not_pinged_all_the_time() {
        let interval = |text: &str| {
            config(&[&format!("--grpc-keepalive-interval={text}")])
                .map(|config| config.keepalive_interval)
        };
        assert_eq!(interval("0s"), Ok(None));
        assert_eq!(interval("1ms"), Ok(Some(Duration::from_secs(1))));
        assert!(interval("5").is_err(), "5 of what?");
        assert!(problem(&["--watch-progress-notify-interval=5"]).contains("is not a time"));
    }

    #[test]
    fn a_data_directory_that_is_empty_is_not_given() {
        let args = [
            "--name=a",
            "--initial-cluster=a=http://localhost:2380",
            "--data-dir=",
        ];
        assert_eq!(config(&args).unwrap().data_dir, PathBuf::from("a.etcd"));
    }

    #[test]
    fn clients_must_be_told_where_to_reach_a_member_that_listens_elsewhere() {
        assert!(
            problem(&["--listen-client-urls=http://127.0.0.1:1"])
                .contains("--advertise-client-urls is required")
        );
    }

    #[test]
    fn founders_agree_on_ids_whatever_their_order() {
        let cluster =
            "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";
        let of = |name: &str, url: &str| {
            let args = [
                cluster,
                &format!("--name={name}"),
                &format!("--initial-advertise-peer-urls={url}"),
            ];
            config(&args).unwrap().bootstrap
        };
        let (a, b) = (of("a", "http://127.0.0.1:1"), of("b", "http://127.0.0.1:2"));
        assert_eq!(a.cluster_id(), b.cluster_id());
        assert_eq!(a.membership(), b.membership());
        assert_ne!(a.founder_id(), b.founder_id());
        assert!(
            a.membership()
                .nodes
                .iter()
                .any(|node| node.id == b.founder_id().0)
        );
        assert_eq!(a.other_urls(), ["http://127.0.0.1:2", "http://127.0.0.1:3"]);
    }

    #[test]
    fn the_initial_cluster_must_know_this_member_as_it_knows_itself() {
        let cluster = "--initial-cluster=a=http://127.0.0.1:1";
        assert!(problem(&[cluster]).contains("does not name this member, \"default\""));
        assert!(
            problem(&[cluster, "--name=a"])
                .contains("--initial-advertise-peer-urls is http://localhost:2380")
        );
        assert!(problem(&["--initial-cluster=default"]).contains("not of the form name=url"));
        assert!(
            problem(&["--initial-cluster=a=http://x:1,b=http://x:1"])
                .contains("http://x:1 is there twice")
        );
        assert!(
            problem(&["--initial-cluster-state=newer"]).contains("neither 'new' nor 'existing'")
        );
    }

    #[test]
    fn retention_is_a_time_in_hours_or_a_number_of_revisions() {
        let of = |mode: &str, retention: &str| {
            let args = [
                format!("--auto-compaction-mode={mode}"),
                format!("--auto-compaction-retention={retention}"),
            ];
            config(&[&args[0], &args[1]]).map(|config| config.retention)
        };
        assert_eq!(
            of("periodic", "2"),
            Ok(Some(Retention::Period(Duration::from_secs(7200))))
        );
        assert_eq!(
            of("periodic", "5m"),
            Ok(Some(Retention::Period(Duration::from_secs(300))))
        );
        assert_eq!(of("periodic", "0"), Ok(None));
        assert_eq!(of("revision", "1000"), Ok(Some(Retention::Revisions(1000))));
        assert!(of("revision", "5m").is_err());
        assert!(of("weekly", "1").is_err());
    }

    #[test]
    fn listening_beyond_this_machine_is_warned_of() {
        let args = [
            "--listen-client-urls=http://0.0.0.0:2379",
            "--advertise-client-urls=http://a:2379",
        ];
        let warnings = config(&args).unwrap().warnings();
        assert!(warnings[0].contains("http://0.0.0.0:2379"), "{warnings:?}");
    }

    #[test]
    fn malformed_values_name_the_flag() {
        assert!(problem(&["--listen-peer-urls=127.0.0.1:1"]).starts_with("--listen-peer-urls: "));
        assert!(problem(&["--quota-backend-bytes=8GB"]).starts_with("--quota-backend-bytes: "));
        assert!(problem(&["--max-request-bytes=100000000"]).contains("must be at most 33554432"));
        assert!(problem(&["--max-txn-ops=0"]).starts_with("--max-txn-ops: must be at least 1"));
        assert!(problem(&["--log-level=loud"]).starts_with("--log-level: "));
        assert!(
            problem(&["--strict-reconfig-check=maybe"]).starts_with("--strict-reconfig-check: ")
        );
    }
}
