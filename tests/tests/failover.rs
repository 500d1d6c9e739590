//! Members that die, stop or hang under load: clients go on, and nothing that was acknowledged is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keelson_proto::etcdserverpb as pb;
use keelson_tests::cluster::{Cluster, Spec, member_id};
use keelson_tests::load::{self, Acknowledged, Load};
use keelson_tests::observer::Observer;
use keelson_tests::peers::Server;
use keelson_tests::turn::Turn;
use keelson_tests::wait;

/// Writes that must be acknowledged between two faults, so that each fault has something to destroy.
const BETWEEN_FAULTS: usize = 100;
const WRITERS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_a_watch_go_on_when_the_leader_is_killed() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let load = Load::start("kill", &cluster.client_urls(), WRITERS);
    let observer = Observer::start(load::PREFIX, &cluster.client_urls());
    for _ in 0..3 {
        load.wait_more(BETWEEN_FAULTS).await;
        let leader = cluster.wait_leader().await;
        cluster.member_mut(leader).kill();
        let next = cluster.wait_leader().await;
        assert_ne!(next, leader);
        load.wait_more(BETWEEN_FAULTS).await;
        cluster.restart(leader);
        cluster.wait_ready().await;
    }
    assert_all_kept_and_seen(&cluster, load.stop().await, &observer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_succeeded_at_once_however_long_elections_take() {
    let turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        // etcd waits until the leader's time is up.
        return;
    }
    let spec = Spec::under_test(3)
        .flag("--heartbeat-interval=100")
        .flag("--election-timeout=12000");
    let mut cluster = Cluster::start(&turn, spec).await;
    // The second time, whose turn it is to stand first is another's.
    for _ in 0..2 {
        let leader = cluster.wait_leader().await;
        let survivor = cluster.client((leader + 1) % 3);
        survivor.put("key", "before").await.expect("a put works");
        let killed = Instant::now();
        cluster.member_mut(leader).kill();
        wait::until("a put without the leader", async || {
            survivor.put("key", "after").await
        })
        .await;
        // A follower that only waits does so for three quarters of an election timeout at least.
        let gap = killed.elapsed();
        assert!(gap < Duration::from_secs(4), "nobody led for {gap:?}");
        cluster.restart(leader);
        cluster.wait_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_a_watch_go_on_when_the_leader_hangs() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let load = Load::start("pause", &cluster.client_urls(), WRITERS);
    let observer = Observer::start(load::PREFIX, &cluster.client_urls());
    load.wait_more(BETWEEN_FAULTS).await;
    let hung = cluster.wait_leader().await;
    cluster.member(hung).pause();
    let next = cluster.wait_leader_without(&[hung]).await;
    assert_ne!(next, hung);
    load.wait_more(BETWEEN_FAULTS).await;
    cluster.member(hung).resume();
    cluster.wait_ready().await;
    load.wait_more(BETWEEN_FAULTS).await;
    assert_all_kept_and_seen(&cluster, load.stop().await, &observer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_wakes_up_deposed_serves_no_stale_read() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let deposed = cluster.wait_leader().await;
    cluster
        .client(deposed)
        .put("key", "old")
        .await
        .expect("a put works");
    cluster.member(deposed).pause();
    let leader = cluster.wait_leader_without(&[deposed]).await;
    let client = cluster.client(leader);
    wait::until("a write through the new leader", async || {
        client.put("key", "new").await
    })
    .await;
    cluster.member(deposed).resume();
    let client = cluster.client(deposed);
    // It may refuse while it does not know yet, but it must not answer from the past.
    let value = wait::until("an answer from the deposed leader", async || {
        client.get("key").await
    })
    .await;
    assert_eq!(value.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_stopped_politely_ends_with_success_and_costs_no_write() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let load = Load::start("terminate", &cluster.client_urls(), WRITERS);
    let observer = Observer::start(load::PREFIX, &cluster.client_urls());
    for _ in 0..3 {
        load.wait_more(BETWEEN_FAULTS).await;
        let leader = cluster.wait_leader().await;
        let status = cluster.member_mut(leader).terminate().await;
        assert_polite(status);
        cluster.restart(leader);
        cluster.wait_ready().await;
    }
    assert_all_kept_and_seen(&cluster, load.stop().await, &observer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_to_the_member_that_is_asked_for() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let load = Load::start("move", &cluster.client_urls(), WRITERS);
    for _ in 0..3 {
        load.wait_more(BETWEEN_FAULTS).await;
        let from = cluster.wait_leader().await;
        let to = (from + 1) % 3;
        let status = cluster
            .client(to)
            .status()
            .await
            .expect("a running member has a status");
        let request = pb::MoveLeaderRequest {
            target_id: member_id(&status.header),
        };
        cluster
            .client(from)
            .maintenance()
            .move_leader(request)
            .await
            .expect("a follower can take over");
        wait::until("the new leader", async || {
            let leader = cluster.wait_leader().await;
            if leader == to {
                Ok(())
            } else {
                Err(format!("m{leader} leads"))
            }
        })
        .await;
    }
    let acknowledged = load.stop().await;
    let found = cluster
        .client(0)
        .list(load::PREFIX)
        .await
        .expect("a list works");
    load::assert_kept(&acknowledged, &found);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged_or_read_as_linearizable() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let leader = cluster.wait_leader().await;
    cluster
        .client(leader)
        .put("key", "before")
        .await
        .expect("a put works");
    for place in cluster
        .places()
        .into_iter()
        .filter(|place| *place != leader)
    {
        cluster.member_mut(place).kill();
    }
    let client = cluster.client(leader);
    let (write, read) = tokio::join!(client.put("key", "after"), client.get("key"));
    write.expect_err("a write needs a majority");
    read.expect_err("a linearizable read needs a majority");
    let local = pb::RangeRequest {
        key: "key".into(),
        serializable: true,
        ..Default::default()
    };
    let local = client
        .kv()
        .range(local)
        .await
        .expect("a serializable read needs only this member")
        .into_inner();
    assert_eq!(local.kvs[0].value, "before");
    for place in cluster
        .places()
        .into_iter()
        .filter(|place| *place != leader)
    {
        cluster.restart(place);
    }
    cluster.wait_ready().await;
    wait::until("writes to work again", async || {
        client.put("key", "again").await
    })
    .await;
    cluster.wait_equal_hashkv().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_member_leads_on_while_nothing_happens() {
    let turn = Turn::take().await;
    let spec = Spec::under_test(1)
        .flag("--heartbeat-interval=50")
        .flag("--election-timeout=500");
    let cluster = Cluster::start(&turn, spec).await;
    let client = cluster.client(0);
    // Several election timeouts, without a write that would prove leadership.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let status = client
            .status()
            .await
            .expect("a running member has a status");
        assert_eq!(status.leader, member_id(&status.header), "{status:?}");
        assert_eq!(status.errors, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_its_leader_and_then_expires_with_its_keys() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let leader = cluster.wait_leader().await;
    let other = (leader + 1) % 3;
    let client = cluster.client(other);
    let grant = pb::LeaseGrantRequest { id: 7, ttl: 3 };
    client
        .lease()
        .lease_grant(grant)
        .await
        .expect("a lease can be granted");
    let put = pb::PutRequest {
        key: "leased".into(),
        lease: 7,
        ..Default::default()
    };
    client.kv().put(put).await.expect("a put works");
    cluster.member_mut(leader).kill();
    cluster.wait_leader().await;
    let question = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    let status = client
        .lease()
        .lease_time_to_live(question)
        .await
        .expect("the new leader knows it")
        .into_inner();
    assert!(
        status.ttl > 0,
        "a new leader gives a lease its whole time again: {status:?}"
    );
    assert_eq!(status.keys, ["leased"]);
    wait::until("the end of the leased key", async || {
        match client.get("leased").await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is still there".to_owned()),
            Err(status) => Err(status.to_string()),
        }
    })
    .await;
    let revoke = client
        .lease()
        .lease_revoke(pb::LeaseRevokeRequest { id: 7 })
        .await;
    assert_eq!(
        revoke.expect_err("an expired lease is gone").code(),
        tonic::Code::NotFound
    );
}

/// A server that is told to stop ends with 0, or (as etcd does) by the signal that it was sent.
fn assert_polite(status: std::process::ExitStatus) {
    use std::os::unix::process::ExitStatusExt;
    let by_signal = status.signal() == Some(rustix::process::Signal::TERM.as_raw());
    assert!(
        status.success() || by_signal,
        "a member that was told to stop ended with {status}"
    );
}

/// Every acknowledged write is there, on all members alike, and the watcher saw each write once.
async fn assert_all_kept_and_seen(
    cluster: &Cluster,
    acknowledged: Acknowledged,
    observer: &Observer,
) {
    let client = cluster.any_client().await.expect("a member answers");
    let found = client.list(load::PREFIX).await.expect("a list works");
    load::assert_kept(&acknowledged, &found);
    let written: BTreeMap<i64, _> = found
        .kvs
        .iter()
        .map(|kv| (kv.mod_revision, kv.key.clone()))
        .collect();
    let last = *written.keys().last().expect("something was written");
    let events = observer.wait_revision(last).await;
    let seen: Vec<_> = events
        .into_iter()
        .filter_map(|event| event.kv)
        .map(|kv| (kv.mod_revision, kv.key))
        .collect();
    assert_eq!(
        seen,
        Vec::from_iter(written),
        "the watcher and the store disagree"
    );
    assert!(observer.streams() >= 1);
    cluster.wait_equal_hashkv().await;
}
