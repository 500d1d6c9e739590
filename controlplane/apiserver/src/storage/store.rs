//! The calls on an etcd that the API server makes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, GetResponse, Identity,
    KeyValue, KvClient, LeaseClient, MaintenanceClient, PutOptions, TlsOptions, Txn, TxnOp,
    TxnOpResponse, TxnResponse, WatchClient,
};

use super::{LeaseId, Revision, StoreError};

/// The longest that one call may take.
const CALL_MAX: Duration = Duration::from_secs(30);
/// The longest that a call may take for which many wait: longer than an election takes.
const SHARED_CALL_MAX: Duration = Duration::from_secs(3);
/// For how long a call that did no harm is made again, on whichever member answers.
const TRY_MAX: Duration = Duration::from_secs(2);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// A list may be larger than gRPC's usual 4 MiB.
const MESSAGE_BYTES_MAX: usize = 512 << 20;

/// Where the store is.
#[derive(Clone, Debug)]
pub struct Connection {
    /// etcd's client URLs.
    pub endpoints: Vec<String>,
    /// For `https` URLs.
    pub tls: Option<ConnectionTls>,
}

/// How the store and its client know each other. Everything is PEM.
#[derive(Clone, Debug)]
pub struct ConnectionTls {
    /// The authority that signed the store's certificate.
    pub ca: String,
    /// The client's own certificate and key.
    pub identity: Option<(String, String)>,
}

/// An object's bytes and the revision of their last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The whole key.
    pub key: String,
    /// The object.
    pub value: Bytes,
    /// When it was last written.
    pub revision: Revision,
}

impl From<KeyValue> for Stored {
    fn from(kv: KeyValue) -> Stored {
        let revision = kv.mod_revision();
        let (key, value) = kv.into_key_value();
        Stored {
            key: String::from_utf8_lossy(&key).into_owned(),
            value: value.into(),
            revision,
        }
    }
}

/// A key beside an object's own that must be free for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The whole key.
    pub key: String,
    /// Who holds it.
    pub value: Vec<u8>,
}

/// An object to be written if it still is what its writer takes it for, and what must hold and happen with it.
#[derive(Clone, Debug, Default)]
pub struct Put {
    /// The whole key.
    pub key: String,
    /// The object.
    pub value: Vec<u8>,
    /// When it was last written; 0 if it must not be there.
    pub expected: Revision,
    /// What must be free, and is the object's then.
    pub claims: Vec<Claim>,
    /// The keys of claims that it gives up.
    pub releases: Vec<String>,
    /// Another object that must not have changed.
    pub guard: Option<Guard>,
}

impl Put {
    /// An object that must not be there yet.
    pub fn new(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Put {
        Put::over(0, key, value)
    }

    /// An object that was last written at `expected`.
    pub fn over(expected: Revision, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Put {
        Put {
            key: key.into(),
            value: value.into(),
            expected,
            ..Put::default()
        }
    }
}

/// Another object, on which a write depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The whole key.
    pub key: String,
    /// When it was last written.
    pub revision: Revision,
}

/// What is there instead of what a write took for granted. If it is neither the object nor the guard, a claim was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The object, if it is there.
    pub object: Option<Stored>,
    /// The guard's object, if it is there.
    pub guard: Option<Stored>,
}

/// The revision of a write, or why there was none.
pub type Written = Result<Revision, Found>;

/// A part of a list.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// In the order of their keys.
    pub items: Vec<Stored>,
    /// Whether there are more.
    pub more: bool,
    /// How many there are from the start key on, these included.
    pub count: i64,
    /// The revision at which the list was read.
    pub revision: Revision,
}

/// An etcd. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    maintenance: MaintenanceClient,
}

