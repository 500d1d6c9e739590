//! The list of workloads, in the order in which they run: those that need the same state stand together, so that one
//! loaded cluster serves them all.

use super::load::Manner;
use super::operation::Operation;
use super::{Mark, State, Work, Workload};

const VALUE_BYTES: usize = 256;
const LIST_VALUE_BYTES: usize = 1024;
const LISTED_KEYS: u64 = 10_000;
/// Keys that are overwritten, and keys that are read over and over.
const OVERWRITTEN: u64 = 100_000;
const HOT_KEYS: u64 = 10_000;
/// Keys a txn while they are laid down.
const IN_TXNS: Manner = Manner::Txns(50);

/// How large the workloads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// A tenth of the large numbers, to see that all works.
    pub quick: bool,
}

impl Scale {
    /// A large number, as it is at this scale.
    fn many(self, number: u64) -> u64 {
        if self.quick { number / 10 } else { number }
    }
}

/// All of them.
pub fn list(scale: Scale) -> Vec<Workload> {
    let mut all = Vec::new();
    for members in [1, 3] {
        all.extend(puts(members));
        all.extend(txns(members));
        all.extend(hot(members));
        all.extend(large(members, scale));
        all.extend(lists(members));
        all.extend(leases(members));
    }
    all
}

fn keys(keys: u64, bytes: usize) -> State {
    State::Keys {
        keys,
        bytes,
        manner: IN_TXNS,
    }
}

/// Clients of one kind, and nothing else.
fn closed(
    name: &str,
    about: String,
    members: usize,
    state: State,
    operation: Operation,
    clients: usize,
) -> Workload {
    let bytes = match state {
        State::Keys { bytes, .. } => bytes,
        State::Empty => VALUE_BYTES,
    };
    Workload {
        name: format!("{name}-{members}-{clients}"),
        about,
        members,
        state,
        work: Work::Closed {
            operation,
            clients,
            beside: None,
            bytes,
        },
        marks: Vec::new(),
        long: false,
    }
}

impl Workload {
    /// With marks: how many times etcd's rate, and what part of its servers' CPU.
    fn marked(mut self, rate: f64, cpu: Option<f64>) -> Workload {
        self.marks.push(Mark::new("rate", rate));
        self.marks
            .extend(cpu.map(|cpu| Mark::new("server_cpu_us", cpu)));
        self
    }
}

fn puts(members: usize) -> Vec<Workload> {
    let third = Some(1.0 / 3.0);
    let mut all = Vec::new();
    for (clients, one, three) in [
        (1, 1.3, 1.3),
        (10, 0.0, 0.0),
        (100, 2.0, 3.5),
        (1000, 2.0, 2.5),
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
        if mark == 0.0 {
            all.push(new);
            continue;
        }
        all.push(new.marked(mark, third));
        let about = format!("puts of {VALUE_BYTES} B over one of {OVERWRITTEN} keys at random");
        let operation = Operation::PutOver { keys: OVERWRITTEN };
        let state = keys(OVERWRITTEN, VALUE_BYTES);
        all.push(closed("put-over", about, members, state, operation, clients).marked(mark, third));
    }
    all
}

fn txns(members: usize) -> Vec<Workload> {
    let third = Some(1.0 / 3.0);
    let create =
        "txns that create a new key of 256 B if it is absent, as Kubernetes does".to_owned();
    let update = "txns that update a key of 256 B if it is as last seen, as Kubernetes does; 100 keys a client".to_owned();
    vec![
        closed(
            "txn-create",
            create,
            members,
            State::Empty,
            Operation::CreateIfAbsent,
            100,
        )
        .marked(2.0, third),
        closed(
            "txn-update",
            update,
            members,
            State::Empty,
            Operation::GuardedUpdate,
            100,
        )
        .marked(2.0, third),
    ]
}

