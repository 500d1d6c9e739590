//! Plain HTTP, as a probe speaks it.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait;

/// What `url` answers to a GET of `path`: the status line and the body.
pub async fn get(url: &str, path: &str) -> io::Result<(String, String)> {
    let address = url.strip_prefix("http://").expect("it is plain HTTP");
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    wait::soon("the end of the answer", stream.read_to_string(&mut answer)).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("no head: {answer:?}")))?;
    let status = head.lines().next().unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}
