//! What is known of one kind: the objects, indexed, as the watch last told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use kube::{Resource, ResourceExt};
use parking_lot::RwLock;

/// An object's namespace (empty if its kind has none) and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of a name in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// An object's own key.
    pub fn of<K: Resource>(object: &K) -> Key {
        Key::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// What happened to one object, as its [`Store`] saw it.
///
/// An object that was replaced by another of the same name, unseen, is told as a deletion and an addition.
#[derive(Debug)]
pub enum Change<'a, K> {
    /// It is there now.
    Applied {
        /// What it was before, if it was there.
        old: Option<&'a Arc<K>>,
        /// What it is.
        new: &'a Arc<K>,
    },
    /// It is gone.
    Deleted {
        /// The last that was seen of it.
        last: &'a Arc<K>,
    },
}

/// By which texts an object is to be found, besides its key.
type IndexBy<K> = fn(&K) -> Vec<String>;

struct Index<K> {
    by: IndexBy<K>,
    keys: HashMap<String, BTreeSet<Key>>,
}

struct Inner<K> {
    // Ordered, so that a namespace is a range, and so that reading is deterministic.
    objects: BTreeMap<Key, Arc<K>>,
    indexes: BTreeMap<&'static str, Index<K>>,
}

/// The objects of one kind. Cloning shares them.
pub struct Store<K> {
    inner: Arc<RwLock<Inner<K>>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Store {
            inner: self.inner.clone(),
        }
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        let inner = Inner {
            objects: BTreeMap::new(),
            indexes: BTreeMap::new(),
        };
        Store {
            inner: Arc::new(RwLock::new(inner)),
        }
    }
}

