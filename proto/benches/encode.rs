//! What encoding the largest and the most frequent messages costs: `make micro`.

use bytes::{Bytes, BytesMut};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use keelson_proto::commandpb::{Command, command::Request};
use keelson_proto::etcdserverpb::{PutRequest, RangeResponse, ResponseHeader};
use keelson_proto::mvccpb::KeyValue;
use prost::Message;

fn main() {
    divan::main();
}

/// A list of 10,000 keys of 1 KiB, into a buffer that is large enough.
#[divan::bench]
fn encode_list_of_10_mb(bencher: Bencher<'_, '_>) {
    let kvs: Vec<KeyValue> = (0..10_000)
        .map(|n| KeyValue {
            key: key(n),
            create_revision: n,
            mod_revision: 1_000_000 + n,
            version: 3,
            value: vec![b'v'; 1024].into(),
            lease: 0,
        })
        .collect();
    let reply = RangeResponse {
        header: Some(ResponseHeader::default()),
        count: kvs.len() as i64,
        more: false,
        kvs,
    };
    let length = reply.encoded_len();
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        let reply = black_box(&reply);
        let mut bytes = BytesMut::with_capacity(reply.encoded_len());
        reply.encode_raw(&mut bytes);
        assert_eq!(bytes.len(), length);
        bytes
    });
}

/// What the log carries for a put of 256 bytes.
#[divan::bench(sample_size = 1_000)]
fn encode_put_command(bencher: Bencher<'_, '_>) {
    let command = put_command();
    bencher.bench_local(|| black_box(&command).encode_to_vec());
}

#[divan::bench(sample_size = 1_000)]
fn decode_put_command(bencher: Bencher<'_, '_>) {
    let command = put_command();
    let encoded = Bytes::from(command.encode_to_vec());
    assert_eq!(Command::decode(encoded.clone()).as_ref(), Ok(&command));
    bencher.bench_local(|| Command::decode(black_box(&encoded).clone()));
}

fn put_command() -> Command {
    let put = PutRequest {
        key: key(1),
        value: vec![b'v'; 256].into(),
        ..PutRequest::default()
    };
    Command {
        request: Some(Request::Put(put)),
        ..Command::default()
    }
}

fn key(n: i64) -> Bytes {
    format!("/registry/pods/namespace/pod-{n:09}").into()
}
