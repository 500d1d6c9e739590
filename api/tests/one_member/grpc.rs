//! gRPC: headers, errors, limits, streams.

use keelson_proto::etcdserverpb::request_op::Request as Op;
use keelson_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, DeleteRangeRequest,
    HashKvRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest, MemberListRequest,
    MemberRemoveRequest, MoveLeaderRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    SnapshotRequest, StatusRequest, TxnRequest,
};
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::member::{CLUSTER_ID, MEMBER_ID, Running, get, put};

fn assert_header(header: Option<&ResponseHeader>, revision: i64) {
    let header = header.expect("every such reply has a header");
    assert_eq!(
        (header.cluster_id, header.member_id, header.revision),
        (CLUSTER_ID, MEMBER_ID, revision)
    );
    assert!(header.raft_term > 0);
}

fn is(error: &Status, code: Code, message: &str) {
    assert_eq!((error.code(), error.message()), (code, message));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_say_who_answers_and_at_which_revision() {
    let running = Running::start().await;
    let mut kv = running.kv().await;
    assert_header(
        kv.range(get("a")).await.unwrap().get_ref().header.as_ref(),
        1,
    );
    assert_header(
        kv.put(put("a", "1"))
            .await
            .unwrap()
            .get_ref()
            .header
            .as_ref(),
        2,
    );
    let missing = DeleteRangeRequest {
        key: "no".into(),
        ..DeleteRangeRequest::default()
    };
    assert_header(
        kv.delete_range(missing)
            .await
            .unwrap()
            .get_ref()
            .header
            .as_ref(),
        2,
    );
    kv.put(put("a", "2")).await.unwrap();
    let past = RangeRequest {
        revision: 2,
        ..get("a")
    };
    let reply = kv.range(past).await.unwrap().into_inner();
    assert_eq!(&reply.kvs[0].value[..], b"1");
    assert_header(reply.header.as_ref(), 3);
    let compaction = CompactionRequest {
        revision: 3,
        physical: true,
    };
    assert_header(
        kv.compact(compaction)
            .await
            .unwrap()
            .get_ref()
            .header
            .as_ref(),
        3,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_about_the_cluster_carry_no_revision_and_some_no_header() {
    let running = Running::start().await;
    running.kv().await.put(put("a", "1")).await.unwrap();
    let members = running
        .cluster()
        .await
        .member_list(MemberListRequest { linearizable: true })
        .await
        .unwrap();
    assert_header(members.get_ref().header.as_ref(), 0);
    assert_eq!(members.get_ref().members[0].id, MEMBER_ID);
    let mut maintenance = running.maintenance().await;
    assert_eq!(
        maintenance
            .defragment(DefragmentRequest {})
            .await
            .unwrap()
            .get_ref()
            .header,
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_txn_that_only_reads_is_served_without_the_log() {
    let running = Running::start().await;
    let mut kv = running.kv().await;
    kv.put(put("a", "1")).await.unwrap();
    let before = running.member.status().last_index;
    let read = |request| RequestOp {
        request: Some(request),
    };
    let nested = TxnRequest {
        success: vec![read(Op::RequestRange(get("a")))],
        ..TxnRequest::default()
    };
    let txn = TxnRequest {
        success: vec![read(Op::RequestTxn(nested))],
        ..TxnRequest::default()
    };
    let reply = kv.txn(txn).await.unwrap().into_inner();
    assert_header(reply.header.as_ref(), 2);
    assert!(reply.succeeded);
    assert_eq!(running.member.status().last_index, before);
    let Some(keelson_proto::etcdserverpb::response_op::Response::ResponseTxn(nested)) =
        &reply.responses[0].response
    else {
        panic!("{reply:?}")
    };
    // As in etcd, a nested txn's header says nothing, and that of a range the revision alone.
    assert_eq!(nested.header, Some(ResponseHeader::default()));
    let Some(keelson_proto::etcdserverpb::response_op::Response::ResponseRange(range)) =
        &nested.responses[0].response
    else {
        panic!("{nested:?}")
    };
    let only_revision = ResponseHeader {
        revision: 2,
        ..ResponseHeader::default()
    };
    assert_eq!(range.header, Some(only_revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_etcds_codes_and_texts() {
    let running = Running::start().await;
    let mut kv = running.kv().await;
    is(
        &kv.put(put("", "1")).await.unwrap_err(),
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    is(
        &kv.range(RangeRequest {
            revision: 9,
            ..get("a")
        })
        .await
        .unwrap_err(),
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    is(
        &kv.put(PutRequest {
            lease: 9,
            ..put("a", "1")
        })
        .await
        .unwrap_err(),
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    is(
        &kv.range_stream(RangeRequest {
            min_mod_revision: 1,
            ..get("a")
        })
        .await
        .unwrap_err(),
        Code::Unimplemented,
        "RangeStream does not support revision filters",
    );
    let mut cluster = running.cluster().await;
    let bad = MemberAddRequest {
        peer_ur_ls: vec!["127.0.0.1:1".into()],
        is_learner: false,
    };
    is(
        &cluster.member_add(bad).await.unwrap_err(),
        Code::InvalidArgument,
        "etcdserver: given member URLs are invalid",
    );
    is(
        &cluster
            .member_remove(MemberRemoveRequest { id: 9 })
            .await
            .unwrap_err(),
        Code::NotFound,
        "etcdserver: member not found",
    );
    is(
        &running
            .maintenance()
            .await
            .move_leader(MoveLeaderRequest { target_id: 9 })
            .await
            .unwrap_err(),
        Code::FailedPrecondition,
        "etcdserver: bad leader transferee",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_unimplemented() {
    let running = Running::start().await;
    let mut grpc = tonic::client::Grpc::new(running.channel().await);
    grpc.ready().await.unwrap();
    let path = "/etcdserverpb.Auth/AuthEnable".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<StatusRequest, StatusRequest>::default();
    let error = grpc
        .unary(tonic::Request::new(StatusRequest {}), path, codec)
        .await
        .unwrap_err();
    is(
        &error,
        Code::Unimplemented,
        "unknown service etcdserverpb.Auth",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_a_limit_costs_its_sender_an_error_and_nothing_else() {
    let running = Running::start().await;
    let mut kv = running.kv().await;
    let sized = |bytes: usize| PutRequest {
        value: vec![7; bytes].into(),
        ..put("a", "")
    };
    kv.put(sized(1_500_000)).await.unwrap();
    let too_large = kv.put(sized(1_600_000)).await.unwrap_err();
    is(
        &too_large,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    let far_too_large = kv.put(sized(3_000_000)).await.unwrap_err();
    assert_eq!(far_too_large.code(), Code::ResourceExhausted);
    let words = "grpc: received message larger than max (3000008 vs. 2097152)";
    assert_eq!(far_too_large.message(), words);
    assert_header(
        kv.put(put("a", "1"))
            .await
            .unwrap()
            .get_ref()
            .header
            .as_ref(),
        3,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_over_its_quota_raises_the_alarm_and_still_deletes() {
    let running = Running::start_with(|options| options.quota_bytes = 10_000).await;
    let mut kv = running.kv().await;
    let large = PutRequest {
        value: vec![7; 6_000].into(),
        ..put("a", "")
    };
    kv.put(large.clone()).await.unwrap();
    let full = "etcdserver: mvcc: database space exceeded";
    is(
        &kv.put(PutRequest {
            key: "b".into(),
            ..large
        })
        .await
        .unwrap_err(),
        Code::ResourceExhausted,
        full,
    );
    let mut maintenance = running.maintenance().await;
    let alarms = maintenance
        .alarm(AlarmRequest::default())
        .await
        .unwrap()
        .into_inner()
        .alarms;
    assert_eq!(
        (alarms[0].member_id, alarms[0].alarm),
        (MEMBER_ID, AlarmType::Nospace as i32)
    );
    let errors = maintenance
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner()
        .errors;
    assert_eq!(errors, [format!("memberID:{MEMBER_ID} alarm:NOSPACE ")]);
    is(
        &kv.put(put("c", "1")).await.unwrap_err(),
        Code::ResourceExhausted,
        full,
    );
    let all = DeleteRangeRequest {
        key: "a".into(),
        ..DeleteRangeRequest::default()
    };
    assert_eq!(kv.delete_range(all).await.unwrap().into_inner().deleted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_streamed_with_its_header_and_count_at_the_end() {
    let running = Running::start().await;
    let mut kv = running.kv().await;
    for n in 0..30_u32 {
        let request = PutRequest {
            key: format!("k{n:02}").into(),
            value: vec![7; 100_000].into(),
            ..PutRequest::default()
        };
        kv.put(request).await.unwrap();
    }
    let all = RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..RangeRequest::default()
    };
    let mut stream = kv.range_stream(all).await.unwrap().into_inner();
    let (mut keys, mut last, mut messages) = (0, None, 0);
    while let Some(message) = stream.next().await {
        let range = message.unwrap().range_response.unwrap();
        assert_eq!(last, None, "only the last has a header");
        keys += range.kvs.len();
        last = range.header;
        messages += 1;
        assert_eq!(range.count, if last.is_some() { 30 } else { 0 });
    }
    assert_eq!(keys, 30);
    assert!(messages > 1);
    assert_header(last.as_ref(), 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_granted_for_no_less_than_an_election_needs_and_die_when_revoked() {
    let running = Running::start().await;
    let mut lease = running.lease().await;
    let granted = lease
        .lease_grant(LeaseGrantRequest { ttl: 0, id: 0 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(granted.ttl, 2);
    assert!(granted.id > 0);
    running
        .kv()
        .await
        .put(PutRequest {
            lease: granted.id,
            ..put("a", "1")
        })
        .await
        .unwrap();
    let listed = lease
        .lease_leases(LeaseLeasesRequest {})
        .await
        .unwrap()
        .into_inner()
        .leases;
    assert_eq!(
        listed.iter().map(|lease| lease.id).collect::<Vec<_>>(),
        [granted.id]
    );
    let ask = LeaseTimeToLiveRequest {
        id: granted.id,
        keys: true,
    };
    let told = lease.lease_time_to_live(ask).await.unwrap().into_inner();
    assert!((0..=2).contains(&told.ttl), "{told:?}");
    assert_eq!((told.granted_ttl, told.keys), (2, vec!["a".into()]));
    lease
        .lease_revoke(LeaseRevokeRequest { id: granted.id })
        .await
        .unwrap();
    let told = lease.lease_time_to_live(ask).await.unwrap().into_inner();
    assert_eq!((told.ttl, told.granted_ttl, told.keys.len()), (-1, 0, 0));
    let gone = lease
        .lease_revoke(LeaseRevokeRequest { id: granted.id })
        .await
        .unwrap_err();
    is(
        &gone,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let long = lease
        .lease_grant(LeaseGrantRequest {
            ttl: 9_000_000_001,
            id: 0,
        })
        .await
        .unwrap_err();
    is(&long, Code::OutOfRange, "etcdserver: too large lease TTL");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_alive_answers_each_request_and_zero_for_a_lease_that_is_not_there() {
    let running = Running::start().await;
    let mut lease = running.lease().await;
    lease
        .lease_grant(LeaseGrantRequest { ttl: 60, id: 7 })
        .await
        .unwrap();
    let asked = tokio_stream::iter([7, 8, 7].map(|id| LeaseKeepAliveRequest { id }));
    let replies = lease.lease_keep_alive(asked).await.unwrap().into_inner();
    let told: Vec<(i64, i64)> = replies
        .map(|reply| reply.map(|reply| (reply.id, reply.ttl)).unwrap())
        .collect()
        .await;
    assert_eq!(told, [(7, 60), (8, 0), (7, 60)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_every_field() {
    let running = Running::start().await;
    running.kv().await.put(put("a", "1")).await.unwrap();
    let status = running
        .maintenance()
        .await
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_header(status.header.as_ref(), 2);
    assert_eq!((status.leader, status.is_learner), (MEMBER_ID, false));
    assert_eq!(status.errors, Vec::<String>::new());
    assert!(status.db_size > 0);
    assert!(status.raft_index > 0 && status.raft_applied_index > 0 && status.raft_term > 0);
    assert_eq!(
        (status.version.as_str(), status.storage_version.as_str()),
        ("3.6.0", "3.6.0")
    );
    assert!(status.downgrade_info.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hash_of_a_revision_stays_when_more_is_written() {
    let running = Running::start().await;
    let (mut kv, mut maintenance) = (running.kv().await, running.maintenance().await);
    kv.put(put("a", "1")).await.unwrap();
    let first = maintenance
        .hash_kv(HashKvRequest { revision: 0 })
        .await
        .unwrap()
        .into_inner();
    // etcd's word for a store that was never compacted.
    assert_eq!((first.hash_revision, first.compact_revision), (2, -1));
    kv.put(put("a", "2")).await.unwrap();
    let again = maintenance
        .hash_kv(HashKvRequest { revision: 2 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.hash, first.hash);
    let now = maintenance
        .hash_kv(HashKvRequest { revision: 0 })
        .await
        .unwrap()
        .into_inner();
    assert_ne!(now.hash, first.hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_ends_with_its_checksum_and_leaves_nothing_behind() {
    let running = Running::start().await;
    running.kv().await.put(put("a", "1")).await.unwrap();
    let stream = running
        .maintenance()
        .await
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let messages: Vec<_> = stream.map(Result::unwrap).collect().await;
    let (sum, parts) = messages.split_last().unwrap();
    let archive: Vec<u8> = parts.iter().flat_map(|part| part.blob.to_vec()).collect();
    assert_eq!(sum.blob[..], Sha256::digest(&archive)[..]);
    assert!(messages.iter().all(|message| message.header.is_none()));
    let names: Vec<String> = tar::Archive::new(&archive[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names[0], keelson_api::snapshot::HEAD_NAME);
    assert!(names.len() > 1);
    assert_eq!(
        std::fs::read_dir(running.scratch.path()).unwrap().count(),
        0
    );
}
