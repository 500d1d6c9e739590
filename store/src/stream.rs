//! A range in chunks, for replies that are too large for one message.

use keelson_proto::etcdserverpb::RangeRequest;
use std::ops::ControlFlow;

use crate::engine::Engine;
use crate::format::Version;
use crate::kvs::Kvs;
use crate::published::Reader;
use crate::read::{self, Span};
use crate::snapshot::{kept, resolve};
use crate::wire::{Chunk, Wire};
use crate::{ReadError, Revision};

/// A chunk is full once it has this many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Or this many keys.
const CHUNK_KEYS: u64 = 1_000;

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
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, ReadError> {
        if self.done {
            return Ok(None);
        }
        let now = self.reader.now();
        resolve(self.at.0, now.revision, now.compacted)?;
        let source = now.source();
        let snapshot = now.snapshot(&source);
        let span = Span::new(&self.request.key, &self.request.range_end);
        if self.request.count_only {
            let count = snapshot.count(span, self.at)?;
            return Ok(Some(self.last(Wire::default(), count, false)));
        }

        let limit = u64::try_from(self.request.limit)
            .ok()
            .filter(|limit| *limit > 0);
        let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.sent));
        let most = left.min(CHUNK_KEYS);
        let keys_only = self.request.keys_only;
        let (mut wire, mut keys, mut next) = (Wire::default(), 0, None);
        read::scan(
            snapshot.source,
            span,
            self.at,
            snapshot.revision,
            |key, record| {
                if keys >= most || wire.len() >= CHUNK_BYTES {
                    next = Some(key.to_vec());
                    return Ok(ControlFlow::Break(()));
                }
                if keys_only {
                    wire.version(key, kept(Version::parse(record)?, true));
                } else {
                    wire.record(key, record)?;
                }
                keys += 1;
                Ok(ControlFlow::Continue(()))
            },
        )?;

        self.sent += keys;
        let Some(next) = next else {
            return Ok(Some(self.last(wire, self.sent, false)));
        };
        if limit.is_some_and(|limit| self.sent >= limit) {
            let to = match span {
                Span::One(_) => Some(&b""[..]),
                Span::Many(_, to) => to,
            };
            let rest = snapshot.count(Span::Many(&next, to), self.at)?;
            return Ok(Some(self.last(wire, self.sent + rest, true)));
        }
        self.request.key = next.into();
        Ok(Some(Chunk {
            range: wire.finish(false, 0),
            last_of: None,
        }))
    }

    fn last(&mut self, wire: Wire, count: u64, more: bool) -> Chunk {
        self.done = true;
        Chunk {
            range: wire.finish(more, count),
            last_of: Some(self.revision),
        }
    }
}
