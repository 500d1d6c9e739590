//! One member: a process, the flags it is started with, and what it says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::{RangeRequest, StatusRequest};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

/// How long a member may take until it answers a linearizable read.
pub const READY_MAX: Duration = Duration::from_secs(120);
/// How long a member that is told to end may take.
pub const STOP_MAX: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(5);
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A member, running or not.
#[derive(Debug)]
pub struct Member {
    program: PathBuf,
    flags: Vec<OsString>,
    pub url: String,
    pub data_dir: PathBuf,
    log: PathBuf,
    process: Child,
}

impl Member {
    /// Starts it. `flags` are those beside its own URL and directory.
    pub fn start(
        program: &Path,
        url: &str,
        data_dir: &Path,
        flags: Vec<OsString>,
    ) -> anyhow::Result<Member> {
        let log = data_dir.with_extension("log");
        let mut all = flags;
        all.extend(
            ["--listen-client-urls", url, "--advertise-client-urls", url].map(OsString::from),
        );
        all.extend(["--data-dir".into(), data_dir.into()]);
        let process = spawn(program, &all, &log)?;
        Ok(Member {
            program: program.to_owned(),
            flags: all,
            url: url.to_owned(),
            data_dir: data_dir.to_owned(),
            log,
            process,
        })
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Kills it, and waits until it is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.start_kill()?;
        self.ended().await
    }

    /// Tells it to end in order. It has not ended when this returns.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid as i32));
        kill_process(pid.context("the member does not run")?, Signal::TERM)?;
        Ok(())
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        timeout(STOP_MAX, self.process.wait())
            .await
            .context("a member does not end")??;
        Ok(())
    }

    /// Starts it anew, with what it had on its disk.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.program, &self.flags, &self.log)?;
        Ok(())
    }

    /// Fails if it has ended without having been told to.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(ended) => Err(ended_by_itself(&self.log, ended)),
        }
    }

    /// Waits until it has answered a linearizable read.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let url = self.url.clone();
        tokio::select! {
            ready = serves(&url) => ready,
            ended = self.process.wait() => Err(ended_by_itself(&self.log, ended?)),
        }
    }

    /// Whether it leads.
    pub async fn leads(&self) -> anyhow::Result<bool> {
        let channel = connect(&self.url).await?;
        let mut client = MaintenanceClient::new(channel);
        let asked = client.status(StatusRequest::default());
        let status = timeout(ANSWER_MAX, asked)
            .await
            .context("no answer")??
            .into_inner();
        let member = status.header.map(|header| header.member_id);
        Ok(member == Some(status.leader))
    }

    /// Kills it and waits a while, in a drop, where nothing can be awaited.
    pub fn end_now(&mut self) {
        // An error means that it has ended.
        let _ = self.process.start_kill();
        let deadline = std::time::Instant::now() + STOP_MAX;
        while matches!(self.process.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn spawn(program: &Path, flags: &[OsString], log: &Path) -> anyhow::Result<Child> {
    let output = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)?;
    Command::new(program)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// Waits until a member answers a linearizable read: it serves, and has applied what was put before.
pub async fn serves(url: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        match answers(url).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{url} is not ready after {READY_MAX:?}")));
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

async fn answers(url: &str) -> anyhow::Result<()> {
    let read = RangeRequest {
        key: "ready".into(),
        ..RangeRequest::default()
    };
    let mut client = KvClient::new(connect(url).await?);
    timeout(ANSWER_MAX, client.range(read)).await??;
    Ok(())
}

/// A usual client's connection, for what is not measured.
pub async fn connect(url: &str) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .connect()
        .await?)
}

fn ended_by_itself(log: &Path, ended: ExitStatus) -> anyhow::Error {
    anyhow::anyhow!(
        "a member ended by itself ({ended}); its last line: {}",
        last_line(log)
    )
}

/// What a process said last, for people.
pub fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut lines = text.lines().rev();
    lines
        .find(|line| !line.trim().is_empty())
        .unwrap_or("nothing")
        .to_owned()
}

/// What all files below a directory take.
pub fn disk_bytes(dir: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(data) if data.is_dir() => sum += disk_bytes(&entry.path())?,
            Ok(data) => sum += std::os::unix::fs::MetadataExt::blocks(&data) * 512,
            // Files of a running member come and go.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!("cannot look at {}: {error}", entry.path().display()),
        }
    }
    Ok(sum)
}