impl<K: Resource> Store<K> {
    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.inner.read().objects.get(key).cloned()
    }

    /// All objects, by namespace and name.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.inner.read().objects.values().cloned().collect()
    }

    /// All objects of one namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let from = Bound::Included(Key::new(namespace, ""));
        let objects = inner.objects.range((from, Bound::Unbounded));
        objects
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Whether any object is in a namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        let inner = self.inner.read();
        let from = Bound::Included(Key::new(namespace, ""));
        let first = inner.objects.range((from, Bound::Unbounded)).next();
        first.is_some_and(|(key, _)| key.namespace == namespace)
    }

    /// The objects that an index finds by a text. Panics if there is no such index: that is a mistake in the program.
    pub fn indexed(&self, index: &'static str, text: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let found = inner.indexes.get(index).expect("the index was declared");
        let keys = found.keys.get(text).into_iter().flatten();
        keys.filter_map(|key| inner.objects.get(key).cloned())
            .collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index. What is in the store already is indexed too.
    pub fn add_index(&self, name: &'static str, by: IndexBy<K>) {
        let mut inner = self.inner.write();
        let mut index = Index {
            by,
            keys: HashMap::new(),
        };
        for (key, object) in &inner.objects {
            index.add(key, object);
        }
        inner.indexes.insert(name, index);
    }

    /// Puts an object in, and tells what changed. An object that is older than what is known is put in all the same:
    /// the watch says what is so now.
    pub fn apply(&self, object: Arc<K>, mut tell: impl FnMut(Change<'_, K>)) {
        let key = Key::of(&*object);
        let old = self.inner.write().insert(key, object.clone());
        match &old {
            Some(old) if old.uid() != object.uid() => {
                tell(Change::Deleted { last: old });
                let (old, new) = (None, &object);
                tell(Change::Applied { old, new });
            }
            old => tell(Change::Applied {
                old: old.as_ref(),
                new: &object,
            }),
        }
    }

    /// Takes an object out, and tells what changed.
    pub fn remove(&self, object: &K, mut tell: impl FnMut(Change<'_, K>)) {
        let known = self.inner.write().take(&Key::of(object));
        if let Some(last) = known {
            tell(Change::Deleted { last: &last });
        }
    }

    /// Makes the store hold exactly these objects, and tells what changed. One at the same version as before has not.
    pub fn replace(&self, objects: Vec<Arc<K>>, mut tell: impl FnMut(Change<'_, K>)) {
        let listed: BTreeSet<Key> = objects.iter().map(|object| Key::of(&**object)).collect();
        let all = self.all();
        for gone in all.iter().filter(|old| !listed.contains(&Key::of(&***old))) {
            self.remove(gone, &mut tell);
        }
        for object in objects {
            let known = self.get(&Key::of(&*object));
            let same = |known: Arc<K>| {
                known.uid() == object.uid() && known.resource_version() == object.resource_version()
            };
            if !known.is_some_and(same) {
                self.apply(object, &mut tell);
            }
        }
    }
}

impl<K: Resource> Inner<K> {
    fn insert(&mut self, key: Key, object: Arc<K>) -> Option<Arc<K>> {
        let old = self.take(&key);
        for index in self.indexes.values_mut() {
            index.add(&key, &object);
        }
        self.objects.insert(key, object);
        old
    }

    fn take(&mut self, key: &Key) -> Option<Arc<K>> {
        let object = self.objects.remove(key)?;
        for index in self.indexes.values_mut() {
            index.remove(key, &object);
        }
        Some(object)
    }
}

impl<K> Index<K> {
    fn add(&mut self, key: &Key, object: &K) {
        for text in (self.by)(object) {
            self.keys.entry(text).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &K) {
        for text in (self.by)(object) {
            if let Some(keys) = self.keys.get_mut(&text) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;

    use super::*;

    fn map(namespace: &str, name: &str, uid: &str, version: &str) -> Arc<ConfigMap> {
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some(namespace.into());
        map.metadata.name = Some(name.into());
        map.metadata.uid = Some(uid.into());
        map.metadata.resource_version = Some(version.into());
        Arc::new(map)
    }

    fn by_uid(map: &ConfigMap) -> Vec<String> {
        map.metadata.uid.iter().cloned().collect()
    }

    fn words(told: &mut Vec<String>) -> impl FnMut(Change<'_, ConfigMap>) {
        |change| {
            told.push(match change {
                Change::Applied { old: None, new } => format!("+{}", new.uid().unwrap()),
                Change::Applied { new, .. } => format!("~{}", new.uid().unwrap()),
                Change::Deleted { last } => format!("-{}", last.uid().unwrap()),
            })
        }
    }

    #[test]
    fn a_namespace_is_read_without_its_neighbours() {
        let store = Store::default();
        for (namespace, name) in [("a", "z"), ("b", "x"), ("b", "y"), ("ba", "x")] {
            store.apply(map(namespace, name, "u", "1"), |_| ());
        }
        let names: Vec<_> = store
            .in_namespace("b")
            .iter()
            .map(|m| m.name_any())
            .collect();
        assert_eq!(names, ["x", "y"]);
        assert!(store.has_namespace("ba"));
        assert!(!store.has_namespace("aa") && !store.has_namespace("c"));
    }

    #[test]
    fn an_object_replaced_by_one_of_the_same_name_is_told_as_deleted_and_added() {
        let store = Store::default();
        let mut told = vec![];
        store.apply(map("a", "x", "1", "1"), words(&mut told));
        store.apply(map("a", "x", "2", "9"), words(&mut told));
        assert_eq!(told, ["+1", "-1", "+2"]);
    }

    #[test]
    fn listing_again_tells_only_what_is_different() {
        let store = Store::default();
        for uid in ["same", "changed", "gone"] {
            store.apply(map("a", uid, uid, "1"), |_| ());
        }
        let mut told = vec![];
        let listed = vec![
            map("a", "same", "same", "1"),
            map("a", "changed", "changed", "2"),
        ];
        store.replace(listed, words(&mut told));
        assert_eq!(told, ["-gone", "~changed"]);
    }

    proptest! {
        #[test]
        fn an_index_finds_exactly_what_a_scan_finds(steps in prop::collection::vec((0..4_u8, 0..3_u8, any::<bool>()), 0..40)) {
            let store = Store::default();
            store.add_index("uid", by_uid);
            for (name, uid, apply) in steps {
                let object = map("a", &name.to_string(), &uid.to_string(), "1");
                if apply { store.apply(object, |_| ()) } else { store.remove(&object, |_| ()) }
                for uid in 0..3_u8 {
                    let uid = uid.to_string();
                    let scanned: Vec<_> = store.all().into_iter().filter(|m| m.uid() == Some(uid.clone())).collect();
                    prop_assert_eq!(store.indexed("uid", &uid), scanned);
                }
            }
        }
    }
}