fn hot(members: usize) -> Vec<Workload> {
    let state = keys(HOT_KEYS, VALUE_BYTES);
    let get = |serializable| Operation::Get {
        keys: HOT_KEYS,
        serializable,
    };
    let about = |kind: &str| format!("{kind} gets of one of {HOT_KEYS} keys of {VALUE_BYTES} B");
    let mut all = Vec::new();
    for clients in [1, 10, 100, 1000] {
        let workload = closed(
            "get-hot",
            about("linearizable"),
            members,
            state,
            get(false),
            clients,
        );
        // One number of clients has a mark; the others are there for the plot.
        all.push(if clients == 100 {
            workload.marked(1.8, Some(0.25))
        } else {
            workload
        });
    }
    all.push(
        closed(
            "get-hot-serializable",
            about("serializable"),
            members,
            state,
            get(true),
            100,
        )
        .marked(1.8, Some(0.25)),
    );
    let third = Some(1.0 / 3.0);
    let mixed = format!(
        "three linearizable gets to a put over the same {HOT_KEYS} keys of {VALUE_BYTES} B"
    );
    let operation = Operation::Mixed { keys: HOT_KEYS };
    all.push(closed("mixed", mixed, members, state, operation, 100).marked(2.0, third));
    let beside = "linearizable gets by 80 clients, while 20 put over the same 10000 keys; the rate is of the gets".to_owned();
    let mut workload =
        closed("get-beside-puts", beside, members, state, get(false), 80).marked(2.0, third);
    workload.work = Work::Closed {
        operation: get(false),
        clients: 80,
        beside: Some((Operation::PutOver { keys: HOT_KEYS }, 20)),
        bytes: VALUE_BYTES,
    };
    all.push(workload);
    all
}

fn large(members: usize, scale: Scale) -> Vec<Workload> {
    let count = scale.many(1_000_000);
    let state = keys(count, VALUE_BYTES);
    let get = |serializable| Operation::Get {
        keys: count,
        serializable,
    };
    let about = |what: &str| format!("{what} {count} keys of {VALUE_BYTES} B");
    let half = Some(0.5);
    let mut all = vec![
        closed(
            "get-all",
            about("linearizable gets, at random, of one of"),
            members,
            state,
            get(false),
            100,
        )
        .marked(1.5, half),
        closed(
            "get-all-serializable",
            about("serializable gets, at random, of one of"),
            members,
            state,
            get(true),
            100,
        )
        .marked(1.5, half),
    ];
    // What a page or a count costs does not depend on how many members there are.
    if members == 1 {
        let (first, next) = (
            Operation::FirstPage { keys: count },
            Operation::NextPage { keys: count },
        );
        all.extend([
            closed(
                "page-first",
                about("the first page of 500 of"),
                1,
                state,
                first,
                4,
            )
            .marked(200.0, None),
            closed(
                "page-next",
                about("a page of 500 in the middle of"),
                1,
                state,
                next,
                4,
            )
            .marked(200.0, None),
            closed(
                "count",
                about("the count of"),
                1,
                state,
                Operation::Count { keys: count },
                4,
            )
            .marked(1000.0, None),
        ]);
    }
    all
}

fn lists(members: usize) -> Vec<Workload> {
    let state = keys(LISTED_KEYS, LIST_VALUE_BYTES);
    let about = |how: &str| format!("lists of {LISTED_KEYS} keys of {LIST_VALUE_BYTES} B, {how}");
    let list = |streamed| Operation::List {
        keys: LISTED_KEYS,
        streamed,
    };
    let quarter = Some(0.25);
    let streamed = about("streamed where the system can (etcd 3.5 cannot, and answers at once)");
    vec![
        closed(
            "list",
            about("in one reply"),
            members,
            state,
            list(false),
            4,
        )
        .marked(3.0, quarter),
        closed("list-streamed", streamed, members, state, list(true), 4).marked(3.0, quarter),
    ]
}

fn leases(members: usize) -> Vec<Workload> {
    let about = "a lease is granted, then revoked".to_owned();
    vec![
        closed(
            "lease-grant-revoke",
            about,
            members,
            State::Empty,
            Operation::GrantRevoke,
            100,
        )
        .marked(10.0, Some(0.25)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_tell_nothing_twice() {
        for quick in [false, true] {
            let all = list(Scale { quick });
            let names: BTreeSet<&str> = all.iter().map(|workload| workload.name.as_str()).collect();
            assert_eq!(names.len(), all.len());
        }
    }

    #[test]
    fn quick_runs_have_the_same_workloads_at_a_tenth_of_the_size() {
        let names = |quick| -> Vec<String> {
            list(Scale { quick })
                .into_iter()
                .map(|workload| workload.name)
                .collect()
        };
        assert_eq!(names(false), names(true));
    }
}
