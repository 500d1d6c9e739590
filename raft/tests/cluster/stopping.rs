//! A leader that is told to stop: what it was asked just before is answered, by itself or by the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proposes_at_the_others_notices_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 5).await;
    for _ in 0..2 {
        let before = revision(&members[0]).await;
        let stops = members.remove(leader(&members).await);
        let goes_on = Arc::new(AtomicBool::new(true));
        let answered = Arc::new(AtomicU64::new(0));
        let mut writers = Vec::new();
        for running in &members {
            for _ in 0..WRITERS {
                let member = running.member.clone();
                let (goes_on, answered) = (goes_on.clone(), answered.clone());
                writers.push(tokio::spawn(async move {
                    while goes_on.load(Ordering::Relaxed) {
                        member.propose(put("a", "1")).await?;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<(), Trouble>(())
                }));
            }
        }
        let more = async |what| {
            let enough = answered.load(Ordering::Relaxed) + ANSWERS;
            let many = || (answered.load(Ordering::Relaxed) >= enough).then_some(());
            until(what, many).await;
        };
        more("writes are answered").await;
        stops.stop().await;
        more("writes are answered without it").await;
        goes_on.store(false, Ordering::Relaxed);
        for writer in writers {
            assert_eq!(writer.await.expect("it does not panic"), Ok(()));
        }
        let written = revision(&members[0]).await - before - 1;
        assert_eq!(
            written as u64,
            answered.load(Ordering::Relaxed),
            "once each"
        );
    }
    for running in members {
        running.stop().await;
    }
}
