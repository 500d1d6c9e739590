//! The core group.

pub mod addresses;
pub mod config_map;
pub mod endpoints;
pub mod event;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod pod_needs;
mod pod_status;
pub mod secret;
pub mod service;
pub mod service_account;
