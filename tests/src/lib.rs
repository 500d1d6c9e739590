//! What the integration tests stand on: clusters of real server processes on loopback, a raw client that sees
//! every field of the wire, loads that remember what was acknowledged, and a generator of commands that are sent
//! to two servers side by side; the control plane program by program, and a judge of all that its store has seen.
//!
//! The server under test is `kvd`, or a real etcd when `KEELSON_SUT` says so: that is how the tests themselves
//! are tested. Nothing here links the server; whatever is asserted, is asserted over its public interface.
//!
//! Setting up is not what is tested, so a harness that cannot do its work panics with a sentence that says why.
//! Replies from a server are returned to the test, errors included.

pub mod callgrind;
pub mod child;
pub mod client;
pub mod cluster;
pub mod controlplane;
pub mod differential;
pub mod files;
pub mod http;
pub mod load;
pub mod member;
pub mod observer;
pub mod peers;
pub mod ports;
pub mod program;
pub mod small_disk;
pub mod tool;
pub mod turn;
pub mod wait;
pub mod watch;
pub mod whole;
