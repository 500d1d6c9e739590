//! Header blocks (RFC 7541): of requests, written; of replies, read for the little that a gRPC client wants to know.
//!
//! Both directions use the dynamic table, as every other client does: a reply that repeats itself costs its server one
//! byte a header.

use std::collections::VecDeque;

use bytes::BufMut;

use super::huffman;

/// What both sides may keep, until somebody says otherwise.
const TABLE_BYTES: usize = 4096;
/// What an entry counts beyond its name and value.
const ENTRY_BYTES: usize = 32;
const STATIC_ENTRIES: usize = STATIC_NAMES.len();
/// The names of the static entries, from 1 (appendix A).
#[rustfmt::skip]
const STATIC_NAMES: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status", ":status",
    ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "accept", "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length", "content-location",
    "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location",
    "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via",
    "www-authenticate",
];
/// `:status 200` among the static entries.
const STATUS_200: usize = 8;

/// Writes the headers of requests.
#[derive(Debug)]
pub struct Encoder {
    authority: String,
    /// What the server's table holds, the oldest first. Few paths are ever used, so nothing leaves it.
    entries: Vec<Field>,
}

/// A header that every request has, or that all requests of a method have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Authority,
    Path(&'static str),
    ContentType,
    Te,
}

impl Encoder {
    pub fn new(authority: &str) -> Encoder {
        Encoder {
            authority: authority.to_owned(),
            entries: Vec::new(),
        }
    }

    /// The header block of a request.
    pub fn request(&mut self, path: &'static str, to: &mut impl BufMut) {
        // `:method POST`, `:scheme http`; pseudo-headers come before others.
        to.put_slice(&[0x80 | 3, 0x80 | 6]);
        for field in [
            Field::Authority,
            Field::Path(path),
            Field::ContentType,
            Field::Te,
        ] {
            self.field(field, to);
        }
    }

    fn field(&mut self, field: Field, to: &mut impl BufMut) {
        if let Some(place) = self.entries.iter().position(|entry| *entry == field) {
            return indexed(STATIC_ENTRIES + self.entries.len() - place, to);
        }
        self.entries.push(field);
        match field {
            Field::Authority => literal(1, "", &self.authority, to),
            Field::Path(path) => literal(4, "", path, to),
            Field::ContentType => literal(31, "", "application/grpc", to),
            Field::Te => literal(0, "te", "trailers", to),
        }
    }
}

/// A literal that becomes an entry, its name being that of a static entry, or, of entry 0, said here. Indices and
/// strings are short: one byte says each.
fn literal(name_index: u8, name: &str, value: &str, to: &mut impl BufMut) {
    to.put_u8(0x40 | name_index);
    if name_index == 0 {
        string(name, to);
    }
    string(value, to);
}

fn string(text: &str, to: &mut impl BufMut) {
    assert!(text.len() < 127, "{text} is short");
    to.put_u8(text.len() as u8);
    to.put_slice(text.as_bytes());
}

fn indexed(index: usize, to: &mut impl BufMut) {
    assert!(index < 127, "few entries are made");
    to.put_u8(0x80 | index as u8);
}

/// What a reply's headers or trailers say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// Of HTTP.
    pub status_ok: bool,
    pub grpc_status: Option<u32>,
    pub grpc_message: Option<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Entry {
    fn size(&self) -> usize {
        ENTRY_BYTES + self.name.len() + self.value.len()
    }
}

/// Reads header blocks of replies, all of them, in order.
#[derive(Debug)]
pub struct Decoder {
    /// The newest first.
    table: VecDeque<Entry>,
    table_bytes: usize,
    table_bytes_max: usize,
    huffman: huffman::Decoder,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder {
            table: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: TABLE_BYTES,
            huffman: huffman::Decoder::new(),
        }
    }

    /// None if the block is malformed.
    pub fn decode(&mut self, mut block: &[u8]) -> Option<Fields> {
        let mut fields = Fields::default();
        while let Some(first) = block.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                if index > STATIC_ENTRIES {
                    note(&mut fields, self.table.get(index - STATIC_ENTRIES - 1)?);
                } else {
                    fields.status_ok |= index == STATUS_200;
                }
            } else if first & 0xe0 == 0x20 {
                self.table_bytes_max = integer(&mut block, 5)?.min(TABLE_BYTES);
                self.shrink();
            } else {
                let becomes_entry = first & 0x40 != 0;
                let index = integer(&mut block, if becomes_entry { 6 } else { 4 })?;
                let name = match index {
                    0 => self.string(&mut block)?,
                    index => match STATIC_NAMES.get(index - 1) {
                        Some(name) => name.as_bytes().to_vec(),
                        None => self.table.get(index - STATIC_ENTRIES - 1)?.name.clone(),
                    },
                };
                let value = self.string(&mut block)?;
                let entry = Entry { name, value };
                note(&mut fields, &entry);
                if becomes_entry {
                    self.table_bytes += entry.size();
                    self.table.push_front(entry);
                    self.shrink();
                }
            }
        }
        Some(fields)
    }

    fn shrink(&mut self) {
        while self.table_bytes > self.table_bytes_max {
            let oldest = self.table.pop_back().expect("entries make up the bytes");
            self.table_bytes -= oldest.size();
        }
    }

    fn string(&self, block: &mut &[u8]) -> Option<Vec<u8>> {
        let coded = block.first()? & 0x80 != 0;
        let length = integer(block, 7)?;
        let bytes = block.split_off(..length)?;
        if coded {
            self.huffman.decode(bytes)
        } else {
            Some(bytes.to_vec())
        }
    }
}

