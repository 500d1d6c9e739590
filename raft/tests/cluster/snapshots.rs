//! A member that comes late, when the log no longer begins at the beginning.

use std::fs;

use crate::common::{Running, TIMING, UPKEEP, add, cluster, leader, put, until};
use keelson_proto::peerpb;
use keelson_raft::transport::{Reply, Request};

/// Writes until the first entries are no longer in the logs.
async fn outgrow_the_log(members: &[Running]) {
    let writer = &members[leader(members).await].member;
    let value = "v".repeat(8 << 10);
    let mut number = 0;
    while members
        .iter()
        .any(|running| running.member.log().first_index() == 0)
    {
        number += 1;
        let key = format!("key{}", number % 50);
        writer
            .propose(put(&key, &value))
            .await
            .expect("a quorum is there");
    }
    assert!(
        number as u64 * 8 > UPKEEP.log_tail_bytes >> 10,
        "a tail is kept"
    );
}

/// Directories of the state that are not the state.
fn remains(running: &Running) -> Vec<String> {
    let state = running.dir.join("state");
    let current = fs::read_to_string(state.join("CURRENT")).expect("it is there");
    let entries = fs::read_dir(state).expect("it is there");
    let dirs = entries.flatten().filter(|entry| entry.path().is_dir());
    let names = dirs.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name != current.trim()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_late_gets_the_state_and_nothing_of_the_transfer_remains() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 3).await;
    outgrow_the_log(&members).await;
    add(dir.path(), &mut members, 4, true).await;
    let late = &members[3];
    until("the late member has everything", || {
        let revision = members[0].member.reader().now().revision;
        (late.member.reader().now().revision == revision).then_some(())
    })
    .await;
    assert!(
        members.iter().any(|running| running.engines.sent() > 0),
        "nobody sent a snapshot"
    );
    until("the transfer is cleared away", || {
        members
            .iter()
            .all(|running| remains(running).is_empty())
            .then_some(())
    })
    .await;
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_is_made_for_a_member_that_is_not_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 3).await;
    let gone = members.remove((leader(&members).await + 1) % 3);
    gone.stop().await;
    outgrow_the_log(&members).await;
    // Time enough to try it often.
    tokio::time::sleep(4 * TIMING.election).await;
    assert!(members.iter().all(|running| running.engines.sent() == 0));
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_does_not_push_aside_the_snapshot_of_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    let leads = leader(&members).await;
    let term = members[leads].member.term();
    let asked = &members[(leads + 1) % 3].member;
    until("it knows the leader", || {
        (asked.status().leader == Some(members[leads].member.id())).then_some(())
    })
    .await;
    let offer = |term, node| {
        let vote = Some(peerpb::Vote {
            term,
            node,
            committed: true,
        });
        let begin = peerpb::SnapshotBegin {
            vote,
            ..peerpb::SnapshotBegin::default()
        };
        asked.desk().answer(node, Request::SnapshotBegin(begin))
    };
    let deposed = offer(term - 1, members[(leads + 2) % 3].member.id().0);
    assert!(matches!(deposed.await, Reply::Failed(_)));
    let leading = offer(term, members[leads].member.id().0);
    assert!(matches!(leading.await, Reply::SnapshotBegin(_)));
    for running in members {
        running.stop().await;
    }
}
