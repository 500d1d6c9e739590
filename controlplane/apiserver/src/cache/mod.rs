//! The watch cache: what is in the store now and what happened lately, in memory, for lists and watches.
//!
//! **One watch feeds all.** Kubernetes watches the store once a resource; here one watch on `/registry/` feeds the
//! cache of each resource in turn. So all caches are at one revision, every write of an object moves all of them on
//! without asking for progress, and lists of two resources can be compared by their revisions. It costs the bytes of
//! what others keep below `/registry/`, which is nothing in a store of our own.
//!
//! **A watcher owns no queue.** It has a place in its cache's ring of recent events and is woken when something
//! happens that it may want: by namespace, by object, or by the one field that a resource is indexed by (pods: their
//! node). What it has not read costs nothing beside the ring, however many watchers there are and however slow; one
//! that the ring has overtaken is told that its resource version is too old, and lists again. An event is encoded
//! once for all watchers of one encoding.
//!
//! **Freshness is proved**: a consistent list asks the store for its revision (all that ask at one time share one
//! read, which begins after the last of them came) and waits until the feed has got there.

mod caches;
mod entry;
mod event;
mod feed;
mod fresh;
mod resource_cache;
mod watcher;

pub use caches::Caches;
pub use entry::{Entry, with_resource_version};
pub use event::{Event, Told, WatchKind};
pub use resource_cache::{Cache, Scope, Snapshot, Within};
pub use watcher::{Next, Start, Watcher};
