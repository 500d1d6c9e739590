//! One HTTP/2 connection of a gRPC client, without its socket: calls go in and bytes come out, and the other way round.

use std::fmt;

use bytes::{Buf, BytesMut};

use super::connection::Handler;
use super::frame::{self, Head, PAYLOAD_BYTES_MAX};
use super::hpack;
use super::outgoing::{CONNECTION_WINDOW, CallId, Outgoing, PREFIX_BYTES, STREAM_WINDOW};

/// gRPC's code for a server that is not there.
pub const UNAVAILABLE: u32 = 14;
/// gRPC's code for what a peer should not have done.
const INTERNAL: u32 = 13;

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

/// A connection.
#[derive(Debug)]
pub struct Http2 {
    pub out: Outgoing,
    decoder: hpack::Decoder,
    /// The beginning of a header block that goes on in a CONTINUATION, and the head of its frame.
    block: Option<(Head, Vec<u8>)>,
    received: u32,
}

impl Http2 {
    /// A connection to a server by this name, with what a client says first in its buffer.
    pub fn new(authority: &str) -> Http2 {
        Http2 {
            out: Outgoing::new(authority),
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
