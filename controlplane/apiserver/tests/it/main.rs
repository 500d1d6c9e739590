//! The API server in this process, over a real kvd and a real etcd, driven by plain HTTPS and by the real kubectl.

mod behind;
mod clients;
mod faults;
mod kubectl;
mod objects;
mod pages;
mod rights;
mod store;
mod support;
mod watches;
