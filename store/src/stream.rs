//! A range in chunks, for replies that are too large for one message.

use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use prost::Message;
use std::ops::ControlFlow;

use crate::arena::Arena;
use crate::engine::Engine;
use crate::format::Version;
use crate::published::Reader;
use crate::read::{self, Span};
use crate::snapshot::{kept, resolve};
use crate::{ReadError, Revision};

/// A chunk is full once it has this many bytes of keys and values.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Or this many keys.
const CHUNK_KEYS: usize = 1_000;

/// A range, chunk by chunk. Between two chunks nothing is held, so that a slow client pins no old data;
/// the price, as in etcd, is that a compaction past the revision ends the stream.
///
/// Only for key order and without revision filters: see [`RangeStream::can`].
pub struct RangeStream<E: Engine> {
    reader: Reader<E>,
    request: RangeRequest,
    /// The revision of the first chunk's state, which the last chunk's header bears.
    revision: Revision,
    at: Revision,
    sent: u64,
    done: bool,
}

impl<E: Engine> RangeStream<E> {
    /// Whether a request can be streamed; the others are Unimplemented in etcd.
    pub fn can(r: &RangeRequest) -> bool {
        crate::snapshot::is_key_order(r) && !crate::snapshot::has_revision_filters(r)
    }

    pub(crate) fn new(reader: Reader<E>, r: &RangeRequest) -> Result<RangeStream<E>, ReadError> {
        debug_assert!(Self::can(r), "refused before");
        let now = reader.now();
        let at = resolve(r.revision, now.revision, now.compacted)?;
        Ok(RangeStream {
            reader,
            request: r.clone(),
            revision: now.revision,
            at,
            sent: 0,
            done: false,
        })
    }

    /// The next chunk; none after the last, which alone has a header (with nothing but the revision), more and count.
    pub fn next_chunk(&mut self) -> Result<Option<RangeResponse>, ReadError> {
        if self.done {
            return Ok(None);
        }
        let now = self.reader.now();
        resolve(self.at.0, now.revision, now.compacted)?;
        let source = now.source();
        let snapshot = now.snapshot(&source);
        let span = Span::new(&self.request.key, &self.request.range_end);
        if self.request.count_only {
            return Ok(Some(self.last(
                RangeResponse::default(),
                snapshot.count(span, self.at)?,
                false,
            )));
        }

        let limit = u64::try_from(self.request.limit)
            .ok()
            .filter(|limit| *limit > 0);
        let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.sent));
        let keys_only = self.request.keys_only;
        let (mut kvs, mut arena) = (Vec::new(), Arena::default());
        let (mut bytes, mut next) = (0, None);
        read::scan(
            snapshot.source,
            span,
            self.at,
            snapshot.revision,
            |key, record| {
                if kvs.len() >= CHUNK_KEYS || kvs.len() as u64 >= left || bytes >= CHUNK_BYTES {
                    next = Some(key.to_vec());
                    return Ok(ControlFlow::Break(()));
                }
                let kv = kept(Version::parse(record)?, keys_only).key_value(key, &mut arena);
                bytes += kv.encoded_len();
                kvs.push(kv);
                Ok(ControlFlow::Continue(()))
            },
        )?;

        self.sent += kvs.len() as u64;
        let chunk = RangeResponse {
            kvs,
            ..RangeResponse::default()
        };
        let Some(next) = next else {
            return Ok(Some(self.last(chunk, self.sent, false)));
        };
        if limit.is_some_and(|limit| self.sent >= limit) {
            let to = match span {
                Span::One(_) => Some(&b""[..]),
                Span::Many(_, to) => to,
            };
            let rest = snapshot.count(Span::Many(&next, to), self.at)?;
            return Ok(Some(self.last(chunk, self.sent + rest, true)));
        }
        self.request.key = next.into();
        Ok(Some(chunk))
    }

    fn last(&mut self, mut chunk: RangeResponse, count: u64, more: bool) -> RangeResponse {
        self.done = true;
        chunk.header = Some(ResponseHeader {
            revision: self.revision.0,
            ..ResponseHeader::default()
        });
        chunk.count = count as i64;
        chunk.more = more;
        chunk
    }
}
