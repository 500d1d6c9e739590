//! Members come and go.

use std::time::Duration;

use crate::common::{Running, TIMING, add, cluster, leader, place, put, until};
use keelson_proto::peerpb::MemberChange;
use keelson_proto::peerpb::member_change::{Add, Change, Update};
use keelson_raft::Trouble;
use keelson_raft::transport::{Reply, Request};

/// A cluster whose members have all started.
async fn founded(dir: &std::path::Path, size: u64) -> Vec<Running> {
    let members = cluster(dir, size).await;
    for running in &members {
        running.introduce().await;
    }
    members
}

/// Adds a member that waits to be, and waits until it votes.
async fn grow(dir: &std::path::Path, members: &mut Vec<Running>, id: u64, learner: bool) {
    add(dir, members, id, learner).await;
    let asked = &members[leader(members).await].member;
    if learner {
        until("the learner has caught up", || {
            members.last()?.member.status().applied_index.checked_sub(1)
        })
        .await;
        // Not at once: the leader may not yet know what the learner knows of itself.
        loop {
            match asked.change_members(Change::Promote(id)).await {
                Ok(_) => break,
                Err(Trouble::LearnerNotReady) => tokio::time::sleep(TIMING.heartbeat).await,
                Err(trouble) => panic!("{trouble}"),
            }
        }
    }
    until("the new member votes", || {
        let voters = members[0].member.membership().configs;
        (voters.len() == 1 && voters[0].ids.contains(&id)).then_some(())
    })
    .await;
    members.last().expect("just added").introduce().await;
}

