use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::*;
use crate::runtime::{Exit, Seen};

const HOST: &str = "192.168.0.1";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_000_000 + second, 0).unwrap()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "uid": "u", "generation": 1}, "spec": spec}),
    )
    .unwrap()
}

fn web() -> Pod {
    pod(json!({"containers": [{"name": "c", "image": "nginx:1"}]}))
}

fn deleted(mut pod: Pod, second: i64) -> Pod {
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        at(second),
    ));
    pod.metadata.deletion_grace_period_seconds = Some(second);
    pod
}

fn sandbox(containers: &[(&str, Seen)]) -> Sandbox {
    let containers: BTreeMap<String, Seen> = containers
        .iter()
        .map(|(name, seen)| ((*name).to_owned(), seen.clone()))
        .collect();
    Sandbox {
        address: ADDRESS,
        containers,
        stopping: None,
        next_change: None,
    }
}

fn running(ready: bool) -> Seen {
    Seen {
        id: "hollow://1".into(),
        state: State::Running(at(1)),
        ready,
        last: None,
        restarts: 0,
        crashes: 0,
    }
}

fn exited(code: i32, second: i64, crashes: u32) -> Seen {
    let exit = Exit {
        id: "hollow://1".into(),
        started: at(1),
        finished: at(second),
        code,
    };
    Seen {
        state: State::Exited(exit),
        ready: false,
        restarts: i32::try_from(crashes).unwrap() - 1,
        crashes,
        ..running(false)
    }
}

fn look(pod: &Pod, sandbox: Option<&Sandbox>, second: i64) -> Next {
    next(pod, sandbox, HOST, at(second))
}

fn phase(next: &Next) -> &str {
    next.status.phase.as_deref().unwrap()
}

fn condition(next: &Next, kind: &str) -> (String, String) {
    let conditions = next.status.conditions.as_ref().unwrap();
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .unwrap();
    (
        found.status.clone(),
        found.reason.clone().unwrap_or_default(),
    )
}

fn yes() -> (String, String) {
    ("True".into(), String::new())
}

