//! The flags, under the names that kube-controller-manager gave them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use keelson_component::ConnectArgs;
use keelson_component::election::ElectionArgs;
use keelson_notation::duration;

/// What `keelson controllers` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the API server is.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Who works, of several.
    #[command(flatten)]
    pub election: ElectionArgs,
    /// Which controllers to run: `*` is all, NAME one, -NAME all but one
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "*",
        allow_hyphen_values = true
    )]
    pub controllers: Vec<String>,
    /// Serve /healthz on this loopback address
    #[arg(long, value_name = "ADDRESS")]
    pub healthz_address: Option<SocketAddr>,
    /// A file with the certificate authorities that every namespace is given [default: those of the kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
    /// How many deployments to work on at once
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    /// How many replica sets to work on at once
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    /// How many services' endpoint slices to work on at once
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    /// How many services' endpoints to work on at once
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    /// How many namespaces to work on at once
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    /// How many objects to collect at once
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    /// The most endpoints in one slice
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_endpoints_per_slice: u16,
    /// For how long to take changes of pods together before a service's endpoint slices are written
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration::parse)]
    pub endpointslice_updates_batch_period: Duration,
    /// The same, for endpoints
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration::parse)]
    pub endpoint_updates_batch_period: Duration,
    /// How often to look at the nodes
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub node_monitor_period: Duration,
    /// For how long a node may be silent
    #[arg(long, value_name = "DURATION", default_value = "50s", value_parser = duration::parse)]
    pub node_monitor_grace_period: Duration,
    /// For how long a node that has just been created may be silent
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration::parse)]
    pub node_startup_grace_period: Duration,
    /// How many nodes a second to relieve of their pods
    #[arg(long, value_name = "RATE", default_value_t = 0.1)]
    pub node_eviction_rate: f64,
    /// The same, in a large zone of which much is down
    #[arg(long, value_name = "RATE", default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f64,
    /// Which part of a zone must be down for that
    #[arg(long, value_name = "PART", default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f64,
    /// How many nodes are a large zone
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
    /// How many pods that have ended are kept; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 12500)]
    pub terminated_pod_gc_threshold: usize,
    /// For how long a node must be gone before its pods are deleted
    #[arg(long, value_name = "DURATION", default_value = "40s", value_parser = duration::parse)]
    pub orphaned_pod_quarantine: Duration,
    /// How often to look for pods that nobody will take away
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    pub pod_gc_period: Duration,
}

/// The controllers there are, under Kubernetes' names.
pub const NAMES: [&str; 11] = [
    "deployment-controller",
    "replicaset-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "garbage-collector-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "pod-garbage-collector-controller",
    "root-ca-certificate-publisher-controller",
];

impl Args {
    /// Whether a controller is to run. Of two mentions, the last counts.
    pub fn runs(&self, name: &str) -> bool {
        let mut runs = false;
        for word in &self.controllers {
            match word.strip_prefix('-') {
                None if word == "*" || word == name => runs = true,
                Some(without) if without == name => runs = false,
                _ => (),
            }
        }
        runs
    }

    /// Refuses names that no controller has.
    pub fn check(&self) -> anyhow::Result<()> {
        for word in &self.controllers {
            let name = word.strip_prefix('-').unwrap_or(word);
            anyhow::ensure!(
                name == "*" || NAMES.contains(&name),
                "--controllers: there is no {name:?}; there are: {}",
                NAMES.join(", "),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Args {
        let words = [&["controllers"], words].concat();
        Cli::try_parse_from(words)
            .map(|cli| cli.args)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_controllers_to_run_are_named_one_by_one_or_left_out() {
        let (deployment, gc) = ("deployment-controller", "garbage-collector-controller");
        let all = parse(&[]);
        assert!(all.runs(deployment) && all.runs(gc));
        let without = parse(&["--controllers=*,-garbage-collector-controller"]);
        assert!(without.runs(deployment) && !without.runs(gc));
        let one = parse(&["--controllers", deployment]);
        assert!(one.runs(deployment) && !one.runs(gc));
        assert!(one.check().is_ok());
        assert!(parse(&["--controllers=cloud-controller"]).check().is_err());
    }

    #[test]
    fn the_defaults_are_kubernetes_own() {
        let args = parse(&[]);
        assert_eq!(args.node_monitor_period, Duration::from_secs(5));
        assert_eq!(args.node_monitor_grace_period, Duration::from_secs(50));
        assert_eq!(
            args.election.leader_elect_lease_duration,
            Duration::from_secs(15)
        );
        assert!(args.election.leader_elect);
        assert!(!parse(&["--leader-elect=false"]).election.leader_elect);
    }
}
