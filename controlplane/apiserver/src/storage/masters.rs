//! The API servers of a cluster: each has a key that goes by itself when its server no longer renews it.
//!
//! As Kubernetes does it: below `/registry/masterleases/`, with the server's address as the key's last part. A
//! kube-apiserver has one port for all and leaves it out.

use std::net::{IpAddr, SocketAddr};

use etcd_client::PutOptions;
use serde_json::json;

use super::store::timed;
use super::{ROOT, Store, StoreError};

/// How long a server is taken to be there after it last said so.
const TTL_S: i64 = 15;

/// This server's own key.
pub struct MasterLease {
    store: Store,
    own: SocketAddr,
    /// None if there is none, or if what became of it is not known.
    lease: Option<i64>,
}

impl MasterLease {
    /// The key of the server at `own`, which is not there yet.
    pub fn new(store: Store, own: SocketAddr) -> MasterLease {
        MasterLease {
            store,
            own,
            lease: None,
        }
    }

    /// Says that this server is there, and gives all that have said so lately, in order.
    pub async fn renew(&mut self) -> Result<Vec<SocketAddr>, StoreError> {
        if !self.keep_alive().await {
            self.lease = None;
            let mut client = self.store.lease_client();
            let lease = timed(client.grant(TTL_S, None)).await?.id();
            let options = PutOptions::new().with_lease(lease);
            let mut client = self.store.kv_client();
            timed(client.put(self.key(), self.value(), Some(options))).await?;
            self.lease = Some(lease);
        }
        let mut all = self.others().await?;
        if !all.contains(&self.own) {
            // Somebody deleted the key. It is made again the next time.
            self.lease = None;
            all.push(self.own);
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Says that this server is no longer there, and gives those that are.
    pub async fn leave(&mut self) -> Result<Vec<SocketAddr>, StoreError> {
        if let Some(lease) = self.lease.take() {
            let mut client = self.store.lease_client();
            timed(client.revoke(lease)).await?;
        }
        let mut others = self.others().await?;
        others.retain(|address| *address != self.own);
        Ok(others)
    }

    /// Renews the lease; false if there is none any more, or if that is not known.
    async fn keep_alive(&self) -> bool {
        let Some(lease) = self.lease else {
            return false;
        };
        let mut client = self.store.lease_client();
        // It asks once by itself.
        timed(client.keep_alive(lease)).await.is_ok()
    }

    async fn others(&self) -> Result<Vec<SocketAddr>, StoreError> {
        let prefix = prefix();
        let page = self.store.list(&prefix, None, 0, 0).await?;
        let names = page
            .items
            .iter()
            .filter_map(|one| one.key.strip_prefix(&prefix));
        let mut all: Vec<SocketAddr> = names
            .filter_map(|name| address(name, self.own.port()))
            .collect();
        all.sort_unstable();
        Ok(all)
    }

    fn key(&self) -> String {
        format!("{}{}", prefix(), self.own)
    }

    /// What a kube-apiserver on the same store looks for.
    fn value(&self) -> Vec<u8> {
        let endpoints = json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {},
            "subsets": [{"addresses": [{"ip": self.own.ip()}], "ports": [{"name": "https", "port": self.own.port()}]}],
        });
        endpoints.to_string().into_bytes()
    }
}

fn prefix() -> String {
    format!("{ROOT}/masterleases/")
}

/// The address that a key names; without a port it has the same as ours.
fn address(name: &str, port: u16) -> Option<SocketAddr> {
    let whole = name.parse::<SocketAddr>();
    let alone = || Some(SocketAddr::new(name.parse::<IpAddr>().ok()?, port));
    whole.ok().or_else(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_an_address_with_its_port_or_with_ours() {
        for (name, expected) in [
            ("10.0.0.1:6444", Some("10.0.0.1:6444")),
            ("10.0.0.1", Some("10.0.0.1:6443")),
            ("[fd00::1]:6444", Some("[fd00::1]:6444")),
            ("fd00::1", Some("[fd00::1]:6443")),
            ("nobody", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(address(name, 6443), expected, "{name}");
        }
    }
}
