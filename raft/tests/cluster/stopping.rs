//! A leader that is told to stop: what it was asked just before is answered, by itself or by the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;

use crate::common::{Running, cluster, leader, put, until};
use keelson_raft::Trouble;

/// Proposals under way at each of the others.
const WRITERS: usize = 16;
/// Enough that all writers have been answered several times.
const ANSWERS: u64 = 1_000;

/// The revision of a put.
async fn revision(running: &Running) -> i64 {
    let put = running.member.propose(put("b", "2")).await;
    put.expect("a quorum is there").revision.0
}

/// Puts, one after the other.
struct Writing {
    goes_on: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Result<(), Trouble>>>,
}

fn write_at(members: &[Running]) -> Writing {
    let goes_on = Arc::new(AtomicBool::new(true));
    let answered = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for running in members {
        for _ in 0..WRITERS {
            let member = running.member.clone();
            let (goes_on, answered) = (goes_on.clone(), answered.clone());
            writers.push(tokio::spawn(async move {
                while goes_on.load(Ordering::Relaxed) {
                    member.propose(put("a", "1")).await?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
    }
    Writing {
        goes_on,
        answered,
        writers,
    }
}

impl Writing {
    async fn more(&self, what: &str) {
        let answered = || self.answered.load(Ordering::Relaxed);
        let enough = answered() + ANSWERS;
        until(what, || (answered() >= enough).then_some(())).await;
    }

    /// Says how many were answered: all of them.
    async fn end(self) -> u64 {
        self.goes_on.store(false, Ordering::Relaxed);
        for writer in self.writers {
            assert_eq!(writer.await.expect("it does not panic"), Ok(()));
        }
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proposes_at_the_others_notices_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 5).await;
    for _ in 0..2 {
        let before = revision(&members[0]).await;
        let stops = members.remove(leader(&members).await);
        let writing = write_at(&members);
        writing.more("writes are answered").await;
        stops.stop().await;
        writing.more("writes are answered without it").await;
        let answered = writing.end().await;
        let written = revision(&members[0]).await - before - 1;
        assert_eq!(written as u64, answered, "once each");
    }
    for running in members {
        running.stop().await;
    }
}

/// It hears of its successor by what that refuses before it is asked for its vote, and nobody else is there to vote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_vote_elects_the_next_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 3).await;
    revision(&members[0]).await;
    let stops = members.remove(leader(&members).await);
    let term = stops.member.status().term;
    let [next, hangs] = &members[..] else {
        panic!("two are left");
    };
    let writing = write_at(std::slice::from_ref(next));
    writing.more("writes are answered").await;
    hangs.hang(true);
    stops.votes_late();
    stops.stop().await;
    let status = next.member.status();
    assert!(status.is_leader && status.term > term, "{status:?}");
    hangs.hang(false);
    writing.end().await;
    for running in members {
        running.stop().await;
    }
}
