//! Owners, selectors and other facts of an object's metadata.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::core::{Selector, SelectorExt};
use kube::{Resource, ResourceExt};

/// The reference to the one owner that manages an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
}

/// Whether `owner` manages an object.
pub fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    owner.uid.is_some() && controller_of(meta).map(|owner| &owner.uid) == owner.uid.as_ref()
}

/// A reference that makes `owner` the one who manages.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
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

/// Decides on one object. An owner or an object that is being deleted changes no ownership.
pub fn claim(owner: &ObjectMeta, labels: &Labels, object: &ObjectMeta) -> Claim {
    let matches = labels.select(object);
    match controller_of(object) {
        Some(controller) if Some(&controller.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if is_deleted(owner) => Claim::Ignore,
        Some(_) => Claim::Release,
        None if matches && !is_deleted(owner) && !is_deleted(object) => Claim::Adopt,
        None => Claim::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn owner(uid: &str, deleted: bool) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            deletion_timestamp: deleted.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    fn object(label: &str, controller: Option<&str>, deleted: bool) -> ObjectMeta {
        let reference = |uid: &str| OwnerReference {
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        ObjectMeta {
            labels: Some([("app".into(), label.into())].into()),
            owner_references: controller.map(|uid| vec![reference(uid)]),
            ..owner("pod", deleted)
        }
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
