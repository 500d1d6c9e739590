//! What is malformed, or more than anybody needs, costs its sender an error, and neither its connection nor the member.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::{CANCEL, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM};
use crate::frames::{call, frame};
use crate::member::{Running, put};

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// A message with its five bytes before it.
fn message(compressed: u8, length: usize, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[compressed][..], &length, payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_their_own_call_alone() {
    let running = Running::start().await;
    let mut connection = Connection::open(&running).await;
    let bodies = [
        // A field that ends too soon, a tag that is none, a group that is never closed, a varint without an end.
        message(0, 2, &[0x0a, 0x7f]),
        message(0, 1, &[0x07]),
        message(0, 1, &[0x0b]),
        message(0, 11, &[0xff; 11]),
        // Compressed with nothing agreed upon, or by no method at all.
        message(1, 2, &[0x0a, 0x00]),
        message(9, 2, &[0x0a, 0x00]),
        // Longer than it is, and longer than anything may be.
        message(0, 100, &[0x0a]),
        message(0, u32::MAX as usize, &[0x0a]),
        // No message, and half of a head.
        vec![],
        vec![0, 0],
    ];
    let mut stream = 1;
    for path in [PUT, WATCH, KEEP_ALIVE, "/etcdserverpb.KV/RangeStream"] {
        for body in &bodies {
            let block = call(path, "x", "y");
            connection
                .send(&frame(HEADERS, END_HEADERS, stream, &block))
                .await;
            connection
                .send(&frame(DATA, END_STREAM, stream, body))
                .await;
            // A watch goes on after its client has said all it had to say.
            if path == WATCH && body.is_empty() {
                connection
                    .send(&frame(RST_STREAM, 0, stream, &CANCEL))
                    .await;
            } else {
                connection.end_of(stream).await;
            }
            stream += 2;
        }
    }
    running.kv().await.put(put("a", "1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_many_calls_at_once_does_not_cost_the_connection() {
    let running = Running::start().await;
    let mut connection = Connection::open(&running).await;
    let block = call(PUT, "x", "y");
    let mut bytes = Vec::new();
    for stream in (1..1000).step_by(2) {
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &block));
        bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    bytes.extend(frame(HEADERS, END_HEADERS, 1001, &block));
    bytes.extend(frame(DATA, END_STREAM, 1001, &message(0, 3, b"\x0a\x01a")));
    connection.send(&bytes).await;
    connection.end_of(1001).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_beyond_measure_ends_its_own_call_alone() {
    let running = Running::start().await;
    let mut connection = Connection::open(&running).await;
    let block = call(PUT, "x", &"y".repeat(16_000));
    connection
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
        .await;
    connection.end_of(1).await;
    for (stream, value) in [(3, "hasleader"), (5, "1n"), (7, "not a time")] {
        let block = call(PUT, "grpc-timeout", value);
        let body = message(0, 3, b"\x0a\x01a");
        connection
            .send(&frame(HEADERS, END_HEADERS, stream, &block))
            .await;
        connection
            .send(&frame(DATA, END_STREAM, stream, &body))
            .await;
        connection.end_of(stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_over_http_1_is_answered_and_harms_nobody() {
    let running = Running::start().await;
    for path in [PUT, WATCH, "/no.such/Method"] {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nContent-Length: 5\r\n\
             Connection: close\r\n\r\n"
        );
        let request = [head.as_bytes(), &[0xff; 5]].concat();
        socket.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}: {answer:?}");
    }
    running.kv().await.put(put("a", "1")).await.unwrap();
}
