//! The scheduler: it gives each pod that has no node the best one that fits.
//!
//! **Guarantees**: the decision is a pure function of a snapshot of nodes and pods; a pod is bound once; one that fits
//! nowhere is told why, and is tried again when something changed that could make it fit.
//!
//! **Leaves to others**: running the pod (the node).

mod affinity;
mod cluster;
mod decide;
mod filter;
mod pod;
mod ports;
mod quantity;
mod queue;
mod resources;
mod scheduler;
mod score;
mod spread;
#[cfg(test)]
mod testing;
