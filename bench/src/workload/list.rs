//! The list of workloads, in the order in which they run: those that need the same state stand together, so that one
//! loaded cluster serves them all.

use std::time::Duration;

use super::controlplane::Aspect;
use super::disturbed::Disturbance;
use super::expiry::Expiry;
use super::leader::Loss;
use super::load::Manner;
use super::operation::Operation;
use super::reconnect::Reconnect;
use super::watch::Watchers;
use super::{Mark, State, Work, Workload};
use crate::system::Timing;

const VALUE_BYTES: usize = 256;
const LIST_VALUE_BYTES: usize = 1024;
const LISTED_KEYS: u64 = 10_000;
/// Keys that are overwritten, and keys that are read over and over.
const OVERWRITTEN: u64 = 100_000;
const HOT_KEYS: u64 = 10_000;
/// Keys a txn while they are laid down.
const IN_TXNS: Manner = Manner::Txns(50);

/// Pairs of a workload whose every run takes minutes.
const FEW_PAIRS: usize = 2;

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
        all.extend(leases(members, scale));
        all.push(offered(members));
        all.extend(watches(members));
    }
    all.extend(reconnects(scale));
    let slow = [memory(scale), disturbances(scale), leader(scale)];
    all.extend(slow.into_iter().flatten().map(Workload::in_few_pairs));
    all.extend(control_plane(scale));
    all
}

/// One that is not clients of one kind.
fn other(name: String, about: String, members: usize, work: Work, marks: Vec<Mark>) -> Workload {
    Workload {
        name,
        about,
        members,
        timing: Timing::default(),
        state: State::Empty,
        work,
        marks,
        pairs_max: usize::MAX,
        long: false,
    }
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
        timing: Timing::default(),
        state,
        work: Work::Closed {
            operation,
            clients,
            beside: None,
            bytes,
        },
        marks: Vec::new(),
        pairs_max: usize::MAX,
        long: false,
    }
}

impl Workload {
    /// With marks: how many times etcd's rate, and what part of its servers' CPU.
    fn marked(mut self, rate: f64, cpu: Option<f64>) -> Workload {
        self.marks.push(Mark::ratio("rate", rate));
        self.marks
            .extend(cpu.map(|cpu| Mark::ratio("server_cpu_us", cpu)));
        self
    }

    fn in_few_pairs(mut self) -> Workload {
        self.pairs_max = FEW_PAIRS;
        self
    }

