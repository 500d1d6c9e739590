//! The format is a promise: what version 1 wrote must open for ever, and what is written today must
//! be what docs/formats.md draws.

mod common;

use bytes::Bytes;
use common::{Content, append, content, files, open, purge, truncate, vote};
use keelson_log::{LogId, RaftLog, SimDir, Vote};

/// The segments that version 1 left after [`write_everything`].
const FIXTURE: [(&str, &[u8]); 2] = [
    (
        "0000000001.seg",
        include_bytes!("fixtures/v1/0000000001.seg"),
    ),
    (
        "0000000002.seg",
        include_bytes!("fixtures/v1/0000000002.seg"),
    ),
];

fn id(term: u64, index: u64) -> LogId {
    LogId {
        term,
        node: 40 + term,
        index,
    }
}

fn entry(term: u64, index: u64, payload: &'static str) -> (LogId, Bytes) {
    (id(term, index), Bytes::from_static(payload.as_bytes()))
}

/// Every kind of record, in two segments of 1 KiB.
fn write_everything(log: &RaftLog<SimDir>) {
    vote(
        log,
        Vote {
            term: 1,
            node: 41,
            committed: false,
        },
    );
    append(log, vec![entry(1, 0, "membership"), entry(1, 1, "")]);
    vote(
        log,
        Vote {
            term: 2,
            node: 42,
            committed: true,
        },
    );
    log.save_committed(Some(id(1, 1)));
    purge(log, id(1, 0));
    append(
        log,
        vec![
            entry(1, 2, "this one is replaced"),
            entry(1, 3, "and this one goes"),
        ],
    );
    truncate(log, Some(1));
    append(
        log,
        vec![entry(2, 2, "in place of another"), entry(2, 3, "one more")],
    );
    append(
        log,
        vec![
            entry(2, 4, "the fifth of them"),
            entry(3, 5, "of another term"),
        ],
    );
    log.save_committed(Some(id(2, 3)));
    append(log, vec![entry(3, 6, "the last of them")]);
}

fn expected() -> Content {
    Content {
        vote: Some(Vote {
            term: 2,
            node: 42,
            committed: true,
        }),
        committed: Some(id(2, 3)),
        purged: Some(id(1, 0)),
        last: Some(id(3, 6)),
        entries: vec![
            entry(1, 1, ""),
            entry(2, 2, "in place of another"),
            entry(2, 3, "one more"),
            entry(2, 4, "the fifth of them"),
            entry(3, 5, "of another term"),
            entry(3, 6, "the last of them"),
        ],
    }
}

#[test]
fn a_log_of_version_1_opens_with_exactly_its_contents() {
    let dir = SimDir::new();
    for (name, bytes) in FIXTURE {
        dir.set_contents(name, bytes.to_vec());
    }
    let (log, opened) = open(&dir);
    assert_eq!(content(&log), expected());
    assert_eq!((opened.fresh, opened.cut), (false, None));
    append(&log, vec![entry(4, 7, "and it goes on")]);
    assert_eq!(open(&dir.crash(1)).1.last, Some(id(4, 7)));
}

/// Otherwise the fixture says nothing about the log that is written now. Whoever changes the format
/// raises its version, keeps this fixture opening, and adds one.
#[test]
fn the_same_requests_still_write_the_same_bytes() {
    let dir = SimDir::new();
    write_everything(&open(&dir).0);
    let written = files(&dir);
    if let Ok(to) = std::env::var("WRITE_FIXTURE") {
        for (name, bytes) in &written {
            std::fs::write(std::path::Path::new(&to).join(name), bytes).expect("written");
        }
    }
    assert_eq!(
        written.keys().collect::<Vec<_>>(),
        ["0000000001.seg", "0000000002.seg"]
    );
    for (name, bytes) in FIXTURE {
        assert!(written[name] == bytes, "{name} differs from the fixture");
    }
}

/// Reads the first segment by the drawing in docs/formats.md, with none of the crate's code.
#[test]
fn the_bytes_are_where_the_drawing_has_them() {
    let bytes = FIXTURE[0].1;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
    // The segment header.
    assert_eq!(&bytes[..8], b"KEELSLOG");
    assert_eq!((u32_at(8), u32_at(12)), (1, crc32c::crc32c(&bytes[..12])));
    assert_eq!(
        (u32_at(16), u32_at(20), u32_at(24), u32_at(28)),
        (1, 1024, 0, 0)
    );
    assert_eq!(
        (u64_at(32), u32_at(40), u32_at(44)),
        (0, 0, crc32c::crc32c(&bytes[..44]))
    );
    // Every record: magic, checksums, segment, and the sync it claims.
    let mut kinds = Vec::new();
    let mut at = 48;
    while &bytes[at..at + 2] == b"KL" {
        let (kind, len) = (bytes[at + 2], u32_at(at + 8) as usize);
        let end = at + 48 + len.next_multiple_of(8);
        let guarded = [
            &bytes[at..at + 4],
            &bytes[at + 8..at + 48],
            &(at as u32).to_le_bytes(),
        ]
        .concat();
        assert_eq!(u32_at(at + 4), crc32c::crc32c(&guarded), "header at {at}");
        assert_eq!(
            u32_at(at + 12),
            crc32c::crc32c(&bytes[at + 48..end]),
            "payload at {at}"
        );
        assert_eq!(u32_at(at + 16), 1);
        assert!(u32_at(at + 20) as usize <= at);
        kinds.push(kind);
        at = end;
    }
    assert_eq!(
        kinds[..7],
        [6, 2, 7, 1, 1, 7, 2],
        "state, vote, mark, two entries, mark, vote"
    );
    assert_eq!(kinds.last(), Some(&8), "a seal");
    // The first entry: after the header, the state (144), a vote and a mark (48 each).
    let entry = 48 + 144 + 48 + 48;
    assert_eq!((bytes[entry + 2], u32_at(entry + 8)), (1, 10));
    assert_eq!(
        (u64_at(entry + 24), u64_at(entry + 32), u64_at(entry + 40)),
        (1, 41, 0)
    );
    assert_eq!(&bytes[entry + 48..entry + 64], b"membership\0\0\0\0\0\0");
    // The state that opens the second segment.
    let bytes = FIXTURE[1].1;
    let state = &bytes[96..192];
    let u64_at = |at: usize| u64::from_le_bytes(state[at..at + 8].try_into().expect("eight"));
    assert_eq!(state[..8], [1, 0, 0, 0, 0b11111, 0, 0, 0]);
    assert_eq!((u64_at(8), u64_at(16)), (2, 42), "vote");
    assert_eq!(
        (u64_at(24), u64_at(32), u64_at(40)),
        (1, 41, 1),
        "committed"
    );
    assert_eq!((u64_at(48), u64_at(56), u64_at(64)), (1, 41, 0), "purged");
    assert_eq!((u64_at(72), u64_at(80), u64_at(88)), (1, 41, 3), "last");
}
