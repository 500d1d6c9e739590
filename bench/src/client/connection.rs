//! A connection with its socket.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use anyhow::{Context as _, bail};
use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::http2::{Http2, Status};
use super::outgoing::{CallId, Outgoing};

/// As much as is read at once.
const READ_BYTES: usize = 256 << 10;

/// What makes the calls of a connection, and takes what comes of them.
pub trait Handler {
    /// A message came for a call.
    fn message(&mut self, call: CallId, message: &[u8], out: &mut Outgoing);

    /// A call ended. A unary one that ended well had its message before.
    fn end(&mut self, call: CallId, result: Result<(), Status>, out: &mut Outgoing);

    /// Begins what is due, and tells what to wait for. Called before each wait.
    fn turn(&mut self, out: &mut Outgoing) -> Next;
}

/// What a handler waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Replies,
    /// Replies, or this time, whichever is first.
    At(Instant),
    /// Nothing more: the connection is left as it is.
    Done,
}

/// A socket, what it has received and not yet understood, and what it is to send.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    http2: Http2,
    input: BytesMut,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    pub async fn open(url: &str) -> anyhow::Result<Connection> {
        let authority = url
            .strip_prefix("http://")
            .context("only http:// is spoken")?;
        let socket = TcpStream::connect(authority)
            .await
            .with_context(|| format!("cannot connect to {url}"))?;
        socket.set_nodelay(true)?;
        Ok(Connection {
            socket,
            http2: Http2::new(authority),
            input: BytesMut::with_capacity(READ_BYTES),
        })
    }

    /// Moves bytes and calls `handler` until it is done, or the connection breaks.
    pub async fn run(&mut self, handler: &mut impl Handler) -> anyhow::Result<()> {
        let mut alarm = pin!(sleep_until(Instant::now()));
        let mut alarm_at = None;
        poll_fn(|cx| {
            loop {
                match handler.turn(&mut self.http2.out) {
                    Next::Done => return Poll::Ready(Ok(())),
                    Next::Replies => alarm_at = None,
                    Next::At(time) => {
                        if alarm_at != Some(time) {
                            alarm.as_mut().reset(time);
                            alarm_at = Some(time);
                        }
                    }
                }
                self.write(cx)?;
                let read = self.read(cx, handler)?;
                let rang = alarm_at.is_some() && rings(alarm.as_mut(), cx);
                if rang {
                    alarm_at = None;
                }
                if !read && !rang {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Writes what the socket takes now.
    fn write(&mut self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let buffer = &mut self.http2.out.buffer;
        while !buffer.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, buffer) {
                Poll::Ready(written) => buffer.advance(written.context("cannot send")?),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Reads once, if something is there; then the handler has been told.
    fn read(&mut self, cx: &mut Context<'_>, handler: &mut impl Handler) -> anyhow::Result<bool> {
        self.input.reserve(READ_BYTES);
        match poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.input) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(error).context("cannot receive"),
            Poll::Ready(Ok(0)) => bail!("the server has closed the connection"),
            Poll::Ready(Ok(_)) => {
                self.http2.receive(&mut self.input, handler)?;
                Ok(true)
            }
        }
    }
}

fn rings(alarm: Pin<&mut Sleep>, cx: &mut Context<'_>) -> bool {
    std::future::Future::poll(alarm, cx).is_ready()
}
