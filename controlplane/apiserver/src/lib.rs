//! The API server: Kubernetes' API over any etcd.
//!
//! **Guarantees**: an object that was acknowledged is in the store; a list is of one revision; a watch misses nothing;
//! whatever is refused is refused with the Status that kubectl's users know, and stores nothing.
//!
//! **Leaves to others**: what the types look like (`keelson-schema`), and everything that reconciles.
//!
//! A write: [`serve`] (who, what, in which form) → [`rest`] (decode, default, [`admission`], [`validate`]) →
//! [`storage`] (compare and write). A read: [`serve`] → [`rest`] → [`cache`], which one watch on the store feeds. What
//! is served, and what differs from kind to kind, is in the table of [`resources`].

mod admission;
mod args;
mod bootstrap;
pub mod cache;
mod clock;
pub mod resources;
pub mod rest;
mod run;
mod selector;
pub mod serve;
pub mod status;
pub mod storage;
mod validate;
mod value;

pub use args::Args;
pub use run::run;