fn start(names: &[&str]) -> Do {
    Do::Start(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_pod_is_prepared_and_then_started_and_then_ready() {
    let fresh = look(&web(), None, 0);
    assert_eq!(
        (fresh.action.clone(), phase(&fresh)),
        (Do::Prepare, "Pending")
    );
    assert_eq!(
        condition(&fresh, "Ready"),
        ("False".into(), "ContainersNotReady".into())
    );

    let prepared = look(&web(), Some(&sandbox(&[])), 0);
    assert_eq!(prepared.action, start(&["c"]));
    let waiting = prepared.status.container_statuses.as_ref().unwrap()[0]
        .state
        .clone()
        .unwrap();
    assert_eq!(
        waiting.waiting.unwrap().reason.unwrap(),
        "ContainerCreating"
    );

    let unready = look(&web(), Some(&sandbox(&[("c", running(false))])), 1);
    assert_eq!(
        (unready.action.clone(), phase(&unready)),
        (Do::Nothing, "Running")
    );
    let message = unready.status.conditions.as_ref().unwrap()[2]
        .message
        .clone();
    assert_eq!(message.unwrap(), "containers with unready status: [c]");

    let ready = look(&web(), Some(&sandbox(&[("c", running(true))])), 2);
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(condition(&ready, kind), yes(), "{kind}");
    }
    assert_eq!(ready.status.pod_ip.as_deref(), Some("10.0.0.2"));
    assert_eq!(ready.status.host_ip.as_deref(), Some(HOST));
}

#[test]
fn telling_the_same_again_changes_nothing() {
    let mut pod = web();
    let sandbox = sandbox(&[("c", running(true))]);
    pod.status = Some(look(&pod, Some(&sandbox), 2).status);
    assert_eq!(look(&pod, Some(&sandbox), 60).status, pod.status.unwrap());
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change() {
    let mut pod = web();
    pod.status = Some(look(&pod, Some(&sandbox(&[("c", running(false))])), 1).status);
    let ready = look(&pod, Some(&sandbox(&[("c", running(true))])), 9);
    let since = |kind: &str| {
        let conditions = ready.status.conditions.as_ref().unwrap();
        let found = conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .unwrap();
        found.last_transition_time.clone().unwrap().0
    };
    assert_eq!(since("Ready"), at(9));
    assert_eq!(since("PodScheduled"), at(1));
}

#[test]
fn a_container_that_ends_is_started_again_at_once_and_then_with_growing_pauses() {
    let at_once = look(&web(), Some(&sandbox(&[("c", exited(1, 5, 1))])), 5);
    assert_eq!(at_once.action, start(&["c"]));
    for (crashes, pause) in [(2, 10), (3, 20), (4, 40), (7, 300), (100, 300)] {
        let sandbox = sandbox(&[("c", exited(1, 5, crashes))]);
        let waits = look(&web(), Some(&sandbox), 5 + pause - 1);
        assert_eq!(
            (waits.action.clone(), waits.wake),
            (Do::Nothing, Some(at(5 + pause))),
            "{crashes}"
        );
        let state = waits.status.container_statuses.as_ref().unwrap()[0]
            .state
            .clone()
            .unwrap();
        assert_eq!(state.waiting.unwrap().reason.unwrap(), "CrashLoopBackOff");
        assert_eq!(phase(&waits), "Running");
        assert_eq!(
            look(&web(), Some(&sandbox), 5 + pause).action,
            start(&["c"])
        );
    }
}

#[test]
fn the_restart_policy_decides_what_an_end_means() {
    let cases = [
        ("Never", 0, Do::Nothing, "Succeeded"),
        ("Never", 1, Do::Nothing, "Failed"),
        ("OnFailure", 0, Do::Nothing, "Succeeded"),
        ("OnFailure", 1, start(&["c"]), "Running"),
        ("Always", 0, start(&["c"]), "Running"),
    ];
    for (policy, code, action, expected) in cases {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        let next = look(&pod, Some(&sandbox(&[("c", exited(code, 5, 1))])), 5);
        assert_eq!(
            (next.action.clone(), phase(&next)),
            (action, expected),
            "{policy} {code}"
        );
    }
}

#[test]
fn what_has_ended_for_good_is_not_started_by_the_next_agent() {
    let mut pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    pod.status = Some(look(&pod, Some(&sandbox(&[("c", exited(1, 5, 1))])), 5).status);
    let next = look(&pod, None, 60);
    assert_eq!(next.action, Do::Nothing);
    assert_eq!(next.status, pod.status.unwrap());
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = pod(json!({
        "initContainers": [{"name": "i1"}, {"name": "i2"}],
        "containers": [{"name": "c"}],
    }));
    let done = || exited(0, 3, 1);
    let next = look(&pod, Some(&sandbox(&[])), 2);
    assert_eq!(
        (next.action.clone(), phase(&next)),
        (start(&["i1"]), "Pending")
    );
    assert_eq!(
        condition(&next, "Initialized"),
        ("False".into(), "ContainersNotInitialized".into())
    );
    let next = look(&pod, Some(&sandbox(&[("i1", running(false))])), 2);
    assert_eq!(next.action, Do::Nothing);
    let next = look(&pod, Some(&sandbox(&[("i1", done())])), 3);
    assert_eq!(next.action, start(&["i2"]));
    let next = look(&pod, Some(&sandbox(&[("i1", done()), ("i2", done())])), 3);
    assert_eq!(next.action, start(&["c"]));
    assert_eq!(condition(&next, "Initialized"), yes());
}

#[test]
fn a_failed_init_container_is_tried_again_unless_the_policy_is_never() {
    let spec = |policy: &str| {
        pod(json!({
            "restartPolicy": policy,
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c"}],
        }))
    };
    let sandbox = sandbox(&[("i", exited(1, 3, 1))]);
    assert_eq!(
        look(&spec("Always"), Some(&sandbox), 3).action,
        start(&["i"])
    );
    let next = look(&spec("Never"), Some(&sandbox), 3);
    assert_eq!((next.action.clone(), phase(&next)), (Do::Nothing, "Failed"));
}

#[test]
fn a_deleted_pod_is_asked_to_end_and_then_finished() {
    let pod = deleted(web(), 30);
    let mut runs = sandbox(&[("c", running(true))]);
    assert_eq!(
        look(&pod, Some(&runs), 10).action,
        Do::Stop(Duration::from_secs(30))
    );
    runs.stopping = Some(at(40));
    assert_eq!(look(&pod, Some(&runs), 11).action, Do::Nothing);
    let ended = look(&pod, Some(&sandbox(&[("c", exited(0, 12, 1))])), 12);
    assert_eq!(
        (ended.action.clone(), phase(&ended)),
        (Do::Finish, "Succeeded")
    );
    assert_eq!(
        look(&pod, None, 12).action,
        Do::Finish,
        "it was never begun"
    );
}

#[test]
fn a_second_deletion_with_less_grace_reaches_the_runtime() {
    let mut runs = sandbox(&[("c", running(true))]);
    runs.stopping = Some(at(40));
    let stop = |grace: i64, second: i64| look(&deleted(web(), grace), Some(&runs), second).action;
    assert_eq!(stop(1, 11), Do::Stop(Duration::from_secs(1)));
    assert_eq!(stop(30, 11), Do::Nothing, "it never gets longer");
}

#[test]
fn a_deleted_pod_starts_nothing_any_more() {
    let pod = deleted(web(), 30);
    let next = look(&pod, Some(&sandbox(&[("c", exited(1, 5, 3))])), 12);
    assert_eq!((next.action, next.wake), (Do::Finish, None));
}

#[test]
fn conditions_that_others_wrote_are_left_alone() {
    let mut pod = web();
    pod.status = serde_json::from_value(json!({"conditions": [
        {"type": "example.com/gate", "status": "True"},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(0).to_string()},
    ]}))
    .unwrap();
    let next = look(&pod, Some(&sandbox(&[("c", running(true))])), 2);
    assert_eq!(condition(&next, "example.com/gate"), yes());
}
