//! Which directories are opened, and that the others are left as they were.

use crate::common::small;
use keelson_rocks::RocksEngine;
use keelson_store::engine::{Batch, Engine, Family, View};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The error of an open that must fail, with its cause.
fn refused(path: &Path) -> String {
    let before = files(path);
    let error = RocksEngine::open(path, small())
        .err()
        .expect("the directory is refused");
    assert_eq!(files(path), before, "a refused directory is left as it was");
    format!(
        "{error}: {}",
        error.source().expect("an engine error has a cause")
    )
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

/// A closed store that holds a key.
fn store() -> TempDir {
    let directory = TempDir::new().unwrap();
    let engine = RocksEngine::open(directory.path(), small()).unwrap();
    let mut batch = Batch::default();
    batch.put(Family::Latest, "key", vec![7; 100_000]);
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    directory
}

#[test]
fn a_missing_directory_is_created_and_an_empty_one_is_taken() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("a/b");
    drop(RocksEngine::open(&missing, small()).unwrap());
    assert_eq!(
        fs::read_to_string(missing.join("FORMAT")).unwrap(),
        "keelson-rocks 1\n"
    );
    let empty = TempDir::new().unwrap();
    drop(RocksEngine::open(empty.path(), small()).unwrap());
    drop(RocksEngine::open(empty.path(), small()).unwrap());
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("thesis.tex"), "dear").unwrap();
    let error = refused(directory.path());
    assert!(
        error.contains("it holds no store of this program"),
        "{error}"
    );
    assert!(
        error.contains(directory.path().to_str().unwrap()),
        "{error}"
    );
    assert!(RocksEngine::destroy(directory.path()).is_err());
    assert!(directory.path().join("thesis.tex").exists());
}

#[test]
fn a_newer_format_is_refused() {
    let directory = store();
    fs::write(directory.path().join("FORMAT"), "keelson-rocks 2\n").unwrap();
    let error = refused(directory.path());
    assert!(
        error.contains("its format is 2, and this program reads 1: use a newer program"),
        "{error}"
    );
}

#[test]
fn an_unknown_format_is_refused() {
    let directory = store();
    fs::write(directory.path().join("FORMAT"), "rocks\n").unwrap();
    assert!(refused(directory.path()).contains("no format of this program"));
}

#[test]
fn a_store_without_its_current_file_is_refused_and_not_begun_anew() {
    let directory = store();
    fs::remove_file(directory.path().join("CURRENT")).unwrap();
    assert!(refused(directory.path()).contains("its CURRENT file is missing"));
}

#[test]
fn a_crash_while_a_store_is_created_leaves_one_that_opens() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("FORMAT"), "keelson-rocks 1\n").unwrap();
    fs::write(directory.path().join("MANIFEST-000001"), "").unwrap();
    drop(RocksEngine::open(directory.path(), small()).unwrap());
}

#[test]
fn a_crash_while_the_format_is_written_leaves_one_that_opens() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("FORMAT.tmp"), "keel").unwrap();
    drop(RocksEngine::open(directory.path(), small()).unwrap());
}

#[test]
fn a_store_that_is_open_is_refused() {
    let directory = store();
    let open = RocksEngine::open(directory.path(), small()).unwrap();
    let error = RocksEngine::open(directory.path(), small()).err().unwrap();
    assert!(
        error.source().unwrap().to_string().contains("LOCK"),
        "{error}"
    );
    assert!(RocksEngine::destroy(directory.path()).is_err());
    assert!(
        open.view()
            .unwrap()
            .get(Family::Latest, b"key")
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_destroyed_store_is_gone_with_its_directory() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    drop(RocksEngine::open(&path, small()).unwrap());
    RocksEngine::destroy(&path).unwrap();
    assert!(!path.exists());
    RocksEngine::destroy(&path).unwrap();
}
