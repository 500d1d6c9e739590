//! Selectors, claims and other facts of an object's metadata.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::{Selector, SelectorExt};

use super::owner::is_controlled_by;

/// The reference to the one owner that manages an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
}

/// The group of an API version: that of `apps/v1` is `apps`, and that of `v1` is empty.
pub fn group_of(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Whether an object is being deleted.
pub fn is_deleted(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// When an object was created; what has no time is the newest, as it is not written yet.
pub fn created_at(meta: &ObjectMeta) -> Timestamp {
    let created = meta.creation_timestamp.as_ref();
    created.map_or(Timestamp::MAX, |time| time.0)
}

/// A label selector that can be asked. One that cannot be read selects nothing.
pub struct Labels(Option<Selector>);

impl Labels {
    /// Reads a selector.
    pub fn new(selector: &LabelSelector) -> Labels {
        Labels(Selector::try_from(selector.clone()).ok())
    }

    /// Whether it selects everything, which no controller may.
    pub fn selects_all(&self) -> bool {
        self.0.as_ref().is_some_and(Selector::selects_all)
    }

    /// Whether it selects an object with these labels.
    pub fn select(&self, meta: &ObjectMeta) -> bool {
        const NONE: &BTreeMap<String, String> = &BTreeMap::new();
        let labels = meta.labels.as_ref().unwrap_or(NONE);
        self.0
            .as_ref()
            .is_some_and(|selector| selector.matches(labels))
    }
}

/// What a controller should do about an object that it may own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Keep,
    /// It matches and belongs to nobody: make it ours.
    Adopt,
    /// It was ours, and does not match any more: let it go.
    Release,
    /// It is none of our business.
    Ignore,
}

/// Decides on one object. An owner or an object that is being deleted changes no ownership, and what is in another
/// namespace is never ours.
pub fn claim<K: Resource<DynamicType = ()>>(
    owner: &K,
    labels: &Labels,
    object: &ObjectMeta,
) -> Claim {
    let matches = labels.select(object);
    let meta = owner.meta();
    match controller_of(object) {
        Some(_) if !is_controlled_by(object, owner) => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if is_deleted(meta) => Claim::Ignore,
        Some(_) => Claim::Release,
        None if object.namespace != meta.namespace => Claim::Ignore,
        None if matches && !is_deleted(meta) && !is_deleted(object) => Claim::Adopt,
        None => Claim::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::common::owner::controller_reference;

    fn meta(uid: &str, deleted: bool) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("default".into()),
            uid: Some(uid.into()),
            deletion_timestamp: deleted.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    fn owner(uid: &str, deleted: bool) -> ReplicaSet {
        ReplicaSet {
            metadata: meta(uid, deleted),
            ..ReplicaSet::default()
        }
    }

    fn object(label: &str, controller: Option<&str>, deleted: bool) -> ObjectMeta {
        let reference = |uid: &str| controller_reference(&owner(uid, false));
        ObjectMeta {
            labels: Some([("app".into(), label.into())].into()),
            owner_references: controller.map(|uid| vec![reference(uid)]),
            ..meta("pod", deleted)
        }
    }

    fn elsewhere(mut object: ObjectMeta) -> ObjectMeta {
        object.namespace = Some("other".into());
        object
    }

    #[test]
    fn who_owns_what_is_decided_by_controller_labels_and_deletion() {
        let labels = Labels::new(&LabelSelector {
            match_labels: Some([("app".into(), "web".into())].into()),
            ..LabelSelector::default()
        });
        let (us, us_deleted) = (owner("us", false), owner("us", true));
        let cases = [
            (
                "ours and matching",
                &us,
                object("web", Some("us"), false),
                Claim::Keep,
            ),
            (
                "ours, no longer matching",
                &us,
                object("db", Some("us"), false),
                Claim::Release,
            ),
            (
                "ours, no longer matching, and deleted",
                &us,
                object("db", Some("us"), true),
                Claim::Release,
            ),
            (
                "another's, though it matches",
                &us,
                object("web", Some("they"), false),
                Claim::Ignore,
            ),
            (
                "ours and matching, but deleted",
                &us,
                object("web", Some("us"), true),
                Claim::Keep,
            ),
            (
                "it says that it is ours, from another namespace",
                &us,
                elsewhere(object("web", Some("us"), false)),
                Claim::Ignore,
            ),
            (
                "the same, and not matching",
                &us,
                elsewhere(object("db", Some("us"), false)),
                Claim::Ignore,
            ),
            (
                "nobody's and matching, in another namespace",
                &us,
                elsewhere(object("web", None, false)),
                Claim::Ignore,
            ),
            (
                "nobody's and matching",
                &us,
                object("web", None, false),
                Claim::Adopt,
            ),
            (
                "nobody's and not matching",
                &us,
                object("db", None, false),
                Claim::Ignore,
            ),
            (
                "nobody's and matching, but deleted",
                &us,
                object("web", None, true),
                Claim::Ignore,
            ),
            (
                "we are deleted: ours stay ours",
                &us_deleted,
                object("web", Some("us"), false),
                Claim::Keep,
            ),
            (
                "we are deleted: nothing is released",
                &us_deleted,
                object("db", Some("us"), false),
                Claim::Ignore,
            ),
            (
                "we are deleted: nothing is adopted",
                &us_deleted,
                object("web", None, false),
                Claim::Ignore,
            ),
        ];
        for (name, owner, object, expected) in cases {
            assert_eq!(claim(owner, &labels, &object), expected, "{name}");
        }
    }
}
