//! The store over memory does what a naive model does, whatever happens to it.

use keelson_store::memory::MemoryEngine;
use keelson_store::model::{Subject, run_model};
use std::sync::Arc;

#[derive(Default)]
struct InMemory(Arc<MemoryEngine>);

impl Subject for InMemory {
    type Engine = MemoryEngine;

    fn open(&mut self) -> Arc<MemoryEngine> {
        self.0.clone()
    }

    fn crash(&mut self) {
        self.0.crash();
    }
}

#[test]
fn random_commands_do_what_a_naive_model_does() {
    run_model(2_000, 40, InMemory::default);
}
