//! What clients ask for. A workload is an entry here: its name, whether it needs keys to be there, and one operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use clap::ValueEnum;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};
use tonic::transport::Channel;

/// The store of random bytes that values are cut from.
const POOL_BYTES: usize = 4 << 20;
/// A value is at most half of it, so that values differ.
pub const VALUE_BYTES_MAX: usize = POOL_BYTES / 4;

/// What the clients of a run do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Puts of keys that are new, in random order.
    Put,
    /// Linearizable gets of one of the keys.
    Get,
    /// Gets of one of the keys which need not be the newest.
    GetSerializable,
}

impl Workload {
    pub fn name(self) -> &'static str {
        match self {
            Workload::Put => "put",
            Workload::Get => "get",
            Workload::GetSerializable => "get-serializable",
        }
    }

    /// Whether the keys must be there before it begins.
    pub fn reads_keys(self) -> bool {
        match self {
            Workload::Put => false,
            Workload::Get | Workload::GetSerializable => true,
        }
    }

    /// Does it once. A wrong answer is an error.
    pub async fn operate(self, client: &mut Client) -> Result<(), OperationError> {
        match self {
            Workload::Put => client.put_new().await,
            Workload::Get => client.get(false).await,
            Workload::GetSerializable => client.get(true).await,
        }
    }
}

/// Why an operation failed.
#[derive(Debug)]
pub enum OperationError {
    /// The server, or the connection, said no.
    Status(tonic::Status),
    /// A key that was put and never deleted was not found whole.
    WrongAnswer,
}

impl std::fmt::Display for OperationError {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OperationError::Status(status) => {
                write!(to, "{:?}: {}", status.code(), status.message())
            }
            OperationError::WrongAnswer => {
                to.write_str("wrong answer: a key that was put was not found whole")
            }
        }
    }
}

impl From<tonic::Status> for OperationError {
    fn from(status: tonic::Status) -> OperationError {
        OperationError::Status(status)
    }
}

/// What all clients of a run share.
#[derive(Debug)]
pub struct Shared {
    /// Numbers of keys that were never put.
    fresh: AtomicU64,
    /// How many keys there are to read: numbers below this one.
    keys: u64,
    value_bytes: usize,
    pool: Bytes,
}

impl Shared {
    pub fn new(keys: usize, value_bytes: usize) -> Shared {
        let mut random = Random::new(1);
        // Not compressible: a system that compresses is not to gain by our laziness.
        let pool: Vec<u8> = std::iter::repeat_with(|| random.next().to_le_bytes())
            .take(POOL_BYTES / 8)
            .flatten()
            .collect();
        let keys = keys as u64;
        Shared {
            fresh: AtomicU64::new(keys),
            keys,
            value_bytes,
            pool: pool.into(),
        }
    }

    fn value(&self, random: &mut Random) -> Bytes {
        let begin = random.below((self.pool.len() - self.value_bytes) as u64) as usize;
        self.pool.slice(begin..begin + self.value_bytes)
    }
}

/// One client: a loop's own state.
#[derive(Debug)]
pub struct Client {
    kv: KvClient<Channel>,
    shared: Arc<Shared>,
    random: Random,
}

impl Client {
    pub fn new(number: usize, channel: Channel, shared: Arc<Shared>) -> Client {
        // Answers may be as large as values, which may be larger than tonic's default.
        let kv = KvClient::new(channel).max_decoding_message_size(2 * VALUE_BYTES_MAX);
        Client {
            kv,
            shared,
            random: Random::new(number as u64 + 2),
        }
    }

    /// Puts one of the keys that reads look for.
    pub async fn put_key(&mut self, number: u64) -> Result<(), OperationError> {
        let value = self.shared.value(&mut self.random);
        let request = PutRequest {
            key: key(number),
            value,
            ..PutRequest::default()
        };
        self.kv.put(request).await?;
        Ok(())
    }

    async fn put_new(&mut self) -> Result<(), OperationError> {
        let number = self.shared.fresh.fetch_add(1, Ordering::Relaxed);
        self.put_key(number).await
    }

    async fn get(&mut self, serializable: bool) -> Result<(), OperationError> {
        let key = key(self.random.below(self.shared.keys));
        let answer = self
            .kv
            .range(RangeRequest {
                key,
                serializable,
                ..RangeRequest::default()
            })
            .await?
            .into_inner();
        match answer.kvs.as_slice() {
            [found] if found.value.len() == self.shared.value_bytes => Ok(()),
            _ => Err(OperationError::WrongAnswer),
        }
    }
}

/// The key with a number: 24 bytes; neighbours in number are far apart in order.
fn key(number: u64) -> Bytes {
    format!("/bench/{:017x}", mix(number)).into()
}

/// SplitMix64's output function, which maps numbers to numbers one to one.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// SplitMix64: the same numbers in every run.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(mix(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, which is far below 2^64, so that the bias does not matter.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_all_24_bytes_long() {
        let keys: BTreeSet<Bytes> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|key| key.len() == 24));
    }

    #[test]
    fn values_have_the_size_and_differ() {
        let shared = Shared::new(10, 256);
        let mut random = Random::new(5);
        let (one, other) = (shared.value(&mut random), shared.value(&mut random));
        assert_eq!((one.len(), other.len()), (256, 256));
        assert_ne!(one, other);
        assert_eq!(Shared::new(10, 0).value(&mut random).len(), 0);
        assert_eq!(
            Shared::new(10, VALUE_BYTES_MAX).value(&mut random).len(),
            VALUE_BYTES_MAX
        );
    }
}
