//! What a cluster promises: writes and reads through any member, and a leader that moves or stops.

use std::time::Instant;

use crate::common::{Engines, Running, TIMING, cluster, grant, leader, put, until};
use futures::future::Either;
use keelson_proto::peerpb::member_change::Change;
use keelson_proto::{commandpb, peerpb};
use keelson_raft::transport::{Reply, Request};
use keelson_store::{LeaseId, Revision};

const LEASE: LeaseId = LeaseId(7);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_takes_writes_and_serves_linearizable_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    for (number, running) in members.iter().enumerate() {
        let outcome = running
            .member
            .propose(put(&format!("key{number}"), "value"))
            .await
            .expect("a quorum is there");
        assert_eq!(outcome.revision, Revision(2 + number as i64));
        assert!(matches!(
            outcome.result,
            Ok(commandpb::outcome::Result::Put(_))
        ));
    }
    for running in &members {
        running
            .member
            .read_barrier()
            .await
            .expect("a quorum is there");
        let published = running.member.reader().now();
        assert_eq!(published.revision, Revision(4));
        assert!(published.get(b"key2").expect("readable").is_some());
    }
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_through_a_member_finds_it_there_without_asking_the_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    for number in 0..100 {
        for running in &members {
            let outcome = running
                .member
                .propose(put("key", &number.to_string()))
                .await
                .expect("a quorum is there");
            assert!(running.member.reader().now().revision >= outcome.revision);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_and_the_cluster_goes_on_when_the_leader_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 3).await;
    members[0]
        .member
        .propose(put("a", "1"))
        .await
        .expect("a quorum is there");
    let leader = members
        .iter()
        .position(|running| running.member.status().is_leader)
        .expect("somebody leads");
    let to = members[(leader + 1) % 3].member.id();
    members[leader]
        .member
        .move_leader(to)
        .await
        .expect("the other is up to date");
    members[leader]
        .member
        .propose(put("b", "2"))
        .await
        .expect("a quorum is there");

    let leader = members
        .iter()
        .position(|running| running.member.status().is_leader)
        .expect("somebody leads");
    members.remove(leader).stop().await;
    let outcome = members[0]
        .member
        .propose(put("c", "3"))
        .await
        .expect("two of three are a quorum");
    assert_eq!(outcome.revision, Revision(4));
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_member_without_its_peers_says_that_there_is_no_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 3).await;
    members[0]
        .member
        .propose(put("a", "1"))
        .await
        .expect("a quorum is there");
    let last = members.pop().expect("three");
    for running in members {
        running.stop().await;
    }
    let error = last
        .member
        .read_barrier()
        .await
        .expect_err("no quorum is left");
    assert!(error.to_string().starts_with("etcdserver: "), "{error}");
    assert!(last.member.leader_lost());
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_voter_does_not_miss_a_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 1).await;
    let only = members.pop().expect("one");
    only.member.read_barrier().await.expect("it leads");
    // Time itself is what must not change the answer: nobody renews the leadership of one that is alone.
    tokio::time::sleep(3 * TIMING.election).await;
    assert!(!only.member.leader_lost());
    assert_eq!(only.member.status().leader, Some(only.member.id()));
    only.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_leaves_a_leader_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 3).await;
    members[0]
        .member
        .propose(put("a", "1"))
        .await
        .expect("a quorum is there");
    let old = members.remove(leader(&members).await);
    let since = Instant::now();
    old.member.stop().await;
    // Sooner than the others could have missed the old one.
    let next = leader(&members).await;
    let gap = since.elapsed();
    assert!(
        gap < TIMING.election * 3 / 4,
        "leadership was not handed over: {gap:?}"
    );
    members[next]
        .member
        .propose(put("b", "2"))
        .await
        .expect("a quorum is there");
    old.end();
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_stop_together_do_not_wait_for_one_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    members[0]
        .member
        .propose(put("a", "1"))
        .await
        .expect("a quorum is there");
    let since = Instant::now();
    futures::future::join_all(members.iter().map(|running| running.member.stop())).await;
    let took = since.elapsed();
    assert!(took < TIMING.election, "stopping took {took:?}");
    members.into_iter().for_each(Running::end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_renewed_is_never_said_to_be_gone_while_leadership_moves() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    members[0]
        .member
        .propose(grant(LEASE, 60))
        .await
        .expect("a quorum is there");
    let moves = async {
        for _ in 0..12 {
            let from = leader(&members).await;
            let to = members[(from + 1) % 3].member.id();
            // One that fails leaves a leader too.
            let _ = members[from].member.move_leader(to).await;
        }
    };
    let renewals = members.iter().map(async |running| {
        loop {
            match running.member.lease_renew(LEASE).await {
                Ok(ttl) => assert_eq!(ttl, 60, "as member {} says", running.member.id()),
                Err(trouble) => println!("{trouble}"),
            }
        }
    });
    let renewals = futures::future::join_all(renewals);
    futures::future::select(Box::pin(moves), Box::pin(renewals)).await;
    for running in members {
        running.stop().await;
    }
}

