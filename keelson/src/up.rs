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
use crate::cluster::{Cluster, ControlPlane};
use crate::data_dir::{DataDir, Lock, Running};
use crate::part::{Kind, Part, Stage};
use crate::process::{GRACE, ProcessId, THIS_PROGRAM};
use crate::row::What;
use crate::screen::Screen;
use crate::stages::Stages;
use crate::supervise::{Launch, supervise};
use crate::view::{Event, Leader, View};
use crate::{down, hints, kubeconfig, poll};

/// How often parts are asked how they do: while the cluster forms, and afterwards.
const POLL_FORMING: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(500);
const REPAINT: Duration = Duration::from_millis(250);
/// A cluster that can be used, but is not whole, is good enough after this time.
const FORMING_MAX: Duration = Duration::from_secs(10);
/// A part that has ended so often in a row, before the cluster ever stood, will not start.
const FAILURES_MAX: u32 = 4;
const EVENTS_MAX: usize = 64;

/// Runs a cluster until it is told to stop.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let program = member_program(args.kvd.as_deref())?;
    let dir = DataDir::at(&args.dir.data_dir);
    let kubeconfig = match &args.kubeconfig {
        Some(path) => absolute(path)?,
        None => dir.absolute()?.kubeconfig(),
    };
    if !args.store_only {
        kubeconfig::refuse_foreign(&kubeconfig)?;
    }
    let (cluster, lock) = prepare(&dir, &args).await?;
    let parts = Part::all_of(&cluster, args.store_only);
    let launches = launches(&parts, &cluster, &dir.absolute()?, &program, &args);
    Up {
        view: View::new(&parts),
        running: parts.iter().map(not_running).collect(),
        parts,
        cluster,
        kubeconfig,
        dir,
        _lock: lock,
        screen: Screen::new(),
        leader: None,
        formed: false,
        stages: Stages::default(),
        poll_pause: watch::Sender::new(POLL_FORMING),
        failed: None,
    }
    .run(launches)
    .await
}

/// Finds all that would go wrong before anything is started, and takes the directory.
async fn prepare(dir: &DataDir, args: &UpArgs) -> anyhow::Result<(Cluster, Lock)> {
    let plan = || -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::plan(args.members, args.client_port)?;
        cluster.control_plane = args.control_plane(&cluster.control_plane);
        Ok(cluster)
    };
    if !dir.exists() {
        plan()?.check_ports(args.store_only)?;
        dir.create()?;
    }
    let lock = dir.lock()?;
    let cluster = match dir.cluster()? {
        Some(mut cluster) => {
            cluster.refuse_change(args.members, args.client_port, dir.path())?;
            cluster.control_plane = args.control_plane(&cluster.control_plane);
            cluster
        }
        None => plan()?,
    };
    down::stop_left_behind(dir).await?;
    cluster.check_ports(args.store_only)?;
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

fn launches(
    parts: &[Part],
    cluster: &Cluster,
    dir: &DataDir,
    member_program: &Path,
    args: &UpArgs,
) -> Vec<Launch> {
    let launch = |part: &Part| {
        let mut arguments = part.arguments(cluster, dir);
        let program = match part.kind {
            Kind::Member(_) => {
                arguments.extend(args.member_flags.iter().cloned());
                member_program.to_owned()
            }
            Kind::ApiServer { .. } | Kind::Client { .. } => PathBuf::from(THIS_PROGRAM),
        };
        Launch {
            program,
            arguments,
            log: dir.log_of(&part.name),
        }
    };
    parts.iter().map(launch).collect()
}

fn not_running(part: &Part) -> Running {
    Running {
        name: part.name.clone(),
        process: None,
        restarts: 0,
    }
}

struct Up {
    dir: DataDir,
    cluster: Cluster,
    _lock: Lock,
    parts: Vec<Part>,
    /// Where the administrator's kubeconfig is put.
    kubeconfig: PathBuf,
    view: View,
    screen: Screen,
    running: Vec<Running>,
    leader: Option<Leader>,
    /// The cluster stood once, and its user was told so.
    formed: bool,
    stages: Stages,
    poll_pause: watch::Sender<Duration>,
    /// Why it could not go on.
    failed: Option<String>,
}

