//! Damage is found when it is read, and its error names the file.

use crate::common::small;
use keelson_rocks::RocksEngine;
use keelson_store::engine::{Batch, Cursor, Engine, EngineError, Family, View};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const KEYS: u32 = 20_000;

fn key(n: u32) -> String {
    format!("key-{n:08}")
}

/// A closed store of many blocks in one file.
fn store() -> TempDir {
    let directory = TempDir::new().unwrap();
    let engine = RocksEngine::open(directory.path(), Default::default()).unwrap();
    let mut batch = Batch::default();
    // Numbers that do not repeat, so that they are not compressed away.
    (0..KEYS).for_each(|n| {
        batch.put(
            Family::Latest,
            key(n),
            format!("{:x}", u128::from(n).wrapping_pow(9)),
        )
    });
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    directory
}

fn the_sst(directory: &Path) -> PathBuf {
    let all = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut tables: Vec<PathBuf> = all
        .filter(|path| path.extension().is_some_and(|ext| ext == "sst"))
        .collect();
    assert_eq!(tables.len(), 1);
    tables.remove(0)
}

fn flip_a_bit(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Opens the store and reads all of it: the first error.
fn read_all(directory: &Path) -> Result<u32, EngineError> {
    let engine = RocksEngine::open(directory, small())?;
    let view = engine.view()?;
    let mut cursor = view.cursor(Family::Latest, b"", None);
    let mut keys = 0;
    while cursor.next()?.is_some() {
        keys += 1;
    }
    for n in 0..KEYS {
        assert!(
            view.get(Family::Latest, key(n).as_bytes())?.is_some(),
            "{} is gone without an error",
            key(n)
        );
    }
    Ok(keys)
}

fn assert_names(error: &EngineError, path: &Path) {
    let text = format!("{error}: {}", error.source().unwrap());
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(name), "{text} does not name {name}");
    assert!(text.contains("Corruption"), "{text}");
}

#[test]
fn an_undamaged_store_reads_whole() {
    assert_eq!(read_all(store().path()).unwrap(), KEYS);
}

#[test]
fn a_flipped_bit_anywhere_in_a_file_is_an_error_that_names_it() {
    let directory = store();
    let table = the_sst(directory.path());
    let whole = fs::read(&table).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 25) {
        flip_a_bit(&table, at);
        assert_names(&read_all(directory.path()).unwrap_err(), &table);
        fs::write(&table, &whole).unwrap();
    }
    assert_eq!(read_all(directory.path()).unwrap(), KEYS);
}

#[test]
fn a_get_of_a_damaged_block_is_an_error_and_not_a_missing_key() {
    let directory = store();
    let table = the_sst(directory.path());
    flip_a_bit(&table, 100);
    let engine = RocksEngine::open(directory.path(), small()).unwrap();
    let view = engine.view().unwrap();
    let (damaged, whole) = (key(3), key(KEYS - 1));
    let alone = view.get(Family::Latest, damaged.as_bytes());
    assert_names(&alone.unwrap_err(), &table);
    let together = view.get_many(Family::Latest, &[damaged.as_bytes(), whole.as_bytes()]);
    assert_names(&together.unwrap_err(), &table);
    assert!(
        engine
            .view()
            .unwrap()
            .get(Family::Latest, key(KEYS - 1).as_bytes())
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_short_or_missing_file_is_found_when_the_store_is_opened() {
    let directory = store();
    let table = the_sst(directory.path());
    let whole = fs::read(&table).unwrap();
    fs::write(&table, &whole[..whole.len() - 1]).unwrap();
    assert_names(
        &RocksEngine::open(directory.path(), small()).err().unwrap(),
        &table,
    );
    fs::remove_file(&table).unwrap();
    assert_names(
        &RocksEngine::open(directory.path(), small()).err().unwrap(),
        &table,
    );
}

#[test]
fn a_damaged_manifest_is_found_when_the_store_is_opened() {
    let directory = store();
    let all = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_manifest = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("MANIFEST-")
    };
    let manifest = all.filter(is_manifest).last().unwrap();
    let len = fs::metadata(&manifest).unwrap().len() as usize;
    flip_a_bit(&manifest, len / 2);
    let error = RocksEngine::open(directory.path(), small()).err().unwrap();
    assert!(
        error.source().unwrap().to_string().contains("Corruption"),
        "{error}"
    );
}

#[test]
fn compacting_a_damaged_file_is_an_error_that_writes_meet_too() {
    let directory = store();
    let table = the_sst(directory.path());
    flip_a_bit(&table, 100);
    let engine = RocksEngine::open(directory.path(), small()).unwrap();
    assert!(engine.compact_files().is_err());
    let mut batch = Batch::default();
    batch.put(Family::Latest, "key", "");
    assert_names(&engine.write(&batch).unwrap_err(), &table);
}
