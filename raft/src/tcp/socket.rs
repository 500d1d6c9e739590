//! What both ends ask of a connection.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Makes a connection break when the way or the other machine is gone: data that is not acknowledged for `patience`,
/// or silence in which nobody acknowledges a probe. A peer that had received a call whole and then lost power would
/// otherwise be waited for without end.
pub(super) fn prepare(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(patience))?;
    // The kernel counts in whole seconds.
    let pause = (patience / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(pause).with_interval(pause);
    socket.set_tcp_keepalive(&keepalive)
}
