//! Every kind of damage, and the outcome that is promised for it: refused, with the file and the
//! byte, and untouched; or, where nothing that was acknowledged can be concerned, cut.

mod common;

use common::{
    Content, SEAL, SYNCED, append, content, done, entry, files, id, open, open_error, raw_records,
    several_segments,
};
use keelson_log::{LogDir, LogError, LogFile, SimDir, Vote};

/// A copy of `dir` in which `change` was done to the file `name`.
fn damaged(dir: &SimDir, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> SimDir {
    let copy = dir.durable_copy();
    for (name, bytes) in files(dir) {
        copy.set_contents(&name, bytes);
    }
    let mut bytes = dir.contents(name).expect("present");
    change(&mut bytes);
    copy.set_contents(name, bytes);
    copy
}

/// Requires that opening is refused as corrupt at `offset` of `name`, and changes nothing.
fn assert_corrupt(dir: &SimDir, name: &str, offset: usize, case: &str) {
    let before = files(dir);
    match open_error(dir) {
        LogError::Corrupt {
            file,
            offset: found,
            ..
        } => {
            assert_eq!((file.as_str(), found), (name, offset as u64), "{case}");
        }
        other => panic!("{case}: {other}"),
    }
    assert_eq!(files(dir), before, "{case}: refused, and yet changed");
    assert_eq!(
        (dir.write_count(), dir.sync_count()),
        (0, 0),
        "{case}: refused, and yet written"
    );
}

/// Requires that the log opens with `expected`, having cut (or not) at `offset`.
fn assert_opens(dir: &SimDir, expected: &Content, cut_at: Option<usize>, case: &str) {
    let (log, opened) = open(dir);
    assert_eq!(&content(&log), expected, "{case}");
    assert_eq!(opened.cut.map(|cut| cut.offset as usize), cut_at, "{case}");
}

#[test]
fn the_log_under_test_has_every_kind_of_record_and_several_segments() {
    let (dir, expected) = several_segments();
    let files = files(&dir);
    assert!(files.len() >= 4, "{:?}", files.keys());
    let kinds: std::collections::BTreeSet<u8> = files
        .values()
        .flat_map(|bytes| raw_records(bytes))
        .map(|record| record.kind)
        .collect();
    assert_eq!(kinds, (1..=8).collect());
    assert_eq!(
        (expected.entries.len(), expected.last),
        (14, Some(id(3, 14)))
    );
    assert_opens(&dir.durable_copy(), &expected, None, "as it is on the disk");
}

#[test]
fn a_flipped_bit_in_any_byte_is_refused_where_it_is_or_was_of_no_consequence() {
    let (dir, expected) = several_segments();
    let all = files(&dir);
    let last_file = all.keys().next_back().expect("several").clone();
    let (mut refused, mut harmless) = (0, 0);
    for (name, bytes) in &all {
        let records = raw_records(bytes);
        let end = records.last().expect("a state").end;
        for at in 0..bytes.len() {
            let bit = 1 << (at % 8);
            let hurt = damaged(&dir, name, |bytes| bytes[at] ^= bit);
            let case = format!("{name}, byte {at}");
            let record = records
                .iter()
                .find(|record| (record.offset..record.end).contains(&at));
            match record {
                None if at < 48 => assert_corrupt(&hurt, name, 0, &case),
                // The last mark says that what is before it was synced: without it, all is still there.
                Some(mark) if *name == last_file && mark.end == end && mark.kind == SYNCED => {
                    harmless += 1;
                    assert_opens(&hurt, &expected, Some(mark.offset), &case);
                }
                Some(record) => {
                    refused += 1;
                    assert_corrupt(&hurt, name, record.offset, &case);
                }
                None if *name == last_file => assert_opens(&hurt, &expected, Some(end), &case),
                // Behind a seal nothing is ever read.
                None => assert_opens(&hurt, &expected, None, &case),
            }
        }
    }
    assert!(
        refused > 3000 && harmless == 48,
        "{refused} refused, {harmless} harmless"
    );
}

#[test]
fn every_bit_of_an_entry_in_the_middle_and_of_the_last_one_is_guarded() {
    let (dir, _) = several_segments();
    let all = files(&dir);
    let (last_name, last_bytes) = all.iter().next_back().expect("several");
    let (first_name, first_bytes) = all.iter().next().expect("several");
    let last_entry = raw_records(last_bytes)
        .into_iter()
        .rfind(|record| record.kind == 1)
        .expect("an entry");
    let middle = raw_records(first_bytes)
        .into_iter()
        .find(|record| record.kind == 1)
        .expect("an entry");
    for (name, record) in [(first_name, middle), (last_name, last_entry)] {
        for bit in record.offset * 8..record.end * 8 {
            let hurt = damaged(&dir, name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            assert_corrupt(&hurt, name, record.offset, &format!("{name}, bit {bit}"));
        }
    }
}

#[test]
fn a_zeroed_record_with_synced_ones_behind_it_is_refused() {
    let (dir, _) = several_segments();
    for (name, bytes) in files(&dir) {
        let records = raw_records(&bytes);
        for record in &records[..records.len() - 2] {
            let hurt = damaged(&dir, &name, |bytes| {
                bytes[record.offset..record.end].fill(0)
            });
            assert_corrupt(&hurt, &name, record.offset, &format!("{name}, {record:?}"));
        }
    }
}

#[test]
fn a_missing_segment_is_named_whether_first_last_or_in_the_middle() {
    let (dir, _) = several_segments();
    for name in files(&dir).into_keys() {
        let copy = dir.durable_copy();
        copy.remove(&name).expect("removed");
        copy.sync_dir().expect("synced");
        let before = files(&copy);
        match open_error(&copy) {
            LogError::MissingSegment { file, .. } => assert_eq!(file, name),
            other => panic!("{name}: {other}"),
        }
        assert_eq!(files(&copy), before);
    }
}

#[test]
fn a_file_of_another_length_is_refused_whichever_it_is() {
    let (dir, _) = several_segments();
    for (name, bytes) in files(&dir) {
        let boundaries = raw_records(&bytes).into_iter().map(|record| record.end);
        for len in boundaries.chain([
            48,
            49,
            100,
            bytes.len() - 1,
            bytes.len() + 1,
            bytes.len() + 4096,
        ]) {
            let hurt = damaged(&dir, &name, |bytes| bytes.resize(len, 0));
            match open_error(&hurt) {
                LogError::WrongLength {
                    file,
                    expected,
                    found,
                } => {
                    assert_eq!(
                        (&file, expected, found),
                        (&name, bytes.len() as u64, len as u64)
                    );
                }
                other => panic!("{name}, {len} bytes: {other}"),
            }
        }
        for len in [0, 1, 47] {
            let hurt = damaged(&dir, &name, |bytes| bytes.truncate(len));
            assert_corrupt(&hurt, &name, 0, &format!("{name}, {len} bytes"));
        }
    }
}

#[test]
fn a_sealed_segment_that_ends_early_is_refused_where_it_ends() {
    let (dir, _) = several_segments();
    let all = files(&dir);
    let last_file = all.keys().next_back().expect("several").clone();
    for (name, bytes) in all.iter().filter(|(name, _)| **name != last_file) {
        for record in raw_records(bytes).iter().skip(1) {
            let hurt = damaged(&dir, name, |bytes| bytes[record.offset..].fill(0));
            assert_corrupt(
                &hurt,
                name,
                record.offset,
                &format!("{name}, nothing from {record:?}"),
            );
        }
    }
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let (dir, _) = several_segments();
    let first = dir.contents("0000000001.seg").expect("present");
    let hurt = damaged(&dir, "0000000002.seg", |bytes| *bytes = first);
    assert_corrupt(&hurt, "0000000002.seg", 0, "a copy of the first segment");
}

/// All its checksums hold, and its number and place fit.
#[test]
fn a_segment_of_another_log_is_refused() {
    let [mine, theirs] = [1, 2].map(|node| {
        let dir = SimDir::new();
        let (log, _) = open(&dir);
        common::vote(
            &log,
            Vote {
                term: 1,
                node,
                committed: false,
            },
        );
        append(&log, (0..12).map(|index| entry(1, index, 100)).collect());
        dir
    });
    let name = "0000000002.seg";
    let other = theirs.contents(name).expect("present");
    let mixed = damaged(&mine, name, |bytes| *bytes = other);
    assert_corrupt(&mixed, name, 48, "another vote in the state");
}

#[test]
fn garbage_after_the_last_record_is_cut_and_gone_for_good() {
    let (dir, expected) = several_segments();
    let name = files(&dir).into_keys().next_back().expect("several");
    let end = raw_records(&dir.contents(&name).expect("present"))
        .last()
        .expect("records")
        .end;
    let hurt = damaged(&dir, &name, |bytes| bytes[end..].fill(0xA5));
    assert_opens(&hurt, &expected, Some(end), "garbage");
    let bytes = hurt.crash(1).contents(&name).expect("present");
    assert!(
        bytes[end..].iter().all(|byte| *byte == 0),
        "the cut is durable"
    );
    assert_opens(&hurt.crash(2), &expected, None, "opened again");
}

#[test]
fn records_of_another_segment_or_place_are_garbage() {
    let (dir, expected) = several_segments();
    let all = files(&dir);
    let (name, bytes) = all.iter().next_back().expect("several");
    let records = raw_records(bytes);
    let end = records.last().expect("records").end;
    let (_, before) = all.iter().rev().nth(1).expect("several");
    // Exactly the place at which they were in the segment before.
    let stale = damaged(&dir, name, |bytes| {
        bytes[end..].copy_from_slice(&before[end..])
    });
    let cut = before[end..].iter().any(|byte| *byte != 0).then_some(end);
    assert!(cut.is_some(), "the segment before has records there");
    assert_opens(&stale, &expected, cut, "records of the segment before");
    // This segment's own, elsewhere.
    let own = records
        .iter()
        .find(|record| record.kind == 1)
        .expect("an entry");
    let moved = damaged(&dir, name, |to| {
        to[end..end + own.end - own.offset].copy_from_slice(&bytes[own.offset..own.end]);
    });
    assert_opens(
        &moved,
        &expected,
        Some(end),
        "a record of this segment in another place",
    );
}

/// Three entries written and never synced, the first of which the crash tore.
#[test]
fn what_was_cut_does_not_come_back_when_its_place_is_written_again() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(&log, vec![entry(1, 0, 10)]);
    let (done, outcome) = done();
    log.append((1..4).map(|index| entry(1, index, 80)).collect(), done);
    dir.fail_next_sync();
    log.step().run();
    outcome.recv().expect("told").expect_err("not synced");
    let records = raw_records(&dir.contents("0000000001.seg").expect("present"));
    let torn = records[records.len() - 3];
    assert_eq!((torn.kind, torn.end - torn.offset), (1, 128));

    let dir = damaged(&dir, "0000000001.seg", |bytes| bytes[torn.offset + 60] ^= 1);
    let (log, opened) = open(&dir);
    assert_eq!(opened.last, Some(id(1, 0)));
    assert_eq!(opened.cut.expect("cut").offset, torn.offset as u64);
    // Its equal in length: the stale second one would begin right behind it, but for the wiping.
    append(&log, vec![entry(2, 1, 80)]);
    let expected = content(&log);
    let (log, opened) = open(&dir.crash(0));
    assert_eq!((opened.last, opened.cut), (Some(id(2, 1)), None));
    assert_eq!(content(&log), expected);
    let bytes = dir.contents("0000000001.seg").expect("present");
    let end = raw_records(&bytes).last().expect("records").end;
    assert!(bytes[end..].iter().all(|byte| *byte == 0));
}

/// The same bytes, torn alike: what decides is whether anything says that they had been synced.
#[test]
fn a_torn_batch_is_cut_until_its_sync_is_on_record_and_refused_from_then_on() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(&log, vec![entry(1, 0, 10)]);
    append(&log, (1..4).map(|index| entry(1, index, 80)).collect());
    let name = "0000000001.seg";
    let records = raw_records(&dir.contents(name).expect("present"));
    let (mark, torn) = (records[records.len() - 1], records[records.len() - 4]);
    assert_eq!((mark.kind, torn.kind), (SYNCED, 1));

    let synced = damaged(&dir, name, |bytes| bytes[torn.offset] ^= 1);
    assert_corrupt(&synced, name, torn.offset, "the mark is there");
    let unsynced = damaged(&dir, name, |bytes| {
        bytes[torn.offset] ^= 1;
        bytes[mark.offset..mark.end].fill(0);
    });
    let (log, opened) = open(&unsynced);
    assert_eq!(
        (opened.last, content(&log).entries.len()),
        (Some(id(1, 0)), 1)
    );
}

