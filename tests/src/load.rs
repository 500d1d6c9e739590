//! Writers that go on whatever happens to the members, and remember what they were told.
//!
//! Each key is put once and never again, whether the answer came or not. So afterwards three things can be said of
//! the store, without a model: every acknowledged key is there, with the revision of its acknowledgement; a key
//! of unknown fate is there or not; and no key has a version above 1, since nothing may send a write twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::wait;

/// What every key of a load begins with.
pub const PREFIX: &str = "load/";

/// A writer turns to another member when one does not answer for so long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// After an error, so that a cluster without a leader is not drowned.
const BACK_OFF: Duration = Duration::from_millis(20);

/// Writers at work, until they are stopped or dropped.
#[derive(Debug)]
pub struct Load {
    acknowledged: Arc<Mutex<Acknowledged>>,
    stop: Arc<AtomicBool>,
    writers: JoinSet<()>,
}

/// The revision at which each key was acknowledged.
pub type Acknowledged = BTreeMap<String, i64>;

impl Load {
    /// Starts `writers`, each of which keeps to one of `urls` as long as that answers. `name` sets the keys of
    /// this load apart from those of others.
    pub fn start(name: &str, urls: &[String], writers: usize) -> Load {
        let acknowledged = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let clients: Vec<Client> = urls.iter().map(|url| Client::new(url)).collect();
            let prefix = format!("{PREFIX}{name}/{writer}/");
            tasks.spawn(write(
                prefix,
                clients,
                writer,
                Arc::clone(&acknowledged),
                Arc::clone(&stop),
            ));
        }
        Load {
            acknowledged,
            stop,
            writers: tasks,
        }
    }

    /// How many writes are acknowledged by now.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().expect("no writer panics").len()
    }

    /// Waits until `more` writes are acknowledged than now.
    pub async fn wait_more(&self, more: usize) {
        let enough = self.count() + more;
        let what = format!("{more} more writes to be acknowledged");
        wait::until(&what, async || {
            let count = self.count();
            if count >= enough {
                Ok(())
            } else {
                Err(format!("{} are missing", enough - count))
            }
        })
        .await;
    }

    /// Lets the writers finish what they have sent, and gives all that was acknowledged.
    pub async fn stop(mut self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("no writer panics");
        }
        std::mem::take(&mut self.acknowledged.lock().expect("no writer panics"))
    }
}

async fn write(
    prefix: String,
    clients: Vec<Client>,
    first: usize,
    acknowledged: Arc<Mutex<Acknowledged>>,
    stop: Arc<AtomicBool>,
) {
    let mut member = first;
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{prefix}{number:06}");
        let client = &clients[member % clients.len()];
        match tokio::time::timeout(REQUEST_TIMEOUT, client.put(&key, &number.to_string())).await {
            Ok(Ok(revision)) => drop(
                acknowledged
                    .lock()
                    .expect("no writer panics")
                    .insert(key, revision),
            ),
            _ => {
                member += 1;
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Panics unless `found`, a list of everything under [`PREFIX`], agrees with what was acknowledged.
pub fn assert_kept(acknowledged: &Acknowledged, found: &pb::RangeResponse) {
    let found: BTreeMap<String, (i64, i64)> = found
        .kvs
        .iter()
        .map(|kv| {
            (
                String::from_utf8_lossy(&kv.key).into_owned(),
                (kv.mod_revision, kv.version),
            )
        })
        .collect();
    let lost: Vec<_> = acknowledged
        .keys()
        .filter(|key| !found.contains_key(*key))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged writes are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    for (key, (mod_revision, version)) in &found {
        assert_eq!(
            *version, 1,
            "{key} was sent once and written {version} times"
        );
        if let Some(told) = acknowledged.get(key) {
            assert_eq!(
                mod_revision, told,
                "{key} has another revision than its acknowledgement"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::mvccpb::KeyValue;

    use super::*;

    fn found(keys: &[(&'static str, i64, i64)]) -> pb::RangeResponse {
        let kv = |(key, mod_revision, version): &(&'static str, i64, i64)| KeyValue {
            key: (*key).into(),
            mod_revision: *mod_revision,
            version: *version,
            ..Default::default()
        };
        pb::RangeResponse {
            kvs: keys.iter().map(kv).collect(),
            ..Default::default()
        }
    }

    fn acknowledged() -> Acknowledged {
        BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 3)])
    }

    #[test]
    fn a_write_of_unknown_fate_may_be_there() {
        assert_kept(
            &acknowledged(),
            &found(&[("a", 2, 1), ("b", 3, 1), ("c", 4, 1)]),
        );
    }

    #[test]
    #[should_panic(expected = "1 of 2 acknowledged writes are lost: [\"b\"]")]
    fn a_lost_write_is_named() {
        assert_kept(&acknowledged(), &found(&[("a", 2, 1)]));
    }

    #[test]
    #[should_panic(expected = "c was sent once and written 2 times")]
    fn a_write_that_was_sent_twice_is_named() {
        assert_kept(
            &acknowledged(),
            &found(&[("a", 2, 1), ("b", 3, 1), ("c", 5, 2)]),
        );
    }

    #[test]
    #[should_panic(expected = "b has another revision than its acknowledgement")]
    fn a_write_that_moved_is_named() {
        assert_kept(&acknowledged(), &found(&[("a", 2, 1), ("b", 4, 1)]));
    }
}
