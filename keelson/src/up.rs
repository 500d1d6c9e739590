//! `keelson up`: checks, starts, watches, restarts, stops.

use std::env;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::UpArgs;
use crate::cluster::Cluster;
use crate::data_dir::{DataDir, Lock, Running};
use crate::member::{Launch, Stop, supervise};
use crate::poll::watch_member;
use crate::process::{GRACE, ProcessId};
use crate::screen::Screen;
use crate::view::{Event, Leader, View, What};
use crate::{down, hints};

/// How often members are asked how they do: while the cluster forms, and afterwards.
const POLL_FORMING: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(500);
const REPAINT: Duration = Duration::from_millis(250);
/// A cluster with a leader but not all members is good enough to be used after this time.
const FORMING_MAX: Duration = Duration::from_secs(10);
/// A member that has ended so often in a row, before the cluster ever stood, will not start.
const FAILURES_MAX: u32 = 4;
const EVENTS_MAX: usize = 64;

/// Runs a cluster until it is told to stop.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let program = member_program(args.kvd.as_deref())?;
    let dir = DataDir::at(&args.dir.data_dir);
    let (cluster, lock) = prepare(&dir, args.members, args.client_port).await?;

    let path = absolute(dir.path())?;
    let launches = cluster.members.iter().map(|member| Launch {
        program: program.clone(),
        flags: cluster
            .flags(member, &path)
            .into_iter()
            .chain(args.member_flags.iter().cloned())
            .collect(),
        log: dir.log_of(&member.name),
    });
    Up::new(dir.clone(), cluster.clone(), lock)
        .run(launches.collect())
        .await
}

/// Finds all that would go wrong before anything is started, and takes the directory.
async fn prepare(
    dir: &DataDir,
    members: Option<u8>,
    client_port: Option<u16>,
) -> anyhow::Result<(Cluster, Lock)> {
    if !dir.exists() {
        let cluster = Cluster::plan(members, client_port)?;
        cluster.check_ports()?;
        dir.create()?;
    }
    let lock = dir.lock()?;
    let cluster = match dir.cluster()? {
        Some(cluster) => {
            cluster.refuse_change(members, client_port, dir.path())?;
            cluster
        }
        None => Cluster::plan(members, client_port)?,
    };
    down::stop_left_behind(dir).await?;
    cluster.check_ports()?;
    dir.save_cluster(&cluster)?;
    Ok((cluster, lock))
}

/// The program that is a member: the one asked for, or the `kvd` beside this program.
fn member_program(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    let program = match asked {
        Some(asked) => asked.to_owned(),
        None => env::current_exe()?
            .parent()
            .context("this program is nowhere")?
            .join("kvd"),
    };
    if !program.is_file() {
        bail!(
            "there is no member program at {}: build it with `make build`, or name one with --kvd",
            program.display()
        );
    }
    Ok(absolute(program)?)
}

struct Up {
    dir: DataDir,
    cluster: Cluster,
    _lock: Lock,
    view: View,
    screen: Screen,
    running: Vec<Running>,
    leader: Option<Leader>,
    /// The cluster stood once, and its user was told so.
    formed: bool,
    stop: Stop,
    poll_pause: watch::Sender<Duration>,
    /// Why it could not go on.
    failed: Option<String>,
}

impl Up {
    fn new(dir: DataDir, cluster: Cluster, lock: Lock) -> Up {
        let running = cluster
            .members
            .iter()
            .map(|member| Running {
                name: member.name.clone(),
                process: None,
                restarts: 0,
            })
            .collect();
        Up {
            view: View::new(&cluster),
            screen: Screen::new(),
            running,
            leader: None,
            formed: false,
            stop: Stop::default(),
            poll_pause: watch::Sender::new(POLL_FORMING),
            failed: None,
            dir,
            cluster,
            _lock: lock,
        }
    }

