//! The API server: Kubernetes' API over any etcd.
//!
//! **Guarantees**: an object that was acknowledged is in the store; a list is of one revision; a watch misses nothing;
//! whatever is refused is refused with the Status that kubectl's users know, and stores nothing.
//!
//! **Leaves to others**: what the types look like (`keelson-schema`), and everything that reconciles.
