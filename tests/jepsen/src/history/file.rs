//! A history on the disk: JSON lines, one [`Record`] a line, in the order in which they came to be known.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::{History, Record};

/// Why a history cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not a record.
    #[error("{}, line {line}: not a record of a history: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// There is nothing in it.
    #[error("{} holds no history: its first line must tell the run", .0.display())]
    Empty(PathBuf),
}

/// Writes a history line by line while the run goes on.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Writer {
    /// Makes the file, which must not be there yet.
    pub fn create(path: &Path) -> Result<Writer, HistoryError> {
        let file = File::create_new(path).map_err(|source| io(path, source))?;
        Ok(Writer {
            path: path.to_owned(),
            out: BufWriter::with_capacity(1 << 20, file),
        })
    }

    /// Adds a record.
    pub fn write(&mut self, record: &Record) -> Result<(), HistoryError> {
        serde_json::to_writer(&mut self.out, record)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|source| io(&self.path, source))
    }

    /// Hands what was written to the operating system.
    pub fn finish(mut self) -> Result<(), HistoryError> {
        self.out.flush().map_err(|source| io(&self.path, source))
    }
}

impl History {
    /// Reads a written history. A last line that was cut, because the runner was killed, is left out with a note.
    pub fn load(path: &Path) -> Result<History, HistoryError> {
        let file = File::open(path).map_err(|source| io(path, source))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut history = History::default();
        let mut text = Vec::new();
        let mut line = 0;
        loop {
            text.clear();
            let read = reader
                .read_until(b'\n', &mut text)
                .map_err(|source| io(path, source))?;
            if read == 0 {
                break;
            }
            line += 1;
            match serde_json::from_slice::<Record>(&text) {
                Ok(record) if line > 1 || matches!(record, Record::Run(_)) => history.push(record),
                Ok(_) => return Err(HistoryError::Empty(path.to_owned())),
                Err(_) if text.last() != Some(&b'\n') && line > 1 => {
                    history.notes.push(format!(
                        "line {line} of the history is cut off: the runner did not end by itself"
                    ));
                }
                Err(source) => {
                    return Err(HistoryError::Line {
                        path: path.to_owned(),
                        line,
                        source,
                    });
                }
            }
        }
        if line == 0 {
            return Err(HistoryError::Empty(path.to_owned()));
        }
        Ok(history)
    }

    /// Everything as records, the run first.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        std::iter::once(Record::Run(self.run.clone()))
            .chain(self.faults.iter().cloned().map(Record::Fault))
            .chain(self.leaders.iter().cloned().map(Record::Leader))
            .chain(self.operations.iter().cloned().map(Record::Operation))
            .chain(self.acts.iter().cloned().map(Record::Act))
            .chain(self.watches.iter().cloned().map(Record::Watch))
            .chain(self.endings.iter().cloned().map(Record::Ending))
            .chain(self.found.iter().cloned().map(Record::Found))
            .chain(self.notes.iter().cloned().map(Record::Note))
    }
}

fn io(path: &Path, source: std::io::Error) -> HistoryError {
    HistoryError::Io {
        path: path.to_owned(),
        source,
    }
}
