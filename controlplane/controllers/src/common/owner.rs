//! Who manages an object, so that nobody can be given children from another namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::meta::{controller_of, group_of};

/// Who manages objects: of this namespace, group, kind, name and UID.
///
/// Whoever may write in one namespace may write any UID into a reference there. A reference names what is in its own
/// namespace only, and so does this: there is no way to make one of a reference without the object that holds it. So
/// what is kept by owner (indexes, expectations, writes) is kept apart by namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(String);

impl Owner {
    /// An owner, as those whom it manages name it.
    pub fn of<K: Resource<DynamicType = ()>>(owner: &K) -> Owner {
        let (group, kind) = (K::group(&()), K::kind(&()));
        let uid = owner.meta().uid.as_deref().unwrap_or_default();
        Owner::new(owner.meta(), &group, &kind, &owner.name_any(), uid)
    }

    /// The owner that manages an object.
    pub fn named_by(object: &ObjectMeta) -> Option<Owner> {
        let owner = controller_of(object)?;
        let group = group_of(&owner.api_version);
        Some(Owner::new(
            object,
            group,
            &owner.kind,
            &owner.name,
            &owner.uid,
        ))
    }

    /// The namespace is the first part, and has no slash: nobody can write a reference that is read as another
    /// namespace's.
    fn new(holder: &ObjectMeta, group: &str, kind: &str, name: &str, uid: &str) -> Owner {
        let namespace = holder.namespace.as_deref().unwrap_or_default();
        Owner(format!("{namespace}/{group}/{kind}/{name}/{uid}"))
    }

    /// As a text, which no other owner has.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
impl Owner {
    /// An owner of this name.
    pub fn called(name: &str) -> Owner {
        Owner(format!("default/apps/ReplicaSet/{name}/{name}-uid"))
    }
}

/// Whether `owner` manages an object.
pub fn is_controlled_by<K: Resource<DynamicType = ()>>(object: &ObjectMeta, owner: &K) -> bool {
    owner.meta().uid.is_some() && Owner::named_by(object).as_ref() == Some(&Owner::of(owner))
}

/// Whether a reference names something of this kind.
pub fn is_a<K: Resource<DynamicType = ()>>(reference: &OwnerReference) -> bool {
    reference.kind == K::kind(&()) && group_of(&reference.api_version) == K::group(&())
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;

    use super::*;

    #[test]
    fn a_reference_names_who_is_of_its_namespace_group_kind_name_and_uid_and_nobody_else() {
        let mut set = ReplicaSet::default();
        set.metadata.namespace = Some("default".into());
        set.metadata.name = Some("web".into());
        set.metadata.uid = Some("u".into());
        let right = controller_reference(&set);
        let held = |namespace: &str, reference: OwnerReference| ObjectMeta {
            namespace: Some(namespace.into()),
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        };
        let with = |change: fn(&mut OwnerReference)| {
            let mut reference = right.clone();
            change(&mut reference);
            held("default", reference)
        };
        let cases = [
            ("as it is", held("default", right.clone()), true),
            (
                "an older version",
                with(|r| r.api_version = "apps/v1beta1".into()),
                true,
            ),
            ("another namespace", held("other", right.clone()), false),
            (
                "another group",
                with(|r| r.api_version = "example.com/v1".into()),
                false,
            ),
            (
                "another kind",
                with(|r| r.kind = "Deployment".into()),
                false,
            ),
            ("another name", with(|r| r.name = "db".into()), false),
            ("another UID", with(|r| r.uid = "v".into()), false),
            ("not as who manages", with(|r| r.controller = None), false),
        ];
        for (name, object, expected) in cases {
            assert_eq!(is_controlled_by(&object, &set), expected, "{name}");
            let found = Owner::named_by(&object) == Some(Owner::of(&set));
            assert_eq!(found, expected, "{name}");
        }
    }
}
