//! The hollow runtime: it runs nothing, and plays what containers would do, so that a thousand nodes fit into one
//! process.
//!
//! A pod's annotations write the play; without them containers are ready at once, run for ever, and end at once when
//! they are asked to:
//!
//! | annotation | is |
//! |---|---|
//! | `hollow.keelson.dev/ready-after` | how long a container runs before it is ready, as `500ms` or `3s` |
//! | `hollow.keelson.dev/never-ready` | `true`: it never is |
//! | `hollow.keelson.dev/exit-after` | how long it runs before it ends by itself |
//! | `hollow.keelson.dev/exit-code` | what it then exits with; 0 |
//! | `hollow.keelson.dev/stop-after` | how long it takes to end when it is asked to |
//!
//! Init containers end at once with 0 unless `hollow.keelson.dev/init-exit-after` or `…/init-exit-code` say otherwise.
//!
//! What it plays is a function of the play, the starts and the time. It remembers nothing across a restart of its
//! process: it goes on with what a pod's status says was running.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use keelson_notation::duration;
use parking_lot::Mutex;

use super::{Exit, Runtime, Sandbox, Seen, State};

const PREFIX: &str = "hollow.keelson.dev/";
/// What SIGKILL makes of an exit code.
const KILLED: i32 = 137;
/// A container that ran so long has not crashed when it ends.
const SOUND: Duration = Duration::from_secs(10 * 60);

/// The hollow runtime.
#[derive(Debug, Default)]
pub struct Hollow {
    ready_after: Duration,
    pods: Mutex<HashMap<String, Played>>,
    ids: AtomicU64,
}

/// What is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Play {
    /// None: never.
    ready_after: Option<Duration>,
    exit: Option<(Duration, i32)>,
    init_exit: (Duration, i32),
    stop_after: Duration,
}

#[derive(Debug)]
struct Played {
    address: IpAddr,
    play: Play,
    init: Vec<String>,
    containers: BTreeMap<String, Run>,
    stop: Option<Stop>,
}

/// When a pod was asked to end, and when its patience ends.
#[derive(Clone, Copy, Debug)]
struct Stop {
    asked: Timestamp,
    deadline: Timestamp,
}

/// One container, since its last start.
#[derive(Debug)]
struct Run {
    id: String,
    started: Timestamp,
    last: Option<Exit>,
    restarts: i32,
    crashes: u32,
    /// It had ended before this process began.
    ended: Option<Exit>,
}

impl Play {
    fn of(pod: &Pod, ready_after: Duration) -> anyhow::Result<Play> {
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let given = |name: &str| annotations.get(&format!("{PREFIX}{name}"));
        let span = |name: &str| {
            let parse = |text: &String| {
                duration::parse(text)
                    .map_err(|why| anyhow::anyhow!("annotation {PREFIX}{name}: {why}"))
            };
            given(name).map(parse).transpose()
        };
        let code = |name: &str| {
            let parse = |text: &String| {
                text.parse::<i32>()
                    .with_context(|| format!("annotation {PREFIX}{name}: {text:?} is no exit code"))
            };
            given(name).map_or(Ok(0), parse)
        };
        let never = given("never-ready").is_some_and(|value| value == "true");
        let ready_after = span("ready-after")?.unwrap_or(ready_after);
        let exit_code = code("exit-code")?;
        Ok(Play {
            ready_after: (!never).then_some(ready_after),
            exit: span("exit-after")?.map(|after| (after, exit_code)),
            init_exit: (
                span("init-exit-after")?.unwrap_or_default(),
                code("init-exit-code")?,
            ),
            stop_after: span("stop-after")?.unwrap_or_default(),
        })
    }
}

