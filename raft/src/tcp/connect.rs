//! Making a connection to a peer: by its URL, with a greeting each way.

use std::io;
use std::time::Duration;

use keelson_proto::peerpb::{Hello, HelloReply};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frame::{self, Frames};
use super::socket;

/// A machine that is there accepts within this time. Its name may take longer to be found.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// Connects, and says who asks. Brings what the peer says to that, and the connection. Must be given up by the caller after a time.
pub(super) async fn connect(
    url: &str,
    hello: &Hello,
    patience: Duration,
) -> io::Result<(HelloReply, Frames<OwnedReadHalf>, OwnedWriteHalf)> {
    let stream = reach(host_and_port(url)?).await?;
    socket::prepare(&stream, patience)?;
    let (reader, mut writer) = stream.into_split();
    writer.write_all(&frame::of(hello)).await?;
    let mut frames = Frames::new(reader);
    let Some((_, reply)) = frames.next().await? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let reply = HelloReply::decode(reply).map_err(io::Error::other)?;
    Ok((reply, frames, writer))
}

/// Connects to a name. Short attempts: one that was under way while the other machine came back would end late.
async fn reach(name: &str) -> io::Result<TcpStream> {
    let mut failed = None;
    for address in tokio::net::lookup_host(name).await? {
        let error = match tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        failed = Some(match failed {
            Some(known) => graver(known, error),
            None => error,
        });
    }
    Err(failed
        .unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

/// Which of two addresses' errors is told. A name is refused where those of its addresses refuse that this machine can reach.
fn graver(one: io::Error, other: io::Error) -> io::Error {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let weight = |error: &io::Error| match error.kind() {
        AddrNotAvailable | HostUnreachable | NetworkUnreachable => 0,
        ConnectionRefused => 1,
        _ => 2,
    };
    if weight(&other) >= weight(&one) {
        other
    } else {
        one
    }
}

fn host_and_port(url: &str) -> io::Result<&str> {
    let address = url
        .strip_prefix("http://")
        .unwrap_or(url)
        .trim_end_matches('/');
    if address.contains("://") {
        let what = format!("{url}: only http:// peer URLs can be reached");
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_refuses_if_all_its_addresses_that_can_be_reached_do() {
        use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, TimedOut};
        for (one, other, told) in [
            (AddrNotAvailable, ConnectionRefused, ConnectionRefused),
            (ConnectionRefused, AddrNotAvailable, ConnectionRefused),
            (ConnectionRefused, TimedOut, TimedOut),
            (TimedOut, ConnectionRefused, TimedOut),
        ] {
            assert_eq!(graver(one.into(), other.into()).kind(), told);
        }
    }
}
