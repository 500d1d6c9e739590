//! Which resources the API server serves.

use kube::Client;
use kube::api::ApiResource;
use kube::discovery::{Discovery, Scope};

/// One resource, in the version that its group prefers.
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

/// All resources. It fails if any group cannot be read: who does not know what there is must not take it for gone.
pub async fn discover(client: &Client) -> kube::Result<Vec<Resource>> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut resources = Vec::new();
    for group in discovery.groups() {
        for (api, capabilities) in group.recommended_resources() {
            resources.push(Resource {
                api,
                namespaced: capabilities.scope == Scope::Namespaced,
                verbs: capabilities.operations,
            });
        }
    }
    Ok(resources)
}
