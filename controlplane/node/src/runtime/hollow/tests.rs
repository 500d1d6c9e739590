use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_000_000 + second, 0).unwrap()
}

fn pod(annotations: Value) -> Pod {
    let annotations: serde_json::Map<String, Value> = annotations
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), value.clone()))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": "u", "annotations": annotations},
        "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]},
    }))
    .unwrap()
}

async fn started(annotations: Value) -> Hollow {
    let hollow = Hollow::default();
    hollow
        .prepare(&pod(annotations), ADDRESS, at(0))
        .await
        .unwrap();
    hollow.start("u", "c", at(0)).await.unwrap();
    hollow
}

async fn seen(hollow: &Hollow, second: i64) -> Seen {
    hollow.look("u", at(second)).await.unwrap().containers["c"].clone()
}

fn code(seen: &Seen) -> Option<i32> {
    match &seen.state {
        State::Exited(exit) => Some(exit.code),
        State::Running(_) => None,
    }
}

#[tokio::test]
async fn a_container_is_ready_at_once_and_runs_for_ever() {
    let hollow = started(json!({})).await;
    assert!(seen(&hollow, 0).await.ready);
    assert!(seen(&hollow, 1_000_000).await.ready);
    assert_eq!(hollow.look("u", at(1)).await.unwrap().next_change, None);
}

#[tokio::test]
async fn it_is_ready_after_a_while_or_never_where_its_pod_says_so() {
    let hollow = started(json!({"ready-after": "3s"})).await;
    assert!(!seen(&hollow, 2).await.ready);
    assert_eq!(
        hollow.look("u", at(2)).await.unwrap().next_change,
        Some(at(3))
    );
    assert!(seen(&hollow, 3).await.ready);

    let hollow = started(json!({"never-ready": "true"})).await;
    assert!(!seen(&hollow, 1_000).await.ready);
}

#[tokio::test]
async fn it_ends_by_itself_and_can_be_started_again() {
    let hollow = started(json!({"exit-after": "5s", "exit-code": "3"})).await;
    assert_eq!(code(&seen(&hollow, 4).await), None);
    let ended = seen(&hollow, 5).await;
    assert_eq!(
        (code(&ended), ended.ready, ended.crashes),
        (Some(3), false, 1)
    );

    hollow.start("u", "c", at(7)).await.unwrap();
    let again = seen(&hollow, 8).await;
    assert_eq!((code(&again), again.restarts, again.crashes), (None, 1, 1));
    assert_eq!(again.last.unwrap().finished, at(5));
    assert_eq!(seen(&hollow, 12).await.crashes, 2);
}

#[tokio::test]
async fn one_that_ran_long_has_not_crashed() {
    let hollow = started(json!({"exit-after": "11m"})).await;
    assert_eq!(seen(&hollow, 660).await.crashes, 0);
}

#[tokio::test]
async fn it_ends_when_it_is_asked_to_and_is_killed_when_its_grace_is_over() {
    let hollow = started(json!({"stop-after": "5s"})).await;
    hollow
        .stop("u", Duration::from_secs(30), at(10))
        .await
        .unwrap();
    assert_eq!(code(&seen(&hollow, 14).await), None);
    assert_eq!(code(&seen(&hollow, 15).await), Some(0));

    let hollow = started(json!({"stop-after": "5s"})).await;
    hollow
        .stop("u", Duration::from_secs(30), at(10))
        .await
        .unwrap();
    hollow
        .stop("u", Duration::from_secs(1), at(11))
        .await
        .unwrap();
    assert_eq!(code(&seen(&hollow, 12).await), Some(KILLED));
}

#[tokio::test]
async fn init_containers_end_by_themselves() {
    let hollow = Hollow::default();
    hollow
        .prepare(&pod(json!({})), ADDRESS, at(0))
        .await
        .unwrap();
    hollow.start("u", "i", at(0)).await.unwrap();
    let sandbox = hollow.look("u", at(0)).await.unwrap();
    assert_eq!(code(&sandbox.containers["i"]), Some(0));
}

#[tokio::test]
async fn sidecars_run_on_as_other_containers_do() {
    let mut pod = pod(json!({}));
    let init = pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap();
    init[0].restart_policy = Some("Always".into());
    let hollow = Hollow::default();
    hollow.prepare(&pod, ADDRESS, at(0)).await.unwrap();
    hollow.start("u", "i", at(0)).await.unwrap();
    let sandbox = hollow.look("u", at(1_000)).await.unwrap();
    assert_eq!(code(&sandbox.containers["i"]), None);
    assert!(sandbox.containers["i"].ready);
}

#[tokio::test]
async fn another_process_goes_on_with_what_the_status_says() {
    let mut pod = pod(json!({"exit-after": "60s"}));
    pod.status = serde_json::from_value(json!({"containerStatuses": [{
        "name": "c", "image": "x", "imageID": "", "ready": true, "restartCount": 4, "containerID": "hollow://1",
        "state": {"running": {"startedAt": at(0).to_string()}},
    }]}))
    .unwrap();
    let hollow = Hollow::default();
    hollow.prepare(&pod, ADDRESS, at(30)).await.unwrap();
    let going_on = seen(&hollow, 30).await;
    assert_eq!((going_on.id.as_str(), going_on.restarts), ("hollow://1", 4));
    assert_eq!(going_on.state, State::Running(at(0)));
    assert_eq!(code(&seen(&hollow, 60).await), Some(0));
}

#[tokio::test]
async fn a_play_that_cannot_be_read_is_said_to_be_so() {
    let error = Hollow::default()
        .prepare(&pod(json!({"exit-after": "soon"})), ADDRESS, at(0))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("exit-after: \"soon\" is no duration"),
        "{error}"
    );
}
