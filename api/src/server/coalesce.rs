//! Writes of one turn of a connection, gathered into one.
//!
//! The HTTP/2 library gives every payload over 256 bytes a write of its own and flushes after it: a system call for
//! each reply, which halves the throughput. Here a write goes into a buffer, and a flush is only taken note of; the
//! buffer is drained when the connection has had its turn and has nothing more to say for now ([`super::turns`]). So all
//! that became ready together leaves together, and nothing waits for a timer.
//!
//! An error of the socket is told at the next write, flush or shutdown, as a socket itself would. The buffer has a
//! bound; a shutdown empties it first.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A writer waits when so much is in the buffer.
const FULL_BYTES: usize = 256 * 1024;

/// A buffer that has grown beyond this is given back once it is empty: idle connections hold little.
const KEEP_BYTES: usize = 64 * 1024;

/// The reading half as it is, and the writing half behind a buffer.
pub(super) struct Coalesced<R, W> {
    reader: R,
    received: Counter,
    outbox: Arc<Mutex<Outbox<W>>>,
}

struct Outbox<W> {
    writer: W,
    buffer: BytesMut,
    /// The writer waits until there are fewer bytes in the buffer than so many: it must be polled again then.
    waits_below: Option<usize>,
    broken: Option<io::ErrorKind>,
    sent: Counter,
}

impl<R, W: AsyncWrite + Unpin> Coalesced<R, W> {
    /// Puts a buffer before `writer`. Whoever polls the connection drains it afterwards, by the handle.
    pub(super) fn new(reader: R, writer: W, received: Counter, sent: Counter) -> (Self, Handle<W>) {
        let outbox = Outbox {
            writer,
            buffer: BytesMut::new(),
            waits_below: None,
            broken: None,
            sent,
        };
        let outbox = Arc::new(Mutex::new(outbox));
        (
            Coalesced {
                reader,
                received,
                outbox: outbox.clone(),
            },
            Handle { outbox },
        )
    }
}

/// Drains what a [`Coalesced`] has gathered.
pub(super) struct Handle<W> {
    outbox: Arc<Mutex<Outbox<W>>>,
}

impl<W: AsyncWrite + Unpin> Handle<W> {
    /// Writes as much as the socket takes. Ready when nothing is left.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.lock().poll_drain(cx)
    }

    /// Whether what the writer waits for is there now: room, or that all has left. Says so once.
    pub(super) fn lets_the_writer_go_on(&self) -> bool {
        let outbox = &mut *self.outbox.lock();
        let length = outbox.buffer.len();
        outbox
            .waits_below
            .take_if(|below| length < *below)
            .is_some()
    }
}

