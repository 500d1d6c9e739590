//! Which containers should run: init containers one after the other, then the rest, each again as its policy says.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::runtime::{Exit, Sandbox, Seen, State};

/// The pause before a container that has crashed twice in a row is started again; it doubles with each crash.
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Where a pod's life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all of it has been started.
    Pending,
    /// It runs, or is about to run again.
    Running,
    /// All has ended well, for good.
    Succeeded,
    /// All has ended, and something badly.
    Failed,
}

impl Phase {
    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }

    /// As the API has it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }
}

/// What should become of a pod's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// To be started now.
    pub start: Vec<String>,
    /// When the next one that waits for its turn may be started again.
    pub retry: Option<Timestamp>,
    /// Where the pod stands.
    pub phase: Phase,
    /// All init containers have done their work.
    pub initialized: bool,
}

impl Wanted {
    /// Decides it. A phase that was final stays what it was.
    pub fn of(pod: &Pod, sandbox: Option<&Sandbox>, now: Timestamp) -> Wanted {
        let mut wanted = Wanted {
            start: Vec::new(),
            retry: None,
            phase: Phase::Pending,
            initialized: false,
        };
        let told = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if let Some(ended) = [Phase::Succeeded, Phase::Failed]
            .into_iter()
            .find(|phase| Some(phase.name()) == told)
        {
            wanted.phase = ended;
            wanted.initialized = true;
            return wanted;
        }
        let Some((spec, sandbox)) = pod.spec.as_ref().zip(sandbox) else {
            return wanted;
        };
        match wanted.init(spec, sandbox, now) {
            Init::Done => wanted.initialized = true,
            Init::UnderWay => return wanted,
            Init::Failed => {
                wanted.phase = Phase::Failed;
                return wanted;
            }
        }
        wanted.main(
            spec,
            sandbox,
            now,
            pod.metadata.deletion_timestamp.is_some(),
        );
        wanted
    }

    fn init(&mut self, spec: &PodSpec, sandbox: &Sandbox, now: Timestamp) -> Init {
        for container in spec.init_containers.iter().flatten() {
            let is_sidecar = container.restart_policy.as_deref() == Some("Always");
            let seen = sandbox.containers.get(&container.name);
            let ended = seen.and_then(exit_of);
            match (seen, ended) {
                (None, _) => {
                    self.start.push(container.name.clone());
                    return Init::UnderWay;
                }
                (Some(seen), Some(exit)) if is_sidecar => self.again(container, seen, exit, now),
                // The next one follows as soon as it runs.
                (Some(_), None) if is_sidecar => {}
                (Some(_), Some(exit)) if exit.code == 0 => {}
                (Some(seen), Some(exit)) => {
                    if restart_policy(spec) == "Never" {
                        return Init::Failed;
                    }
                    self.again(container, seen, exit, now);
                    return Init::UnderWay;
                }
                (Some(_), None) => return Init::UnderWay,
            }
        }
        Init::Done
    }

    fn main(&mut self, spec: &PodSpec, sandbox: &Sandbox, now: Timestamp, is_deleted: bool) {
        let policy = restart_policy(spec);
        let mut runs_on = false;
        let mut never_started = false;
        let mut failed = false;
        for container in &spec.containers {
            let Some(seen) = sandbox.containers.get(&container.name) else {
                never_started = true;
                self.start.push(container.name.clone());
                continue;
            };
            let Some(exit) = exit_of(seen) else {
                runs_on = true;
                continue;
            };
            let again = match policy {
                "Always" => true,
                "OnFailure" => exit.code != 0,
                _ => false,
            };
            if again && !is_deleted {
                runs_on = true;
                self.again(container, seen, exit, now);
            }
            failed |= exit.code != 0;
        }
        self.phase = match (never_started, runs_on, failed) {
            (true, _, _) => Phase::Pending,
            (_, true, _) => Phase::Running,
            (_, _, true) => Phase::Failed,
            _ => Phase::Succeeded,
        };
        if is_deleted {
            self.start.clear();
            self.retry = None;
        }
    }

    fn again(&mut self, container: &Container, seen: &Seen, exit: &Exit, now: Timestamp) {
        let at = restart_at(seen, exit);
        if at <= now {
            self.start.push(container.name.clone());
        } else {
            self.retry = Some(self.retry.map_or(at, |retry| retry.min(at)));
        }
    }
}

enum Init {
    UnderWay,
    Done,
    Failed,
}

/// How a container has ended, if it has.
pub fn exit_of(seen: &Seen) -> Option<&Exit> {
    match &seen.state {
        State::Exited(exit) => Some(exit),
        State::Running(_) => None,
    }
}

/// When a container that has ended may be started again.
pub fn restart_at(seen: &Seen, exit: &Exit) -> Timestamp {
    let wait = backoff(seen.crashes);
    exit.finished
        .saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// The pause after so many crashes in a row.
pub fn backoff(crashes: u32) -> Duration {
    match crashes {
        0 | 1 => Duration::ZERO,
        more => BACKOFF_FIRST
            .saturating_mul(1 << (more - 2).min(10))
            .min(BACKOFF_MAX),
    }
}

fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}
