//! The engine in memory does what every engine must do.

use keelson_store::conformance::Subject;
use keelson_store::memory::MemoryEngine;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct InMemory {
    engine: MemoryEngine,
    scratch: TempDir,
}

impl InMemory {
    fn new() -> InMemory {
        InMemory {
            engine: MemoryEngine::new(),
            scratch: TempDir::new().unwrap(),
        }
    }
}

impl Subject for InMemory {
    type Engine = MemoryEngine;

    fn engine(&self) -> &MemoryEngine {
        &self.engine
    }

    fn crash(&mut self) {
        self.engine.crash();
    }

    fn restore(&self, from: &Path) -> MemoryEngine {
        MemoryEngine::restore(from).unwrap()
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

keelson_store::engine_conformance!(InMemory::new());
