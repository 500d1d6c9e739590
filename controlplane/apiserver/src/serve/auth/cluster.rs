//! What the rights of nodes depend on, as the caches have it.

use super::{Bound, Cluster, ObjectName};
use crate::cache::{Caches, Scope, Within};
use crate::resources::{self, Need};

const NODE: &str = "spec.nodeName";

impl Cluster for Caches {
    fn bound(&self, pod: ObjectName<'_>) -> Bound {
        let pods = resources::pods();
        let key = pods.cache_key(pod.namespace(), pod.name());
        match self.of(pods).get(&key) {
            Some(found) => match found.field(pods, NODE) {
                "" => Bound::Nowhere,
                node => Bound::To(node.to_owned()),
            },
            None => Bound::Unknown,
        }
    }

    fn needs(&self, node: &str, need: Need, object: ObjectName<'_>) -> bool {
        let pods = resources::pods();
        let around = Scope {
            within: Within::Namespace(object.namespace().to_owned()),
            ..Scope::default()
        };
        let all = self.of(pods).snapshot();
        all.select(&around, None)
            .filter(|pod| pod.field(pods, NODE) == node)
            .map(|pod| pod.object())
            // What a node shows of its own is no proof that it was given anything.
            .any(|pod| {
                !resources::is_mirror(&pod)
                    && resources::named_by(&pod, need).contains(&object.name())
            })
    }
}
