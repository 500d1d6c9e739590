//! Which kinds are served, and who waits for one that is not: pure.

use std::collections::{BTreeSet, HashMap};

use crate::common::meta::group_of;
use crate::discovery::Resource;

/// The kinds that are known, by group and kind.
#[derive(Default)]
pub struct Kinds {
    served: HashMap<(String, String), Resource>,
    /// Objects, by UID, that have an owner of a kind that is not served. It may come: that of an extension, say.
    waiting: HashMap<(String, String), BTreeSet<String>>,
}

impl Kinds {
    /// How to reach a kind, if it is served.
    pub fn get(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.served.get(&key(api_version, kind))
    }

    /// The same; if it is not, the object of this UID waits until it is.
    pub fn get_or_wait(&mut self, api_version: &str, kind: &str, uid: &str) -> Option<Resource> {
        let key = key(api_version, kind);
        let served = self.served.get(&key).cloned();
        if served.is_none() {
            self.waiting.entry(key).or_default().insert(uid.to_owned());
        }
        served
    }

    /// A kind is served. Returns the UIDs of those who have waited for it.
    pub fn serve(&mut self, resource: Resource) -> BTreeSet<String> {
        let key = (resource.api.group.clone(), resource.api.kind.clone());
        let waited = self.waiting.remove(&key).unwrap_or_default();
        self.served.insert(key, resource);
        waited
    }

    /// An object is gone.
    pub fn forget(&mut self, uid: &str) {
        self.waiting.retain(|_, waiting| {
            waiting.remove(uid);
            !waiting.is_empty()
        });
    }
}

/// Of whatever version: an owner may be named by an older one.
fn key(api_version: &str, kind: &str) -> (String, String) {
    (group_of(api_version).to_owned(), kind.to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::api::ApiResource;

    use super::*;

    fn deployments() -> Resource {
        Resource {
            api: ApiResource::erase::<Deployment>(&()),
            namespaced: true,
            verbs: Vec::new(),
        }
    }

    #[test]
    fn whoever_has_an_owner_of_an_unknown_kind_is_told_once_when_it_is_known() {
        let mut kinds = Kinds::default();
        assert!(
            kinds
                .get_or_wait("apps/v1beta1", "Deployment", "a")
                .is_none()
        );
        assert!(kinds.get_or_wait("apps/v1", "Deployment", "b").is_none());
        assert!(kinds.get_or_wait("apps/v1", "Deployment", "gone").is_none());
        assert!(
            kinds
                .get_or_wait("example.com/v1", "Deployment", "c")
                .is_none()
        );
        kinds.forget("gone");
        assert_eq!(kinds.serve(deployments()), ["a".into(), "b".into()].into());
        assert!(kinds.get_or_wait("apps/v1", "Deployment", "a").is_some());
        assert_eq!(kinds.serve(deployments()), BTreeSet::new());
    }
}
