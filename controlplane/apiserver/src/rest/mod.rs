//! The verbs, for every resource of the table alike.
//!
//! A request goes through these steps: whom it is about ([`Request`]), decoding ([`codec`]), admission
//! ([`crate::admission`]), the kind's rules ([`crate::resources::Rules`]), validation, and one compare-and-write
//! transaction. What fails in between stores nothing.

mod api;
pub mod codec;
mod collection;
mod create;
mod delete;
mod list;
mod managed;
mod options;
mod patch;
mod pod_actions;
mod reply;
mod request;
mod scale;
mod update;
mod user;

pub use api::{Api, ApiOptions, shown};
pub use codec::FieldValidation;
pub(crate) use create::new_uid;
pub use list::ListReply;
pub use options::{DeleteOptions, DryRun, WriteOptions};
pub use reply::{Outcome, Reply, WatchReply};
pub use request::{Query, Request, decode as decode_segment};
pub use user::{Author, NODE_AGENTS, Nodes, User};
