//! The peer network over TCP.
//!
//! A connection for each member and lane, dialled when it is first needed. Both ends say who they are before anything
//! else. A member that ends says which call it has read last. A frame is length (4 bytes, big-endian, of what follows),
//! CRC-32C of the rest (4), call id (8), message. Calls that wait for a connection fail as not sent if it cannot be made,
//! or if the other end ends and says that it has not read them; others already written when it breaks fail as lost.

mod client;
mod connect;
mod frame;
mod probe;
mod server;
mod socket;

pub use client::TcpTransport;
pub use probe::{ProbeError, probe};
pub use server::serve;
