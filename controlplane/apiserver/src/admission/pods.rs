//! What every pod gets: a service account, and tolerance of a node that is away for five minutes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock;
use crate::resources;
use crate::rest::Api;
use crate::status::{ApiError, ApiResult};
use crate::value;

const TOLERATED: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
const TOLERATED_FOR_S: i64 = 300;
const DEFAULT: &str = "default";
/// A namespace's default account is made a moment after the namespace. Only that one is waited for, and only in a
/// namespace that is new: who waits holds the turn of another who writes.
const ACCOUNT_PATIENCE: Duration = Duration::from_millis(1_500);
const NEW_FOR_S: i64 = 30;

/// A node may be away for a while before its pods are evicted.
pub fn default_tolerations(pod: &mut Value) {
    let mut tolerations = value::list_at(pod, &["spec", "tolerations"]).to_vec();
    for key in TOLERATED {
        let tolerated = tolerations.iter().any(|toleration| {
            let get = |field: &str| value::str_at(toleration, &[field]);
            (get("key").is_empty() || get("key") == key)
                && matches!(get("effect"), "" | "NoExecute")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": TOLERATED_FOR_S,
            }));
        }
    }
    value::set(pod, &["spec", "tolerations"], tolerations);
}

/// A pod runs as somebody who exists.
pub async fn service_account(api: &Api, pod: &mut Value) -> ApiResult<()> {
    if !api.options.service_accounts {
        return Ok(());
    }
    if resources::is_mirror(pod) {
        // What it runs as, its node has decided already; and it is given nothing by being shown here.
        return match resources::refers_to(pod) {
            None => Ok(()),
            Some(what) => Err(ApiError::forbidden(
                resources::pods().subject(value::name(pod)),
                format!("a mirror pod may not reference {what}"),
            )),
        };
    }
    for field in ["serviceAccountName", "serviceAccount"] {
        let none = value::str_at(pod, &["spec", field]).is_empty();
        if none {
            let name = match field {
                "serviceAccountName" => DEFAULT.to_owned(),
                _ => value::str_at(pod, &["spec", "serviceAccountName"]).to_owned(),
            };
            value::set(pod, &["spec", field], name);
        }
    }
    let namespace = value::namespace(pod);
    let account = value::str_at(pod, &["spec", "serviceAccountName"]);
    let key = format!("{namespace}/{account}");
    let cache = api.caches.of(resources::service_accounts());
    if cache.get(&key).is_some() {
        return Ok(());
    }
    // The cache may be behind.
    let stored = resources::service_accounts().key(namespace, account);
    if api.store.get(&stored).await?.is_some() {
        return Ok(());
    }
    if account == DEFAULT && is_new(api, namespace) {
        let appeared = api.caches.wait_until(|| cache.get(&key).is_some());
        if tokio::time::timeout(ACCOUNT_PATIENCE, appeared)
            .await
            .is_ok()
        {
            return Ok(());
        }
    }
    Err(ApiError::forbidden(
        resources::pods().subject(value::name(pod)),
        format!("error looking up service account {key}: serviceaccount {account:?} not found"),
    ))
}

/// Whether a namespace was made a moment ago.
fn is_new(api: &Api, namespace: &str) -> bool {
    let cached = api.caches.of(resources::namespaces()).get(namespace);
    cached.is_some_and(|namespace| {
        let object = namespace.object();
        let made = value::str_at(&object, &["metadata", "creationTimestamp"]);
        clock::parse_rfc3339(made).is_some_and(|made| clock::now_s() - made < NEW_FOR_S)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_are_added_unless_they_are_there() {
        let mut pod = json!({"spec": {"tolerations": [{"key": TOLERATED[0], "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 5}]}});
        default_tolerations(&mut pod);
        let tolerations = value::list_at(&pod, &["spec", "tolerations"]);
        assert_eq!(tolerations.len(), 2);
        assert_eq!(tolerations[1]["key"], TOLERATED[1]);
        for (effect, count) in [("", 1), ("NoExecute", 1), ("NoSchedule", 3)] {
            let mut all =
                json!({"spec": {"tolerations": [{"operator": "Exists", "effect": effect}]}});
            default_tolerations(&mut all);
            let tolerations = value::list_at(&all, &["spec", "tolerations"]);
            assert_eq!(tolerations.len(), count, "{effect}");
        }
    }
}