impl Store {
    /// Connects. Whether the store answers is seen at the first call.
    pub async fn connect(to: &Connection) -> Result<Store, StoreError> {
        // Watches must end when the member they hang on has lost its leader, and idle connections be known to live.
        let options = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(3))
            // Not more often: etcd takes pings that come within five seconds for an attack.
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let options = match &to.tls {
            Some(tls) => options.with_tls(tls_options(tls)),
            None => options,
        };
        let client = Client::connect(&to.endpoints, Some(options)).await?;
        Ok(Store {
            kv: client
                .kv_client()
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            watch: client
                .watch_client()
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            lease: client.lease_client(),
            maintenance: client.maintenance_client(),
        })
    }

    pub(super) fn watch_client(&self) -> WatchClient {
        self.watch.clone()
    }

    pub(super) fn lease_client(&self) -> LeaseClient {
        self.lease.clone()
    }

    pub(super) fn kv_client(&self) -> KvClient {
        self.kv.clone()
    }

    /// The version that the store says it has.
    pub async fn version(&self) -> Result<String, StoreError> {
        let mut client = self.maintenance.clone();
        let status = timed(client.status()).await?;
        Ok(status.version().to_owned())
    }

    /// The store's revision, by a read that no stale member answers.
    pub async fn revision(&self) -> Result<Revision, StoreError> {
        // A key that is never written: only the header is of interest.
        const KEY: &str = "/registry/.revision";
        let options = GetOptions::new().with_count_only();
        let reply = soon(self.read(KEY, &options)).await?;
        Ok(reply.header().map_or(0, |header| header.revision()))
    }

    /// The object at `key` now.
    pub async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let mut reply = self.read(key, &GetOptions::new()).await?;
        Ok(reply.take_kvs().pop().map(Stored::from))
    }

    /// Up to `limit` objects (0: all) under `prefix`, from `start` on, at `revision` (0: now).
    pub async fn list(
        &self,
        prefix: &str,
        start: Option<&str>,
        limit: i64,
        revision: Revision,
    ) -> Result<ListPage, StoreError> {
        let options = GetOptions::new().with_limit(limit).with_revision(revision);
        let (key, options) = match start {
            Some(start) => (start, options.with_range(prefix_end(prefix))),
            None => (prefix, options.with_prefix()),
        };
        let mut reply = self.read(key, &options).await?;
        let now = reply.header().map_or(0, |header| header.revision());
        Ok(ListPage {
            more: reply.more(),
            count: reply.count(),
            revision: if revision > 0 { revision } else { now },
            items: reply.take_kvs().into_iter().map(Stored::from).collect(),
        })
    }

    /// The keys under `prefix`, now.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let options = GetOptions::new().with_prefix().with_keys_only();
        let mut reply = self.read(prefix, &options).await?;
        let kvs = reply.take_kvs().into_iter();
        Ok(kvs.map(|kv| Stored::from(kv).key).collect())
    }

    /// Writes an object with all that belongs to it, or nothing.
    pub async fn write(&self, put: &Put, lease: Option<LeaseId>) -> Result<Written, StoreError> {
        let is_at = |key: &str, revision| Compare::mod_revision(key, CompareOp::Equal, revision);
        let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
        let mut compares = vec![is_at(&put.key, put.expected)];
        let mut writes = vec![TxnOp::put(put.key.as_str(), put.value.clone(), options)];
        for claim in &put.claims {
            compares.push(is_at(&claim.key, 0));
            writes.push(TxnOp::put(claim.key.as_str(), claim.value.clone(), None));
        }
        writes.extend(deletes(&put.releases));
        let mut otherwise = vec![TxnOp::get(put.key.as_str(), None)];
        if let Some(guard) = &put.guard {
            compares.push(is_at(&guard.key, guard.revision));
            otherwise.push(TxnOp::get(guard.key.as_str(), None));
        }
        let txn = Txn::new().when(compares).and_then(writes);
        self.commit(txn.or_else(otherwise)).await
    }

    /// Deletes an object that was last changed at `expected`, and its claims. Gives the revision of the deletion, or
    /// what is there instead.
    pub async fn delete(
        &self,
        key: &str,
        expected: Revision,
        releases: &[String],
    ) -> Result<Written, StoreError> {
        let compares = vec![Compare::mod_revision(key, CompareOp::Equal, expected)];
        let mut operations = vec![TxnOp::delete(key, None)];
        operations.extend(deletes(releases));
        let txn = Txn::new().when(compares).and_then(operations);
        self.commit(txn.or_else(vec![TxnOp::get(key, None)])).await
    }

    /// A transaction that reads what is in its way: the object, and then the guard.
    async fn commit(&self, txn: Txn) -> Result<Written, StoreError> {
        let reply = self.transact(&txn).await?;
        if reply.succeeded() {
            return Ok(Ok(reply.header().map_or(0, |header| header.revision())));
        }
        let mut found = reply.op_responses().into_iter().map(|op| match op {
            TxnOpResponse::Get(mut get) => get.take_kvs().pop().map(Stored::from),
            _ => None,
        });
        Ok(Err(Found {
            object: found.next().flatten(),
            guard: found.next().flatten(),
        }))
    }

    /// A read, made again if the member that was asked is not available: it changes nothing.
    async fn read(&self, key: &str, options: &GetOptions) -> Result<GetResponse, StoreError> {
        let deadline = Instant::now() + TRY_MAX;
        loop {
            let reply = timed(self.kv.clone().get(key, Some(options.clone()))).await;
            match reply {
                Err(StoreError::Unavailable(_) | StoreError::Unreachable(_))
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
                reply => return reply,
            }
        }
    }

    /// A transaction, made again only if it certainly was not sent.
    async fn transact(&self, txn: &Txn) -> Result<TxnResponse, StoreError> {
        let deadline = Instant::now() + TRY_MAX;
        loop {
            match timed(self.kv.clone().txn(txn.clone())).await {
                Err(StoreError::Unreachable(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
                reply => return reply.map_err(StoreError::of_a_write),
            }
        }
    }

    /// Writes a key of the API server's own, whatever is there. Many wait for it.
    pub async fn put(&self, key: &str, value: Vec<u8>) -> Result<Revision, StoreError> {
        let reply = soon(timed(self.kv.clone().put(key, value, None))).await?;
        Ok(reply.header().map_or(0, |header| header.revision()))
    }
}

fn tls_options(tls: &ConnectionTls) -> TlsOptions {
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
    if let Some((certificate, key)) = &tls.identity {
        return options.identity(Identity::from_pem(certificate, key));
    }
    options
}

fn deletes(keys: &[String]) -> impl Iterator<Item = TxnOp> + '_ {
    keys.iter().map(|key| TxnOp::delete(key.as_str(), None))
}

/// The first key after all those that begin with `prefix`, which ends in a slash.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// A call, which goes to the heap: each future around it would hold it twice over, and every request with them.
pub(super) fn timed<T>(
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> impl Future<Output = Result<T, StoreError>> {
    let call = Box::pin(call);
    within(CALL_MAX, async move { Ok(call.await?) })
}

/// A call for which many wait.
pub(super) async fn soon<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(SHARED_CALL_MAX, call).await
}

async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(time, call)
        .await
        .unwrap_or(Err(StoreError::Timeout))
}
