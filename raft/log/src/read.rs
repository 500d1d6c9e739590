//! Reads entries back, from memory or from segments; neighbours on the disk with one read.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::LogError;
use crate::format::{Record, RecordHeader, record_len, segment_name};
use crate::index::Slot;
use crate::io::LogFile;
use crate::types::LogId;

/// One read takes entries together up to this many bytes.
const SPAN_BYTES_MAX: u64 = 1 << 20;

/// Where to get an entry.
pub(crate) enum Source<F> {
    Memory(Bytes),
    Disk { slot: Slot, file: Arc<F> },
}

/// Gets the entries, in order.
pub(crate) fn fetch<F: LogFile>(
    wanted: Vec<(LogId, Source<F>)>,
) -> Result<Vec<(LogId, Bytes)>, LogError> {
    let mut entries = Vec::with_capacity(wanted.len());
    let mut span: Vec<(LogId, Slot)> = Vec::new();
    let mut span_file: Option<Arc<F>> = None;
    for (id, source) in wanted {
        match source {
            Source::Memory(payload) => {
                read_span(span_file.as_deref(), &mut span, &mut entries)?;
                entries.push((id, payload));
            }
            Source::Disk { slot, file } => {
                if !joins(&span, slot) {
                    read_span(span_file.as_deref(), &mut span, &mut entries)?;
                }
                span.push((id, slot));
                span_file = Some(file);
            }
        }
    }
    read_span(span_file.as_deref(), &mut span, &mut entries)?;
    Ok(entries)
}

fn end(slot: Slot) -> u64 {
    u64::from(slot.offset) + u64::from(record_len(slot.len))
}

/// Whether `slot` can be had with the read of `span`.
fn joins(span: &[(LogId, Slot)], slot: Slot) -> bool {
    span.first().is_some_and(|(_, first)| {
        first.segment == slot.segment && end(slot) - u64::from(first.offset) <= SPAN_BYTES_MAX
    })
}

/// Reads what was gathered in `span`, and empties it.
fn read_span<F: LogFile>(
    file: Option<&F>,
    span: &mut Vec<(LogId, Slot)>,
    entries: &mut Vec<(LogId, Bytes)>,
) -> Result<(), LogError> {
    let (Some(file), Some((_, first)), Some((_, last))) = (file, span.first(), span.last()) else {
        return Ok(());
    };
    let name = segment_name(first.segment);
    let start = first.offset;
    // Offsets in a segment grow with the index, since truncated entries are never reused.
    let len = usize::try_from(end(*last) - u64::from(start))
        .expect("bounded by SPAN_BYTES_MAX or one record");
    let mut bytes = vec![0; len];
    file.read_at(u64::from(start), &mut bytes)
        .map_err(|e| LogError::io("read", &name, e))?;
    for (id, slot) in span.drain(..) {
        let record = bytes
            .get((slot.offset - start) as usize..)
            .unwrap_or_default();
        let payload = verify(record, id, slot).ok_or_else(|| {
            LogError::corrupt(
                &name,
                u64::from(slot.offset),
                format!("entry {} is damaged", id.index),
            )
        })?;
        entries.push((id, payload));
    }
    Ok(())
}

/// The payload of the record that starts `bytes`, if it is sound and the one that was written.
/// Copied, so that a small entry held for long does not hold the whole read.
fn verify(bytes: &[u8], id: LogId, slot: Slot) -> Option<Bytes> {
    let header = RecordHeader::decode(bytes, slot.segment, slot.offset)?;
    match header.record(bytes) {
        Ok(Record::Entry(found, payload)) if found == id => Some(Bytes::copy_from_slice(payload)),
        _ => None,
    }
}
