//! HTTP/2 written by hand, for what no client library would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::member::Running;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

/// The code of a stream that its client does not need any more.
pub const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&[a, b, c, kind, flags][..], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// The header block of a call, nothing of it compressed, with one field more.
pub fn call(path: &str, name: &str, value: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a:1"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        (name, value),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A length in seven bits, or more of them (RFC 7541, 5.1).
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(length as u8);
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(rest as u8 & 127 | 128);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A frame that arrived.
pub struct Arrived {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection to a member, after the preface and the first settings.
pub struct Connection(TcpStream);

impl Connection {
    pub async fn open(running: &Running) -> Connection {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        let first = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        socket.write_all(&first).await.unwrap();
        Connection(socket)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame; none when the member has hung up.
    pub async fn next(&mut self) -> Option<Arrived> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Arrived {
            kind,
            flags,
            stream: u32::from_be_bytes(id),
            payload,
        })
    }

    /// Waits for the end of a stream, however it ends. Panics if the whole connection ends.
    pub async fn end_of(&mut self, stream: u32) {
        loop {
            let arrived = self.next().await.expect("the member has hung up");
            assert_ne!(arrived.kind, GOAWAY, "{:?}", arrived.payload);
            let ended = arrived.kind == RST_STREAM
                || [DATA, HEADERS].contains(&arrived.kind) && arrived.flags & END_STREAM != 0;
            if arrived.stream == stream && ended {
                return;
            }
        }
    }
}
