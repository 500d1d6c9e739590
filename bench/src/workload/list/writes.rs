//! Puts, txns, and puts that arrive at a rate.

use super::{OVERWRITTEN, VALUE_BYTES, closed, keys, other};
use crate::workload::operation::{OWN_KEYS, Operation};
use crate::workload::{Mark, State, Work, Workload};

/// Of txns.
const CLIENTS: usize = 100;

pub fn puts(members: usize) -> Vec<Workload> {
    let third = Some(1.0 / 3.0);
    let mut all = Vec::new();
    for (clients, one, three) in [
        (1, Some(1.3), Some(1.3)),
        (10, None, None),
        (100, Some(2.0), Some(3.5)),
        (1000, Some(2.0), Some(2.5)),
    ] {
        let mark = if members == 1 { one } else { three };
        let about = format!("puts of {VALUE_BYTES} B to new keys");
        let new = closed(
            "put",
            about,
            members,
            State::Empty,
            Operation::PutNew,
            clients,
        );
        // Ten clients are there for the plot.
        let Some(mark) = mark else {
            all.push(new.long());
            continue;
        };
        let about = format!("puts of {VALUE_BYTES} B over one of {OVERWRITTEN} keys at random");
        let operation = Operation::PutOver { keys: OVERWRITTEN };
        let state = keys(OVERWRITTEN, VALUE_BYTES);
        let over = closed("put-over", about, members, state, operation, clients);
        all.extend([new, over].map(|workload| {
            workload
                .marked(mark, third)
                .compared(&["peak_mib", "written_bytes"])
        }));
    }
    all
}

pub fn txns(members: usize) -> Vec<Workload> {
    let third = Some(1.0 / 3.0);
    let create =
        "txns that create a new key of 256 B if it is absent, as Kubernetes does".to_owned();
    let update = format!(
        "txns that update a key of {VALUE_BYTES} B if it is as last seen, as Kubernetes does; {OWN_KEYS} keys a client"
    );
    let updated = keys(CLIENTS as u64 * OWN_KEYS, VALUE_BYTES);
    vec![
        closed(
            "txn-create",
            create,
            members,
            State::Empty,
            Operation::CreateIfAbsent,
            CLIENTS,
        )
        .marked(2.0, third),
        closed(
            "txn-update",
            update,
            members,
            updated,
            Operation::GuardedUpdate,
            CLIENTS,
        )
        .marked(2.0, third),
    ]
}

pub fn offered(members: usize) -> Workload {
    let about = format!(
        "puts over one of {OVERWRITTEN} keys, arriving at parts of etcd's top rate; figures are at that rate"
    );
    let work = Work::Offered {
        keys: OVERWRITTEN,
        bytes: VALUE_BYTES,
    };
    let marks = vec![Mark::ratio("p99_ms", 1.0 / 3.0)];
    let mut workload = other(
        format!("put-offered-{members}"),
        about,
        members,
        work,
        marks,
    );
    workload.state = keys(OVERWRITTEN, VALUE_BYTES);
    workload
}
