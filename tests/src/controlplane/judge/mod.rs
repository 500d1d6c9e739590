//! What no control plane may do, judged over a whole history.
//!
//! The controllers learn of everything late, and nothing fences what one of them writes against what another wrote about
//! another object. So a rule holds a deed against what its doer can have known, and the history tells what that is:
//!
//! - **Never too many.** A size is *in force* from when it was asked for until a newer one is, which it is as soon as the
//!   status says that a newer generation was seen, everything below has followed (no replica set has more pods than its
//!   size, nor a size that it has not seen), and the sum fits. There are never more active pods than the largest size in
//!   force allows, surge included: a deployment's, and a replica set's own. As in Kubernetes a pod that is terminating or
//!   has ended is not active.
//! - **Never too few.** Whoever takes away an available pod leaves as many as the smallest size in force demands: of the
//!   deployment, and of its replica set. Only a pod that was scaled down counts as taken away so. One that a fault took (its
//!   node fell silent, so that it is not ready any more, or was evicted) and that nothing has replaced counts as if it were
//!   there, for whoever cannot have known: a replica set is shrunk after what the deployment controller had seen when it
//!   sized that set before, so that pods which were lost since then, or were not in the statuses yet, may be missing
//!   besides. Nobody else has that excuse.
//! - **Nothing twice.** A pod is bound once, has one address, which no other pod has, and runs each container once; a
//!   replica set of one template and one revision is made once; an event tells one deed, once.
//! - **Nothing leaks.** In the end every pod and replica set has an owner that is there, none is terminating, and all is
//!   as it was asked for.
//! - **Endpoints** hold the addresses of pods that were ready there, and in the end of all that are.

mod ending;
mod endpoints;
mod force;
mod once;
mod sizes;
mod unscaled;
mod world;

use super::history::History;

pub use ending::Asked;

/// Something that may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When it came to be: the store's revision.
    pub revision: i64,
    /// Of which kind it is.
    pub rule: Rule,
    /// What happened.
    pub what: String,
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// More pods than the sizes in force allow.
    TooMany,
    /// An available pod was taken away that was needed.
    TooFew,
    /// Something was done twice, or undone.
    Twice,
    /// Something is left that belongs to nobody, or never ends.
    Leak,
    /// A service leads where no ready pod is.
    Endpoints,
    /// In the end it is not what was asked for.
    Ending,
}

/// How much there was to judge: a history in which little happened proves little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pods that were created.
    pub pods: usize,
    /// Available pods that were scaled down.
    pub scaled_down: usize,
    /// Pods that a fault took.
    pub taken: usize,
    /// Replica sets that were created.
    pub replica_sets: usize,
    /// Changes of endpoint slices.
    pub slices: usize,
}

/// Judges a history from its first revision to its last, whatever state it ends in.
pub fn judge(history: &History) -> (Vec<Violation>, Tally) {
    let mut world = world::World::default();
    let mut sizes = sizes::Sizes::default();
    let mut once = once::Once::default();
    let mut endpoints = endpoints::Endpoints::default();
    let mut found = Vec::new();
    for revision in &history.revisions {
        let steps = world.take(revision);
        let mut say = |rule, what| {
            found.push(Violation {
                revision: revision.number,
                rule,
                what,
            });
        };
        for step in &steps {
            sizes.see(&world, step, revision.number, &mut say);
            once.see(&world, step, &mut say);
            endpoints.see(step, &mut say);
        }
        sizes.after(&world, revision.number);
    }
    once.events(&mut |what| {
        found.push(Violation {
            revision: history.revisions.last().map_or(0, |last| last.number),
            rule: Rule::Twice,
            what,
        });
    });
    let tally = Tally {
        replica_sets: once.replica_sets_made(),
        slices: endpoints.changes(),
        ..sizes.tally()
    };
    (found, tally)
}

/// What of the last state of a history is not as it was asked for.
pub fn ending(history: &History, asked: &[Asked]) -> Vec<Violation> {
    let mut world = world::World::default();
    for revision in &history.revisions {
        world.take(revision);
    }
    let last = history.revisions.last().map_or(0, |last| last.number);
    ending::of(&world, asked)
        .into_iter()
        .map(|(rule, what)| Violation {
            revision: last,
            rule,
            what,
        })
        .collect()
}
