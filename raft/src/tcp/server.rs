//! The accepting end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
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

/// Accepts connections of other members until the task is dropped.
pub async fn serve(listener: TcpListener, answer: Arc<dyn Answer>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let answer = answer.clone();
                connections.spawn(async move {
                    if let Err(error) = connection(stream, answer).await {
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
}

async fn connection(stream: TcpStream, answer: Arc<dyn Answer>) -> io::Result<()> {
    socket::prepare(&stream, PATIENCE)?;
    let (reader, mut writer) = stream.into_split();
    let mut frames = Frames::new(reader);
    let hello = tokio::time::timeout(HELLO_TIME, frames.next()).await??;
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
    let done = converse(from, frames, writer, &*answer).await;
    answer.ended(from).await;
    done
}

/// Answers what `from` asks, until the connection ends.
async fn converse(
    from: u64,
    mut frames: Frames<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    answer: &dyn Answer,
) -> io::Result<()> {
    // Pushed futures are first polled in the order of their pushing, which keeps appends in order.
    let mut under_way = FuturesUnordered::new();
    let mut out = BytesMut::new();
    loop {
        tokio::select! {
            biased;
            Some((call, reply)) = under_way.next(), if !under_way.is_empty() => {
                let reply: Reply = reply;
                frame::put(&mut out, call, &reply.encode());
                // Replies that are ready now leave with one write.
                while let Some(Some((call, reply))) = futures::FutureExt::now_or_never(under_way.next()) {
                    frame::put(&mut out, call, &reply.encode());
                }
                writer.write_all(&out).await?;
                out.clear();
            }
            next = frames.next(), if under_way.len() < CONCURRENT_MAX => {
                let Some((call, message)) = next? else { return Ok(()) };
                let reply = match Request::decode(message) {
                    Ok(request) => answer.answer(from, request),
                    Err(error) => Box::pin(std::future::ready(Reply::Failed(error.to_string()))),
                };
                under_way.push(async move { (call, reply.await) });
            }
        }
    }
}