/// Writes without a pause, through every member and many at once, until it is dropped.
async fn write_without_a_pause(members: &[Running]) {
    let value = "v".repeat(4 << 10);
    let writers = (0..300).map(|number| {
        let (key, value) = (format!("key{number}"), &value);
        async move {
            loop {
                // Moving leadership may cost a write its answer.
                let through = &members[number % members.len()].member;
                let _ = through.propose(put(&key, value)).await;
            }
        }
    });
    futures::future::join_all(writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_though_there_are_always_writes_under_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    let from = leader(&members).await;
    let (to, writer) = (members[(from + 1) % 3].member.id(), &members[from]);
    let moving = async {
        until("much is under way", || {
            (writer.member.status().applied_index > 2_000).then_some(())
        })
        .await;
        writer.member.move_leader(to).await
    };
    let writing = write_without_a_pause(&members);
    let moved = match futures::future::select(Box::pin(moving), Box::pin(writing)).await {
        Either::Left((moved, _)) => moved,
        Either::Right(_) => unreachable!("they never stop writing"),
    };
    assert_eq!(moved, Ok(()));
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_stops_sends_those_who_ask_it_to_the_next_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    let old = &members[leader(&members).await].member;
    let desk = old.desk();
    old.stop().await;
    let peer = members
        .iter()
        .map(|running| running.member.id().0)
        .find(|id| *id != old.id().0)
        .expect("three");
    // Neither was appended, and whoever asks must know that: then it may ask again, elsewhere.
    let propose = desk.answer(peer, Request::Propose(peerpb::Propose::default()));
    let Reply::Propose(reply) = propose.await else {
        panic!("not an answer to a proposal");
    };
    let not_leader = peerpb::Trouble {
        kind: peerpb::trouble::Kind::NotLeader as i32,
    };
    let refused = peerpb::propose_reply::Result::Trouble(not_leader);
    assert_eq!(reply.result, Some(refused));
    let change = desk.answer(peer, Request::MemberChange(peerpb::MemberChange::default()));
    let Reply::MemberChange(reply) = change.await else {
        panic!("not an answer to a change of members");
    };
    let refused = peerpb::member_change_reply::Result::Trouble(not_leader);
    assert_eq!(reply.result, Some(refused));
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_stopped_lets_go_of_its_state_whatever_was_under_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    let from = leader(&members).await;
    members[from]
        .member
        .propose(put("a", "1"))
        .await
        .expect("a quorum is there");
    // Nobody answers any more: what is asked from here on stays under way.
    for (at, running) in members.iter().enumerate() {
        running.hang(at != from);
    }
    let mut asked = Vec::new();
    for running in &members {
        let member = running.member.clone();
        asked.push(tokio::spawn(async move {
            let write = member.propose(put("b", "2"));
            let read = member.read_barrier();
            let gone = member.change_members(Change::Remove(9));
            let renewed = member.lease_renew(LEASE);
            drop(futures::join!(write, read, gone, renewed));
        }));
    }
    tokio::task::yield_now().await;
    let engines: Vec<_> = members
        .iter()
        .map(|running| running.engines.clone())
        .collect();
    futures::future::join_all(members.iter().map(|running| running.member.stop())).await;
    members.into_iter().for_each(Running::end);
    until("the state is let go of", || {
        engines.iter().all(Engines::are_let_go).then_some(())
    })
    .await;
    for asking in asked {
        asking.await.expect("no panic");
    }
}
