//! The same random commands and watches through the server under test and a real etcd, replies compared field by
//! field. `KEELSON_SEED` repeats a run.

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::cluster::{Cluster, Spec};
use keelson_tests::differential::command::Command;
use keelson_tests::differential::generate::Generator;
use keelson_tests::differential::known::{self, Known};
use keelson_tests::differential::pair::{Pair, seed};

use keelson_tests::peers::Server;
use keelson_tests::turn::Turn;
use keelson_tests::watch::expect::{everything, expected};
use keelson_tests::watch::record::NO_WATCH;
use keelson_tests::watch::session::Session;
use pb::request_op::Request;

/// Commands of a run.
const COMMANDS: usize = 2_000;
/// Rounds of watches, and in each of them: watches, and writes that they see come.
const WATCH_ROUNDS: usize = 6;
const WATCHES: usize = 24;
const WATCHED_WRITES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn two_etcds_of_one_version_answer_equally() {
    let turn = Turn::take().await;
    let mut both = servers(&turn, Spec::of(Server::Etcd35, 1), &[]).await;
    both.pair.run(COMMANDS, Generator::command).await;
    both.watch().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_4_answers_like_etcd_3_5_but_for_what_is_known() {
    let turn = Turn::take().await;
    let mut both = servers(&turn, Spec::of(Server::Etcd34, 1), known::ETCD_3_4).await;
    both.pair.run(COMMANDS, Generator::command).await;
    both.watch().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_write_that_only_one_of_them_has_is_found() {
    let turn = Turn::take().await;
    let mut both = servers(&turn, Spec::of(Server::Etcd35, 1), &[]).await;
    let (subject, _) = both.pair.clients();
    subject.put("a", "x").await.expect("a put works");
    let run = async move { both.pair.run(COMMANDS, Generator::command).await };
    let found = tokio::spawn(run).await.expect_err("the servers differ");
    let says = found
        .into_panic()
        .downcast::<String>()
        .expect("the panic has a text");
    assert!(says.contains("differs (KEELSON_SEED="), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_the_compacted_revision_itself_brings_the_event_there() {
    let turn = Turn::take().await;
    let cluster = Cluster::start(&turn, Spec::under_test(1)).await;
    let client = cluster.client(0);
    for value in ["one", "two", "three"] {
        client.put("key", value).await.expect("a put works");
    }
    let compact = pb::CompactionRequest {
        revision: 3,
        physical: true,
    };
    client
        .kv()
        .compact(compact)
        .await
        .expect("a compaction works");
    let (mut session, created) =
        Session::open("the server under test", &client, everything(3)).await;
    let events = session.wait_events(created.watch_id, 2).await;
    let values: Vec<_> = events
        .iter()
        .filter_map(|event| event.kv.as_ref())
        .map(|kv| kv.value.clone())
        .collect();
    assert_eq!(values, ["two", "three"]);
    let below = session.create(everything(2)).await;
    let ended = session.wait_canceled(below.watch_id).await;
    assert_eq!(
        (
            ended.compact_revision,
            ended.header.unwrap_or_default().revision
        ),
        (3, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_answers_every_command_like_etcd() {
    let turn = Turn::take().await;
    let mut both = servers(&turn, Spec::under_test(1), known::KVD).await;
    both.pair.run(COMMANDS, Generator::command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_three_members_answers_like_etcd() {
    let turn = Turn::take().await;
    let mut both = servers(&turn, Spec::under_test(3), known::KVD).await;
    both.pair.run(COMMANDS, Generator::shared_command).await;
    both.subject.wait_equal_hashkv().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_on_one_member_bring_what_etcd_brings() {
    let turn = Turn::take().await;
    let mut both = servers(&turn, Spec::under_test(1), known::KVD).await;
    both.watch().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_on_any_of_three_members_bring_what_etcd_brings() {
    let turn = Turn::take().await;
    let mut both = servers(&turn, Spec::under_test(3), known::KVD).await;
    both.watch().await;
}

struct Both {
    pair: Pair,
    subject: Cluster,
    _reference: Cluster,
}

async fn servers(turn: &Turn, subject: Spec, known: &'static [Known]) -> Both {
    let subject = Cluster::start(turn, subject).await;
    let reference = Cluster::start(turn, Spec::of(Server::Etcd35, 1)).await;
    let pair = Pair::new(seed(), &subject, &reference, known);
    Both {
        pair,
        subject,
        _reference: reference,
    }
}

impl Both {
    /// Rounds of: a history, watches over its past and future, more of it, and all that they brought compared.
    async fn watch(&mut self) {
        for _ in 0..WATCH_ROUNDS {
            self.pair
                .run(WATCHED_WRITES, Generator::shared_command)
                .await;
            self.watch_round().await;
        }
    }

    async fn watch_round(&mut self) {
        let (subject, reference) = self.pair.clients();
        // A follower knows of everything so far once it has answered a linearizable read.
        for client in [&subject, &reference] {
            client.get("any").await.expect("a linearizable read works");
        }
        let all = everything(self.pair.generator().compacted() + 1);
        let (mut got, all_got) =
            Session::open("the server under test", &subject, all.clone()).await;
        let (mut wanted, all_wanted) = Session::open("the reference", &reference, all).await;
        assert_eq!(all_got, all_wanted, "the watch of everything");
        let mut watches = Vec::new();
        let compacted = self.pair.generator().compacted();
        for number in 0..WATCHES {
            let mut request = self.pair.generator().watch();
            let too_old = (1..compacted).contains(&request.start_revision);
            if too_old {
                // An id of its own: etcd keeps it until the client, too, cancels the watch; others may not.
                request.watch_id = 100 + i64::try_from(number).expect("it is small");
            }
            let created = wanted.create(request.clone()).await;
            let answer = got.create(request.clone()).await;
            assert_eq!(answer, created, "the answer to {request:?}");
            if created.watch_id == NO_WATCH || created.canceled {
                continue;
            }
            if too_old {
                let ended = wanted.wait_canceled(created.watch_id).await;
                assert_eq!(
                    got.wait_canceled(created.watch_id).await,
                    ended,
                    "the end of {request:?}"
                );
                continue;
            }
            watches.push((created, request));
        }

        self.pair.run(WATCHED_WRITES, Generator::write).await;
        let revision = self.pair.generator().revision();
        let history = wanted
            .wait_revision(all_wanted.watch_id, revision)
            .await
            .to_vec();
        assert_eq!(
            got.wait_revision(all_got.watch_id, revision).await,
            history,
            "all events"
        );
        for (created, request) in &watches {
            let created_at = created.header.unwrap_or_default().revision;
            let events = expected(&history, request, created_at);
            let of = format!("the events of {created:?}, for {request:?}");
            assert_eq!(
                wanted.wait_events(created.watch_id, events.len()).await,
                events,
                "reference: {of}"
            );
            assert_eq!(
                got.wait_events(created.watch_id, events.len()).await,
                events,
                "under test: {of}"
            );
        }

        // A watch that waits for the future leaves a progress request without an answer, in newer versions.
        for (created, request) in &watches {
            if request.start_revision > revision || self.pair.one_in(4) {
                let canceled = wanted.cancel(created.watch_id).await;
                assert_eq!(
                    got.cancel(created.watch_id).await,
                    canceled,
                    "the answer to a cancel of {request:?}"
                );
            }
        }
        got.cancel_unknown(1_000).await;
        wanted.cancel_unknown(1_000).await;
        assert_eq!(wanted.progress().await, revision);
        assert_eq!(got.progress().await, revision);
        // Whatever came too much would have come before the answer about progress.
        for (created, request) in &watches {
            let (got, wanted) = (
                got.record().watch(created.watch_id),
                wanted.record().watch(created.watch_id),
            );
            assert_eq!(got.events, wanted.events, "the events of {request:?}");
            assert_eq!(
                got.controls, wanted.controls,
                "what was said to {request:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_txn_that_kills_etcd_is_refused_and_leaves_the_cluster_alive() {
    let delete = pb::DeleteRangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        prev_kv: false,
    };
    let put = pb::PutRequest {
        key: "b".into(),
        ignore_lease: true,
        value: "2".into(),
        ..Default::default()
    };
    refused_as_duplicate([
        Request::RequestDeleteRange(delete),
        Request::RequestPut(put),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_never_changed_twice_in_one_revision_by_nested_txns_either() {
    let nested = |op| {
        let success = vec![pb::RequestOp { request: Some(op) }];
        Request::RequestTxn(pb::TxnRequest {
            success,
            ..Default::default()
        })
    };
    let put = pb::PutRequest {
        key: "b".into(),
        value: "2".into(),
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: "a".into(),
        range_end: "c".into(),
        prev_kv: false,
    };
    refused_as_duplicate([
        nested(Request::RequestPut(put)),
        nested(Request::RequestDeleteRange(delete)),
    ])
    .await;
}

/// Sends a txn that etcd either does not survive or lets through.
async fn refused_as_duplicate(ops: [Request; 2]) {
    let turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        return;
    }
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let client = cluster.client(0);
    client.put("a", "1").await.expect("a put works");
    client.put("b", "1").await.expect("a put works");

    let success = ops.map(|op| pb::RequestOp { request: Some(op) }).to_vec();
    let refused = client
        .kv()
        .txn(pb::TxnRequest {
            success,
            ..Default::default()
        })
        .await;

    let refused = refused.expect_err("changing one key twice is refused");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        "etcdserver: duplicate key given in txn request"
    );
    cluster.wait_ready().await;
    for place in cluster.places() {
        assert_eq!(
            cluster
                .client(place)
                .get("b")
                .await
                .expect("a get works")
                .as_deref(),
            Some("1")
        );
    }
    client.put("c", "1").await.expect("a put still works");
    cluster.wait_equal_hashkv().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_that_does_not_exist_is_refused() {
    let turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        return;
    }
    let cluster = Cluster::start(&turn, Spec::under_test(1)).await;
    let client = cluster.client(0);
    for (sort_order, sort_target) in [(3, 0), (0, 5), (-1, 0), (1, -1)] {
        let request = pb::RangeRequest {
            key: "a".into(),
            sort_order,
            sort_target,
            ..Default::default()
        };
        let refused = client
            .kv()
            .range(request)
            .await
            .expect_err("such a sort is refused");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert_eq!(refused.message(), "etcdserver: invalid sort option");
    }
    client.put("a", "1").await.expect("a put works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_range_says_what_a_range_says() {
    let turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        // Newer than the etcds that we have.
        return;
    }
    let mut both = servers(&turn, Spec::under_test(1), known::KVD).await;
    both.pair.run(COMMANDS / 10, Generator::command).await;
    let (client, _) = both.pair.clients();
    // More than fits into one message.
    for number in 0..100 {
        client
            .put(&format!("large/{number:03}"), &"x".repeat(100_000))
            .await
            .expect("a put works");
    }
    let all = pb::RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    };
    let mut requests = vec![
        pb::RangeRequest {
            limit: 50,
            ..all.clone()
        },
        pb::RangeRequest {
            keys_only: true,
            ..all.clone()
        },
        pb::RangeRequest {
            count_only: true,
            ..all.clone()
        },
        all,
    ];
    for _ in 0..300 {
        let range = both.pair.generator().range();
        let (key, range_end) = (range.key, range.range_end);
        let (limit, revision) = (range.limit, range.revision);
        let (keys_only, count_only) = (range.keys_only, range.count_only);
        let plain = pb::RangeRequest {
            key,
            range_end,
            limit,
            revision,
            ..Default::default()
        };
        requests.push(pb::RangeRequest {
            keys_only,
            count_only,
            ..plain
        });
    }
    for request in requests {
        let whole = client
            .kv()
            .range(request.clone())
            .await
            .map(tonic::Response::into_inner);
        let whole = whole.map_err(|status| (status.code(), status.message().to_owned()));
        let streamed = streamed(&client, request.clone()).await;
        let streamed = streamed.map_err(|status| (status.code(), status.message().to_owned()));
        assert!(streamed == whole, "{request:?} differs when it is streamed");
    }
}

async fn streamed(
    client: &Client,
    request: pb::RangeRequest,
) -> Result<pb::RangeResponse, tonic::Status> {
    let mut chunks = client.kv().range_stream(request).await?.into_inner();
    let mut whole = pb::RangeResponse::default();
    while let Some(chunk) = chunks.message().await? {
        assert!(
            whole.header.is_none(),
            "a chunk after the one with the header, which is the last"
        );
        let chunk = chunk
            .range_response
            .expect("a chunk has a part of the range");
        whole.kvs.extend(chunk.kvs);
        (whole.header, whole.more, whole.count) = (chunk.header, chunk.more, chunk.count);
    }
    Ok(whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_too_large_comes_in_fragments() {
    let turn = Turn::take().await;
    let mut both = servers(&turn, Spec::under_test(1), known::KVD).await;
    const VALUE_BYTES: usize = 700 << 10;
    const RESPONSE_BYTES_MAX: usize = (1536 + 512) << 10;
    for round in 0..3u8 {
        let success = (0..2u8).map(|key| {
            let value = vec![b'a' + round; VALUE_BYTES].into();
            let put = pb::PutRequest {
                key: vec![b'a' + key].into(),
                value,
                ..Default::default()
            };
            pb::RequestOp {
                request: Some(Request::RequestPut(put)),
            }
        });
        let success = success.collect();
        both.pair
            .send(Command::Txn(pb::TxnRequest {
                success,
                ..Default::default()
            }))
            .await;
    }

    let (subject, reference) = both.pair.clients();
    let mut brought = Vec::new();
    for (name, client) in [
        ("the reference", reference),
        ("the server under test", subject),
    ] {
        let (mut session, created) = Session::open(name, &client, everything(1)).await;
        brought.push(session.wait_events(created.watch_id, 6).await.to_vec());
        assert!(
            session.record().fragments() >= 2,
            "{name} sent {} fragments",
            session.record().fragments()
        );
        // One event is never split, so two values may be more than a response should be.
        assert!(
            session.record().largest_bytes() <= RESPONSE_BYTES_MAX,
            "{name} sent {} bytes",
            session.record().largest_bytes()
        );
    }
    assert!(brought[0] == brought[1], "the events differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_is_told_of_progress_when_it_asks_for_it() {
    let turn = Turn::take().await;
    let spec = Spec::under_test(1).flag("--experimental-watch-progress-notify-interval=200ms");
    let cluster = Cluster::start(&turn, spec).await;
    let client = cluster.client(0);
    let request = pb::WatchCreateRequest {
        key: "quiet".into(),
        progress_notify: true,
        ..Default::default()
    };
    let (mut session, created) = Session::open("the server under test", &client, request).await;
    let mut revision = 0;
    for value in 0..5 {
        revision = client
            .put("loud", &value.to_string())
            .await
            .expect("a put works");
    }
    while session.wait_progress_notify(created.watch_id).await < revision {}
    assert_eq!(
        session.wait_progress_notify(created.watch_id).await,
        revision
    );
}
