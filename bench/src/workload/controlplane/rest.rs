//! Requests to the API server, as paths and JSON.

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// A client.
#[derive(Clone)]
pub struct Rest(Option<Client>);

impl std::fmt::Debug for Rest {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Rest")
    }
}

impl Rest {
    /// One whose server is not known yet.
    pub fn none() -> Rest {
        Rest(None)
    }

    pub fn new(client: Client) -> Rest {
        Rest(Some(client))
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(
            &self.raw(Method::GET, path, None).await?,
        )?)
    }

    /// How many bytes a reply has, which is not looked into.
    pub async fn size(&self, path: &str) -> anyhow::Result<usize> {
        Ok(self.raw(Method::GET, path, None).await?.len())
    }

    pub async fn create(&self, path: &str, object: &Value) -> anyhow::Result<()> {
        self.raw(Method::POST, path, Some(object)).await?;
        Ok(())
    }

    async fn raw(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> anyhow::Result<Bytes> {
        let body = self.send(method, path, object).await?;
        Ok(body.collect().await?.to_bytes())
    }

    /// A watch: calls `with` with each line's bytes as they come, until it says that this was enough.
    pub async fn watch(
        &self,
        path: &str,
        mut with: impl FnMut(&[u8]) -> bool,
    ) -> anyhow::Result<()> {
        let mut body = self.send(Method::GET, path, None).await?;
        let mut line = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.ends_with(b"\n") {
                    if with(&line) {
                        return Ok(());
                    }
                    line.clear();
                }
            }
        }
        anyhow::bail!("the watch of {path} ended")
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> anyhow::Result<Body> {
        let client = self.0.as_ref().context("the server is not known yet")?;
        let body = object
            .map(serde_json::to_vec)
            .transpose()?
            .unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body))?;
        let reply = client.send(request).await?;
        let status = reply.status();
        if status.is_success() {
            return Ok(reply.into_body());
        }
        let said = reply.into_body().collect().await?.to_bytes();
        anyhow::bail!("{path}: {status}: {}", String::from_utf8_lossy(&said))
    }
}
