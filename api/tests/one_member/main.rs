//! The API of a real member, alone in its cluster, over real sockets: what leaves on the wire, and how it is let go.

mod frames;
mod grpc;
mod hostile;
mod http;
mod member;
mod old_clients;
mod shutdown;
mod snapshot;
