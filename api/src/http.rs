//! HTTP on the client port, beside gRPC: health, version, metrics.
//!
//! Paths, parameters and replies are etcd's (`etcdhttp/health.go`, `version.go`): probes and monitors are written
//! against them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use keelson_proto::etcdserverpb::{AlarmType, RangeRequest};
use keelson_raft::Parts;
use url::form_urlencoded;

use crate::context::Context;
use crate::error::Failure;
use crate::metrics;
use crate::version::{CLUSTER_VERSION, ETCD_VERSION, STORAGE_VERSION};

const TEXT: &str = "text/plain; charset=utf-8";

/// The HTTP routes; which of them a listener serves is the server's business.
pub(crate) fn routes<P: Parts>(context: Arc<Context<P>>) -> Router {
    let mut router = Router::new()
        .route("/health", get(health::<P>))
        .route("/version", get(version))
        .route("/metrics", get(page_of_metrics::<P>));
    for (kind, checks) in [("livez", LIVEZ), ("readyz", READYZ)] {
        router = router.route(&format!("/{kind}"), all_of(checks));
        for check in checks {
            router = router.route(
                &format!("/{kind}/{}", check.name()),
                all_of(std::slice::from_ref(check)),
            );
        }
    }
    router.with_state(context)
}

/// The query, `a=1&b` and the like, as pairs.
fn query_of(raw: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(raw.unwrap_or("").as_bytes())
        .into_owned()
        .collect()
}

fn excluded(query: &[(String, String)]) -> BTreeSet<&str> {
    query
        .iter()
        .filter(|(name, value)| name == "exclude" && !value.is_empty())
        .map(|(_, v)| v.as_str())
        .collect()
}

async fn health<P: Parts>(
    State(context): State<Arc<Context<P>>>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query_of(query.as_deref());
    let serializable = query
        .iter()
        .find(|(name, _)| name == "serializable")
        .is_some_and(|(_, v)| v == "true");
    let reason = match unhealthy(&context, &excluded(&query), serializable).await {
        None => {
            context.metrics.health_successes.inc();
            return ([(header::CONTENT_TYPE, TEXT)], health_json("")).into_response();
        }
        Some(reason) => reason,
    };
    context.metrics.health_failures.inc();
    tracing::warn!(reason, "answering a health check with unhealthy");
    error(StatusCode::SERVICE_UNAVAILABLE, health_json(&reason))
}

fn health_json(reason: &str) -> String {
    let health = if reason.is_empty() { "true" } else { "false" };
    // Built by hand for the order of its fields, which scripts compare as text.
    format!(
        r#"{{"health":"{health}","reason":{}}}"#,
        serde_json::Value::from(reason)
    )
}

/// Go's `http.Error`: the text and a line feed.
fn error(status: StatusCode, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, TEXT),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, format!("{text}\n")).into_response()
}

/// Why a member is not healthy, if it is not.
async fn unhealthy<P: Parts>(
    context: &Context<P>,
    excluded: &BTreeSet<&str>,
    serializable: bool,
) -> Option<String> {
    let alarms = match context.member.reader().now().alarms() {
        Ok(alarms) => alarms,
        Err(error) => return Some(format!("ALARM ERROR:{error}")),
    };
    for alarm in alarms {
        let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        if !excluded.contains(name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !serializable && context.member.leader_lost() {
        return Some("RAFT NO LEADER".into());
    }
    can_read(context, serializable)
        .await
        .err()
        .map(|error| format!("RANGE ERROR:{error}"))
}

/// Whether a read of one key is answered.
async fn can_read<P: Parts>(context: &Context<P>, serializable: bool) -> Result<(), Failure> {
    let view = context.view(serializable).await?;
    // etcd asks for the empty key, which holds nothing and is found as fast as any.
    view.range(&RangeRequest {
        keys_only: true,
        limit: 1,
        ..RangeRequest::default()
    })?;
    Ok(())
}

/// One of the checks of `/livez` and `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run<P: Parts>(self, context: &Context<P>) -> Result<(), String> {
        match self {
            Check::DataCorruption => {
                let alarms = context
                    .member
                    .reader()
                    .now()
                    .alarms()
                    .map_err(|error| error.to_string())?;
                match alarms
                    .iter()
                    .any(|alarm| alarm.alarm == AlarmType::Corrupt as i32)
                {
                    true => Err("alarm activated: CORRUPT".into()),
                    false => Ok(()),
                }
            }
            Check::SerializableRead => can_read(context, true)
                .await
                .map_err(|error| error.to_string()),
            Check::LinearizableRead => can_read(context, false)
                .await
                .map_err(|error| error.to_string()),
            Check::NonLearner if context.is_learner() => Err("not supported for learner".into()),
            Check::NonLearner => Ok(()),
        }
    }
}