/// A time after another, or the end of time.
fn after(time: Timestamp, span: Duration) -> Timestamp {
    time.saturating_add(SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

impl Played {
    /// When a container ends, and how, as far as that is decided.
    fn end_of(&self, name: &str, run: &Run) -> Option<Exit> {
        if run.ended.is_some() {
            return run.ended.clone();
        }
        let own = match self.init.iter().any(|init| init == name) {
            true => Some(self.play.init_exit),
            false => self.play.exit,
        };
        let own = own.map(|(span, code)| (after(run.started, span), code));
        let asked = self.stop.map(|stop| {
            let willing = after(stop.asked.max(run.started), self.play.stop_after);
            match willing <= stop.deadline {
                true => (willing, 0),
                false => (stop.deadline, KILLED),
            }
        });
        let (finished, code) = own.into_iter().chain(asked).min()?;
        Some(Exit {
            id: run.id.clone(),
            started: run.started,
            finished,
            code,
        })
    }

    fn look(&self, now: Timestamp) -> Sandbox {
        let mut next_change: Option<Timestamp> = None;
        let mut changes_at = |time: Timestamp| {
            next_change = Some(next_change.map_or(time, |next| next.min(time)));
        };
        let mut containers = BTreeMap::new();
        for (name, run) in &self.containers {
            let end = self.end_of(name, run);
            let exited = end.clone().filter(|end| end.finished <= now);
            let ready_at = self.play.ready_after.map(|span| after(run.started, span));
            if exited.is_none() {
                end.iter().for_each(|end| changes_at(end.finished));
                ready_at
                    .filter(|at| *at > now)
                    .into_iter()
                    .for_each(&mut changes_at);
            }
            let crashed = exited.as_ref().is_some_and(is_crash);
            let seen = Seen {
                id: run.id.clone(),
                ready: exited.is_none() && ready_at.is_some_and(|at| at <= now),
                state: exited.map_or(State::Running(run.started), State::Exited),
                last: run.last.clone(),
                restarts: run.restarts,
                crashes: if crashed {
                    run.crashes + 1
                } else {
                    run.crashes
                },
            };
            containers.insert(name.clone(), seen);
        }
        Sandbox {
            address: self.address,
            containers,
            stopping: self.stop.map(|stop| stop.deadline),
            next_change,
        }
    }
}

fn is_crash(exit: &Exit) -> bool {
    after(exit.started, SOUND) > exit.finished
}

impl Hollow {
    /// Whether an annotation means anything to it.
    pub fn reads(annotation: &str) -> bool {
        annotation.starts_with(PREFIX)
    }

    /// One whose containers are ready after this time, unless their pod says otherwise.
    pub fn new(ready_after: Duration) -> Hollow {
        Hollow {
            ready_after,
            ..Hollow::default()
        }
    }

    fn id(&self) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        format!("hollow://{number:012x}{:08x}", rand::random::<u32>())
    }

    /// What a status says that a container did before this process began.
    fn taken_up(status: &ContainerStatus) -> Option<Run> {
        let state = status.state.as_ref()?;
        let id = status.container_id.clone()?;
        let exit = |ended: &k8s_openapi::api::core::v1::ContainerStateTerminated| {
            Some(Exit {
                id: ended.container_id.clone().unwrap_or_default(),
                started: ended.started_at.as_ref()?.0,
                finished: ended.finished_at.as_ref()?.0,
                code: ended.exit_code,
            })
        };
        let last = status
            .last_state
            .as_ref()
            .and_then(|last| exit(last.terminated.as_ref()?));
        let ended = match &state.terminated {
            Some(ended) => Some(exit(ended)?),
            // Waiting to be started again.
            None if state.running.is_none() => Some(last.clone()?),
            None => None,
        };
        let started = match (&state.running, &ended) {
            (Some(running), _) => running.started_at.as_ref()?.0,
            (None, Some(ended)) => ended.started,
            (None, None) => return None,
        };
        Some(Run {
            id,
            started,
            last,
            restarts: status.restart_count,
            crashes: u32::try_from(status.restart_count).unwrap_or(0),
            ended,
        })
    }
}

impl Runtime for Hollow {
    fn version(&self) -> String {
        format!("hollow://{}", env!("CARGO_PKG_VERSION"))
    }

    async fn look(&self, uid: &str, now: Timestamp) -> Option<Sandbox> {
        Some(self.pods.lock().get(uid)?.look(now))
    }

    async fn prepare(&self, pod: &Pod, address: IpAddr, _now: Timestamp) -> anyhow::Result<()> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let play = Play::of(pod, self.ready_after)?;
        let mut pods = self.pods.lock();
        if pods.contains_key(&uid) {
            return Ok(());
        }
        // Sidecars are init containers only by name: they run as long as the pod does.
        let init = pod
            .spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .filter(|container| container.restart_policy.as_deref() != Some("Always"))
            .map(|container| container.name.clone())
            .collect();
        let status = pod.status.clone().unwrap_or_default();
        let known = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten();
        let containers = known
            .filter_map(|status| Some((status.name.clone(), Hollow::taken_up(status)?)))
            .collect();
        let played = Played {
            address,
            play,
            init,
            containers,
            stop: None,
        };
        pods.insert(uid, played);
        Ok(())
    }

    async fn start(&self, uid: &str, container: &str, now: Timestamp) -> anyhow::Result<()> {
        let id = self.id();
        let mut pods = self.pods.lock();
        let Some(pod) = pods.get_mut(uid) else {
            bail!("pod {uid} was not prepared");
        };
        let before = pod.look(now).containers.remove(container);
        let (last, restarts, crashes) = match before {
            None => (None, 0, 0),
            Some(Seen {
                state: State::Running(_),
                ..
            }) => return Ok(()),
            Some(Seen {
                state: State::Exited(exit),
                restarts,
                crashes,
                ..
            }) => {
                let crashes = if is_crash(&exit) { crashes } else { 0 };
                (Some(exit), restarts + 1, crashes)
            }
        };
        let run = Run {
            id,
            started: now,
            last,
            restarts,
            crashes,
            ended: None,
        };
        pod.containers.insert(container.to_owned(), run);
        Ok(())
    }

    async fn stop(&self, uid: &str, grace: Duration, now: Timestamp) -> anyhow::Result<()> {
        let mut pods = self.pods.lock();
        let Some(pod) = pods.get_mut(uid) else {
            return Ok(());
        };
        let deadline = after(now, grace);
        // A grace may only get shorter.
        pod.stop = Some(match pod.stop {
            Some(stop) => Stop {
                deadline: stop.deadline.min(deadline),
                ..stop
            },
            None => Stop {
                asked: now,
                deadline,
            },
        });
        Ok(())
    }

    async fn remove(&self, uid: &str) -> anyhow::Result<()> {
        self.pods.lock().remove(uid);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
