//! The API server's flags: named as kube-apiserver's, where that has one for the same.

use std::net::IpAddr;
use std::path::PathBuf;

use keelson_notation::duration;

/// The API server: Kubernetes' API over any etcd.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Client URLs of the etcd (or kvd) that holds the objects
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub etcd_servers: Vec<String>,

    /// The authority that signed the store's certificate, for https URLs
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,

    /// The certificate that is shown to the store, for https URLs
    #[arg(long, requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,

    /// The key of --etcd-certfile
    #[arg(long, requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,

    /// How often the store is compacted; 0s for never
    #[arg(long, default_value = "5m", value_parser = duration::parse)]
    pub etcd_compaction_interval: std::time::Duration,

    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub bind_address: IpAddr,

    /// The port to serve HTTPS on; 0 for any that is free
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,

    /// The address at which the cluster's members find the API server: the one it listens on, unless given
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,

    /// Where the certificate authority, certificates and keys are, and are made if they are missing
    #[arg(long, default_value = "data/apiserver/pki")]
    pub cert_dir: PathBuf,

    /// Where kubeconfigs for administrators and components are written: the certificate directory, unless given
    #[arg(long)]
    pub kubeconfig_dir: Option<PathBuf>,

    /// The server's certificate, with those that lead to its authority; made and signed here, unless given. The
    /// kubeconfigs trust what is in the file
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,

    /// The key of --tls-cert-file
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,

    /// An authority that signs clients' certificates, beside the one in --cert-dir
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,

    /// More names and addresses for the server's own certificate
    #[arg(long, value_delimiter = ',')]
    pub tls_san: Vec<String>,

    /// From where services get their addresses
    #[arg(long, default_value = "10.96.0.0/12")]
    pub service_cluster_ip_range: String,

    /// From where services get their node ports
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,

    /// How long Events are kept
    #[arg(long, default_value = "1h", value_parser = duration::parse)]
    pub event_ttl: std::time::Duration,

    /// How many reads are carried out at a time; more wait
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,

    /// How many writes are carried out at a time; more wait
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,

    /// How many connections of clients with a certificate there may be
    #[arg(long, default_value_t = 20_000)]
    pub max_connections: usize,

    /// A watch lasts at least so many seconds, unless its client says how long
    #[arg(long, default_value_t = 1_800, value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub min_request_timeout: u64,

    /// Bytes of recent events that are kept for watchers, for each resource
    #[arg(long, default_value_t = 8 << 20)]
    pub watch_history_bytes: usize,

    /// Admission that is left out; only ServiceAccount can be
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
}
