//! A client that hides nothing: the generated gRPC stubs on one lazy connection to one member.

use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Connects when first used, and again after the connection is lost. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// A client of the member that listens at `url`.
    pub fn new(url: &str) -> Client {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .unwrap_or_else(|e| panic!("{url} is not a URL: {e}"));
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true);
        Client {
            channel: endpoint.connect_lazy(),
        }
    }

    /// Keys and values.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Watches.
    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Leases.
    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    /// Members.
    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// Upkeep.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    /// Puts `value` at `key`; returns the revision.
    pub async fn put(&self, key: &str, value: &str) -> Result<i64, Status> {
        let request = pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        };
        let reply = self.kv().put(request).await?.into_inner();
        Ok(reply.header.unwrap_or_default().revision)
    }

    /// The value at `key`, read linearizably.
    pub async fn get(&self, key: &str) -> Result<Option<String>, Status> {
        let request = pb::RangeRequest {
            key: key.to_owned().into(),
            ..Default::default()
        };
        let reply = self.kv().range(request).await?.into_inner();
        Ok(reply
            .kvs
            .first()
            .map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
    }

    /// Every key that begins with `prefix`, read linearizably.
    pub async fn list(&self, prefix: &str) -> Result<pb::RangeResponse, Status> {
        let request = pb::RangeRequest {
            key: prefix.to_owned().into(),
            range_end: prefix_end(prefix),
            ..Default::default()
        };
        Ok(self.kv().range(request).await?.into_inner())
    }

    /// This member's own account of itself.
    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        Ok(self
            .maintenance()
            .status(pb::StatusRequest {})
            .await?
            .into_inner())
    }

    /// The members, as this one knows them.
    pub async fn members(&self) -> Result<Vec<pb::Member>, Status> {
        let request = pb::MemberListRequest { linearizable: true };
        Ok(self
            .cluster()
            .member_list(request)
            .await?
            .into_inner()
            .members)
    }
}

/// The first key after all those that begin with `prefix`, which must not be empty nor end in byte 255.
pub fn prefix_end(prefix: &str) -> bytes::Bytes {
    let mut end = prefix.as_bytes().to_vec();
    let last = end.last_mut().expect("the prefix is not empty");
    *last += 1;
    end.into()
}