    async fn run(mut self, launches: Vec<Launch>) -> anyhow::Result<ExitCode> {
        // Before the first child: a signal must find us ready to stop it.
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let mut hangups = signal(SignalKind::hangup())?;

        self.screen.say(&format!(
            "starting {} in {dir} (logs in {dir}/<member>.log)",
            self.count(),
            dir = self.dir.path().display()
        ));
        let (events_in, mut events) = mpsc::channel(EVENTS_MAX);
        for (place, launch) in launches.into_iter().enumerate() {
            tokio::spawn(supervise(
                place,
                launch,
                self.stop.clone(),
                events_in.clone(),
            ));
        }
        for (place, member) in self.cluster.members.iter().enumerate() {
            let pause = self.poll_pause.subscribe();
            tokio::spawn(watch_member(
                place,
                member.client_url(),
                pause,
                events_in.clone(),
            ));
        }

        let formed_by = Instant::now() + FORMING_MAX;
        let mut repaint = interval(REPAINT);
        repaint.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.view.is_stopped() {
            tokio::select! {
                Some(event) = events.recv() => self.take(event),
                _ = interrupts.recv() => self.asked_to_stop("Ctrl-C"),
                _ = terminations.recv() => self.asked_to_stop("SIGTERM"),
                _ = hangups.recv() => self.asked_to_stop("SIGHUP"),
                _ = repaint.tick() => self.repaint(),
                () = sleep_until(formed_by), if !self.formed && Instant::now() < formed_by => {}
            }
            if !self.formed
                && (self.view.is_whole() || (Instant::now() >= formed_by && self.leader.is_some()))
            {
                self.welcome();
            }
        }
        self.repaint();
        match self.failed {
            Some(why) => Err(anyhow::anyhow!(why)),
            None => {
                self.screen.say(&format!(
                    "stopped; the data stays in {}",
                    self.dir.path().display()
                ));
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// Takes note of an event, and says what its user should know.
    fn take(&mut self, event: Event) {
        self.view.apply(&event);
        let Some(member) = self.cluster.members.get(event.member) else {
            return;
        };
        let name = &member.name;
        match event.what {
            What::Started { pid } => {
                self.screen.say(&format!(
                    "{name}: started, pid {pid}, {}",
                    member.client_url()
                ));
                if let Some(running) = self.running.get_mut(event.member) {
                    running.process = ProcessId::of(pid);
                    running.restarts = self.view.restarts(event.member);
                }
                // The record serves the rare case of a killed launcher: it is no reason to stop a cluster that works.
                if let Err(error) = self.dir.save_running(&self.running) {
                    self.screen.say(&format!("{error:#}"));
                }
            }
            What::Ended {
                why,
                last_line,
                retry,
            } => {
                let last_words =
                    last_line.map_or_else(String::new, |line| format!("; its last line: {line}"));
                if !self.formed && self.view.is_hopeless(FAILURES_MAX) && !self.is_stopping() {
                    let log = self.dir.log_of(name);
                    self.failed = Some(format!(
                        "{name} does not start: {why}{last_words} (its log: {})",
                        log.display()
                    ));
                    self.begin_to_stop();
                } else {
                    self.screen.say(&format!(
                        "{name}: {why}; starting again in {retry:?}{last_words}"
                    ));
                }
            }
            What::Stopped { killed: false } => self.screen.say(&format!("{name}: stopped")),
            What::Stopped { killed: true } => {
                self.screen.say(&format!("{name}: did not stop by itself and was killed with SIGKILL; no acknowledged write is lost"));
            }
            What::Report(_) => {}
        }
        self.note_leader();
    }

    /// Tells when another member leads, or none does.
    fn note_leader(&mut self) {
        let leader = self.view.leader();
        if leader == self.leader || self.is_stopping() {
            return;
        }
        let name = |leader: Leader| {
            self.cluster
                .members
                .get(leader.member)
                .map(|member| member.name.clone())
        };
        match (leader.and_then(name), leader) {
            (Some(name), Some(leader)) => self
                .screen
                .say(&format!("{name}: leads in term {}", leader.term)),
            _ => self.screen.say("no member leads"),
        }
        self.leader = leader;
    }

    /// The cluster can be used: say how.
    fn welcome(&mut self) {
        self.formed = true;
        self.poll_pause.send_replace(POLL);
        self.screen.say("ready; try in another terminal:");
        for step in hints::next_steps(&self.cluster) {
            self.screen.say(&format!("  {step}"));
        }
    }

    fn asked_to_stop(&mut self, how: &str) {
        if self.is_stopping() {
            self.screen
                .say(&format!("{how} again: killing what has not stopped"));
            self.stop.now.cancel();
        } else {
            self.screen.say(&format!(
                "{how}: stopping {} (at most {} s)",
                self.count(),
                GRACE.as_secs()
            ));
            self.begin_to_stop();
        }
    }

    fn begin_to_stop(&mut self) {
        self.stop.gently.cancel();
    }

    fn is_stopping(&self) -> bool {
        self.stop.gently.is_cancelled()
    }

    fn repaint(&mut self) {
        let footer = if self.is_stopping() {
            "stopping"
        } else {
            "Ctrl-C stops all; the data stays"
        };
        self.screen.paint(&self.view, footer);
    }

    fn count(&self) -> String {
        match self.cluster.members.len() {
            1 => "1 member".to_owned(),
            count => format!("{count} members"),
        }
    }
}