/// Asks for a change until it is made.
async fn until_made<T>(ask: impl AsyncFn() -> Result<T, Trouble>) -> T {
    let asking = async {
        loop {
            if let Ok(made) = ask().await {
                return made;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking)
        .await
        .expect("a quorum is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_grows_to_three() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 1).await;
    members[0].introduce().await;
    members[0]
        .member
        .propose(put("a", "1"))
        .await
        .expect("it leads");
    grow(dir.path(), &mut members, 2, false).await;
    grow(dir.path(), &mut members, 3, false).await;
    members.remove(leader(&members).await).stop().await;
    members[0]
        .member
        .propose(put("b", "2"))
        .await
        .expect("two of three are a quorum");
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_alone_reads_without_asking_and_no_longer_once_another_votes() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 1).await;
    members[0].introduce().await;
    assert_eq!(members[0].member.read_barrier().await, Ok(()));
    grow(dir.path(), &mut members, 2, false).await;
    let leads = leader(&members).await;
    members[1 - leads].hang(true);
    let read = members[leads].member.read_barrier().await;
    assert!(read.is_err(), "it may have been deposed: {read:?}");
    members[1 - leads].hang(false);
    until_made(async || members[leads].member.read_barrier().await).await;
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_of_a_cluster_of_one_can_be_promoted() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 1).await;
    members[0].introduce().await;
    grow(dir.path(), &mut members, 2, true).await;
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_member_that_never_started_must_come_before_a_third_is_added() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 1).await;
    members[0].introduce().await;
    let add = |id| {
        Change::Add(Add {
            id,
            peer_urls: vec![format!("http://127.0.0.1:{id}")],
            learner: false,
        })
    };
    members[0]
        .member
        .change_members(add(2))
        .await
        .expect("a cluster of one may grow");
    let refused = members[0].member.change_members(add(3)).await;
    assert_eq!(refused, Err(Trouble::NotEnoughStarted));
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_to_its_end_though_its_client_has_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = founded(dir.path(), 3).await;
    let leads = leader(&members).await;
    let gone = (leads + 1) % 3;
    let id = members[gone].member.id().0;
    let mut change = Box::pin(members[leads].member.change_members(Change::Remove(id)));
    assert!(
        futures::poll!(&mut change).is_pending(),
        "it takes two commits"
    );
    drop(change);
    until("the voters are two", || {
        let configs = members[leads].member.membership().configs;
        (configs.len() == 1 && configs[0].ids.len() == 2).then_some(())
    })
    .await;
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_learns_of_it_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = founded(dir.path(), 3).await;
    let old = members.remove(leader(&members).await);
    let change = Change::Remove(old.member.id().0);
    old.member
        .change_members(change)
        .await
        .expect("the others are there");
    until("it knows", || old.member.removed().then_some(())).await;
    let next = leader(&members).await;
    members[next]
        .member
        .propose(put("b", "2"))
        .await
        .expect("two of two are a quorum");
    old.stop().await;
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_removed_while_it_cannot_be_reached_learns_of_it_afterwards() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = founded(dir.path(), 3).await;
    let leads = leader(&members).await;
    let away = members.remove((leads + 1) % 3);
    away.hang(true);
    let change = Change::Remove(away.member.id().0);
    let asked = &members[leader(&members).await].member;
    asked
        .change_members(change)
        .await
        .expect("two of three are a quorum");
    assert!(!away.member.removed());
    away.hang(false);
    until("it knows", || away.member.removed().then_some(())).await;
    away.stop().await;
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_one_leader_began_is_completed_by_the_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = founded(dir.path(), 4).await;
    let old = members.remove(leader(&members).await);
    let gone = members[0].member.id().0;
    for running in &members {
        running.when_joint_hang(&old);
    }
    let half_made = tokio::time::timeout(
        TIMING.election,
        old.member.change_members(Change::Remove(gone)),
    );
    assert!(half_made.await.is_err(), "it hangs in between");
    let next = leader(&members).await;
    until("the removal is complete", || {
        let membership = members[next].member.membership();
        let gone = !membership.nodes.iter().any(|node| node.id == gone);
        (gone && membership.configs.len() == 1).then_some(())
    })
    .await;
    old.hang(false);
    old.stop().await;
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_half_removed_does_not_stay_when_another_change_comes_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = founded(dir.path(), 4).await;
    let old = members.remove(leader(&members).await);
    let gone = members[0].member.id().0;
    for running in &members {
        running.when_joint_hang(&old);
    }
    let half_made = tokio::time::timeout(
        TIMING.election,
        old.member.change_members(Change::Remove(gone)),
    );
    assert!(half_made.await.is_err(), "it hangs in between");
    // A change of nothing, as soon as there is somebody to make it.
    let asked = &members[1].member;
    let nodes = asked.membership().nodes.into_iter();
    let unchanged = nodes
        .filter(|node| node.id == members[2].member.id().0)
        .map(|node| Update {
            id: node.id,
            peer_urls: node.peer_urls,
        })
        .next()
        .expect("it is a member");
    until_made(async || {
        asked
            .change_members(Change::Update(unchanged.clone()))
            .await
    })
    .await;
    until("the removal is complete", || {
        (asked.membership().configs.len() == 1).then_some(())
    })
    .await;
    let nodes = asked.membership().nodes;
    assert!(
        !nodes.iter().any(|node| node.id == gone),
        "it is still there: {nodes:?}"
    );
    old.hang(false);
    old.stop().await;
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_client_removes_while_leadership_moves_is_not_said_to_be_unknown() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = founded(dir.path(), 5).await;
    while members.len() > 2 {
        let from = leader(&members).await;
        let (to, gone) = ((from + 1) % members.len(), (from + 2) % members.len());
        // Between the two halves of the removal.
        let (old, next) = (members[from].member.clone(), members[to].member.id());
        let runtime = tokio::runtime::Handle::current();
        members[to].when_joint(move || {
            let old = old.clone();
            runtime.spawn(async move {
                // Only the first of them can succeed.
                let _ = old.move_leader(next).await;
            });
        });
        let id = members[gone].member.id().0;
        loop {
            match members[from]
                .member
                .change_members(Change::Remove(id))
                .await
            {
                Ok(_) | Err(Trouble::LeaderChanged) => break,
                // Who has just begun to lead has heard from nobody yet.
                Err(Trouble::Unhealthy) => tokio::time::sleep(TIMING.heartbeat).await,
                Err(trouble) => panic!("{trouble}"),
            }
        }
        until("the removal is complete", || {
            let membership = members[to].member.membership();
            let gone = !membership.nodes.iter().any(|node| node.id == id);
            (gone && membership.configs.len() == 1).then_some(())
        })
        .await;
        members.remove(gone).stop().await;
    }
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_does_not_wait_for_its_turn_longer_than_its_client_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = founded(dir.path(), 3).await;
    let leads = leader(&members).await;
    let (one, other) = ((leads + 1) % 3, (leads + 2) % 3);
    let ids = [one, other].map(|at| members[at].member.id().0);
    let [first, second] = ids.map(Change::Remove);
    for running in &members {
        running.when_joint_hang(&members[leads]);
    }
    let mut made = Box::pin(members[leads].member.change_members(first));
    assert!(
        futures::poll!(&mut made).is_pending(),
        "it waits for the others"
    );
    // As it comes from another member, which has given up by now if this takes longer.
    let request = Request::MemberChange(MemberChange {
        change: Some(second),
    });
    let answer = members[leads].member.desk().answer(ids[0], request);
    let patience = TIMING.request_timeout() + TIMING.election;
    let answer = tokio::time::timeout(patience, answer).await;
    assert!(
        matches!(answer, Ok(Reply::MemberChange(_))),
        "it still waits"
    );
    drop(made);
    // The next leader may send it once more.
    for running in &members {
        running.when_joint(|| {});
    }
    members[leads].hang(false);
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_moves_is_reached_at_its_new_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = founded(dir.path(), 3).await;
    let leads = leader(&members).await;
    let (listener, url) = place().await;
    let update = Change::Update(Update {
        id: members[(leads + 1) % 3].member.id().0,
        peer_urls: vec![url],
    });
    members[leads]
        .member
        .change_members(update)
        .await
        .expect("a quorum is there");
    members[(leads + 1) % 3].move_to(listener);
    // Without the third, every write needs the one that has moved.
    members[(leads + 2) % 3].hang(true);
    let write = members[leads].member.propose(put("b", "2"));
    write.await.expect("the one that has moved is reached");
    members[(leads + 2) % 3].hang(false);
    for running in members {
        running.stop().await;
    }
}
