//! Which resources the API server serves.

use std::collections::{BTreeMap, HashSet};

use futures::StreamExt;
use futures::stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResource, APIResourceList};
use keelson_component::error::message;
use kube::Client;
use kube::api::ApiResource;

use crate::context::IN_FLIGHT_MAX;

/// One resource, in the version that its group prefers, or, if it is not there, in the first that has it.
#[derive(Debug, Clone)]
pub struct Resource {
    /// How to reach it.
    pub api: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Resource {
    /// Its name with its group, as in `deployments.apps`.
    pub fn name(&self) -> String {
        if self.api.group.is_empty() {
            self.api.plural.clone()
        } else {
            format!("{}.{}", self.api.plural, self.api.group)
        }
    }

    /// Whether it has a verb.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// What is known of all resources.
#[derive(Debug, Default)]
pub struct Discovered {
    /// The resources that are known.
    pub resources: Vec<Resource>,
    /// Which versions of which groups could not be read, and why. There may be resources of theirs: who does not know
    /// what there is must not take it for gone.
    pub failures: BTreeMap<String, String>,
}

impl Discovered {
    /// What could not be read, in Kubernetes' words.
    pub fn failure(&self) -> Option<String> {
        let failures = self.failures.iter();
        let failures: Vec<String> = failures
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        (!failures.is_empty()).then(|| {
            format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                failures.len(),
                failures.join(", "),
            )
        })
    }
}

/// Reads what there is. A group that cannot be read, such as that of an extension whose server is down, does not hide
/// the others.
pub async fn discover(client: &Client) -> kube::Result<Discovered> {
    let core = client.list_core_api_versions().await?.versions;
    let groups = client.list_api_groups().await?.groups;
    let mut asked: Vec<(String, String)> = Vec::new();
    asked.extend(core.into_iter().map(|version| (String::new(), version)));
    for group in groups {
        let versions = preferred_first(&group);
        asked.extend(versions.map(|version| (group.name.clone(), version.to_owned())));
    }
    let reads = asked.into_iter().map(|(group, version)| async move {
        let list = read(client, &group, &version).await;
        (group, version, list)
    });
    // In order, so that the version that a group prefers comes first.
    let mut read = stream::iter(reads).buffered(IN_FLIGHT_MAX);
    let mut discovered = Discovered::default();
    let mut known = HashSet::new();
    while let Some((group, version, list)) = read.next().await {
        let list = match list {
            Ok(list) => list.resources,
            Err(error) => {
                let name = api_version(&group, &version);
                discovered.failures.insert(name, message(&error));
                continue;
            }
        };
        for resource in list.into_iter().filter(|found| !found.name.contains('/')) {
            if known.insert((group.clone(), resource.name.clone())) {
                discovered
                    .resources
                    .push(resource_of(&group, &version, resource));
            }
        }
    }
    Ok(discovered)
}

async fn read(client: &Client, group: &str, version: &str) -> kube::Result<APIResourceList> {
    if group.is_empty() {
        client.list_core_api_resources(version).await
    } else {
        let name = api_version(group, version);
        client.list_api_group_resources(&name).await
    }
}

fn preferred_first(group: &APIGroup) -> impl Iterator<Item = &str> {
    let preferred = group.preferred_version.as_ref();
    let others = group
        .versions
        .iter()
        .filter(move |version| Some(*version) != preferred);
    preferred
        .into_iter()
        .chain(others)
        .map(|version| version.version.as_str())
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn resource_of(group: &str, version: &str, found: APIResource) -> Resource {
    Resource {
        api: ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version(group, version),
            kind: found.kind,
            plural: found.name,
        },
        namespaced: found.namespaced,
        verbs: found.verbs,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn list(resources: &[(&str, bool)]) -> Value {
        let resources: Vec<Value> = resources
            .iter()
            .map(|(name, namespaced)| {
                json!({"name": name, "singularName": "", "kind": name, "namespaced": namespaced,
                       "verbs": ["list", "delete"]})
            })
            .collect();
        json!({"groupVersion": "", "resources": resources})
    }

    fn group(name: &str, versions: &[&str], preferred: &str) -> Value {
        let version = |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
        let versions: Vec<Value> = versions.iter().map(version).collect();
        json!({"name": name, "versions": versions, "preferredVersion": version(&preferred)})
    }

    /// A server of which the extension's group is down.
    fn server() -> Client {
        let answer = |request: http::Request<kube::client::Body>| {
            let answer = match request.uri().path() {
                "/api" => json!({"versions": ["v1"], "serverAddressByClientCIDRs": []}),
                "/api/v1" => list(&[("pods", true), ("pods/status", true), ("nodes", false)]),
                "/apis" => json!({"groups": [
                    group("down.example", &["v1"], "v1"),
                    group("apps", &["v1beta1", "v1"], "v1"),
                ]}),
                "/apis/apps/v1" => list(&[("deployments", true)]),
                "/apis/apps/v1beta1" => list(&[("deployments", true), ("olds", true)]),
                _ => json!({"kind": "Status", "status": "Failure", "code": 503,
                            "reason": "ServiceUnavailable", "message": "it is down"}),
            };
            let code = answer["code"].as_u64().unwrap_or(200) as u16;
            let body = http_body_util::Full::from(answer.to_string());
            let response = http::Response::builder().status(code).body(body);
            std::future::ready(response.map_err(|error| std::io::Error::other(error.to_string())))
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn a_group_that_cannot_be_read_is_named_and_hides_no_other() {
        let discovered = discover(&server()).await.unwrap();
        let expected = "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of \
                        server APIs: down.example/v1: it is down";
        assert_eq!(discovered.failure().unwrap(), expected);
        let found: Vec<_> = discovered
            .resources
            .iter()
            .map(|known| {
                (
                    known.api.api_version.as_str(),
                    known.name(),
                    known.namespaced,
                )
            })
            .collect();
        let expected = [
            ("v1", "pods".to_owned(), true),
            ("v1", "nodes".to_owned(), false),
            ("apps/v1", "deployments.apps".to_owned(), true),
            ("apps/v1beta1", "olds.apps".to_owned(), true),
        ];
        assert_eq!(found, expected);
    }
}
