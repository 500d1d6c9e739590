//! The API server's life: everything checked, certificates made, caches filled, served, and stopped in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::Args;
use crate::bootstrap;
use crate::cache::Caches;
use crate::resources::ClusterIps;
use crate::rest::{Api, ApiOptions};
use crate::serve::{self, Inflight, Pki, Server, tls};
use crate::storage::{self, Connection, ConnectionTls, Store};

/// Runs the API server until `stop`, or until a part of it fails.
pub async fn run(args: Args, stop: CancellationToken) -> Result<()> {
    // What was begun ends with this function, however it ends.
    let stop = stop.child_token();
    let _stop = stop.clone().drop_guard();
    let options = options(&args)?;
    let listener = TcpListener::bind((args.bind_address, args.secure_port))
        .await
        .with_context(|| {
            format!(
                "cannot listen on {}:{}",
                args.bind_address, args.secure_port
            )
        })?;
    let bound = listener.local_addr()?;
    let advertised = SocketAddr::new(advertised(&args), bound.port());
    let pki = Pki::open(&args.cert_dir)?;
    let tls = tls_config(&args, &pki, &options, advertised.ip())?;
    let kubeconfigs = args.kubeconfig_dir.as_deref().unwrap_or(&args.cert_dir);
    let brought = args.tls_cert_file.as_deref().map(read).transpose()?;
    let url = format!("https://{}", reachable(bound));
    serve::write_kubeconfigs(&pki, kubeconfigs, &url, brought.as_deref())?;

    let store = Store::connect(&connection(&args)?)
        .await
        .context("cannot use the --etcd-servers")?;
    let mut tasks = JoinSet::new();
    let history = args.watch_history_bytes;
    let caches = Caches::start(store.clone(), history, stop.clone(), &mut tasks);
    if !args.etcd_compaction_interval.is_zero() {
        let every = args.etcd_compaction_interval;
        tasks.spawn(storage::keep_compacting(store.clone(), every, stop.clone()));
    }
    let api = Arc::new(Api::new(store, caches, options));
    tasks.spawn(bootstrap::keep(api.clone(), advertised, stop.clone()));
    let inflight = Inflight::new(
        args.max_requests_inflight,
        args.max_mutating_requests_inflight,
    );
    info!(address = %bound, "serving");
    let server = Arc::new(Server::new(api, inflight, stop.clone()));
    let limits = serve::Limits::of_known(args.max_connections);
    let serving = serve::serve(listener, tls, server, limits, stop);
    unless_a_task_fails(serving, &mut tasks).await?;
    // All were asked to stop; one of them takes this server out of the endpoints.
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Serves as long as everything works that serving depends on. Without the feed, say, the server would go on with what
/// its caches had last.
async fn unless_a_task_fails(
    serving: impl Future<Output = ()>,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let failure = async {
        while let Some(ended) = tasks.join_next().await {
            // One that has ended well was asked to stop, as all were.
            if let Err(error) = ended {
                return error;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        () = serving => Ok(()),
        error = failure => Err(error).context("a part of the API server has failed"),
    }
}

fn connection(args: &Args) -> Result<Connection> {
    let is_secured = args
        .etcd_servers
        .iter()
        .any(|url| url.starts_with("https://"));
    let (ca, certificate, key) = (&args.etcd_cafile, &args.etcd_certfile, &args.etcd_keyfile);
    if !is_secured && (ca.is_some() || certificate.is_some()) {
        bail!(
            "--etcd-cafile and --etcd-certfile are for https:// URLs, and --etcd-servers has none"
        );
    }
    let tls = match (is_secured, ca) {
        (false, _) => None,
        (true, None) => bail!("--etcd-cafile is needed for the https:// URLs of --etcd-servers"),
        (true, Some(ca)) => Some(ConnectionTls {
            ca: read(ca)?,
            identity: match (certificate, key) {
                (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
                _ => None,
            },
        }),
    };
    Ok(Connection {
        endpoints: args.etcd_servers.clone(),
        tls,
    })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn options(args: &Args) -> Result<ApiOptions> {
    let range = &args.service_cluster_ip_range;
    let Some(cluster_ips) = ClusterIps::parse(range) else {
        bail!(
            "--service-cluster-ip-range: {range:?} is no IPv4 range such as 10.96.0.0/12, of /8 to /30"
        );
    };
    if let Some(unknown) = args
        .disable_admission_plugins
        .iter()
        .find(|one| *one != "ServiceAccount")
    {
        bail!(
            "--disable-admission-plugins: {unknown:?} cannot be left out; only ServiceAccount can"
        );
    }
    Ok(ApiOptions {
        cluster_ips,
        node_ports: port_range(&args.service_node_port_range)?,
        event_ttl: args.event_ttl,
        watch_at_least: Duration::from_secs(args.min_request_timeout.max(1)),
        service_accounts: args.disable_admission_plugins.is_empty(),
    })
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>> {
    let range = text.split_once('-').and_then(|(low, high)| {
        let (low, high) = (low.parse::<u16>().ok()?, high.parse::<u16>().ok()?);
        (low > 0 && low <= high).then_some(low..=high)
    });
    range.with_context(|| {
        format!("--service-node-port-range: {text:?} is no range such as 30000-32767")
    })
}

fn advertised(args: &Args) -> IpAddr {
    args.advertise_address
        .unwrap_or(match args.bind_address.is_unspecified() {
            true => IpAddr::V4(Ipv4Addr::LOCALHOST),
            false => args.bind_address,
        })
}

/// Where a client on this machine finds the server.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

fn tls_config(
    args: &Args,
    pki: &Pki,
    options: &ApiOptions,
    advertised: IpAddr,
) -> Result<rustls::ServerConfig> {
    // Ours beside the one that is given: the kubeconfigs that are written here are to be of use.
    let client_ca = match &args.client_ca_file {
        Some(path) => format!("{}\n{}", pki.ca, read(path)?),
        None => pki.ca.clone(),
    };
    if let (Some(certificate), Some(key)) = (&args.tls_cert_file, &args.tls_private_key_file) {
        return tls::config(&read(certificate)?, &read(key)?, &client_ca);
    }
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend(args.tls_san.iter().cloned());
    let addresses = [
        Ipv4Addr::LOCALHOST.into(),
        Ipv6Addr::LOCALHOST.into(),
        options.cluster_ips.first().into(),
        args.bind_address,
        advertised,
    ];
    let signed = pki.server(&names, &addresses)?;
    tls::config(&signed.certificate, &signed.key, &client_ca)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_of_which_a_part_has_failed_stops_and_says_so() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        tasks.spawn(async { panic!("out of luck") });
        let ended = unless_a_task_fails(std::future::pending(), &mut tasks).await;
        let said = format!("{:#}", ended.unwrap_err());
        assert!(
            said.starts_with("a part of the API server has failed: "),
            "{said}"
        );
        assert!(said.ends_with("out of luck\""), "{said}");
    }

    #[tokio::test]
    async fn a_server_whose_parts_have_stopped_serves_until_it_is_through() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        let serving = tokio::time::sleep(Duration::from_millis(20));
        assert!(unless_a_task_fails(serving, &mut tasks).await.is_ok());
    }
}
