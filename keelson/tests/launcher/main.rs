//! The launcher from outside: real processes, real signals, real ports.

mod store;
mod support;
mod whole;
