//! Processes as the kernel knows them: who is who, how to signal one without hitting another, and how a child is
//! bound to its launcher's life.

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, getppid, getrlimit, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, setrlimit,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::cli::ExecBoundArgs;

/// How long a process may take to stop before it is killed.
pub const GRACE: Duration = Duration::from_secs(10);
/// How often a process that is not our child is looked at while it stops.
const LOOK: Duration = Duration::from_millis(20);

/// This program, even when a rebuild has replaced it on disk.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// Lets this process and its children open as many files as the system allows. The usual soft limit, which is there for
/// programs of old, is 1,024: fewer than the connections that a component is to bear.
pub fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Then it has what it had.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// One process for ever: its pid, when it started, and in which boot of the machine. A pid alone may be reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// In clock ticks since the boot.
    started: u64,
    boot: String,
}

impl ProcessId {
    /// The living process with this pid.
    pub fn of(pid: u32) -> Option<ProcessId> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = start_of_living(&stat)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(ProcessId {
            pid,
            started,
            boot: boot.trim().to_owned(),
        })
    }

    /// This process.
    pub fn own() -> anyhow::Result<ProcessId> {
        ProcessId::of(std::process::id())
            .context("/proc does not show this process; is it mounted?")
    }

    /// Whether it still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        ProcessId::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal to this process and to no other: the pidfd is opened before the identity is checked.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
            && self.is_alive()
        {
            // An error means that it has just ended, which is what every caller wants.
            let _ = pidfd_send_signal(handle, signal);
        }
    }

    /// Waits for its end, for so long; says whether it came.
    pub async fn ended_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }
}

/// When the process began, from `/proc/<pid>/stat`, if it is not a corpse. The name in parentheses may hold anything,
/// so the fields are counted from its end.
fn start_of_living(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // The state is field 3 and the start is field 22: 18 lie between them.
    fields.nth(18)?.parse().ok()
}

/// The command that runs `program` as a child which ends when this process does, even by SIGKILL.
///
/// The death signal must be asked for by the child itself, after the fork: this program starts itself again, asks,
/// and then becomes `program`.
pub fn bound_command(program: &std::path::Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(THIS_PROGRAM);
    command
        .arg("exec-bound")
        .arg("--parent")
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(program);
    command
}

/// Becomes that program: the far side of [`bound_command`].
pub fn exec_bound(args: &ExecBoundArgs) -> anyhow::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .context("cannot be bound to the launcher's life")?;
    // The launcher may have died before the line above.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(args.parent) {
        bail!("the launcher is gone");
    }
    let (program, arguments) = args.command.split_first().context("no program")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_can_be_opened_as_the_system_allows() {
        allow_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn this_process_is_alive_and_another_start_is_another_process() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        let earlier = ProcessId {
            started: own.started - 1,
            ..own
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let after = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(
            start_of_living(&format!("42 (a) b (c) {after}")),
            Some(4711)
        );
    }

    #[test]
    fn a_child_that_ended_and_was_not_waited_for_is_not_alive() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while id.is_alive() {
            assert!(
                std::time::Instant::now() < deadline,
                "the killed child still counts as alive"
            );
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
