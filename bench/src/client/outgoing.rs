//! The sending half of a connection: what calls are made with, and how much the server's windows let out.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::frame::{self, Head, PAYLOAD_BYTES_MAX};
use super::hpack;

/// What a server may send on a stream before we have said that we took it, and on the whole connection.
pub const STREAM_WINDOW: u32 = 1 << 20;
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// Both windows before anybody says otherwise.
pub const FIRST_WINDOW: i64 = 65_535;
/// gRPC's own head of a message: whether it is compressed, and its length.
pub const PREFIX_BYTES: usize = 5;
/// A method of a service, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(pub &'static str);

/// A call under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    pub(super) stream: u32,
    /// What its caller knows it by.
    pub tag: u64,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) tag: u64,
    /// The beginning of a message whose rest has not come.
    pub(super) partial: BytesMut,
    /// Taken since the window was last opened.
    pub(super) received: u32,
    pub(super) send_window: i64,
}

/// A message, or the rest of one, that the windows had no room for.
#[derive(Debug)]
struct Waiting {
    stream: u32,
    bytes: Bytes,
    end: bool,
}

/// The half that calls are made with.
#[derive(Debug)]
pub struct Outgoing {
    /// What the socket is to send.
    pub buffer: BytesMut,
    encoder: hpack::Encoder,
    next_stream: u32,
    pub(super) streams: HashMap<u32, Stream>,
    send_window: i64,
    first_stream_window: i64,
    waiting: VecDeque<Waiting>,
    pub(super) going_away: bool,
}

impl Outgoing {
    /// To a server by this name, with what a client says first.
    pub(super) fn new(authority: &str) -> Outgoing {
        let mut buffer = BytesMut::with_capacity(64 << 10);
        buffer.put_slice(frame::PREFACE);
        let head = Head {
            length: 6,
            kind: frame::SETTINGS,
            flags: 0,
            stream: 0,
        };
        head.write(&mut buffer);
        buffer.put_u16(frame::SETTING_INITIAL_WINDOW_SIZE);
        buffer.put_u32(STREAM_WINDOW);
        let mut out = Outgoing {
            buffer,
            encoder: hpack::Encoder::new(authority),
            next_stream: 1,
            streams: HashMap::new(),
            send_window: FIRST_WINDOW,
            first_stream_window: FIRST_WINDOW,
            waiting: VecDeque::new(),
            going_away: false,
        };
        out.put_word(
            frame::WINDOW_UPDATE,
            0,
            CONNECTION_WINDOW - FIRST_WINDOW as u32,
        );
        out
    }

    /// Begins a call with its first message; `end` if it is its only one.
    pub fn call(&mut self, method: Method, message: &impl Message, end: bool, tag: u64) -> CallId {
        let stream = self.next_stream;
        self.next_stream += 2;
        let begin = self.buffer.len();
        self.buffer.put_bytes(0, frame::HEAD_BYTES);
        self.encoder.request(method.0, &mut self.buffer);
        let head = Head {
            length: self.buffer.len() - begin - frame::HEAD_BYTES,
            kind: frame::HEADERS,
            flags: frame::END_HEADERS,
            stream,
        };
        head.write(&mut &mut self.buffer[begin..]);
        let state = Stream {
            tag,
            partial: BytesMut::new(),
            received: 0,
            send_window: self.first_stream_window,
        };
        self.streams.insert(stream, state);
        let call = CallId { stream, tag };
        self.send(call, message, end);
        call
    }

    /// Sends a further message of a call. One that has ended takes no more, and nothing happens.
    pub fn send(&mut self, call: CallId, message: &impl Message, end: bool) {
        let Some(state) = self.streams.get_mut(&call.stream) else {
            return;
        };
        let length = message.encoded_len();
        let whole = PREFIX_BYTES + length;
        let room = (PAYLOAD_BYTES_MAX as i64)
            .min(self.send_window)
            .min(state.send_window);
        if self.waiting.is_empty() && whole as i64 <= room {
            self.send_window -= whole as i64;
            state.send_window -= whole as i64;
            data_head(whole, call.stream, end).write(&mut self.buffer);
            put_message(message, length, &mut self.buffer);
            return;
        }
        let mut bytes = BytesMut::with_capacity(whole);
        put_message(message, length, &mut bytes);
        self.waiting.push_back(Waiting {
            stream: call.stream,
            bytes: bytes.freeze(),
            end,
        });
        self.send_waiting();
    }

    /// Whether the server has asked for no more calls on this connection.
    pub fn is_going_away(&self) -> bool {
        self.going_away
    }

    /// How many calls have not ended.
    pub fn calls(&self) -> usize {
        self.streams.len()
    }

    fn send_waiting(&mut self) {
        while let Some(first) = self.waiting.front_mut() {
            let Some(state) = self.streams.get_mut(&first.stream) else {
                // The call has ended meanwhile.
                self.waiting.pop_front();
                continue;
            };
            let room = (PAYLOAD_BYTES_MAX as i64)
                .min(self.send_window)
                .min(state.send_window);
            let length = first.bytes.len().min(usize::try_from(room).unwrap_or(0));
            if length == 0 {
                return;
            }
            self.send_window -= length as i64;
            state.send_window -= length as i64;
            let end = first.end && length == first.bytes.len();
            data_head(length, first.stream, end).write(&mut self.buffer);
            self.buffer.put(first.bytes.split_to(length));
            if first.bytes.is_empty() {
                self.waiting.pop_front();
            }
        }
    }

    pub(super) fn put_word(&mut self, kind: u8, stream: u32, word: u32) {
        let head = Head {
            length: 4,
            kind,
            flags: 0,
            stream,
        };
        head.write(&mut self.buffer);
        self.buffer.put_u32(word);
    }

    pub(super) fn settings(&mut self, payload: &[u8]) {
        for (name, value) in frame::settings(payload) {
            if name == frame::SETTING_INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - self.first_stream_window;
                self.first_stream_window = i64::from(value);
                for state in self.streams.values_mut() {
                    state.send_window += change;
                }
            }
        }
        let head = Head {
            length: 0,
            kind: frame::SETTINGS,
            flags: frame::ACK,
            stream: 0,
        };
        head.write(&mut self.buffer);
        self.send_waiting();
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        let head = Head {
            length: payload.len(),
            kind: frame::PING,
            flags: frame::ACK,
            stream: 0,
        };
        head.write(&mut self.buffer);
        self.buffer.put_slice(payload);
    }

    pub(super) fn widen(&mut self, stream: u32, by: u32) {
        if stream == 0 {
            self.send_window += i64::from(by);
        } else if let Some(state) = self.streams.get_mut(&stream) {
            state.send_window += i64::from(by);
        }
        self.send_waiting();
    }
}

fn data_head(length: usize, stream: u32, end: bool) -> Head {
    Head {
        length,
        kind: frame::DATA,
        flags: if end { frame::END_STREAM } else { 0 },
        stream,
    }
}

fn put_message(message: &impl Message, length: usize, to: &mut BytesMut) {
    to.put_u8(0);
    to.put_u32(u32::try_from(length).expect("no request is that large"));
    message.encode(to).expect("a buffer that grows has room");
}