#[test]
fn a_damaged_seal_before_a_segment_in_use_is_refused() {
    let (dir, _) = several_segments();
    let bytes = dir.contents("0000000001.seg").expect("present");
    let seal = *raw_records(&bytes).last().expect("records");
    assert_eq!(seal.kind, SEAL);
    let hurt = damaged(&dir, "0000000001.seg", |bytes| {
        bytes[seal.offset..seal.end].fill(0)
    });
    assert_corrupt(&hurt, "0000000001.seg", seal.offset, "no seal");
}

#[test]
fn a_newer_format_is_refused_untouched_before_anything_else() {
    let (dir, _) = several_segments();
    let name = files(&dir).into_keys().nth(1).expect("several");
    let newer = damaged(&dir, &name, |bytes| {
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes[16..].fill(0x77);
    });
    let before = files(&newer);
    match open_error(&newer) {
        LogError::NewerFormat {
            file,
            found: 2,
            supported: 1,
        } => assert_eq!(file, name),
        other => panic!("{other}"),
    }
    assert_eq!(files(&newer), before);
    assert_eq!((newer.write_count(), newer.sync_count()), (0, 0));
}

#[test]
fn damage_that_comes_while_the_log_is_open_is_found_by_the_read() {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    append(&log, (0..3).map(|index| entry(1, index, 100)).collect());
    let record = raw_records(&dir.contents("0000000001.seg").expect("present"))[2];
    let file = dir.open("0000000001.seg").expect("opened");
    file.write_at(record.offset as u64 + 48 + 50, b"?")
        .expect("written");
    match log.read(0..3, u64::MAX).expect_err("damaged") {
        LogError::Corrupt { file, offset, .. } => {
            assert_eq!(
                (file.as_str(), offset),
                ("0000000001.seg", record.offset as u64)
            );
        }
        other => panic!("{other}"),
    }
    log.read(0..1, u64::MAX).expect("the one before is sound");
}

#[test]
fn files_that_are_not_the_logs_are_left_alone() {
    let (dir, expected) = several_segments();
    let dir = dir.durable_copy();
    dir.set_contents("LOCK", b"1234".to_vec());
    dir.set_contents("0000000001.seg.bak", b"mine".to_vec());
    assert_opens(&dir, &expected, None, "other files");
    assert_eq!(dir.contents("LOCK"), Some(b"1234".to_vec()));
    assert_eq!(dir.contents("0000000001.seg.bak"), Some(b"mine".to_vec()));
}
