//! Clusters that grow, shrink and replace their members while clients write.

use keelson_proto::etcdserverpb as pb;
use keelson_tests::cluster::{Cluster, Spec};
use keelson_tests::load::{self, Load};
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use tonic::Status;

const WRITERS: usize = 4;
/// Writes acknowledged between two changes.
const BETWEEN_CHANGES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_from_one_to_five_and_shrinks_to_one_under_load() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(1)).await;
    let mut loads = Vec::new();
    // A load knows the members that there are when it starts.
    loads.push(Load::start("one", &cluster.client_urls(), WRITERS));
    for _ in 0..4 {
        loads[0].wait_more(BETWEEN_CHANGES).await;
        cluster.add_member().await;
    }
    loads.push(Load::start("five", &cluster.client_urls(), WRITERS));
    loads[1].wait_more(BETWEEN_CHANGES).await;
    cluster.wait_ready().await;
    assert_eq!(cluster.places().len(), 5);

    // The oldest go first, so that the leader is among them, and what is left was not there in the beginning.
    for place in 0..4 {
        loads[1].wait_more(BETWEEN_CHANGES).await;
        cluster.remove_member(place).await;
        cluster.wait_leader().await;
    }
    loads[1].wait_more(BETWEEN_CHANGES).await;
    let found_by = cluster.any_client().await.expect("the last member answers");
    for load in loads {
        let acknowledged = load.stop().await;
        let found = wait::until("a list of everything", async || {
            found_by.list(load::PREFIX).await
        })
        .await;
        load::assert_kept(&acknowledged, &found);
    }
    let members = found_by
        .members()
        .await
        .expect("the last member lists itself");
    assert_eq!(members.len(), 1, "{members:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_replaced_under_load() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let load = Load::start("replace", &cluster.client_urls(), WRITERS);
    load.wait_more(BETWEEN_CHANGES).await;
    let dead = cluster.wait_leader().await;
    cluster.member_mut(dead).kill();
    cluster.wait_leader().await;
    load.wait_more(BETWEEN_CHANGES).await;
    cluster.remove_member(dead).await;
    load.wait_more(BETWEEN_CHANGES).await;
    let new = cluster.add_member().await;
    load.wait_more(BETWEEN_CHANGES).await;
    let acknowledged = load.stop().await;
    cluster.wait_ready().await;
    cluster.wait_equal_hashkv().await;
    let found = cluster
        .client(new)
        .list(load::PREFIX)
        .await
        .expect("the new member lists everything");
    load::assert_kept(&acknowledged, &found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_joins_after_the_log_is_gone_catches_up_by_snapshot() {
    let turn = Turn::take().await;
    let spec = Spec::under_test(3).flag("--snapshot-count=10");
    let mut cluster = Cluster::start(&turn, spec).await;
    fill(&cluster, "before").await;
    let new = cluster.add_member().await;
    assert_filled(&cluster, new, "before").await;

    // And one that slept through as much catches up likewise.
    cluster.member_mut(new).kill();
    fill(&cluster, "meanwhile").await;
    cluster.restart(new);
    cluster.wait_ready().await;
    assert_filled(&cluster, new, "meanwhile").await;
    cluster.wait_equal_hashkv().await;
}

/// More than members keep of their logs.
const FILL_BYTES: usize = 144 << 20;
const FILL_VALUE_BYTES: usize = 1 << 20;

async fn fill(cluster: &Cluster, prefix: &str) {
    let client = cluster.any_client().await.expect("a member answers");
    let value = "x".repeat(FILL_VALUE_BYTES);
    for number in 0..FILL_BYTES / FILL_VALUE_BYTES {
        client
            .put(&format!("{prefix}/{number}"), &value)
            .await
            .expect("a put works");
    }
}

async fn assert_filled(cluster: &Cluster, place: usize, prefix: &str) {
    let client = cluster.client(place);
    let list = wait::until("a list from the late member", async || {
        client.list(prefix).await
    })
    .await;
    assert_eq!(list.kvs.len(), FILL_BYTES / FILL_VALUE_BYTES);
    let whole =
        |value: &[u8]| value.len() == FILL_VALUE_BYTES && value.iter().all(|byte| *byte == b'x');
    assert!(
        list.kvs.iter().all(|kv| whole(&kv.value)),
        "a value is damaged"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_follows_but_does_not_serve_until_it_is_promoted() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(1)).await;
    cluster
        .client(0)
        .put("key", "value")
        .await
        .expect("a put works");
    let learner = cluster.announce_member(true).await;
    cluster.restart(learner);
    let client = cluster.client(learner);

    let local = pb::RangeRequest {
        key: "key".into(),
        serializable: true,
        ..Default::default()
    };
    wait::until("the learner to follow", async || {
        let reply = client
            .kv()
            .range(local.clone())
            .await
            .map_err(|status| status.to_string())?
            .into_inner();
        if reply.count == 1 {
            Ok(())
        } else {
            Err("the key is not there yet".to_owned())
        }
    })
    .await;
    let refused = client
        .get("key")
        .await
        .expect_err("a learner serves no linearizable read");
    assert_eq!(
        refused.message(),
        "etcdserver: rpc not supported for learner"
    );
    let status = client.status().await.expect("a learner has a status");
    assert!(status.is_learner);

    let second = pb::MemberAddRequest {
        peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
        is_learner: true,
    };
    let refused = cluster
        .client(0)
        .cluster()
        .member_add(second)
        .await
        .expect_err("one learner is the most");
    assert_eq!(
        refused.message(),
        "etcdserver: too many learner members in cluster"
    );

    let members = cluster
        .client(0)
        .members()
        .await
        .expect("the leader lists the members");
    let id = members
        .iter()
        .find(|member| member.is_learner)
        .expect("the learner is listed")
        .id;
    let promote = pb::MemberPromoteRequest { id };
    wait::until("the promotion", async || {
        cluster.client(0).cluster().member_promote(promote).await
    })
    .await;
    let meanwhile = "etcdserver: can only promote a learner member which is in sync with leader";
    wait_refused(
        "etcdserver: can only promote a learner member",
        meanwhile,
        async || {
            cluster
                .client(0)
                .cluster()
                .member_promote(promote)
                .await
                .expect_err("it is a voter now")
        },
    )
    .await;
    cluster.wait_joined(learner).await;
    assert_eq!(
        client
            .get("key")
            .await
            .expect("a voter serves reads")
            .as_deref(),
        Some("value")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn member_requests_that_make_no_sense_are_refused() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    cluster.wait_ready().await;
    let mut client = cluster.client(1).cluster();
    let taken = pb::MemberAddRequest {
        peer_ur_ls: vec![cluster.member(0).peer_url()],
        is_learner: false,
    };
    // Until the members have known each other for a while, etcd says only that.
    let meanwhile = "etcdserver: unhealthy cluster";
    wait_refused(
        "etcdserver: Peer URLs already exists",
        meanwhile,
        async || {
            client
                .member_add(taken.clone())
                .await
                .expect_err("the URL is taken")
        },
    )
    .await;
    for urls in [
        vec![],
        vec!["127.0.0.1:1".to_owned()],
        vec!["http://127.0.0.1:1/path".to_owned()],
    ] {
        let request = pb::MemberAddRequest {
            peer_ur_ls: urls.clone(),
            is_learner: false,
        };
        let refused = client
            .member_add(request)
            .await
            .expect_err("such URLs are malformed");
        assert_eq!(
            refused.message(),
            "etcdserver: given member URLs are invalid",
            "{urls:?}"
        );
    }
    let refused = client
        .member_remove(pb::MemberRemoveRequest { id: 1 })
        .await
        .expect_err("there is no such member");
    assert_eq!(refused.message(), "etcdserver: member not found");
    let update = pb::MemberUpdateRequest {
        id: 1,
        peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
    };
    let refused = client
        .member_update(update)
        .await
        .expect_err("there is no such member");
    assert_eq!(refused.message(), "etcdserver: member not found");
    let refused = client
        .member_promote(pb::MemberPromoteRequest { id: 1 })
        .await
        .expect_err("there is no such member");
    assert_eq!(refused.message(), "etcdserver: member not found");
    assert_eq!(
        cluster
            .client(1)
            .members()
            .await
            .expect("members are listed")
            .len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_stops_and_says_so() {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let leader = cluster.wait_leader().await;
    let victim = (leader + 1) % 3;
    let client = cluster.client(leader);
    let url = cluster.member(victim).peer_url();
    let members = client.members().await.expect("members are listed");
    let id = members
        .iter()
        .find(|member| member.peer_ur_ls.contains(&url))
        .expect("it is listed")
        .id;
    wait::until("the removal", async || {
        client
            .cluster()
            .member_remove(pb::MemberRemoveRequest { id })
            .await
    })
    .await;
    cluster.member_mut(victim).wait_exit().await;
    let log = cluster.member(victim).log();
    assert!(log.contains("removed"), "{log}");
    // It stays out, also when it is started again.
    cluster.restart(victim);
    cluster.member_mut(victim).wait_exit().await;
}

/// Waits until a request is refused for the `expected` reason; `meanwhile` it may be for another one.
async fn wait_refused(expected: &str, meanwhile: &str, mut ask: impl AsyncFnMut() -> Status) {
    wait::until(expected, async || {
        let refused = ask().await;
        if refused.message() == meanwhile {
            return Err(refused);
        }
        assert_eq!(refused.message(), expected);
        Ok(())
    })
    .await;
}