impl<W: AsyncWrite + Unpin> Outbox<W> {
    /// Writes as much as the socket takes. Ready when the buffer is empty.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        while !self.buffer.is_empty() {
            let result = match ready!(Pin::new(&mut self.writer).poll_write(cx, &self.buffer)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            match result {
                Ok(written) => {
                    self.sent.inc_by(written as u64);
                    self.buffer.advance(written);
                }
                Err(error) => {
                    self.broken = Some(error.kind());
                    self.buffer = BytesMut::new();
                    return Poll::Ready(Err(error));
                }
            }
        }
        if self.buffer.capacity() > KEEP_BYTES {
            self.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Makes room for so many bytes more. A buffer that grows beyond what is kept will be filled, most likely: it is not doubled,
    /// and copied, time after time.
    fn reserve(&mut self, bytes: usize) {
        let length = self.buffer.len() + bytes;
        if length > self.buffer.capacity() && length > KEEP_BYTES {
            let full = FULL_BYTES.saturating_sub(self.buffer.len()) + bytes;
            self.buffer.reserve(full);
        }
    }

    /// Ready when there is room in the buffer.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if self.buffer.len() >= FULL_BYTES {
            if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
                return Poll::Ready(Err(error));
            }
            if self.buffer.len() >= FULL_BYTES {
                self.waits_below = Some(FULL_BYTES);
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Coalesced<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(cx, buf))?;
        self.received.inc_by((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Coalesced<R, W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outbox = &mut *self.outbox.lock();
        ready!(outbox.poll_room(cx))?;
        outbox.reserve(bytes.len());
        outbox.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outbox = &mut *self.outbox.lock();
        ready!(outbox.poll_room(cx))?;
        outbox.reserve(slices.iter().map(|slice| slice.len()).sum());
        let before = outbox.buffer.len();
        for slice in slices {
            outbox.buffer.extend_from_slice(slice);
        }
        Poll::Ready(Ok(outbox.buffer.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is in the buffer leaves at the end of this turn.
        Poll::Ready(self.outbox.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outbox = &mut *self.outbox.lock();
        let drained = outbox.poll_drain(cx);
        outbox.waits_below = drained.is_pending().then_some(1);
        ready!(drained)?;
        Pin::new(&mut outbox.writer).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::server::turns::{Calls, Output, Turns};

    /// Counts the writes that reach it, and breaks when told to.
    struct Counting {
        inner: DuplexStream,
        writes: Arc<Mutex<Vec<usize>>>,
        broken: bool,
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
            self.writes.lock().push(written);
            Poll::Ready(Ok(written))
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    type Io = Coalesced<tokio::io::Empty, Counting>;

    fn coalesced(
        broken: bool,
        room: usize,
    ) -> (Io, Handle<Counting>, DuplexStream, Arc<Mutex<Vec<usize>>>) {
        let (ours, theirs) = duplex(room);
        let writes = Arc::new(Mutex::new(Vec::new()));
        let writer = Counting {
            inner: ours,
            writes: writes.clone(),
            broken,
        };
        let (io, handle) = Coalesced::new(
            tokio::io::empty(),
            writer,
            Counter::default(),
            Counter::default(),
        );
        (io, handle, theirs, writes)
    }

    fn connection(
        future: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Pin<Box<impl Future<Output = Output>>> {
        Box::pin(async move { future.await.map_err(Into::into) })
    }

    #[tokio::test]
    async fn what_is_written_and_flushed_in_one_turn_leaves_in_one_write() {
        let (mut io, handle, mut theirs, writes) = coalesced(false, 1 << 20);
        let turn = connection(async move {
            for _ in 0..10 {
                io.write_all(&[7; 500]).await?;
                io.flush().await?;
            }
            Ok(())
        });
        Turns::new(turn, Calls::default(), handle).await.unwrap();
        assert_eq!(*writes.lock(), [5000]);
        let mut read = vec![0; 5000];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [7; 5000]);
    }

    #[tokio::test]
    async fn a_slow_reader_makes_the_writer_wait_and_loses_nothing() {
        let (mut io, handle, mut theirs, _) = coalesced(false, 1000);
        let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n / 7) as u8).collect();
        let expected = sent.clone();
        let turns = connection(async move {
            for piece in sent.chunks(10_000) {
                io.write_all(piece).await?;
                io.flush().await?;
                assert!(io.outbox.lock().buffer.len() < FULL_BYTES + 10_000);
            }
            io.shutdown().await
        });
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.unwrap();
            read
        });
        Turns::new(turns, Calls::default(), handle).await.unwrap();
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn a_broken_socket_ends_a_connection_that_would_wait_for_ever() {
        let (mut io, handle, _theirs, _) = coalesced(true, 1000);
        let waits = connection(async move {
            io.write_all(b"lost").await?;
            std::future::pending().await
        });
        let error = Turns::new(waits, Calls::default(), handle)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("reset"), "{error}");
    }

    #[tokio::test]
    async fn an_error_is_told_at_every_later_write_and_flush() {
        let (mut io, handle, _theirs, _) = coalesced(true, 1000);
        io.write_all(b"lost").await.unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(
            handle.outbox.lock().poll_drain(cx),
            Poll::Ready(Err(_))
        ));
        assert_eq!(
            io.write_all(b"more").await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        assert_eq!(
            io.flush().await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }
}
