//! `/healthz` on loopback, if asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A request longer than this, or slower, is not a probe.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What must hold for the process to be well. Cloning shares the checks.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<Vec<(&'static str, Check)>>>,
}

impl Health {
    /// Adds a check, which says what is wrong. It must not wait.
    pub fn add(
        &self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.checks.lock().push((name, Box::new(check)));
    }

    /// The code and the text to answer a probe with.
    fn answer(&self, path: &str) -> (u16, String) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if !matches!(path, "/healthz" | "/livez" | "/readyz") {
            return (404, "404 page not found\n".into());
        }
        let checks = self.checks.lock();
        let mut well = true;
        let mut lines = String::from("[+]ping ok\n");
        for (name, check) in checks.iter() {
            match check() {
                Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
                Err(wrong) => {
                    well = false;
                    lines.push_str(&format!("[-]{name} failed: {wrong}\n"));
                }
            }
        }
        let name = &path[1..];
        match (
            well,
            query.split('&').any(|part| part.starts_with("verbose")),
        ) {
            (true, false) => (200, "ok".into()),
            (true, true) => (200, format!("{lines}{name} check passed\n")),
            (false, _) => (500, format!("{lines}{name} check failed\n")),
        }
    }
}

/// Serves the checks on a loopback address until `stop`. Returns where, once it listens.
pub async fn serve_health(
    address: SocketAddr,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    anyhow::ensure!(
        address.ip().is_loopback(),
        "{address} is not a loopback address"
    );
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        let serve = async {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let answer = respond(stream, health.clone());
                    tokio::spawn(tokio::time::timeout(REQUEST_TIME_MAX, answer));
                }
            }
        };
        stop.run_until_cancelled(serve).await;
    });
    Ok(bound)
}

async fn respond(mut stream: TcpStream, health: Health) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).await?;
        if count == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
    }
    let line = String::from_utf8_lossy(&request);
    let mut words = line.split_whitespace();
    let (code, body) = match (words.next(), words.next()) {
        (Some("GET" | "HEAD"), Some(path)) => health.answer(path),
        _ => (405, "405 method not allowed\n".into()),
    };
    let reason = match code {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Internal Server Error",
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if !line.starts_with("HEAD") {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_probe_is_told_ok_or_what_is_wrong() {
        let health = Health::default();
        let stop = CancellationToken::new();
        let any = "127.0.0.1:0".parse().unwrap();
        let address = serve_health(any, health.clone(), stop.clone())
            .await
            .unwrap();
        assert!(get(address, "/healthz").await.ends_with("\r\n\r\nok"));
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404 "));
        health.add("lease", || Err("not renewed".into()));
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 500 "));
        assert!(answer.contains("[-]lease failed: not renewed"));
        stop.cancel();
    }

    #[tokio::test]
    async fn it_listens_on_loopback_only() {
        let address = "0.0.0.0:0".parse().unwrap();
        let result = serve_health(address, Health::default(), CancellationToken::new()).await;
        assert!(result.is_err());
    }
}
