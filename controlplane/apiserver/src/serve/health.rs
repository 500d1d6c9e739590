//! Whether the server lives, and is ready.

use http::{Response, StatusCode};

use super::body::ReplyBody;
use super::http::text_response;
use crate::rest::{Api, Query};

const PLAIN: &str = "text/plain; charset=utf-8";

/// What the checks say.
pub struct Report {
    status: StatusCode,
    text: String,
}

/// The report of a path, if it is one of these.
pub fn report<'a>(
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
    Some(run(api, endpoint, one, query))
}

/// The checks of an endpoint. A server that has lost its store lives, and is not ready.
fn checks(endpoint: &str) -> &'static [&'static str] {
    match endpoint {
        "livez" => &["ping"],
        "healthz" => &["ping", "etcd"],
        _ => &["ping", "etcd", "informer-sync"],
    }
}

async fn run(api: &Api, endpoint: &str, one: Option<&str>, query: &Query) -> Report {
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
            "etcd" => api.store.revision().await.is_ok(),
            "informer-sync" => api.caches.is_ready(),
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