impl Up {
    async fn run(mut self, launches: Vec<Launch>) -> anyhow::Result<ExitCode> {
        // Before the first child: a signal must find us ready to stop it.
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let mut hangups = signal(SignalKind::hangup())?;

        self.screen.say(&format!(
            "starting {} in {dir} (logs in {dir}/<name>.log)",
            self.extent(),
            dir = self.dir.path().display()
        ));
        // What runs here now is known before it runs: `keelson status` shows it.
        self.dir.save_running(&self.running)?;
        let (events_in, mut events) = mpsc::channel(EVENTS_MAX);
        for (place, (part, launch)) in self.parts.iter().zip(launches).enumerate() {
            let orders = self.stages.orders(part.stage());
            tokio::spawn(supervise(place, launch, orders, events_in.clone()));
        }
        poll::watch_all(&self.parts, &self.dir, &self.poll_pause, &events_in);

        let formed_by = Instant::now() + FORMING_MAX;
        let mut repaint = interval(REPAINT);
        repaint.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.advance();
        while !self.view.is_stopped() {
            tokio::select! {
                Some(event) = events.recv() => self.take(event),
                _ = interrupts.recv() => self.asked_to_stop("Ctrl-C"),
                _ = terminations.recv() => self.asked_to_stop("SIGTERM"),
                _ = hangups.recv() => self.asked_to_stop("SIGHUP"),
                _ = repaint.tick() => self.repaint(),
                () = sleep_until(formed_by), if !self.formed && Instant::now() < formed_by => {}
            }
            self.advance();
            let can_be_used = || {
                [Stage::Store, Stage::Api].map(|stage| self.view.can_be_used(stage)) == [true; 2]
            };
            if !self.formed
                && !self.stages.is_stopping()
                && (self.view.is_whole() || (Instant::now() >= formed_by && can_be_used()))
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

    /// Starts or stops what is next.
    fn advance(&mut self) {
        let has_api_server = self.has_control_plane();
        let advanced = self.stages.advance(&self.view, |stage| match stage {
            // By now the API server has made it.
            Stage::Clients if has_api_server => {
                kubeconfig::hand_over(&self.dir.admin_kubeconfig(), &self.kubeconfig)
            }
            Stage::Store | Stage::Api | Stage::Clients => Ok(()),
        });
        if let Err(error) = advanced {
            self.give_up(format!("{error:#}"));
        }
    }

    /// Takes note of an event, and says what its user should know.
    fn take(&mut self, event: Event) {
        let was_started = self
            .view
            .row(event.part)
            .is_some_and(|row| row.was_started());
        self.view.apply(&event);
        let Some(part) = self.parts.get(event.part) else {
            return;
        };
        let name = &part.name;
        match event.what {
            What::Started { pid, .. } => {
                let url = part.url().map_or(String::new(), |url| format!(", {url}"));
                self.screen.say(&format!("{name}: started, pid {pid}{url}"));
                if let Some(running) = self.running.get_mut(event.part) {
                    running.process = ProcessId::of(pid);
                    running.restarts = self.view.row(event.part).map_or(0, |row| row.restarts());
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
                let gives_up = !self.formed && self.view.is_hopeless(FAILURES_MAX);
                if gives_up && !self.stages.is_stopping() {
                    let log = self.dir.log_of(name);
                    self.give_up(format!(
                        "{name} does not start: {why}{last_words} (its log: {})",
                        log.display()
                    ));
                } else {
                    self.screen.say(&format!(
                        "{name}: {why}; starting again in {retry:?}{last_words}"
                    ));
                }
            }
            What::Stopped { .. } if !was_started => {}
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
        if leader == self.leader || self.stages.is_stopping() {
            return;
        }
        let name = |leader: Leader| self.parts.get(leader.member).map(|part| &part.name);
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
        let steps = match self.has_control_plane() {
            true => hints::control_plane(&self.cluster, &self.kubeconfig),
            false => hints::store(&self.cluster),
        };
        for step in steps {
            self.screen.say(&format!("  {step}"));
        }
    }

    fn asked_to_stop(&mut self, how: &str) {
        if self.stages.is_stopping() {
            self.screen
                .say(&format!("{how} again: killing what has not stopped"));
            self.stages.kill();
        } else {
            let stages = if self.has_control_plane() { 3 } else { 1 };
            self.screen.say(&format!(
                "{how}: stopping {} (at most {} s)",
                self.extent(),
                (GRACE * stages).as_secs()
            ));
            self.stages.begin_to_stop();
        }
    }

    fn give_up(&mut self, why: String) {
        self.failed = Some(why);
        self.stages.begin_to_stop();
    }

    fn repaint(&mut self) {
        let footer = if self.stages.is_stopping() {
            "stopping"
        } else {
            "Ctrl-C stops all; the data stays"
        };
        self.screen.paint(&self.view, footer);
    }

    fn has_control_plane(&self) -> bool {
        self.parts.iter().any(|part| part.stage() == Stage::Api)
    }

    /// What there is, in words.
    fn extent(&self) -> String {
        let members = count(self.cluster.members.len(), "member");
        if !self.has_control_plane() {
            return members;
        }
        let ControlPlane {
            nodes,
            hollow_nodes,
            ..
        } = self.cluster.control_plane;
        let nodes = usize::from(nodes) + usize::from(hollow_nodes);
        format!("{members}, the control plane and {}", count(nodes, "node"))
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}
