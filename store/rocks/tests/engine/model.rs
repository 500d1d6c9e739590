//! The store over RocksDB does what a naive model does, crashes and compactions among the commands.

use crate::common::small;
use keelson_rocks::RocksEngine;
use keelson_store::model::{Subject, run_model};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

struct OnDisk(PathBuf);

impl Subject for OnDisk {
    type Engine = RocksEngine;

    fn open(&mut self) -> Arc<RocksEngine> {
        Arc::new(RocksEngine::open(&self.0, small()).unwrap())
    }

    /// It was closed, which writes nothing: what was not flushed is gone.
    fn crash(&mut self) {}
}

/// In memory if there is such a file system: the engine is crashed here, not the machine, and syncing would take most of the time.
fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .unwrap()
}

#[test]
fn random_commands_do_what_a_naive_model_does() {
    // A run drops its subject before its store, so the directory is kept until the next run begins.
    let directory = RefCell::new(scratch());
    run_model(400, 40, || {
        directory.replace(scratch());
        OnDisk(directory.borrow().path().to_path_buf())
    });
}
