//! The engine on a real disk. One program, since linking RocksDB takes long.

mod common;
mod damage;
mod directory;
mod format;
mod model;
mod space;

/// RocksDB does what every engine must do. A crash is closing without a flush: closing writes nothing.
mod conformance {
    keelson_store::engine_conformance!(super::common::OnDisk::new());
}
