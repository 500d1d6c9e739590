//! An engine in a directory of its own, for the tests.

use keelson_rocks::{Options, RocksEngine};
use keelson_store::conformance::Subject;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub struct OnDisk {
    /// None while it is closed.
    engine: Option<RocksEngine>,
    directory: TempDir,
}

/// Little memory, so that RocksDB flushes and compacts within a test, too.
pub fn small() -> Options {
    Options {
        cache_bytes: 4 << 20,
        write_buffer_bytes: 1 << 20,
        ..Options::default()
    }
}

impl OnDisk {
    pub fn new() -> OnDisk {
        let directory = TempDir::new().unwrap();
        let engine = RocksEngine::open(directory.path().join("store"), small()).unwrap();
        OnDisk {
            engine: Some(engine),
            directory,
        }
    }
}

impl Subject for OnDisk {
    type Engine = RocksEngine;

    fn engine(&self) -> &RocksEngine {
        self.engine.as_ref().unwrap()
    }

    fn crash(&mut self) {
        self.engine = None;
        self.engine =
            Some(RocksEngine::open(self.directory.path().join("store"), small()).unwrap());
    }

    fn restore(&self, from: &Path) -> RocksEngine {
        RocksEngine::open(from, small()).unwrap()
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
