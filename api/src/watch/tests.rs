//! The service over a real connection, in front of a store in memory.

use super::*;
use keelson_proto::commandpb::{Command, command};
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{
    PutRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchResponse,
};
use keelson_store::memory::MemoryEngine;
use keelson_store::{Entry, LogId, MemberId, Payload, Store};
use keelson_watch::{Options, Stats};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

/// Sends bytes as they are.
struct Raw;
impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = WatchRequest;
    type Encoder = Raw;
    type Decoder = Frames;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Frames {
        Frames
    }
}
impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

/// A server on loopback, its hub, and the store that feeds it.
struct Rig {
    store: Store<MemoryEngine>,
    hub: Arc<Hub<MemoryEngine>>,
    index: u64,
    leader_lost: Arc<AtomicBool>,
    is_learner: Arc<AtomicBool>,
    channel: Channel,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.hub.close();
    }
}

impl Rig {
    async fn start(options: Options) -> Rig {
        let engine = Arc::new(MemoryEngine::default());
        let store = Store::open(engine, Default::default()).expect("an empty store opens");
        let hub = Hub::new(store.reader(), options);
        let catching_up = hub.clone();
        std::thread::spawn(move || keelson_watch::run_catch_up(&catching_up));

        let (leader_lost, is_learner) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let ask = |flag: &Arc<AtomicBool>| -> Arc<dyn Fn() -> bool + Send + Sync> {
            let flag = flag.clone();
            Arc::new(move || flag.load(Ordering::SeqCst))
        };
        let service = WatchService::new(
            hub.clone(),
            WatchSettings {
                leader_lost: ask(&leader_lost),
                is_learner: ask(&is_learner),
                election_timeout: Duration::from_millis(30),
                request_bytes_max: 100_000,
            },
        );
        let incoming =
            TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).expect("loopback has a free port");
        let address = incoming
            .local_addr()
            .expect("a bound socket has an address");
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        Rig {
            store,
            hub,
            index: 0,
            leader_lost,
            is_learner,
            channel,
        }
    }

    fn put(&mut self, key: &str, value: &str) {
        self.index += 1;
        let put = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        };
        let command = Command {
            request: Some(command::Request::Put(put)),
            ..Default::default()
        };
        let entry = Entry {
            id: LogId {
                term: 1,
                index: self.index,
            },
            payload: Payload::Command(command.encode_to_vec().into()),
        };
        let applied = self.store.apply(&[entry]).expect("memory does not fail");
        self.hub
            .publish(&applied.events, applied.revision, applied.compacted);
    }

    async fn open(&self, needs_leader: bool) -> Result<Client, Status> {
        let (requests, receiver) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if needs_leader {
            request
                .metadata_mut()
                .insert("hasleader", "true".parse().unwrap());
        }
        let mut client =
            WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        Ok(Client {
            requests: Some(requests),
            responses: client.watch(request).await?.into_inner(),
        })
    }

    /// Returns when the hub has come to hold this.
    async fn until(&self, holds: impl Fn(Stats) -> bool) {
        let wait = async {
            while !holds(self.hub.stats()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .expect("the hub gets there");
    }
}

struct Client {
    requests: Option<mpsc::Sender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
}

impl Client {
    async fn ask(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.requests
            .as_ref()
            .expect("open")
            .send(request)
            .await
            .expect("the stream is open");
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        let created = self.next().await;
        assert!(created.created, "{created:?}");
        created
    }

    async fn result(&mut self) -> Result<Option<WatchResponse>, Status> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.responses.message());
        next.await.expect("an answer in time")
    }

    async fn next(&mut self) -> WatchResponse {
        self.result().await.expect("no error").expect("no end")
    }

    /// The values of the next `count` events.
    async fn values(&mut self, count: usize) -> Vec<String> {
        let mut values = Vec::new();
        while values.len() < count {
            let events = self.next().await.events;
            values.extend(
                events
                    .into_iter()
                    .filter_map(|event| event.kv)
                    .map(|kv| String::from_utf8(kv.value.to_vec()).expect("text")),
            );
        }
        values
    }
}

