//! A member whose instructions are counted. Unlike its time, what it executes does not depend on the neighbours.
//!
//! It runs under valgrind's callgrind, which translates every instruction into some that count it as well. A debugger's
//! channel, `vgdb`, begins the count when the member serves, and has what was counted since then written as a profile.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Client;
use crate::member::Member;
use crate::peers::Server;
use crate::tool;
use crate::turn::Turn;
use crate::wait;

/// How long a start may take: under valgrind it computes for two seconds, of which a busy machine makes twenty.
const START: Duration = Duration::from_secs(120);

/// On every machine as many threads of the runtime, since what threads hand each other is counted as well.
const WORKERS: &str = "2";

/// The only member of a cluster, under callgrind.
#[derive(Debug)]
pub struct Counted {
    // Before the folder, since it is killed before that goes away.
    member: Member,
    /// Where profiles are kept.
    profiles: PathBuf,
    /// How many profiles callgrind has written: it numbers them.
    written: u32,
    _dir: TempDir,
}

/// What was executed meanwhile.
#[derive(Clone, Debug)]
pub struct Count {
    /// By all threads of the member, without the kernel.
    pub instructions: u64,
    /// For how long it was counted.
    pub took: Duration,
    /// Which functions they were in: a file for `callgrind_annotate`.
    pub profile: PathBuf,
}

impl Counted {
    /// Starts kvd and waits until it serves. Profiles will be in the folder `profiles`, which is made.
    pub async fn start(_turn: &Turn, profiles: &Path) -> Counted {
        fs::create_dir_all(profiles)
            .unwrap_or_else(|e| panic!("cannot create {}: {e}", profiles.display()));
        let mut out = OsString::from("--callgrind-out-file=");
        out.push(written_as(profiles));
        let through = [
            "valgrind",
            "--quiet",
            "--tool=callgrind",
            "--instr-atstart=no",
        ];
        let through = through.iter().map(OsString::from).chain([out]).collect();
        let dir = TempDir::with_prefix("keelson-test-").expect("a temporary folder can be made");
        let mut member = Member::new(Server::Kvd, "m0", dir.path())
            .through(through)
            .with_environment("TOKIO_WORKER_THREADS", WORKERS);
        let joining = format!("--initial-cluster={}", member.initial_cluster_entry());
        assert_valgrind_runs();
        member.start(&[joining], &[]);
        let client = member.client();
        wait::within(START, "a kvd under valgrind that serves", async || {
            if let Some(status) = member.ended() {
                panic!(
                    "{CANNOT}: valgrind runs, but not kvd ({status}); it said\n{}",
                    member.log_tail()
                );
            }
            client.put("ready", "").await
        })
        .await;
        let counted = Counted {
            member,
            profiles: profiles.to_owned(),
            written: 0,
            _dir: dir,
        };
        counted.tell(&["instrumentation", "on"]).await;
        counted
    }

    /// A client, with a connection of its own.
    pub fn client(&self) -> Client {
        self.member.client()
    }

    /// Forgets what was executed since the last count.
    pub async fn forget(&self) {
        self.tell(&["zero"]).await;
    }

    /// Counts what the member executes until `work` ends, beginning with the end of the last count or of
    /// [`Counted::forget`]. The profile is called `name`, in place of an earlier one.
    pub async fn count(&mut self, name: &str, work: impl Future<Output = ()>) -> Count {
        let begun = Instant::now();
        work.await;
        let took = begun.elapsed();
        self.tell(&["dump"]).await;
        self.written += 1;
        let written = written_as(&self.profiles).with_extension(self.written.to_string());
        let profile = self.profiles.join(format!("{name}.callgrind"));
        fs::rename(&written, &profile)
            .unwrap_or_else(|e| panic!("callgrind wrote no {}: {e}", written.display()));
        let text = fs::read_to_string(&profile)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", profile.display()));
        let instructions =
            total(&text).unwrap_or_else(|| panic!("{} has no line of totals", profile.display()));
        Count {
            instructions,
            took,
            profile,
        }
    }

    async fn tell(&self, words: &[&str]) {
        let id = self.member.process_id().expect("it was started");
        let mut command = Command::new("vgdb");
        command.arg(format!("--pid={id}")).args(words);
        tool::stdout(command).await;
    }
}

const CANNOT: &str = "INSTRUCTIONS CANNOT BE COUNTED HERE, and nothing about them is proven";

/// Before kvd runs under it, so that it is known what is amiss.
fn assert_valgrind_runs() {
    let mut command = Command::new("valgrind");
    command.args(["--tool=none", "--quiet", "true"]);
    match command.output() {
        Err(error) => panic!("{CANNOT}: cannot run valgrind, which `make deps` installs: {error}"),
        Ok(output) => assert!(
            output.status.success(),
            "{CANNOT}: valgrind cannot run even `true` ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

/// What callgrind puts before the number of a profile.
fn written_as(profiles: &Path) -> PathBuf {
    profiles.join("kvd")
}

/// The count of a profile's only event, instructions.
fn total(profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profiles_total_is_in_its_totals_and_not_in_its_summary() {
        let profile = "events: Ir\nsummary: 0\n\nfn=(1) main\n+3 14\n\ntotals: 2061985\n";
        assert_eq!(total(profile), Some(2_061_985));
        assert_eq!(total("events: Ir\nsummary: 0\n"), None);
    }
}
