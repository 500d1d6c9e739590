//! The sockets that a member listens on, bound before its data is looked into: a port that is taken must cost nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::values::Listen;
use keelson_api::Serves;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A place that cannot be listened at.
#[derive(Debug, Error)]
#[error("cannot listen on {url}: {source}")]
pub struct ListenError {
    url: String,
    #[source]
    source: io::Error,
}

/// A member's sockets.
#[derive(Debug)]
pub struct Sockets {
    /// For clients.
    pub client: Vec<(TcpListener, Serves)>,
    /// For other members.
    pub peer: Vec<TcpListener>,
}

/// Binds all of a member's sockets. Must be called on the runtime.
pub fn bind(config: &Config) -> Result<Sockets, ListenError> {
    let bind = |place: &Listen| {
        bind_one(place, config).map_err(|source| ListenError {
            url: place.url.clone(),
            source,
        })
    };
    let serves_client = if config.listen_client_http.is_empty() {
        Serves::Everything
    } else {
        Serves::Grpc
    };
    let mut client = Vec::new();
    for (places, serves) in [
        (&config.listen_client, serves_client),
        (&config.listen_client_http, Serves::Http),
        (&config.listen_metrics, Serves::Http),
    ] {
        for place in places {
            client.push((bind(place)?, serves));
        }
    }
    let peer = config
        .listen_peer
        .iter()
        .map(bind)
        .collect::<Result<_, _>>()?;
    Ok(Sockets { client, peer })
}

fn bind_one(place: &Listen, config: &Config) -> io::Result<TcpListener> {
    let ip = place
        .host
        .parse()
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(ip, place.port);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(config.reuse_address)?;
    socket.set_reuse_port(config.reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
