//! What every pod gets: a service account, and tolerance of a node that is away for five minutes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::resources;
use crate::rest::Api;
use crate::status::{ApiError, ApiResult};
use crate::value;

const TOLERATED: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
const TOLERATED_FOR_S: i64 = 300;
/// A namespace's default account is made a moment after the namespace.
const ACCOUNT_PATIENCE: Duration = Duration::from_millis(1_500);

/// A node may be away for a while before its pods are evicted.
pub fn default_tolerations(pod: &mut Value) {
    let mut tolerations = value::list_at(pod, &["spec", "tolerations"]).to_vec();
    for key in TOLERATED {
        let tolerated = tolerations.iter().any(|toleration| {
            let get = |field: &str| value::str_at(toleration, &[field]);
            matches!(get("key"), "")
                || get("key") == key && matches!(get("effect"), "" | "NoExecute")
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
                "serviceAccountName" => "default".to_owned(),
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
    let appeared = api.caches.wait_until(|| cache.get(&key).is_some());
    match tokio::time::timeout(ACCOUNT_PATIENCE, appeared).await {
        Ok(()) => Ok(()),
        Err(_) => Err(ApiError::forbidden(
            resources::pods().subject(value::name(pod)),
            format!("error looking up service account {key}: serviceaccount {account:?} not found"),
        )),
    }
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
        let mut all = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        default_tolerations(&mut all);
        assert_eq!(value::list_at(&all, &["spec", "tolerations"]).len(), 1);
    }
}
