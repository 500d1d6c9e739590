//! `snapshot status` and `snapshot restore`: work on files, and no server is asked.
//!
//! What a snapshot and a data directory look like is `kvd`'s knowledge, and needs its storage engine. So kvctl runs the
//! `kvd` that lies beside it, or else the one in PATH, which answers with a line of JSON or an error in one line.

use crate::cli::cluster::RestoreArgs;
use crate::error::CtlError;
use crate::output::{Format, Reply, SnapshotStatus, write_stdout};
use crate::settings::Settings;
use serde_json::Value;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program that knows files.
const KVD: &str = "kvd";
/// What its errors begin with.
const KVD_ERROR: &str = "kvd: ";

/// `snapshot status`
pub fn status(settings: &Settings, file: &Path) -> Result<(), CtlError> {
    let mut kvd = Kvd::find()?.command("snapshot-status");
    kvd.command.arg(operand(file));
    let report = kvd.ask()?;
    settings
        .output
        .print(&Reply::SnapshotStatus(&SnapshotStatus {
            hash: report.number("hash")?,
            revision: report.number("revision")?,
            total_key: report.number("totalKey")?,
            total_size: report.number("totalSize")?,
        }))
}

/// `snapshot restore`
pub fn restore(settings: &Settings, args: &RestoreArgs) -> Result<(), CtlError> {
    let mut kvd = Kvd::find()?.command("snapshot-restore");
    kvd.command.arg(operand(&args.file));
    if args.skip_hash_check {
        kvd.command.arg("--skip-hash-check");
    }
    kvd.flag("name", &args.name)
        .flag("initial-cluster", &args.initial_cluster)
        .flag("initial-cluster-token", &args.initial_cluster_token)
        .flag(
            "initial-advertise-peer-urls",
            &args.initial_advertise_peer_urls,
        );
    if let Some(dir) = &args.data_dir {
        kvd.flag("data-dir", dir);
    }
    if let Some(dir) = &args.wal_dir {
        kvd.flag("wal-dir", dir);
    }
    let report = kvd.ask()?;
    if settings.output.format == Format::Json {
        return write_stdout(report.line.as_bytes());
    }
    let (revision, keys) = (
        report.number::<i64>("revision")?,
        report.number::<u64>("totalKey")?,
    );
    let keys = if keys == 1 {
        "1 key".to_owned()
    } else {
        format!("{keys} keys")
    };
    let text = format!(
        "Restored {} into {}: member {} of cluster {}, {keys} at revision {revision}\n",
        args.file.display(),
        report.text("dataDir")?,
        report.text("member")?,
        report.text("cluster")?,
    );
    write_stdout(text.as_bytes())
}

/// A file's name in a form that cannot be taken for a flag.
fn operand(file: &Path) -> PathBuf {
    if file.as_os_str().as_encoded_bytes().starts_with(b"-") {
        Path::new(".").join(file)
    } else {
        file.to_owned()
    }
}

/// Where `kvd` is.
struct Kvd(PathBuf);

impl Kvd {
    fn find() -> Result<Self, CtlError> {
        let own = env::current_exe().ok();
        let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
        let path = env::var_os("PATH").unwrap_or_default();
        Self::find_in(beside.into_iter().chain(env::split_paths(&path))).ok_or_else(|| {
            CtlError::Offline(format!(
                "{KVD} is neither beside kvctl nor in PATH, and it does the work on snapshot files"
            ))
        })
    }

    fn find_in(mut directories: impl Iterator<Item = PathBuf>) -> Option<Self> {
        directories
            .find_map(|directory| Some(directory.join(KVD)).filter(|path| path.is_file()))
            .map(Self)
    }

    fn command(self, subcommand: &str) -> Call {
        let mut command = Command::new(&self.0);
        command.arg(subcommand).stdin(Stdio::null());
        Call { command }
    }
}

/// A run of `kvd`.
struct Call {
    command: Command,
}

impl Call {
    fn flag(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        self.command.arg(flag);
        self
    }

    /// Runs it to its end.
    fn ask(mut self) -> Result<Report, CtlError> {
        let program = PathBuf::from(self.command.get_program());
        let output = self.command.output().map_err(|source| CtlError::File {
            path: program,
            action: "cannot be run",
            source,
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim_end().lines().last().unwrap_or_default();
            let why = last.strip_prefix(KVD_ERROR).unwrap_or(last);
            return Err(CtlError::Offline(match why {
                "" => format!("{KVD} ended without a word ({})", output.status),
                why => why.to_owned(),
            }));
        }
        Report::read(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What `kvd` has answered.
#[derive(Debug)]
struct Report {
    line: String,
    fields: Value,
}

impl Report {
    fn read(line: String) -> Result<Self, CtlError> {
        match serde_json::from_str(&line) {
            Ok(fields) => Ok(Self { line, fields }),
            Err(_) => Err(other_version()),
        }
    }

    fn number<T: TryFrom<i64>>(&self, field: &str) -> Result<T, CtlError> {
        let number = self.fields.get(field).and_then(Value::as_i64);
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(other_version)
    }

    fn text(&self, field: &str) -> Result<&str, CtlError> {
        let text = self.fields.get(field).and_then(Value::as_str);
        text.ok_or_else(other_version)
    }
}

fn other_version() -> CtlError {
    CtlError::Offline(format!(
        "{KVD} answers in words that kvctl does not know: they are of different versions"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn directory_with_kvd(script: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join(KVD);
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    /// A program cannot be run while a child of another test, not yet become what it will be, still has it open.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn asked(script: &str) -> Result<Report, CtlError> {
        let _alone = ALONE.lock().unwrap();
        let directory = directory_with_kvd(script);
        let directories = [directory.path().to_owned()];
        let kvd = Kvd::find_in(directories.into_iter()).unwrap();
        kvd.command("snapshot-status").ask()
    }

    #[test]
    fn the_first_kvd_is_taken() {
        let empty = tempfile::tempdir().unwrap();
        let (first, second) = (directory_with_kvd(""), directory_with_kvd(""));
        let places = [&empty, &first, &second].map(|directory| directory.path().to_owned());
        let found = Kvd::find_in(places.into_iter()).unwrap();
        assert_eq!(found.0, first.path().join(KVD));
        assert!(Kvd::find_in([empty.path().to_owned()].into_iter()).is_none());
    }

    #[test]
    fn its_last_line_is_the_error() {
        let error = asked("echo 'a warning' >&2; echo 'kvd: the file is damaged' >&2; exit 1");
        assert_eq!(error.unwrap_err().to_string(), "the file is damaged");
        let error = asked("exit 7").unwrap_err().to_string();
        assert!(error.contains("without a word"), "{error}");
    }

    #[test]
    fn an_answer_that_lacks_something_is_of_another_version() {
        let report = asked(r#"echo '{"hash":4294967295,"revision":7,"member":"a"}'"#).unwrap();
        assert_eq!(report.number::<u32>("hash").unwrap(), u32::MAX);
        assert_eq!(report.text("member").unwrap(), "a");
        assert!(report.number::<u32>("totalKey").is_err());
        assert!(report.number::<u32>("member").is_err());
        assert!(asked("echo hello").is_err());
    }

    #[test]
    fn a_file_that_looks_like_a_flag_is_no_flag() {
        assert_eq!(operand(Path::new("-x.db")), Path::new("./-x.db"));
        assert_eq!(operand(Path::new("a/-x.db")), Path::new("a/-x.db"));
    }
}
