//! Old clients' `:authority`, made such that the HTTP/2 library takes it.
//!
//! Before grpc-go 1.29 or so, and with it in etcdctl 3.4, a client that dials one endpoint, `http://host:port`, sends all
//! of that as its `:authority`. Go's server does not mind. The library here refuses what is not `host:port` with a
//! reset, and nothing can be set to prevent that. Nobody behind it looks at the authority; so the bytes are changed on
//! their way in: a URL becomes a name of the same length ([`hpack`]).
//!
//! Only the frames of a connection up to its first request are looked at, unless that request is such a one. Then all
//! its frames' heads are, since a client writes its authority out again when its compression has forgotten it. What
//! is not HTTP/2, or not understood, passes as it is: whether it is valid, the library says.

mod hpack;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length of a frame's head: the payload's length, the type, the flags, the stream.
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The most that a frame may carry, since this server asks for no more.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;
/// How much is read at a time.
const READ_BYTES: usize = 4 << 10;

/// A connection's reading half, with its authorities mended.
pub(super) struct Mended<R> {
    reader: R,
    /// None when there is nothing to mend (any more).
    inspector: Option<Box<Inspector>>,
}

impl<R> Mended<R> {
    /// Looks at all that comes from `reader`, which is at the beginning of a connection.
    pub(super) fn new(reader: R) -> Self {
        Mended {
            reader,
            inspector: Some(Box::default()),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Mended<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(inspector) = &mut this.inspector else {
            return Pin::new(&mut this.reader).poll_read(cx, buf);
        };
        while inspector.passed == 0 {
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.reader).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // What was held back belongs to a frame that will never be whole.
                inspector.pass_all();
                break;
            }
            inspector.take(read.filled());
        }
        inspector.give(buf);
        if inspector.is_done() {
            this.inspector = None;
        }
        Poll::Ready(Ok(()))
    }
}

/// Follows the frames of a connection.
#[derive(Default)]
struct Inspector {
    /// What was read and not given yet: a frame of headers at most, and what was read with it.
    held: BytesMut,
    /// How much of that was looked at, and may go.
    passed: usize,
    expects: Expects,
    /// This is one of those clients.
    has_mended: bool,
}

/// What comes after the bytes that have passed.
#[derive(Clone, Copy)]
enum Expects {
    /// The rest of the preface, after so many bytes of it.
    Preface(usize),
    /// A frame.
    Frame,
    /// So many more bytes of a frame that is of no interest.
    Payload(usize),
    /// Nothing of interest.
    Nothing,
}

impl Default for Expects {
    fn default() -> Self {
        Expects::Preface(0)
    }
}

impl Inspector {
    fn take(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        while let Some(next) = self.step() {
            self.expects = next;
        }
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.passed.min(buf.remaining());
        buf.put_slice(&self.held[..len]);
        self.held.advance(len);
        self.passed -= len;
    }

    fn pass_all(&mut self) {
        self.passed = self.held.len();
        self.expects = Expects::Nothing;
    }

    fn is_done(&self) -> bool {
        matches!(self.expects, Expects::Nothing) && self.held.is_empty()
    }

    /// Lets pass what can pass; none until there is more to go by.
    fn step(&mut self) -> Option<Expects> {
        let left = self.held.get_mut(self.passed..).unwrap_or_default();
        if left.is_empty() {
            return None;
        }
        match self.expects {
            Expects::Preface(seen) => {
                let rest = PREFACE.get(seen..).unwrap_or_default();
                let len = rest.len().min(left.len());
                if left[..len] != rest[..len] {
                    return Some(Expects::Nothing);
                }
                self.passed += len;
                Some(if len == rest.len() {
                    Expects::Frame
                } else {
                    Expects::Preface(seen + len)
                })
            }
            Expects::Payload(bytes) => {
                let len = bytes.min(left.len());
                self.passed += len;
                Some(if len == bytes {
                    Expects::Frame
                } else {
                    Expects::Payload(bytes - len)
                })
            }
            Expects::Frame => {
                let &mut [a, b, c, kind, flags, ..] = left else {
                    return None;
                };
                let len = u32::from_be_bytes([0, a, b, c]) as usize;
                if kind != HEADERS {
                    // Its head may not be whole yet; it is passed with the payload.
                    return Some(Expects::Payload(HEAD_BYTES + len));
                }
                if len > PAYLOAD_BYTES_MAX {
                    return Some(Expects::Nothing);
                }
                let payload = left.get_mut(HEAD_BYTES..HEAD_BYTES + len)?;
                let did = block_of(payload, flags).is_some_and(hpack::mend);
                self.has_mended |= did;
                self.passed += HEAD_BYTES + len;
                Some(if self.has_mended {
                    Expects::Frame
                } else {
                    Expects::Nothing
                })
            }
            Expects::Nothing => {
                self.pass_all();
                None
            }
        }
    }
}

/// The header block of a frame, or the beginning of it if others go on with it: a request's authority comes early.
fn block_of(payload: &mut [u8], flags: u8) -> Option<&mut [u8]> {
    let (mut begin, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        begin += 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & PRIORITY != 0 {
        begin += 5;
    }
    payload.get_mut(begin..end)
}

#[cfg(test)]
mod tests;
