//! A connection against a server that is written down byte by byte.

use keelson_proto::etcdserverpb::PutRequest;

use super::super::connection::Next;
use super::super::outgoing::{FIRST_WINDOW, Method};
use super::*;

const PUT: Method = Method("/etcdserverpb.KV/Put");

/// Writes down what it is told.
#[derive(Default)]
struct Told(Vec<String>);

impl Handler for Told {
    fn message(&mut self, call: CallId, message: &[u8], _out: &mut Outgoing) {
        self.0.push(format!(
            "{}: {}",
            call.tag,
            String::from_utf8_lossy(message)
        ));
    }

    fn end(&mut self, call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        let result = result.map_or_else(|status| status.code.to_string(), |()| "ok".to_owned());
        self.0.push(format!("{} ends: {result}", call.tag));
    }

    fn turn(&mut self, _out: &mut Outgoing) -> Next {
        Next::Replies
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    let mut bytes = Vec::new();
    head.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn framed(text: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

const HEADERS_OK: &[u8] = &[0x88];
const TRAILERS_OK: &[u8] = b"\x40\x0bgrpc-status\x010";

/// What a server says when all is well.
fn reply(stream: u32, text: &str) -> Vec<u8> {
    [
        frame(frame::HEADERS, frame::END_HEADERS, stream, HEADERS_OK),
        frame(frame::DATA, 0, stream, &framed(text)),
        frame(
            frame::HEADERS,
            frame::END_HEADERS | frame::END_STREAM,
            stream,
            TRAILERS_OK,
        ),
    ]
    .concat()
}

/// The frames in the output buffer from now on.
fn sent(http2: &mut Http2) -> Vec<(Head, Vec<u8>)> {
    let mut bytes = http2.out.buffer.split();
    let mut frames = Vec::new();
    while let Some(head) = Head::read(&bytes) {
        bytes.advance(frame::HEAD_BYTES);
        frames.push((head, bytes.split_to(head.length).to_vec()));
    }
    assert!(bytes.is_empty());
    frames
}

fn put(bytes: usize) -> PutRequest {
    PutRequest {
        value: vec![7; bytes].into(),
        ..PutRequest::default()
    }
}

/// A connection whose greeting is out.
fn connection() -> Http2 {
    let mut http2 = Http2::new("localhost:1");
    assert!(http2.out.buffer.starts_with(frame::PREFACE));
    http2.out.buffer.advance(frame::PREFACE.len());
    let greeting: Vec<u8> = sent(&mut http2).iter().map(|(head, _)| head.kind).collect();
    assert_eq!(greeting, [frame::SETTINGS, frame::WINDOW_UPDATE]);
    http2
}

#[test]
fn replies_are_told_however_the_bytes_arrive() {
    let bytes = [reply(1, "one"), reply(3, "three")].concat();
    for piece in [1, 2, 7, bytes.len()] {
        let mut http2 = connection();
        http2.out.call(PUT, &put(1), true, 10);
        http2.out.call(PUT, &put(1), true, 30);
        let (mut input, mut told) = (BytesMut::new(), Told::default());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            http2.receive(&mut input, &mut told).unwrap();
        }
        assert_eq!(
            told.0,
            ["10: one", "10 ends: ok", "30: three", "30 ends: ok"]
        );
        assert!(input.is_empty());
        assert_eq!(http2.out.calls(), 0);
    }
}

#[test]
fn a_message_in_several_frames_is_told_once_and_several_in_one_frame_each() {
    let mut http2 = connection();
    http2.out.call(PUT, &put(1), true, 1);
    let text = "x".repeat(40_000);
    let mut message = framed(&text);
    message.extend_from_slice(&framed("second"));
    message.extend_from_slice(&framed("third"));
    let mut told = Told::default();
    for part in message.chunks(PAYLOAD_BYTES_MAX) {
        let mut input = BytesMut::from(&frame(frame::DATA, 0, 1, part)[..]);
        http2.receive(&mut input, &mut told).unwrap();
    }
    assert_eq!(
        told.0,
        [
            format!("1: {text}"),
            "1: second".to_owned(),
            "1: third".to_owned()
        ]
    );
}

#[test]
fn a_call_fails_by_its_status_a_reset_or_the_end_of_the_server() {
    let mut http2 = connection();
    for tag in [1, 3, 5, 7] {
        http2.out.call(PUT, &put(1), true, tag);
    }
    let end = frame::END_HEADERS | frame::END_STREAM;
    let bytes = [
        frame(frame::HEADERS, end, 1, b"\x88\x40\x0bgrpc-status\x0211"),
        frame(frame::RST_STREAM, 0, 3, &[0, 0, 0, 7]),
        // The server has taken streams up to 5.
        frame(frame::GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]),
    ]
    .concat();
    let mut told = Told::default();
    http2
        .receive(&mut BytesMut::from(&bytes[..]), &mut told)
        .unwrap();
    assert_eq!(told.0, ["1 ends: 11", "3 ends: 14", "7 ends: 14"]);
    assert!(http2.out.is_going_away());
    assert_eq!(http2.out.calls(), 1, "the one on stream 5 is still served");
}

#[test]
fn nothing_is_sent_that_the_windows_have_no_room_for() {
    let mut http2 = connection();
    http2.out.call(PUT, &put(100_000), true, 1);
    http2.out.call(PUT, &put(1), true, 2);
    let data = |http2: &mut Http2| -> Vec<(usize, u32, bool)> {
        let frames = sent(http2)
            .into_iter()
            .filter(|(head, _)| head.kind == frame::DATA);
        frames
            .map(|(head, _)| (head.length, head.stream, head.has(frame::END_STREAM)))
            .collect()
    };
    let first: usize = data(&mut http2).iter().map(|(length, ..)| length).sum();
    assert_eq!(first, FIRST_WINDOW as usize);
    let mut told = Told::default();
    let mut widen = |http2: &mut Http2, stream, by: u32| {
        let update = frame(frame::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
        http2
            .receive(&mut BytesMut::from(&update[..]), &mut told)
            .unwrap();
    };
    widen(&mut http2, 0, 1 << 20);
    assert_eq!(
        data(&mut http2),
        [],
        "the stream's own window is still shut"
    );
    widen(&mut http2, 1, 1 << 20);
    let rest = data(&mut http2);
    let (last, first) = (rest.last().unwrap(), &rest[rest.len() - 2]);
    assert!(first.1 == 1 && first.2 && last.1 == 3 && last.2, "{rest:?}");
}

#[test]
fn pings_and_settings_are_answered_and_windows_opened() {
    let mut http2 = connection();
    http2.out.call(PUT, &put(1), true, 1);
    sent(&mut http2);
    let mut told = Told::default();
    let mut input = BytesMut::new();
    input.extend_from_slice(&frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]));
    input.extend_from_slice(&frame(frame::PING, 0, 0, b"12345678"));
    // A message that never ends.
    let mut data = vec![0, 0xff, 0, 0, 0];
    data.resize(PAYLOAD_BYTES_MAX, 0);
    for _ in 0..STREAM_WINDOW as usize / 2 / PAYLOAD_BYTES_MAX {
        input.extend_from_slice(&frame(frame::DATA, 0, 1, &data));
    }
    http2.receive(&mut input, &mut told).unwrap();
    let frames = sent(&mut http2);
    assert_eq!(
        (frames[0].0.kind, frames[0].0.flags),
        (frame::SETTINGS, frame::ACK)
    );
    assert_eq!(
        (frames[1].0.kind, &frames[1].1[..]),
        (frame::PING, &b"12345678"[..])
    );
    let opened = &frames[2];
    assert_eq!((opened.0.kind, opened.0.stream), (frame::WINDOW_UPDATE, 1));
    assert_eq!(frame::word(&opened.1), Some(STREAM_WINDOW / 2));
}

#[test]
fn a_server_that_breaks_the_protocol_is_found_out() {
    let mut told = Told::default();
    for bytes in [
        frame(frame::HEADERS, frame::END_HEADERS, 1, &[0x80 | 100]),
        frame(frame::CONTINUATION, frame::END_HEADERS, 1, HEADERS_OK),
        [
            frame(frame::HEADERS, 0, 1, HEADERS_OK),
            frame(frame::DATA, 0, 1, b""),
        ]
        .concat(),
        vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0],
    ] {
        let mut http2 = connection();
        let result = http2.receive(&mut BytesMut::from(&bytes[..]), &mut told);
        assert!(result.is_err(), "{bytes:?}");
    }
}
