//! Whether the server lives, and is ready.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::body::ReplyBody;
use super::http::text_response;
use crate::admission::system_namespaces_are_there;
use crate::rest::{Api, Query};

const PLAIN: &str = "text/plain; charset=utf-8";

/// Anybody may ask whether the store answers, so it is asked for all of them at once, and not more often than this.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// A store that needs longer does not answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Whether the store answers, as it was found last.
#[derive(Default)]
pub struct Probe {
    /// Held while the store is asked: who comes meanwhile has the same answer.
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Probe {
    /// What was found within the last second, or what `ask` finds.
    async fn is_well(&self, ask: impl Future<Output = bool> + Send + 'static) -> bool {
        let mut last = self.last.clone().lock_owned().await;
        if let Some((at, is_well)) = *last
            && at.elapsed() < ASKED_EVERY
        {
            return is_well;
        }
        // By itself, so that one who asks and goes away does not make the next one ask again.
        let asking = tokio::spawn(async move {
            let is_well = tokio::time::timeout(ANSWERS_WITHIN, ask).await == Ok(true);
            *last = Some((Instant::now(), is_well));
            is_well
        });
        asking.await.unwrap_or(false)
    }
}

/// What the checks say.
pub struct Report {
    status: StatusCode,
    text: String,
}

/// The report of a path, if it is one of these.
pub fn report<'a>(
    probe: &'a Probe,
    api: &'a Api,
    path: &'a str,
    query: &'a Query,
) -> Option<impl Future<Output = Report> + 'a> {
    let mut parts = path.trim_start_matches('/').split('/');
    let endpoint = parts.next()?;
    if !matches!(endpoint, "healthz" | "livez" | "readyz") {
        return None;
    }
    let one = parts.next();
    if parts.next().is_some() || one.is_some_and(|one| !checks(endpoint).contains(&one)) {
        return None;
    }
    Some(run(probe, api, endpoint, one, query))
}

/// The checks of an endpoint. A server that has lost its store lives, and is not ready.
fn checks(endpoint: &str) -> &'static [&'static str] {
    match endpoint {
        "livez" => &["ping"],
        "healthz" => &["ping", "etcd"],
        _ => &["ping", "etcd", "informer-sync", "system-namespaces"],
    }
}

async fn run(probe: &Probe, api: &Api, endpoint: &str, one: Option<&str>, query: &Query) -> Report {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut text = String::new();
    let mut all_well = true;
    for check in checks(endpoint) {
        if one.is_some_and(|one| one != *check) {
            continue;
        }
        if excluded.contains(check) {
            text.push_str(&format!("[+]{check} excluded: ok\n"));
            continue;
        }
        let is_well = match *check {
            "etcd" => {
                let store = api.store.clone();
                probe
                    .is_well(async move { store.revision().await.is_ok() })
                    .await
            }
            "informer-sync" => api.caches.is_ready(),
            "system-namespaces" => system_namespaces_are_there(api),
            _ => true,
        };
        all_well &= is_well;
        text.push_str(&match is_well {
            true => format!("[+]{check} ok\n"),
            false => format!("[-]{check} failed: reason withheld\n"),
        });
    }
    match all_well {
        true if one.is_some() || !query.has("verbose") => Report {
            status: StatusCode::OK,
            text: "ok".to_owned(),
        },
        true => Report {
            status: StatusCode::OK,
            text: format!("{text}{endpoint} check passed\n"),
        },
        false => Report {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            text: format!("{text}{endpoint} check failed\n"),
        },
    }
}

/// The report as a response.
pub fn respond(report: Report) -> Response<ReplyBody> {
    text_response(report.status, &report.text, PLAIN)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_once_a_second_for_all() {
        let (probe, asked) = (Probe::default(), Arc::new(AtomicU32::new(0)));
        let ask = || {
            let asked = asked.clone();
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                true
            }
        };
        assert_eq!(
            tokio::join!(probe.is_well(ask()), probe.is_well(ask())),
            (true, true)
        );
        assert!(probe.is_well(ask()).await);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(ASKED_EVERY).await;
        assert!(probe.is_well(ask()).await);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_not_waited_for() {
        let (probe, began) = (Probe::default(), Instant::now());
        assert!(!probe.is_well(std::future::pending()).await);
        assert_eq!(began.elapsed(), ANSWERS_WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_does_not_make_the_next_one_ask_again() {
        let probe = Probe::default();
        let slow = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            true
        };
        assert!(futures::poll!(std::pin::pin!(probe.is_well(slow))).is_pending());
        assert!(probe.is_well(async { false }).await);
    }

    #[test]
    fn a_server_that_lives_asks_nobody() {
        assert_eq!(checks("livez"), ["ping"]);
    }
}
