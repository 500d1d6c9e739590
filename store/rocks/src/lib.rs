//! The RocksDB engine: [`keelson_store::engine::Engine`] on disk. A leaf crate, the only one that links C++.
//!
//! **Guarantees**
//! - A batch is atomic, and so is a flush: all families together go to the disk, so that what a crash leaves is the state
//!   after some whole batch, at or after the last [`flush`](keelson_store::engine::Engine::flush).
//! - There is no write-ahead log, and closing does not flush: only a flush (its own when memory is full, or one that is
//!   asked for) makes data durable.
//! - Every block that is read is checked against its checksum; damage is an error that names the file.
//! - Memory is bounded by [`Options`]: blocks, indexes, filters and what waits to be flushed share one budget.
//! - A directory that is not ours, or of a newer format, is refused before anything in it is touched.
//!
//! **Leaves to others**: what the records mean (but for the revision at the end of a history record, which the
//! compaction filter reads), when to flush, and a thread of its own to write on: writes stall when the disk cannot keep up.
//!
//! # On disk
//!
//! ```text
//! FORMAT      "keelson-rocks 1\n", written before anything else
//! CURRENT …   RocksDB's own files: one column family for each family, by its name; "default" stays empty
//! ```

mod directory;
mod engine;
mod history;
mod options;
mod truncation;
mod view;

pub use engine::{Held, RocksEngine, Stats};
pub use options::Options;
pub use view::{RocksCursor, RocksView};