/// A path that succeeds if every check does, but for those that the request excludes.
fn all_of<P: Parts>(checks: &'static [Check]) -> MethodRouter<Arc<Context<P>>> {
    get(
        move |State(context): State<Arc<Context<P>>>, RawQuery(query): RawQuery| {
            run_all(context, checks, query)
        },
    )
}

async fn run_all<P: Parts>(
    context: Arc<Context<P>>,
    checks: &'static [Check],
    query: Option<String>,
) -> Response {
    let query = query_of(query.as_deref());
    let excluded = excluded(&query);
    let mut results = Vec::new();
    for check in checks
        .iter()
        .filter(|check| !excluded.contains(check.name()))
    {
        results.push((check.name(), check.run(&context).await));
    }
    let verbose = query.iter().any(|(name, _)| name == "verbose");
    match report(&results, verbose) {
        Ok(text) => (
            [
                (header::CONTENT_TYPE, TEXT),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ],
            text,
        )
            .into_response(),
        Err(reasons) => {
            tracing::warn!(reasons, "a health check failed");
            error(StatusCode::SERVICE_UNAVAILABLE, reasons)
        }
    }
}

/// What is said of the checks: `ok`, every check when asked or when one fails.
fn report(results: &[(&str, Result<(), String>)], verbose: bool) -> Result<String, String> {
    let mut lines = String::new();
    for (name, result) in results {
        match result {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(why) => lines.push_str(&format!("[-]{name} failed: {why}\n")),
        }
    }
    match (results.iter().all(|(_, result)| result.is_ok()), verbose) {
        (true, true) => Ok(lines + "ok\n"),
        (true, false) => Ok("ok\n".into()),
        (false, _) => Err(lines),
    }
}

async fn version() -> Response {
    let json = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{CLUSTER_VERSION}","storage":"{STORAGE_VERSION}"}}"#
    );
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

async fn page_of_metrics<P: Parts>(State(context): State<Arc<Context<P>>>) -> Response {
    match context.metrics.render() {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(_) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be written".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_told_in_etcds_json() {
        assert_eq!(health_json(""), r#"{"health":"true","reason":""}"#);
        assert_eq!(
            health_json("RAFT NO LEADER"),
            r#"{"health":"false","reason":"RAFT NO LEADER"}"#
        );
        assert_eq!(
            health_json("a \"b\""),
            r#"{"health":"false","reason":"a \"b\""}"#
        );
    }

    #[test]
    fn checks_are_reported_in_full_when_asked_or_when_one_fails() {
        let good = [("a", Ok(())), ("b", Ok(()))];
        assert_eq!(report(&good, false), Ok("ok\n".into()));
        assert_eq!(report(&good, true), Ok("[+]a ok\n[+]b ok\nok\n".into()));
        let bad = [("a", Ok(())), ("b", Err("broken".to_owned()))];
        assert_eq!(
            report(&bad, false),
            Err("[+]a ok\n[-]b failed: broken\n".into())
        );
    }

    #[test]
    fn excluded_checks_may_be_given_many_times_and_empty_ones_count_for_nothing() {
        let query = query_of(Some("exclude=NOSPACE&verbose&exclude=&exclude=CORRUPT"));
        assert_eq!(excluded(&query), BTreeSet::from(["NOSPACE", "CORRUPT"]));
        assert!(query.iter().any(|(name, _)| name == "verbose"));
    }
}
