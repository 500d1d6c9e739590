//! The log's directory and the engine, with how long they take noted for `/metrics`.

use std::io;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use keelson_log::{LogDir, LogFile};
use keelson_store::Revision;
use keelson_store::engine::{Batch, Engine, EngineError, EngineSize, Family};
use prometheus_client::metrics::histogram::Histogram;

fn timed<T>(seconds: &Histogram, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    seconds.observe(start.elapsed().as_secs_f64());
    result
}

/// A log's directory that notes how long syncing takes.
#[derive(Debug)]
pub struct MeasuredDir<D> {
    /// The directory.
    pub dir: D,
    /// Where the times go.
    pub sync_seconds: Histogram,
}

impl<D: LogDir> MeasuredDir<D> {
    fn measured(&self, file: D::File) -> MeasuredFile<D::File> {
        MeasuredFile {
            file,
            sync_seconds: self.sync_seconds.clone(),
        }
    }
}

impl<D: LogDir> LogDir for MeasuredDir<D> {
    type File = MeasuredFile<D::File>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.dir.list()
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Self::File> {
        Ok(self.measured(self.dir.create(name, size)?))
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        Ok(self.measured(self.dir.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_dir()
    }
}

/// A log's file that notes how long syncing takes.
#[derive(Debug)]
pub struct MeasuredFile<F> {
    file: F,
    sync_seconds: Histogram,
}

impl<F: LogFile> LogFile for MeasuredFile<F> {
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, buf)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        timed(&self.sync_seconds, || self.file.sync_data())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// An engine that notes how long writing a batch takes.
#[derive(Debug)]
pub struct MeasuredEngine<E> {
    /// The engine.
    pub engine: E,
    /// Where the times go.
    pub write_seconds: Histogram,
}

impl<E: Engine> Engine for MeasuredEngine<E> {
    type View = E::View;

    fn view(&self) -> Result<Self::View, EngineError> {
        self.engine.view()
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        timed(&self.write_seconds, || self.engine.write(batch))
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.engine.flush()
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get_persisted(family, key)
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        self.engine.checkpoint(into)
    }

    fn set_history_floor(&self, revision: Revision) {
        self.engine.set_history_floor(revision);
    }

    fn compact_files(&self) -> Result<(), EngineError> {
        self.engine.compact_files()
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        self.engine.size()
    }
}
