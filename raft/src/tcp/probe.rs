//! Asking a peer about its cluster, before this member is one of it.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use keelson_proto::peerpb::{ClusterProbe, ClusterProbeReply, Hello, hello_reply::Verdict};
use tokio::io::AsyncWriteExt;

use super::connect::connect;
use super::frame;
use crate::transport::{PROTOCOL, Reply, Request};

/// Why a peer could not be asked about its cluster.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It could not be reached, or the connection broke.
    #[error("{url}: {source}")]
    Io {
        /// Which peer.
        url: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// It answered something else.
    #[error("{url} is not a member of a Keelson cluster, or of another version")]
    Refused {
        /// Which peer.
        url: String,
    },
}

/// Asks a peer about its cluster, before this member has an identity of its own.
pub async fn probe(
    url: &str,
    ask: ClusterProbe,
    patience: Duration,
) -> Result<ClusterProbeReply, ProbeError> {
    let io = |source| ProbeError::Io {
        url: url.to_string(),
        source,
    };
    let work = async {
        let hello = Hello {
            protocol: PROTOCOL,
            ..Hello::default()
        };
        let (reply, mut reader, mut writer) = connect(url, &hello, patience).await.map_err(io)?;
        if reply.verdict() != Verdict::Welcome {
            return Err(ProbeError::Refused {
                url: url.to_string(),
            });
        }
        let mut buffer = BytesMut::new();
        frame::put(&mut buffer, 1, &Request::ClusterProbe(ask).encode());
        writer.write_all(&buffer).await.map_err(io)?;
        let answer = reader.next().await.map_err(io)?;
        match answer.map(|(_, message)| Reply::decode(message)) {
            Some(Ok(Reply::ClusterProbe(reply))) => Ok(reply),
            _ => Err(ProbeError::Refused {
                url: url.to_string(),
            }),
        }
    };
    match tokio::time::timeout(patience, work).await {
        Ok(result) => result,
        Err(_) => Err(io(io::ErrorKind::TimedOut.into())),
    }
}
