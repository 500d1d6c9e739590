//! The accepting end.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keelson_proto::peerpb::{Hello, hello_reply::Verdict};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::frame::{self, Frames};
use super::socket;
use crate::transport::{Answer, Reply, Request};

/// Requests of one connection that are answered at a time.
const CONCURRENT_MAX: usize = 1_024;
/// Who connects has so long to say who it is.
const HELLO_TIME: Duration = Duration::from_secs(5);
/// A connection may stand still for so long before it counts as cut. The end that dials decides sooner.
const PATIENCE: Duration = Duration::from_secs(15);

/// Completes when this member ends.
type Ends = Shared<BoxFuture<'static, ()>>;

/// Accepts connections of other members until `end`. Completes once all are answered whose requests had been read by then,
/// and the others told that theirs were not; a member that hangs may keep it from completing.
pub async fn serve(
    listener: TcpListener,
    answer: Arc<dyn Answer>,
    end: impl Future<Output = ()> + Send,
) {
    let mut end = pin!(end);
    let mut connections = tokio::task::JoinSet::new();
    let (goes_on, ends) = oneshot::channel::<Infallible>();
    let ends = ends.map(drop).boxed().shared();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let (answer, ends) = (answer.clone(), ends.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, answer, ends).await {
                        tracing::debug!(%address, %error, "a peer connection ended");
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: accepting again at once would only burn the processor.
                tracing::warn!(%error, "could not accept a peer connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop((listener, goes_on));
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, answer: Arc<dyn Answer>, mut ends: Ends) -> io::Result<()> {
    socket::prepare(&stream, PATIENCE)?;
    let (reader, mut writer) = stream.into_split();
    let mut frames = Frames::new(reader);
    let hello = tokio::select! {
        biased;
        () = &mut ends => None,
        hello = tokio::time::timeout(HELLO_TIME, frames.next()) => hello??,
    };
    let Some((_, hello)) = hello else {
        return Ok(());
    };
    let hello = Hello::decode(hello).map_err(io::Error::other)?;
    let reply = answer.admit(&hello);
    writer.write_all(&frame::of(&reply)).await?;
    if reply.verdict() != Verdict::Welcome {
        return Ok(());
    }
    let from = if hello.cluster_id == 0 { 0 } else { hello.from };
    let done = converse(from, frames, writer, &*answer, ends).await;
    answer.ended(from).await;
    done
}

/// Answers what `from` asks, until the connection or this member ends.
async fn converse(
    from: u64,
    mut frames: Frames<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    answer: &dyn Answer,
    mut ends: Ends,
) -> io::Result<()> {
    // Pushed futures are first polled in the order of their pushing, which keeps appends in order.
    let mut under_way = FuturesUnordered::new();
    let mut out = BytesMut::new();
    let (mut last_read, mut reads) = (0, true);
    while reads || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some((call, reply)) = under_way.next(), if !under_way.is_empty() => {
                let reply: Reply = reply;
                frame::put(&mut out, call, &reply.encode());
                // Replies that are ready now leave with one write.
                while let Some(Some((call, reply))) = under_way.next().now_or_never() {
                    frame::put(&mut out, call, &reply.encode());
                }
                writer.write_all(&out).await?;
                out.clear();
            }
            () = &mut ends, if reads => {
                reads = false;
                frame::put_end(&mut out, last_read);
                writer.write_all(&out).await?;
                out.clear();
            }
            next = frames.next(), if reads && under_way.len() < CONCURRENT_MAX => {
                let Some((call, message)) = next? else { return Ok(()) };
                last_read = call;
                let reply = match Request::decode(message) {
                    Ok(request) => answer.answer(from, request),
                    Err(error) => Box::pin(std::future::ready(Reply::Failed(error.to_string()))),
                };
                under_way.push(async move { (call, reply.await) });
            }
        }
    }
    writer.shutdown().await?;
    // To close while there is something to read would take back what was written.
    while frames.next().await?.is_some() {}
    Ok(())
}
