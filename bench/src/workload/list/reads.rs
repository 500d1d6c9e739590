//! Gets, pages, counts, lists, and reads while writes run.

use super::{HOT_KEYS, LIST_VALUE_BYTES, LISTED_KEYS, Scale, VALUE_BYTES, closed, keys};
use crate::workload::operation::Operation;
use crate::workload::{Mark, Work, Workload};

/// What four streamed lists may add to the memory of all members: as much as the values of one of each, in MiB.
const RISE_MIB_MAX: f64 = 40.0;
/// Puts a second beside gets: what an etcd of three members on two cores bears, so that both have the same to do.
const BESIDE: f64 = 2000.0;

pub fn hot(members: usize) -> Vec<Workload> {
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
            workload.long()
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
    let beside = format!(
        "linearizable gets, while {BESIDE} puts a second go on over the same {HOT_KEYS} keys; the rate is of the gets"
    );
    let mut workload =
        closed("get-beside-puts", beside, members, state, get(false), 100).marked(2.0, third);
    workload.work = Work::Closed {
        operation: get(false),
        clients: 100,
        beside: Some(BESIDE),
        bytes: VALUE_BYTES,
    };
    all.push(workload);
    all
}

pub fn large(members: usize, scale: Scale) -> Vec<Workload> {
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

pub fn lists(members: usize) -> Vec<Workload> {
    let state = keys(LISTED_KEYS, LIST_VALUE_BYTES);
    let about = |how: &str| format!("lists of {LISTED_KEYS} keys of {LIST_VALUE_BYTES} B, {how}");
    let list = |streamed| Operation::List {
        keys: LISTED_KEYS,
        streamed,
    };
    let quarter = Some(0.25);
    let streamed = about("streamed where the system can (etcd 3.5 cannot, and answers at once)");
    // First, so that its peak of memory has nothing of the others' in it.
    vec![
        closed("list-streamed", streamed, members, state, list(true), 4)
            .marked(3.0, quarter)
            .with(Mark::value("rise_mib", RISE_MIB_MAX)),
        closed(
            "list",
            about("in one reply"),
            members,
            state,
            list(false),
            4,
        )
        .marked(3.0, quarter),
    ]
}