    fn long(mut self) -> Workload {
        self.long = true;
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
            all.push(new.long());
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

fn leases(members: usize, scale: Scale) -> Vec<Workload> {
    let about = "a lease is granted, then revoked".to_owned();
    let leases = scale.many(100_000);
    let kept = format!("keep-alives of one of {leases} leases at random, 100 streams");
    let expiry = Expiry {
        leases,
        loading_max: Duration::from_secs(if scale.quick { 20 } else { 90 }),
    };
    let gone =
        format!("{leases} leases with a key each run out at once, while 500 puts a second go on");
    let gone_max = if members == 1 { 2.0 } else { 5.0 };
    let quarter = Some(0.25);
    vec![
        closed(
            "lease-grant-revoke",
            about,
            members,
            State::Empty,
            Operation::GrantRevoke,
            100,
        )
        .marked(10.0, quarter),
        other(
            format!("lease-keep-alive-{members}"),
            kept,
            members,
            Work::KeepAlive { leases },
            Vec::new(),
        )
        .marked(3.0, quarter),
        other(
            format!("lease-expiry-{members}"),
            gone,
            members,
            Work::Expiry(expiry),
            vec![
                Mark::value("gone_s", gone_max),
                Mark::value("p99_growth", 2.0),
            ],
        )
        .in_few_pairs(),
    ]
}

fn offered(members: usize) -> Workload {
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

fn watches(members: usize) -> Vec<Workload> {
    let marks = || {
        vec![
            Mark::ratio("rate", 2.5),
            Mark::ratio("p99_ms", 0.5),
            Mark::ratio("server_cpu_us", 0.1),
        ]
    };
    let prefix = Watchers {
        watchers: 1000,
        a_stream: 1,
        each_one_key: false,
        keys: 1000,
        owed_max: 16_000,
    };
    let about =
        "1000 watchers of one prefix on 10 connections x 100 streams; the rate is of events"
            .to_owned();
    let one_key = Watchers {
        watchers: 10_000,
        a_stream: 100,
        each_one_key: true,
        keys: 10_000,
        owed_max: 1000,
    };
    let each = "10000 watchers of a key each on 10 connections x 10 streams; the rate is of events"
        .to_owned();
    vec![
        other(
            format!("watch-prefix-{members}"),
            about,
            members,
            Work::Watch(prefix),
            marks(),
        ),
        other(
            format!("watch-keys-{members}"),
            each,
            members,
            Work::Watch(one_key),
            marks(),
        ),
    ]
}

fn reconnects(scale: Scale) -> Vec<Workload> {
    let events = scale.many(100_000);
    let marks = || vec![Mark::ratio("rate", 5.0), Mark::ratio("server_cpu_us", 0.1)];
    let own = Reconnect {
        watchers: 1000,
        events,
        each_all: false,
    };
    let about = format!(
        "1000 watchers come back after {events} events, each wants a thousandth; the rate is of events"
    );
    let all = Reconnect {
        watchers: 100,
        events,
        each_all: true,
    };
    let whole = format!(
        "100 watchers come back after {events} events, each wants all; the rate is of events"
    );
    vec![
        other(
            "watch-reconnect-1".to_owned(),
            about,
            1,
            Work::Reconnect(own),
            marks(),
        ),
        other(
            "watch-reconnect-all-1".to_owned(),
            whole,
            1,
            Work::Reconnect(all),
            marks(),
        )
        .long(),
    ]
}

fn memory(scale: Scale) -> Vec<Workload> {
    let sizes = [
        ("small", 100_000),
        ("medium", 300_000),
        ("large", 1_000_000),
        ("huge", 10_000_000),
    ];
    let workload = |(size, keys): (&str, u64)| {
        let keys = scale.many(keys);
        let about = format!(
            "{keys} keys of {VALUE_BYTES} B, put one by one: memory, disk, speed, SIGKILL and back"
        );
        let marks = vec![
            Mark::ratio("loaded_mib", 0.25),
            Mark::ratio("ready_quiet_s", 0.1),
            Mark::ratio("ready_load_s", 1.0 / 3.0),
        ];
        let mut workload = other(
            format!("memory-{size}"),
            about,
            1,
            Work::Memory { keys },
            marks,
        );
        workload.long = size == "huge";
        workload
    };
    sizes.into_iter().map(workload).collect()
}

fn disturbances(scale: Scale) -> Vec<Workload> {
    let revisions = scale.many(1_000_000);
    let kinds = [
        (
            "compaction-1",
            1,
            Disturbance::Compaction,
            "a compaction of",
        ),
        ("backup-1", 1, Disturbance::Backup, "a backup after"),
        (
            "join-3",
            3,
            Disturbance::Join,
            "a fourth member joins after",
        ),
    ];
    let workload = |(name, members, by, what): (&str, usize, Disturbance, &str)| {
        let about = format!(
            "{what} {revisions} revisions of {} keys, while 1000 puts a second go on",
            revisions / 10
        );
        let marks = vec![Mark::value("p99_growth", 2.0)];
        other(
            name.to_owned(),
            about,
            members,
            Work::Disturbed { by, revisions },
            marks,
        )
    };
    kinds.into_iter().map(workload).collect()
}

fn leader(scale: Scale) -> Vec<Workload> {
    let times = if scale.quick { 3 } else { 20 };
    let about = |how: &str| {
        format!("the leader {how} {times} times, while 12 clients put; gaps in acknowledgements")
    };
    let work = |loss| Work::Leader { loss, times };
    let killed = vec![Mark::ratio("gap_max_ms", 0.5)];
    let short = vec![Mark::value("gap_max_ms", 500.0)];
    let terminated = vec![Mark::value("gap_max_ms", 100.0)];
    let mut tuned = other(
        "leader-killed-tuned".to_owned(),
        about("is killed, heartbeats and elections as `keelson up` sets them,"),
        3,
        work(Loss::Killed),
        short,
    );
    tuned.timing = Timing {
        heartbeat_ms: 50,
        election_ms: 300,
    };
    vec![
        other(
            "leader-killed".to_owned(),
            about("is killed"),
            3,
            work(Loss::Killed),
            killed,
        ),
        tuned,
        other(
            "leader-stopped".to_owned(),
            about("is told to end"),
            3,
            work(Loss::Terminated),
            terminated,
        ),
    ]
}

/// A whole cluster of `keelson up`, with one member of the store, which may be etcd.
fn control_plane(scale: Scale) -> Vec<Workload> {
    let pods = scale.many(10_000);
    let replicas = scale.many(1000);
    let bound = scale.many(4000);
    let nodes = |number: u64| scale.many(number) as usize;
    let (some, many) = (nodes(100), nodes(1000));
    let quiet = Duration::from_secs(if scale.quick { 3 } else { 15 });
    let workload = |name: &str, about: String, aspect, marks| {
        other(
            format!("controlplane-{name}"),
            about,
            1,
            Work::ControlPlane(aspect),
            marks,
        )
    };
    vec![
        workload(
            "start",
            "from `keelson up` to a running pod".to_owned(),
            Aspect::Start,
            vec![Mark::value("first_pod_s", 2.0)],
        ),
        workload(
            "idle",
            "the whole control plane at rest, without the store, two hollow nodes".to_owned(),
            Aspect::Idle { quiet },
            vec![Mark::value("idle_pss_mib", 100.0)],
        ),
        workload(
            "writes",
            "config maps created by 50 clients".to_owned(),
            Aspect::Writes { clients: 50 },
            Vec::new(),
        ),
        workload(
            "lists",
            format!("lists of {pods} pods by 2 clients"),
            Aspect::Lists { pods },
            Vec::new(),
        ),
        workload(
            "fan-out",
            "1000 watchers of config maps; the rate is of events".to_owned(),
            Aspect::FanOut { watchers: 1000 },
            Vec::new(),
        ),
        workload(
            "deployment",
            format!(
                "a deployment of {replicas} replicas on {some} hollow nodes, until all are ready"
            ),
            Aspect::Deployment {
                replicas,
                nodes: some,
            },
            vec![Mark::value("deployed_s", 10.0)],
        ),
        workload(
            "scheduling",
            format!("{bound} pods that wait are bound to {many} hollow nodes"),
            Aspect::Scheduling {
                pods: bound,
                nodes: many,
            },
            vec![Mark::value("scheduled_rate", 1000.0)],
        ),
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