fn note(fields: &mut Fields, entry: &Entry) {
    let text = || String::from_utf8_lossy(&entry.value).into_owned();
    match entry.name.as_slice() {
        b":status" => fields.status_ok |= entry.value == b"200",
        b"grpc-status" => fields.grpc_status = text().parse().ok(),
        b"grpc-message" => fields.grpc_message = Some(percent_decoded(&entry.value)),
        _ => {}
    }
}

/// gRPC writes what is not plain ASCII, and the per cent sign, as `%XX`; some write spaces so as well.
fn percent_decoded(mut coded: &[u8]) -> String {
    let mut text = Vec::with_capacity(coded.len());
    while let Some(byte) = coded.split_off_first() {
        let digits = coded
            .first_chunk::<2>()
            .and_then(|two| std::str::from_utf8(two).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(decoded) if *byte == b'%' => {
                text.push(decoded);
                coded = coded.get(2..).unwrap_or_default();
            }
            _ => text.push(*byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// An integer whose first bits are in the low `bits` of the first byte (RFC 7541, 5.1).
fn integer(block: &mut &[u8], bits: u32) -> Option<usize> {
    let mask = (1_usize << bits) - 1;
    let mut number = usize::from(*block.split_off_first()?) & mask;
    if number < mask {
        return Some(number);
    }
    let mut shift = 0;
    loop {
        let byte = usize::from(*block.split_off_first()?);
        // Beyond 28 bits nothing that we read is meant.
        if shift > 21 {
            return None;
        }
        number += (byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_use_the_table_are_read() {
        let mut decoder = Decoder::new();
        // :status 200; content-type (31) as a new entry; grpc-status as a new entry with a coded name.
        let mut block = vec![0x88, 0x40 | 31, 16];
        block.extend_from_slice(b"application/grpc");
        block.extend_from_slice(&[0x40, 11]);
        block.extend_from_slice(b"grpc-status");
        block.extend_from_slice(&[1, b'5']);
        let fields = decoder.decode(&block).unwrap();
        assert!(fields.status_ok);
        assert_eq!(fields.grpc_status, Some(5));
        // Now it is the newest entry; and a name of it with another value makes a newer one.
        assert_eq!(decoder.decode(&[0x80 | 62]).unwrap().grpc_status, Some(5));
        let fields = decoder.decode(&[0x40 | 62, 0x81, 0b0000_0111]).unwrap();
        assert_eq!(fields.grpc_status, Some(0));
        assert_eq!(decoder.decode(&[0x80 | 62]).unwrap().grpc_status, Some(0));
        assert_eq!(decoder.decode(&[0x80 | 63]).unwrap().grpc_status, Some(5));
    }

    #[test]
    fn entries_leave_the_table_when_it_is_made_smaller() {
        let mut decoder = Decoder::new();
        decoder.decode(b"\x40\x0bgrpc-status\x013").unwrap();
        assert!(decoder.decode(&[0x80 | 62]).is_some());
        // A table of no bytes; then there is no entry 62.
        assert_eq!(decoder.decode(&[0x20]).unwrap(), Fields::default());
        assert_eq!(decoder.decode(&[0x80 | 62]), None);
    }

    #[test]
    fn messages_are_percent_decoded() {
        assert_eq!(
            percent_decoded(b"too%20many%20requests"),
            "too many requests"
        );
        assert_eq!(percent_decoded(b"100%, %zz, %4"), "100%, %zz, %4");
    }

    #[test]
    fn a_block_that_ends_too_early_is_refused() {
        let mut decoder = Decoder::new();
        for block in [
            &[0x40][..],
            &[0x40, 5, b'a'],
            &[0x7f],
            &[0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(decoder.decode(block), None, "{block:?}");
        }
    }

    #[test]
    fn later_requests_of_a_path_are_six_bytes_and_mean_the_same() {
        let mut encoder = Encoder::new("127.0.0.1:2379");
        let mut decoder = Decoder::new();
        let mut lengths = Vec::new();
        for path in ["/a/Put", "/a/Range", "/a/Put", "/a/Range"] {
            let mut block = Vec::new();
            encoder.request(path, &mut block);
            lengths.push(block.len());
            decoder.decode(&block).unwrap();
            // The path is the fourth header, and pseudo-headers come first.
            let meant = match block[2..] {
                [authority, path, ..] if authority & 0x80 != 0 && path & 0x80 != 0 => {
                    &decoder.table[usize::from(path & 0x7f) - STATIC_ENTRIES - 1]
                }
                _ => decoder
                    .table
                    .iter()
                    .find(|entry| entry.name == b":path")
                    .unwrap(),
            };
            assert_eq!(meant.value, path.as_bytes());
        }
        assert!(lengths[0] > 50, "{lengths:?}");
        assert_eq!(lengths[2..], [6, 6]);
    }
}
