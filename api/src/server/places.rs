//! Which runtime serves a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

/// The runtimes that there are, and how many connections each serves.
pub(super) struct Places {
    all: Vec<Arc<Load>>,
}

struct Load {
    runtime: Handle,
    connections: AtomicUsize,
}

/// A connection's place at a runtime, until it is dropped.
pub(super) struct Place(Arc<Load>);

impl Places {
    pub(super) fn new(runtimes: &[Handle]) -> Places {
        let load = |runtime: &Handle| {
            Arc::new(Load {
                runtime: runtime.clone(),
                connections: AtomicUsize::new(0),
            })
        };
        Places {
            all: runtimes.iter().map(load).collect(),
        }
    }

    /// A place where the fewest connections are: those that stay are spread evenly, whatever comes and goes between them.
    pub(super) fn choose(&self) -> Option<Place> {
        let connections = |load: &&Arc<Load>| load.connections.load(Ordering::Relaxed);
        let emptiest = self.all.iter().min_by_key(connections)?;
        emptiest.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place(emptiest.clone()))
    }
}

impl Place {
    pub(super) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_that_stay_are_spread_evenly_whatever_comes_between_them() {
        let places = Places::new(&[Handle::current(), Handle::current()]);
        let mut staying = Vec::new();
        for _ in 0..10 {
            drop(places.choose());
            staying.extend(places.choose());
        }
        let loads = |places: &Places| -> Vec<usize> {
            let load = |load: &Arc<Load>| load.connections.load(Ordering::Relaxed);
            places.all.iter().map(load).collect()
        };
        assert_eq!(loads(&places), [5, 5]);
        drop(staying);
        assert_eq!(loads(&places), [0, 0]);
        assert!(Places::new(&[]).choose().is_none());
    }
}
