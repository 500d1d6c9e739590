//! One part's process: started, awaited, started again when it ends by itself, and stopped when it is time.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::process::{GRACE, bound_command};
use crate::row::What;
use crate::view::Event;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A process that ran this long is thought to be sound: when it ends, the next try is a first one again.
const SOUND: Duration = Duration::from_secs(10);
/// A log larger than this is set aside (one older file is kept) when its process starts.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How far back the last line of a log is looked for, and how much of it is shown.
const TAIL_BYTES: u64 = 8 << 10;
const LAST_LINE_CHARS: usize = 300;

/// What it takes to run a part.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub log: PathBuf,
}

/// How a supervisor learns what is wanted of it.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    /// What it needs is there: start.
    pub start: CancellationToken,
    /// Stop it, and give it time.
    pub stop: CancellationToken,
    /// Kill what has not stopped yet.
    pub kill: CancellationToken,
}

/// Keeps a part running from `orders.start` until `orders.stop`, and tells `events` of all that happens to it.
///
/// Returns when its process has ended. The receiver must outlive it: events are what the launcher knows of its parts.
pub async fn supervise(part: usize, launch: Launch, orders: Orders, events: mpsc::Sender<Event>) {
    let tell = async |what| {
        // The receiver is gone only if the launcher is failing; the process is then stopped all the same.
        let _ = events.send(Event { part, what }).await;
    };
    tokio::select! {
        biased;
        () = orders.stop.cancelled() => return tell(What::Stopped { killed: false }).await,
        () = orders.start.cancelled() => {}
    }
    let mut retry = RETRY_FIRST;
    loop {
        let started = Instant::now();
        let at = SystemTime::now();
        let (why, last_line) = match launch.start() {
            Ok((mut child, log_from)) => {
                if let Some(pid) = child.id() {
                    tell(What::Started { pid, at }).await;
                }
                let ended = tokio::select! {
                    biased;
                    () = orders.stop.cancelled() => None,
                    ended = child.wait() => Some(ended),
                };
                let Some(ended) = ended else {
                    tell(stop_child(&mut child, &orders).await).await;
                    return;
                };
                (describe(ended), launch.last_line(log_from))
            }
            Err(error) => (format!("{error:#}"), None),
        };
        if started.elapsed() >= SOUND {
            retry = RETRY_FIRST;
        }
        tell(What::Ended {
            why,
            last_line,
            retry,
        })
        .await;
        tokio::select! {
            biased;
            () = orders.stop.cancelled() => return tell(What::Stopped { killed: false }).await,
            () = sleep(retry) => {}
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// SIGTERM, and SIGKILL for a process that does not heed it.
async fn stop_child(child: &mut Child, orders: &Orders) -> What {
    signal(child, Signal::TERM);
    tokio::select! {
        biased;
        _ = child.wait() => return What::Stopped { killed: false },
        () = sleep(GRACE) => {}
        () = orders.kill.cancelled() => {}
    }
    signal(child, Signal::KILL);
    // A failure to wait means that there is no child any more.
    let _ = child.wait().await;
    What::Stopped { killed: true }
}

fn signal(child: &Child, signal: Signal) {
    // The child has not been waited for, so its pid cannot have become another's.
    if let Some(pid) = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
    {
        let _ = kill_process(pid, signal);
    }
}

impl Launch {
    /// Starts the process; also gives where its part of the log begins.
    fn start(&self) -> anyhow::Result<(Child, u64)> {
        if fs::metadata(&self.log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            fs::rename(&self.log, self.log.with_extension("log.old"))?;
        }
        let open = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = open.with_context(|| format!("cannot write its log {}", self.log.display()))?;
        let log_from = log.metadata()?.len();
        let child = bound_command(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C reaches the terminal's whole process group: the parts must hear of it from us, and in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok((child, log_from))
    }

    /// The last line that the process wrote, if its log grew beyond `from`.
    fn last_line(&self, from: u64) -> Option<String> {
        let mut log = File::open(&self.log).ok()?;
        let length = log.metadata().ok()?.len();
        let begin = from.max(length.saturating_sub(TAIL_BYTES));
        log.seek(SeekFrom::Start(begin)).ok()?;
        let mut tail = Vec::new();
        log.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
        last_line_of(&String::from_utf8_lossy(&tail))
    }
}

fn last_line_of(text: &str) -> Option<String> {
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    let told = told_in_json(line).unwrap_or_else(|| line.to_owned());
    let mut shown: String = told
        .chars()
        .filter(|c| !c.is_control())
        .take(LAST_LINE_CHARS)
        .collect();
    if told.chars().count() > LAST_LINE_CHARS {
        shown.push('…');
    }
    Some(shown)
}

/// What a structured log line says to a person: its message, and its error if there is one. Both kvd's name for the
/// message and etcd's are known.
fn told_in_json(line: &str) -> Option<String> {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let text = |name: &str| fields.get(name).and_then(serde_json::Value::as_str);
    let message = text("message").or_else(|| text("msg"))?;
    Some(match text("error") {
        Some(error) => format!("{message}: {error}"),
        None => message.to_owned(),
    })
}

fn describe(ended: std::io::Result<ExitStatus>) -> String {
    let status = match ended {
        Ok(status) => status,
        Err(error) => return format!("lost: {error}"),
    };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (_, Some(signal)) => format!("killed by {}", signal_name(signal)),
        _ => format!("ended: {status}"),
    }
}

fn signal_name(signal: i32) -> String {
    let known = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::TERM, "SIGTERM"),
    ];
    let name = known.iter().find(|(known, _)| known.as_raw() == signal);
    name.map_or_else(
        || format!("signal {signal}"),
        |(_, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        assert_eq!(last_line_of("one\ntwo \n\n"), Some("two".to_owned()));
        assert_eq!(last_line_of("\n \n"), None);
        let shown = last_line_of(&"x".repeat(1000)).unwrap();
        assert_eq!(shown.chars().count(), LAST_LINE_CHARS + 1);
        assert_eq!(
            last_line_of("a\u{1b}[31mb"),
            Some("a[31mb".to_owned()),
            "no escape reaches the terminal"
        );
    }

    #[test]
    fn of_a_structured_line_only_the_message_and_error_are_told() {
        let kvd = r#"{"timestamp":"t","level":"ERROR","message":"cannot open the log","error":"bad record"}"#;
        assert_eq!(
            last_line_of(kvd),
            Some("cannot open the log: bad record".to_owned())
        );
        let etcd = r#"{"level":"info","msg":"closed"}"#;
        assert_eq!(last_line_of(etcd), Some("closed".to_owned()));
        let other = r#"{"level":"info"}"#;
        assert_eq!(last_line_of(other), Some(other.to_owned()));
    }

    #[test]
    fn an_end_is_told_by_its_exit_code_or_signal() {
        assert_eq!(
            describe(Ok(ExitStatus::from_raw(3 << 8))),
            "ended with exit code 3"
        );
        assert_eq!(describe(Ok(ExitStatus::from_raw(9))), "killed by SIGKILL");
        assert_eq!(
            describe(Ok(ExitStatus::from_raw(34))),
            "killed by signal 34"
        );
    }
}