fn create(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn options() -> Options {
    Options::new(7, MemberId(8))
}

#[tokio::test]
async fn a_client_creates_watches_gets_events_asks_for_progress_and_cancels() {
    let mut rig = Rig::start(options()).await;
    rig.put("a", "0");
    let mut client = rig.open(false).await.expect("a stream");
    let created = client
        .create(WatchCreateRequest {
            prev_kv: true,
            ..create("a")
        })
        .await;
    let header = created.header.expect("a header");
    assert_eq!(
        (header.cluster_id, header.member_id, header.revision),
        (7, 8, 2)
    );

    rig.put("a", "1");
    let response = client.next().await;
    let event = &response.events[0];
    let (kv, prev_kv) = (
        event.kv.as_ref().expect("a key"),
        event.prev_kv.as_ref().expect("a previous one"),
    );
    assert_eq!(
        (&kv.value[..], &prev_kv.value[..], kv.version),
        (&b"1"[..], &b"0"[..], 2)
    );

    client
        .ask(RequestUnion::ProgressRequest(WatchProgressRequest {}))
        .await;
    let progress = client.next().await;
    assert_eq!(
        (
            progress.watch_id,
            progress.header.map(|header| header.revision)
        ),
        (-1, Some(3))
    );
    client
        .ask(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: 0,
        }))
        .await;
    assert!(client.next().await.canceled);
    rig.put("a", "2");
    client
        .create(WatchCreateRequest {
            start_revision: 2,
            ..create("a")
        })
        .await;
    assert_eq!(client.values(3).await, ["0", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_delays_nobody_and_then_gets_everything() {
    const COUNT: usize = 3000;
    // The ring holds a tenth of what is missed: the rest comes from the log.
    let mut rig = Rig::start(Options {
        ring_bytes: 300_000,
        ..options()
    })
    .await;
    let (mut slow, mut fast) = (
        rig.open(false).await.expect("a stream"),
        rig.open(false).await.expect("a stream"),
    );
    slow.create(create("a")).await;
    fast.create(create("a")).await;
    let reading = tokio::spawn(async move { fast.values(COUNT).await });
    let expected: Vec<String> = (0..COUNT).map(|number| format!("{number:01000}")).collect();
    for value in &expected {
        rig.put("a", value);
    }
    assert!(reading.await.expect("no panic") == expected);
    assert_eq!(rig.hub.stats().slow_watchers, 1);
    assert!(slow.values(COUNT).await == expected);
}

#[tokio::test]
async fn a_stream_that_asks_for_a_leader_ends_when_there_is_none_and_others_go_on() {
    let mut rig = Rig::start(options()).await;
    let mut demanding = rig.open(true).await.expect("a stream");
    let mut content = rig.open(false).await.expect("a stream");
    demanding.create(create("a")).await;
    content.create(create("a")).await;
    rig.leader_lost.store(true, Ordering::SeqCst);
    let status = demanding.result().await.expect_err("it ends");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    let status = rig
        .open(true)
        .await
        .map(|_| ())
        .expect_err("none is opened");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    rig.put("a", "1");
    assert_eq!(content.values(1).await, ["1"]);
    rig.leader_lost.store(false, Ordering::SeqCst);
    assert!(rig.open(true).await.is_ok());
}

#[tokio::test]
async fn a_learner_serves_no_watches() {
    let rig = Rig::start(options()).await;
    rig.is_learner.store(true, Ordering::SeqCst);
    let status = rig.open(false).await.map(|_| ()).expect_err("refused");
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::FailedPrecondition,
            "etcdserver: rpc not supported for learner"
        )
    );
}

#[tokio::test]
async fn a_stream_ends_as_unavailable_when_the_member_stops() {
    let mut rig = Rig::start(options()).await;
    let mut client = rig.open(false).await.expect("a stream");
    client.create(create("a")).await;
    rig.put("a", "last");
    rig.hub.close();
    assert_eq!(client.values(1).await, ["last"]);
    let status = client.result().await.expect_err("it ends");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
}

#[tokio::test]
async fn a_client_that_closes_its_half_keeps_receiving_and_one_that_leaves_is_forgotten() {
    let mut rig = Rig::start(options()).await;
    let mut client = rig.open(false).await.expect("a stream");
    client.create(create("a")).await;
    client.requests = None;
    for value in ["1", "2"] {
        rig.put("a", value);
    }
    assert_eq!(client.values(2).await, ["1", "2"]);
    drop(client);
    rig.until(|stats| stats == Stats::default()).await;
}

#[tokio::test]
async fn a_malformed_or_oversized_request_ends_its_stream_and_not_the_connection() {
    let mut rig = Rig::start(options()).await;
    let mut client = rig.open(false).await.expect("a stream");
    client.create(create("a")).await;
    for (bytes, code) in [
        (vec![0xff; 40], Code::Internal),
        (vec![0; 200_000], Code::OutOfRange),
    ] {
        let mut grpc = tonic::client::Grpc::new(rig.channel.clone());
        grpc.ready().await.expect("a connection");
        let requests = Request::new(tonic::codegen::tokio_stream::iter([bytes]));
        let path = http::uri::PathAndQuery::from_static(METHOD_PATH);
        let status = match grpc.streaming(requests, path, Raw).await {
            Ok(response) => response
                .into_inner()
                .message()
                .await
                .map(|_| ())
                .expect_err("it ends"),
            Err(status) => status,
        };
        assert_eq!(status.code(), code, "{status:?}");
    }
    rig.put("a", "1");
    assert_eq!(client.values(1).await, ["1"]);
}

#[tokio::test]
async fn another_method_of_the_service_is_unimplemented() {
    let rig = Rig::start(options()).await;
    let mut grpc = tonic::client::Grpc::new(rig.channel.clone());
    grpc.ready().await.expect("a connection");
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Watch/Listen");
    let none = tonic::codegen::tokio_stream::empty();
    let status = grpc
        .streaming(Request::new(none), path, Raw)
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::Unimplemented);
}
