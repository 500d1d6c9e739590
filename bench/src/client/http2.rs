//! One HTTP/2 connection of a gRPC client, without its socket: calls go in and bytes come out, and the other way round.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::connection::Handler;
use super::frame::{self, Head, PAYLOAD_BYTES_MAX};
use super::hpack;

/// What a server may send on a stream before we have said that we took it, and on the whole connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Both windows before anybody says otherwise.
const FIRST_WINDOW: i64 = 65_535;
/// gRPC's own head of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// gRPC's code for a server that is not there.
pub const UNAVAILABLE: u32 = 14;
/// gRPC's code for what a peer should not have done.
const INTERNAL: u32 = 13;

/// A method of a service, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(pub &'static str);

/// A call under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    stream: u32,
    /// What its caller knows it by.
    pub tag: u64,
}

/// How a call ended, other than well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: u32,
    pub message: String,
}

impl fmt::Display for Status {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "gRPC status {}: {}", self.code, self.message)
    }
}

/// What breaks a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server breaks HTTP/2: {0}")]
pub struct ProtocolError(&'static str);

#[derive(Debug)]
struct Stream {
    tag: u64,
    /// The beginning of a message whose rest has not come.
    partial: BytesMut,
    /// Taken since the window was last opened.
    received: u32,
    send_window: i64,
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
    streams: HashMap<u32, Stream>,
    send_window: i64,
    first_stream_window: i64,
    waiting: VecDeque<Waiting>,
    going_away: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Http2 {
    pub out: Outgoing,
    decoder: hpack::Decoder,
    /// The beginning of a header block that goes on in a CONTINUATION, and the head of its frame.
    block: Option<(Head, Vec<u8>)>,
    received: u32,
}

impl Outgoing {
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

    fn put_word(&mut self, kind: u8, stream: u32, word: u32) {
        let head = Head {
            length: 4,
            kind,
            flags: 0,
            stream,
        };
        head.write(&mut self.buffer);
        self.buffer.put_u32(word);
    }

    fn settings(&mut self, payload: &[u8]) {
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

    fn pong(&mut self, payload: &[u8]) {
        let head = Head {
            length: payload.len(),
            kind: frame::PING,
            flags: frame::ACK,
            stream: 0,
        };
        head.write(&mut self.buffer);
        self.buffer.put_slice(payload);
    }

    fn widen(&mut self, stream: u32, by: u32) {
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

impl Http2 {
    /// A connection to a server by this name, with what a client says first in its buffer.
    pub fn new(authority: &str) -> Http2 {
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
        Http2 {
            out,
            decoder: hpack::Decoder::new(),
            block: None,
            received: 0,
        }
    }

    /// Takes all whole frames from what came, and tells `handler` what they mean for its calls.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        handler: &mut impl Handler,
    ) -> Result<(), ProtocolError> {
        let mut taken = 0;
        while let Some(head) = input.get(taken..).and_then(Head::read) {
            if head.length > PAYLOAD_BYTES_MAX {
                return Err(ProtocolError("a frame is too large"));
            }
            let begin = taken + frame::HEAD_BYTES;
            let Some(payload) = input.get(begin..begin + head.length) else {
                break;
            };
            self.frame(head, payload, handler)?;
            taken = begin + head.length;
        }
        input.advance(taken);
        Ok(())
    }

    fn frame(
        &mut self,
        head: Head,
        payload: &[u8],
        handler: &mut impl Handler,
    ) -> Result<(), ProtocolError> {
        if self.block.is_some() != (head.kind == frame::CONTINUATION) {
            return Err(ProtocolError("a header block is interrupted"));
        }
        let short = ProtocolError("a frame is too short");
        match head.kind {
            frame::DATA => self.data(head, payload, handler)?,
            frame::HEADERS => {
                let block = head.unpadded(payload).ok_or(short)?;
                if head.has(frame::END_HEADERS) {
                    self.headers(head, block, handler)?;
                } else {
                    self.block = Some((head, block.to_vec()));
                }
            }
            frame::CONTINUATION => {
                let (first, mut block) = self.block.take().ok_or(short)?;
                block.extend_from_slice(payload);
                if head.has(frame::END_HEADERS) {
                    self.headers(first, &block, handler)?;
                } else {
                    self.block = Some((first, block));
                }
            }
            frame::SETTINGS if !head.has(frame::ACK) => self.out.settings(payload),
            frame::PING if !head.has(frame::ACK) => self.out.pong(payload),
            frame::WINDOW_UPDATE => self
                .out
                .widen(head.stream, frame::word(payload).ok_or(short)?),
            frame::RST_STREAM => {
                let reason = frame::word(payload).ok_or(short)?;
                self.end(
                    head.stream,
                    broken(format!("stream reset, {reason}")),
                    handler,
                );
            }
            frame::GOAWAY => {
                self.out.going_away = true;
                let last = frame::word(payload).ok_or(short)? & 0x7fff_ffff;
                let lost: Vec<u32> = self
                    .out
                    .streams
                    .keys()
                    .copied()
                    .filter(|id| *id > last)
                    .collect();
                for stream in lost {
                    self.end(stream, broken("the server goes away".to_owned()), handler);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn headers(
        &mut self,
        head: Head,
        block: &[u8],
        handler: &mut impl Handler,
    ) -> Result<(), ProtocolError> {
        // Even of a call that was cancelled, since later blocks build upon it.
        let fields = self
            .decoder
            .decode(block)
            .ok_or(ProtocolError("a header block is malformed"))?;
        if !head.has(frame::END_STREAM) {
            return Ok(());
        }
        let result = match fields.grpc_status {
            Some(0) => Ok(()),
            Some(code) => Err(Status {
                code,
                message: fields.grpc_message.unwrap_or_default(),
            }),
            None => Err(Status {
                code: INTERNAL,
                message: "a reply without a status".to_owned(),
            }),
        };
        self.end(head.stream, result, handler);
        Ok(())
    }

    fn end(&mut self, stream: u32, result: Result<(), Status>, handler: &mut impl Handler) {
        if let Some(state) = self.out.streams.remove(&stream) {
            let call = CallId {
                stream,
                tag: state.tag,
            };
            handler.end(call, result, &mut self.out);
        }
    }

    fn data(
        &mut self,
        head: Head,
        payload: &[u8],
        handler: &mut impl Handler,
    ) -> Result<(), ProtocolError> {
        let data = head
            .unpadded(payload)
            .ok_or(ProtocolError("a frame is too short"))?;
        let length = head.length as u32;
        self.received += length;
        if self.received >= CONNECTION_WINDOW / 2 {
            self.out.put_word(frame::WINDOW_UPDATE, 0, self.received);
            self.received = 0;
        }
        let Some(state) = self.out.streams.get_mut(&head.stream) else {
            return Ok(());
        };
        state.received += length;
        let open = state.received >= STREAM_WINDOW / 2;
        let received = if open {
            std::mem::take(&mut state.received)
        } else {
            0
        };
        let call = CallId {
            stream: head.stream,
            tag: state.tag,
        };
        let mut partial = std::mem::take(&mut state.partial);
        if open {
            self.out
                .put_word(frame::WINDOW_UPDATE, head.stream, received);
        }
        if partial.is_empty() {
            let rest = messages(data, call, handler, &mut self.out)?;
            if !rest.is_empty() {
                partial.reserve(whole_message(rest).unwrap_or(rest.len()));
                partial.extend_from_slice(rest);
            }
        } else {
            partial.extend_from_slice(data);
            let rest = messages(&partial, call, handler, &mut self.out)?.len();
            partial.advance(partial.len() - rest);
        }
        if !partial.is_empty()
            && let Some(state) = self.out.streams.get_mut(&head.stream)
        {
            state.partial = partial;
        }
        if head.has(frame::END_STREAM) {
            let broken = broken("a reply without trailers".to_owned());
            self.end(head.stream, broken, handler);
        }
        Ok(())
    }
}

fn broken(message: String) -> Result<(), Status> {
    Err(Status {
        code: UNAVAILABLE,
        message,
    })
}

/// How many bytes the message that begins here has with its prefix.
fn whole_message(bytes: &[u8]) -> Option<usize> {
    let [_, length @ ..] = bytes.first_chunk::<PREFIX_BYTES>()?;
    Some(PREFIX_BYTES + u32::from_be_bytes(*length) as usize)
}

/// Hands over all whole messages; gives what is left.
fn messages<'a>(
    mut bytes: &'a [u8],
    call: CallId,
    handler: &mut impl Handler,
    out: &mut Outgoing,
) -> Result<&'a [u8], ProtocolError> {
    while let Some(whole) = whole_message(bytes) {
        if bytes.len() < whole {
            break;
        }
        let (message, rest) = bytes.split_at(whole);
        if message[0] != 0 {
            return Err(ProtocolError(
                "a message is compressed, which was not offered",
            ));
        }
        handler.message(call, &message[PREFIX_BYTES..], out);
        bytes = rest;
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
