//! A pod's status, in the words and the order that Kubernetes' kubelet uses.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::containers::{Phase, Wanted, backoff, exit_of, restart_at};
use crate::runtime::{Exit, Sandbox, Seen, State};

/// What a pod's status should be.
pub fn of(
    pod: &Pod,
    sandbox: Option<&Sandbox>,
    wanted: &Wanted,
    host: &str,
    now: Timestamp,
) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    if wanted.phase.is_final() && sandbox.is_none() {
        // It ended in the life of an agent before this one.
        return before;
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let init = spec.init_containers.unwrap_or_default();
    let init_statuses = statuses(&init, sandbox, false, now);
    let statuses = statuses(&spec.containers, sandbox, !wanted.initialized, now);
    let address = sandbox.map(|sandbox| sandbox.address.to_string());
    let mut status = PodStatus {
        phase: Some(wanted.phase.name().to_owned()),
        host_ip: Some(host.to_owned()),
        host_ips: Some(vec![HostIP {
            ip: host.to_owned(),
        }]),
        pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: address,
        start_time: before.start_time.clone().or(Some(Time(now))),
        observed_generation: pod.metadata.generation,
        init_container_statuses: Some(init_statuses).filter(|all| !all.is_empty()),
        ..before
    };
    status.conditions = Some(conditions(&status, &statuses, pod, sandbox, wanted, now));
    status.container_statuses = Some(statuses);
    status
}

fn statuses(
    containers: &[Container],
    sandbox: Option<&Sandbox>,
    initializing: bool,
    now: Timestamp,
) -> Vec<ContainerStatus> {
    let seen = |name: &str| sandbox.and_then(|sandbox| sandbox.containers.get(name));
    containers
        .iter()
        .map(|container| container_status(container, seen(&container.name), initializing, now))
        .collect()
}

fn container_status(
    container: &Container,
    seen: Option<&Seen>,
    initializing: bool,
    now: Timestamp,
) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let status = ContainerStatus {
        name: container.name.clone(),
        image: image.clone(),
        ..ContainerStatus::default()
    };
    let Some(seen) = seen else {
        let reason = match initializing {
            true => "PodInitializing",
            false => "ContainerCreating",
        };
        return ContainerStatus {
            state: Some(waiting(reason, None)),
            started: Some(false),
            ..status
        };
    };
    let (state, last) = match &seen.state {
        State::Running(since) => (
            ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: Some(Time(*since)),
                }),
                ..ContainerState::default()
            },
            seen.last.as_ref(),
        ),
        State::Exited(exit) if restart_at(seen, exit) > now && seen.crashes > 1 => {
            let message = format!(
                "back-off {} restarting failed container={}",
                go_duration(backoff(seen.crashes)),
                container.name
            );
            (waiting("CrashLoopBackOff", Some(message)), Some(exit))
        }
        State::Exited(exit) => (terminated(exit), seen.last.as_ref()),
    };
    ContainerStatus {
        container_id: Some(seen.id.clone()),
        image_id: image,
        ready: seen.ready,
        started: Some(exit_of(seen).is_none()),
        restart_count: seen.restarts,
        state: Some(state),
        last_state: Some(last.map(terminated).unwrap_or_default()),
        ..status
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    }
}

fn terminated(exit: &Exit) -> ContainerState {
    let reason = match exit.code {
        0 => "Completed",
        _ => "Error",
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(exit.id.clone()),
            exit_code: exit.code,
            finished_at: Some(Time(exit.finished)),
            started_at: Some(Time(exit.started)),
            reason: Some(reason.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// As Go prints it: `10s`, `1m20s`.
fn go_duration(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}

/// The conditions, ours renewed and others' left as they were.
fn conditions(
    status: &PodStatus,
    containers: &[ContainerStatus],
    pod: &Pod,
    sandbox: Option<&Sandbox>,
    wanted: &Wanted,
    now: Timestamp,
) -> Vec<PodCondition> {
    let not = |is: fn(&ContainerStatus) -> bool, what: &str| {
        let names: Vec<&str> = containers
            .iter()
            .filter(|status| !is(status))
            .map(|status| status.name.as_str())
            .collect();
        (!names.is_empty()).then(|| format!("containers with {what} status: [{}]", names.join(" ")))
    };
    let unready = not(|status| status.ready, "unready");
    let ready = match (wanted.phase, unready) {
        (Phase::Succeeded, _) => Err(("PodCompleted", String::new())),
        (Phase::Failed, _) => Err(("PodFailed", String::new())),
        (_, Some(message)) => Err(("ContainersNotReady", message)),
        (_, None) => Ok(()),
    };
    let uninitialized = || {
        let names = status.init_container_statuses.iter().flatten();
        let open: Vec<&str> = names
            .filter(|status| !is_done(status))
            .map(|status| status.name.as_str())
            .collect();
        format!("containers with incomplete status: [{}]", open.join(" "))
    };
    let initialized = match (wanted.initialized, wanted.phase) {
        (true, Phase::Succeeded) => Ok("PodCompleted"),
        (true, _) => Ok(""),
        (false, _) if status.init_container_statuses.is_none() => Ok(""),
        (false, _) => Err(("ContainersNotInitialized", uninitialized())),
    };
    let has_sandbox = sandbox.is_some() && !wanted.phase.is_final();
    let no_words = |ok: bool| if ok { Ok("") } else { Err(("", String::new())) };
    let ours = [
        ("PodReadyToStartContainers", no_words(has_sandbox)),
        ("Initialized", initialized),
        ("Ready", ready.clone().map(|()| "")),
        ("ContainersReady", ready.map(|()| "")),
        ("PodScheduled", Ok("")),
    ];
    let mut conditions = Vec::new();
    let before = status.conditions.as_deref().unwrap_or_default();
    for (kind, holds) in ours {
        let was = before.iter().find(|condition| condition.type_ == kind);
        let (is, reason, message) = match holds {
            Ok(reason) => ("True", reason, String::new()),
            Err((reason, message)) => ("False", reason, message),
        };
        let since = was.filter(|was| was.status == is);
        conditions.push(PodCondition {
            type_: kind.to_owned(),
            status: is.to_owned(),
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
            message: Some(message).filter(|message| !message.is_empty()),
            last_transition_time: since
                .and_then(|was| was.last_transition_time.clone())
                .or(Some(Time(now))),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        });
    }
    let is_foreign = |condition: &&PodCondition| !ours_has(&conditions, condition.type_.as_str());
    let foreign: Vec<PodCondition> = before.iter().filter(is_foreign).cloned().collect();
    conditions.extend(foreign);
    conditions
}

fn ours_has(conditions: &[PodCondition], kind: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == kind)
}

/// Whether an init container has done its work.
fn is_done(status: &ContainerStatus) -> bool {
    let ended = status
        .state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    ended.is_some_and(|ended| ended.exit_code == 0)
}
