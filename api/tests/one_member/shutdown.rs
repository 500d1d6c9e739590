//! How clients are let go.

use std::time::Duration;

use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{LeaseKeepAliveRequest, WatchCreateRequest, WatchRequest};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::member::{Running, put};

/// Far less than the deadline at which connections are cut off.
const PROMPTLY: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn streams_without_an_end_are_ended_and_nobody_waits_for_the_deadline() {
    let running = Running::start().await;
    let mut kv = running.kv().await;
    kv.put(put("a", "1")).await.unwrap();

    let create = WatchCreateRequest {
        key: "a".into(),
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let mut events = running
        .watch()
        .await
        .watch(requests)
        .await
        .unwrap()
        .into_inner();
    assert!(events.next().await.unwrap().unwrap().created);
    let asked =
        tokio_stream::iter([LeaseKeepAliveRequest { id: 1 }]).chain(tokio_stream::pending());
    let mut renewals = running
        .lease()
        .await
        .lease_keep_alive(asked)
        .await
        .unwrap()
        .into_inner();
    renewals.next().await.unwrap().unwrap();

    running.api.stop();
    for end in [
        events.next().await.map(|last| last.map(drop)),
        renewals.next().await.map(|last| last.map(drop)),
    ] {
        let status = end.expect("a status").unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "etcdserver: server stopped")
        );
    }
    tokio::time::timeout(PROMPTLY, running.serving)
        .await
        .expect("connections end by themselves")
        .unwrap();
    assert!(
        tokio::net::TcpStream::connect(running.address)
            .await
            .is_err(),
        "nobody listens any more"
    );
}
