//! The API server by itself: writes, lists, watches.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::process::Whole;
use super::rest::Rest;
use crate::measure::{Meter, Outcome};
use crate::workload::run::{Effort, until};
use crate::workload::watch::settled;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Objects created at once while they are laid down.
const CREATORS: u64 = 50;
/// Clients that list, one after the other each.
const LISTERS: usize = 2;
/// Creations under way while watchers are told of them.
const WRITERS: usize = 4;

fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"text": "x".repeat(256)},
    })
}

/// A pod that no scheduler takes.
pub fn pod(name: &str, scheduler: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"schedulerName": scheduler, "containers": [{"name": "main", "image": "nginx"}]},
    })
}

/// Creates so many objects.
pub async fn create_all(
    rest: &Rest,
    path: &'static str,
    count: u64,
    object: impl Fn(u64) -> Value + Clone + 'static,
) -> anyhow::Result<()> {
    let mut creators = JoinSet::new();
    for creator in 0..CREATORS {
        let (rest, object) = (rest.clone(), object.clone());
        creators.spawn_local(async move {
            for number in (creator..count).step_by(CREATORS as usize) {
                rest.create(path, &object(number)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = creators.join_next().await {
        done??;
    }
    Ok(())
}

/// Clients that do something again and again.
fn closed<F>(clients: usize, meter: &Rc<Meter>, act: impl Fn() -> F) -> JoinSet<anyhow::Result<()>>
where
    F: AsyncFnMut() -> anyhow::Result<()> + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (meter, mut act) = (meter.clone(), act());
        tasks.spawn_local(async move {
            loop {
                let began = Instant::now();
                act().await?;
                meter.took(began.elapsed());
            }
        });
    }
    tasks
}

/// Config maps created by clients, each with a connection of its own if it wants one.
pub async fn writes(whole: &Whole, clients: usize, effort: Effort) -> anyhow::Result<Outcome> {
    let meter = Rc::new(Meter::new());
    let numbers = Rc::new(Cell::new(0));
    let tasks = closed(clients, &meter, || {
        let (rest, numbers) = (whole.rest.clone(), numbers.clone());
        async move || {
            let number = numbers.replace(numbers.get() + 1);
            rest.create(CONFIG_MAPS, &config_map(&format!("bench-{number}")))
                .await
        }
    });
    until(
        tasks,
        meter.watch(|| whole.pids(), effort.warm_up, effort.measured),
    )
    .await
}

/// Lists of all pods, whole and at the newest revision.
pub async fn lists(whole: &Whole, pods: u64, effort: Effort) -> anyhow::Result<Outcome> {
    create_all(&whole.rest, PODS, pods, |number| {
        pod(&format!("bench-{number}"), "nobody")
    })
    .await?;
    let meter = Rc::new(Meter::new());
    let whole_size = whole.rest.size(PODS).await?;
    anyhow::ensure!(
        whole_size as u64 > pods * 100,
        "a list of {pods} pods is larger than {whole_size} bytes"
    );
    let tasks = closed(LISTERS, &meter, || {
        let rest = whole.rest.clone();
        async move || {
            let size = rest.size(PODS).await?;
            anyhow::ensure!(size * 10 > whole_size * 9, "a list that is not whole");
            Ok(())
        }
    });
    until(
        tasks,
        meter.watch(|| whole.pids(), effort.warm_up, effort.measured),
    )
    .await
}

/// Watchers of all config maps, while some are created.
pub async fn fan_out(whole: &Whole, watchers: usize, effort: Effort) -> anyhow::Result<Outcome> {
    let meter = Rc::new(Meter::new());
    let base = Instant::now();
    let (bookmarked, seen) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0_u64)));
    let mut tasks = JoinSet::new();
    // The initial events of a streaming list end with a bookmark: then the watch stands.
    let path = format!(
        "{CONFIG_MAPS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    );
    for _ in 0..watchers {
        let (rest, path, meter) = (whole.rest.clone(), path.clone(), meter.clone());
        let (bookmarked, seen) = (bookmarked.clone(), seen.clone());
        tasks.spawn_local(async move {
            rest.watch(&path, |line| {
                match stamp(line) {
                    Some(stamp) => {
                        let took = base.elapsed().as_nanos() as u64 - stamp;
                        meter.took(std::time::Duration::from_nanos(took));
                        seen.set(seen.get() + 1);
                    }
                    None if line.starts_with(br#"{"type":"BOOKMARK""#) => {
                        bookmarked.set(bookmarked.get() + 1)
                    }
                    None => {}
                }
                false
            })
            .await
        });
    }
    until(tasks, async {
        settled("not all watches stand", || bookmarked.get() >= watchers).await?;
        let numbers = Rc::new(Cell::new(0_u64));
        // Nobody runs ahead of the watchers by more than a few objects.
        let room = {
            let (numbers, seen) = (numbers.clone(), seen.clone());
            move || numbers.get() * watchers as u64 <= seen.get() + (2 * WRITERS * watchers) as u64
        };
        let unmeasured = Rc::new(Meter::new());
        let writers = closed(WRITERS, &unmeasured, || {
            let (rest, numbers, room) = (whole.rest.clone(), numbers.clone(), room.clone());
            async move || {
                settled("the watchers are not told", &room).await?;
                let number = numbers.replace(numbers.get() + 1);
                let stamp = base.elapsed().as_nanos();
                rest.create(CONFIG_MAPS, &config_map(&format!("bench-{number}-{stamp}")))
                    .await
            }
        });
        until(
            writers,
            meter.watch(|| whole.pids(), effort.warm_up, effort.measured),
        )
        .await
    })
    .await
}

/// When the object in this line of a watch was written, from its name. None if it is not one of ours.
fn stamp(line: &[u8]) -> Option<u64> {
    const NAME: &[u8] = br#""name":"bench-"#;
    let begin = line.windows(NAME.len()).position(|part| part == NAME)? + NAME.len();
    let name = line[begin..].split(|byte| *byte == b'"').next()?;
    let digits = name.split(|byte| *byte == b'-').nth(1)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_when_its_object_was_written() {
        let line = br#"{"type":"ADDED","object":{"metadata":{"name":"bench-7-12345","uid":"1"}}}"#;
        assert_eq!(stamp(line), Some(12_345));
        assert_eq!(stamp(br#"{"type":"BOOKMARK","object":{}}"#), None);
        assert_eq!(
            stamp(br#"{"object":{"metadata":{"name":"kube-root-ca.crt"}}}"#),
            None
        );
    }
}
