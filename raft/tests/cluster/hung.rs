//! A leader that hangs: its connections stand, and no answer comes; or its disk does. What was asked of it must not wait for it longer
//! than for the election of another.

use std::future::Future;
use std::time::Duration;

use crate::common::{Running, TIMING, cluster, grant, leader, put};
use keelson_raft::Trouble;
use keelson_store::LeaseId;

const LEASE: LeaseId = LeaseId(7);

/// An election, and the time that is granted to a late answer, with room for a busy machine; much less than the
/// time that a request has.
fn soon() -> Duration {
    let soon = 5 * TIMING.election;
    assert!(soon < TIMING.request_timeout() / 2);
    soon
}

/// Three members, and one of them that does not lead.
async fn three(dir: &std::path::Path) -> (Vec<Running>, usize, usize) {
    let members = cluster(dir, 3).await;
    members[0]
        .member
        .propose(put("a", "1"))
        .await
        .expect("a quorum is there");
    let leads = leader(&members).await;
    let other = (leads + 1) % 3;
    // What it has asked once, it asks again over the same connection.
    members[other]
        .member
        .read_barrier()
        .await
        .expect("a quorum is there");
    (members, leads, other)
}

/// Asks while the leader hangs.
async fn hanging<T>(leader: &Running, asking: impl Future<Output = T>) -> T {
    leader.hang(true);
    tokio::time::timeout(soon(), asking)
        .await
        .expect("an answer long before the request's time is over")
}

async fn stop(members: Vec<Running>) {
    members.iter().for_each(|running| running.hang(false));
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_goes_on_with_the_next_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, leads, other) = three(dir.path()).await;
    let read = members[other].member.read_barrier();
    assert_eq!(hanging(&members[leads], read).await, Ok(()));
    stop(members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_says_that_the_leader_changed_and_the_next_one_succeeds() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, leads, other) = three(dir.path()).await;
    let write = members[other].member.propose(put("b", "2"));
    let refused = hanging(&members[leads], write)
        .await
        .expect_err("nobody has seen it");
    assert_eq!(refused, Trouble::LeaderChanged);
    let again = members[other].member.propose(put("b", "2"));
    tokio::time::timeout(soon(), again)
        .await
        .expect("in time")
        .expect("two of three are a quorum");
    stop(members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_by_the_next_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, leads, other) = three(dir.path()).await;
    members[other]
        .member
        .propose(grant(LEASE, 60))
        .await
        .expect("a quorum is there");
    let renewal = members[other].member.lease_renew(LEASE);
    assert_eq!(hanging(&members[leads], renewal).await, Ok(60));
    stop(members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_hangs_commits_what_is_on_the_disks_of_the_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, leads, _) = three(dir.path()).await;
    let leader = &members[leads];
    leader.disk.set(true);
    let writing = async {
        for number in 0..20 {
            let together = (0..3).map(|other| {
                let put = put(&format!("{number}.{other}"), "1");
                leader.member.propose(put)
            });
            for written in futures::future::join_all(together).await {
                written.expect("the others are a quorum");
            }
        }
    };
    tokio::time::timeout(soon(), writing)
        .await
        .expect("nobody waits for the disk that hangs");
    leader.disk.set(false);
    stop(members).await;
}
