//! The command line of `keelson node`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use keelson_component::ConnectArgs;
use keelson_notation::duration;

use crate::addresses::Range;
use crate::register::NodeConfig;

/// The version of Kubernetes that everything here speaks.
const VERSION: &str = "v1.37.0";

/// What nodes to be.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
All nodes are hollow: they run nothing, and play what their pods' annotations ask for \
(hollow.keelson.dev/ready-after, never-ready, exit-after, exit-code, stop-after).

With --count N the process is N nodes, called NAME-0 to NAME-(N-1), and each has the range of addresses that follows \
the one before.")]
pub struct Args {
    /// Where the API server is.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// The node's name, or what the names begin with
    #[arg(long, value_name = "NAME", default_value = "node")]
    pub name: String,
    /// How many nodes to be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub count: Option<u16>,
    /// The nodes' own address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub node_ip: IpAddr,
    /// The addresses of the (first) node's pods
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/24")]
    pub pod_cidr: Range,
    /// What a node has, as resource=amount
    #[arg(
        long,
        value_name = "RESOURCES",
        default_value = "cpu=32,memory=256Gi,ephemeral-storage=1Ti,pods=110",
        value_delimiter = ','
    )]
    pub capacity: Vec<String>,
    /// Labels of the nodes, as key=value
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// For how long a node's Lease says that it lives; it is renewed four times as often
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..))]
    pub node_lease_duration_seconds: u16,
    /// How long containers run before they are ready, unless their pod says so itself
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    pub hollow_ready_after: Duration,
    /// Whether to write events about pods
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub events: bool,
}

impl Args {
    /// The nodes.
    pub(crate) fn nodes(&self, runtime: &str) -> anyhow::Result<Vec<NodeConfig>> {
        let capacity = pairs(&self.capacity, "--capacity")?;
        let labels = pairs(&self.node_labels, "--node-labels")?;
        let node = |number: u16| {
            let range = self.pod_cidr.following(u32::from(number));
            let range = range.with_context(|| {
                format!(
                    "--pod-cidr {} leaves no room for {number} nodes",
                    self.pod_cidr
                )
            })?;
            Ok(NodeConfig {
                name: match self.count {
                    Some(_) => format!("{}-{number}", self.name),
                    None => self.name.clone(),
                },
                address: self.node_ip.to_string(),
                pod_range: Some(range),
                capacity: capacity.clone(),
                labels: labels.clone(),
                runtime: runtime.to_owned(),
                version: VERSION.to_owned(),
                lease_duration_s: self.node_lease_duration_seconds,
            })
        };
        (0..self.count.unwrap_or(1)).map(node).collect()
    }
}

fn pairs(texts: &[String], flag: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for text in texts {
        let Some((key, value)) = text.split_once('=') else {
            bail!("{flag}: {text:?} is not key=value");
        };
        pairs.insert(key.to_owned(), value.to_owned());
    }
    Ok(pairs)
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

    fn nodes(flags: &[&str]) -> anyhow::Result<Vec<NodeConfig>> {
        let cli = Cli::try_parse_from([&["node"], flags].concat())?;
        cli.args.nodes("hollow://0")
    }

    #[test]
    fn one_node_has_the_name_and_the_range_that_were_given() {
        let nodes = nodes(&["--name", "n1", "--pod-cidr", "10.1.0.0/24"]).unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes[0].name, "n1");
        assert_eq!(nodes[0].pod_range.unwrap().to_string(), "10.1.0.0/24");
    }

    #[test]
    fn many_nodes_are_numbered_and_their_ranges_follow_each_other() {
        let nodes = nodes(&["--name", "hollow", "--count", "300"]).unwrap();
        assert_eq!(nodes[299].name, "hollow-299");
        assert_eq!(nodes[299].pod_range.unwrap().to_string(), "10.245.43.0/24");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for flags in [
            ["--capacity", "cpu"],
            ["--node-labels", "zone"],
            ["--pod-cidr", "10.0.0.0"],
            ["--hollow-ready-after", "soon"],
            ["--hollow-ready-after", "-3s"],
            ["--count", "0"],
        ] {
            assert!(nodes(&flags).is_err(), "{flags:?}");
        }
    }
}
