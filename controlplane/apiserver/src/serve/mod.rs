//! The server: TLS, who calls, what he may do, and what he gets in which form.
//!
//! A request passes [`http`] (routing, limits, timeouts), [`auth`] (who, and may he), the verbs of [`crate::rest`],
//! and [`encode`] (the form that the client accepts). What is no resource is in [`discovery`], [`health`],
//! [`metrics`], [`openapi`] and [`reviews`].

mod absent;
pub mod auth;
mod body;
pub mod certificates;
mod discovery;
mod encode;
mod health;
mod http;
mod inflight;
mod kubeconfig;
mod listener;
mod metrics;
mod negotiate;
mod openapi;
mod reviews;
mod route;
pub mod tls;
mod warnings;
mod watch_stream;

pub use certificates::Pki;
pub use http::Server;
pub use inflight::Inflight;
pub use kubeconfig::write_kubeconfigs;
pub use listener::{Limits, serve};
pub use metrics::Metrics;

/// The largest request body.
pub const BODY_BYTES_MAX: usize = 3 << 20;

/// What is reported as the version, everywhere.
pub const VERSION: &str = "v1.37.0";
