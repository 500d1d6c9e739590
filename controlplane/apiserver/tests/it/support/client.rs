//! A plain HTTPS client, that shows what the server sent and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    port: u16,
    tls: TlsConnector,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// Null if it is no JSON.
    pub json: Value,
}

impl Reply {
    /// The message of a Status.
    pub fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or("")
    }

    /// The object, which must have been read or changed.
    pub fn ok(self) -> Value {
        assert!(
            (200..300).contains(&self.code),
            "{}: {}",
            self.code,
            self.text
        );
        self.json
    }
}

impl Client {
    pub fn of(port: u16, pki: &Path, certificate: Option<&str>) -> Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("ca.crt"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match certificate {
            Some(name) => builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_file(
                    pki.join(format!("{name}.crt")),
                )?],
                PrivateKeyDer::from_pem_file(pki.join(format!("{name}.key")))?,
            )?,
            None => builder.with_no_client_auth(),
        };
        Ok(Client {
            port,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = self.tls.connect(name, socket).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<http::Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body)))?;
        let mut sender = self.connect().await?;
        Ok(sender.send_request(request).await?)
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let whole = async {
            let response = self.send(method, path, headers, body).await?;
            let (parts, body) = response.into_parts();
            let bytes = body
                .collect()
                .await
                .context("the body ends early")?
                .to_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            anyhow::Ok(Reply {
                code: parts.status.as_u16(),
                headers: parts.headers,
                json: serde_json::from_str(&text).unwrap_or_default(),
                text,
            })
        };
        let reply = tokio::time::timeout(PATIENCE, whole).await;
        reply
            .unwrap_or_else(|_| panic!("{method} {path} is not answered"))
            .unwrap_or_else(|error| panic!("{method} {path} failed: {error:#}"))
    }

    pub async fn try_get(&self, path: &str) -> Option<Reply> {
        self.send("GET", path, &[], b"").await.ok()?;
        Some(self.get(path).await)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Reply {
        self.json("POST", path, object).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> Reply {
        self.json("PUT", path, object).await
    }

    pub async fn json(&self, method: &str, path: &str, object: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.request(method, path, &headers, object.to_string().as_bytes())
            .await
    }

    /// A patch of a kind: `merge`, `strategic-merge` or `json`.
    pub async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Reply {
        let kind = match kind {
            "json" => "application/json-patch+json".to_owned(),
            kind => format!("application/{kind}-patch+json"),
        };
        let headers = [("content-type", kind.as_str())];
        self.request("PATCH", path, &headers, patch.to_string().as_bytes())
            .await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path, &[], b"").await
    }

    /// Begins a watch.
    pub async fn watch(&self, path: &str) -> Watch {
        let response = self
            .send("GET", path, &[], b"")
            .await
            .expect("a watch begins");
        assert_eq!(response.status().as_u16(), 200, "{path}");
        Watch {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

/// The events of a watch.
pub struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; none when the watch is over.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event is JSON"));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame());
            match frame.await.expect("something happens") {
                Some(Ok(frame)) => self.buffer.extend(frame.data_ref().into_iter().flatten()),
                _ => return None,
            }
        }
    }

    /// The next event as `TYPE name`.
    pub async fn told(&mut self) -> String {
        let event = self.next().await.expect("the watch goes on");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("");
        format!("{} {name}", event["type"].as_str().unwrap_or(""))
    }
}
