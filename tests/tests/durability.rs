//! SIGKILL at any moment, of one member or of all, again and again: what was acknowledged is there afterwards.
//!
//! The page cache survives the processes, so this is about recovery; that nothing is acknowledged before it is
//! synced, is tested where the files can be made to forget.

use keelson_tests::cluster::{Cluster, Spec};
use keelson_tests::load::{self, Acknowledged, Load};
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use keelson_tests::differential::pair::seed;

const KILLS: usize = 32;
/// Writes acknowledged between two kills.
const BETWEEN_KILLS: usize = 40;
const WRITERS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn killing_members_again_and_again_loses_no_acknowledged_write() {
    let turn = Turn::take().await;
    let mut random = StdRng::seed_from_u64(seed());
    // Elections are what takes the time.
    let spec = Spec::under_test(3)
        .flag("--heartbeat-interval=50")
        .flag("--election-timeout=500");
    let mut cluster = Cluster::start(&turn, spec).await;
    let load = Load::start("kills", &cluster.client_urls(), WRITERS);
    for kill in 0..KILLS {
        // At no special moment: anywhere from right away.
        load.wait_more(random.random_range(0..BETWEEN_KILLS)).await;
        let victims = match kill % 4 {
            0 => cluster.places(),
            1 => vec![cluster.wait_leader().await],
            _ => cluster
                .places()
                .choose_multiple(&mut random, kill % 2 + 1)
                .copied()
                .collect(),
        };
        for place in &victims {
            cluster.member_mut(*place).kill();
        }
        for place in victims {
            cluster.restart(place);
        }
        cluster.wait_ready().await;
        // And the one that was killed takes part again before the next is.
        load.wait_more(1).await;
    }
    let acknowledged = load.stop().await;
    assert!(
        acknowledged.len() >= KILLS,
        "only {} writes were acknowledged",
        acknowledged.len()
    );
    assert_kept_by_each(&mut cluster, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_single_member_again_and_again_loses_no_acknowledged_write() {
    let turn = Turn::take().await;
    let mut random = StdRng::seed_from_u64(seed());
    let mut cluster = Cluster::start(
        &turn,
        Spec::under_test(1)
            .flag("--election-timeout=500")
            .flag("--heartbeat-interval=50"),
    )
    .await;
    let load = Load::start("single", &cluster.client_urls(), WRITERS);
    for _ in 0..KILLS / 2 {
        load.wait_more(random.random_range(0..BETWEEN_KILLS)).await;
        cluster.member_mut(0).kill();
        cluster.restart(0);
        cluster.wait_ready().await;
        load.wait_more(1).await;
    }
    let acknowledged = load.stop().await;
    assert_kept_by_each(&mut cluster, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_stopped_and_started_is_the_same() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let load = Load::start("stop", &cluster.client_urls(), WRITERS);
    load.wait_more(300).await;
    let acknowledged = load.stop().await;
    let before = cluster.wait_equal_hashkv().await;
    for place in cluster.places() {
        cluster.member_mut(place).terminate().await;
    }
    for place in cluster.places() {
        cluster.restart(place);
    }
    cluster.wait_ready().await;
    wait::until("reads to work again", async || {
        cluster.client(0).get("any").await
    })
    .await;
    assert_eq!(cluster.wait_equal_hashkv().await, before);
    assert_kept_by_each(&mut cluster, &acknowledged).await;
}

/// Each member has all that was acknowledged, and all have the same.
async fn assert_kept_by_each(cluster: &mut Cluster, acknowledged: &Acknowledged) {
    cluster.wait_ready().await;
    for place in cluster.places() {
        let client = cluster.client(place);
        let found = wait::until("a list of everything", async || {
            client.list(load::PREFIX).await
        })
        .await;
        load::assert_kept(acknowledged, &found);
    }
    cluster.wait_equal_hashkv().await;
}
