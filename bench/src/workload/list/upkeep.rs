//! What a store has to bear: many keys, restarts, maintenance, the loss of its leader.

use super::{Scale, VALUE_BYTES, other};
use crate::system::Timing;
use crate::workload::disturbed::Disturbance;
use crate::workload::leader::{KEYS, Loss};
use crate::workload::{Mark, Work, Workload};

pub fn memory(scale: Scale) -> Vec<Workload> {
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
        let figures = [
            ("loaded_mib", 0.25),
            ("ready_quiet_s", 0.1),
            ("ready_load_s", 1.0 / 3.0),
        ];
        // A million keys have the marks; fewer and more show how costs grow.
        let mark = |(figure, aim)| match size {
            "large" => Mark::ratio(figure, aim),
            _ => Mark::none(figure),
        };
        let marks = figures.map(mark).to_vec();
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

pub fn disturbances(scale: Scale) -> Vec<Workload> {
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
            "{what} {revisions} revisions of {} keys of {VALUE_BYTES} B, while 1000 puts a second go on over them",
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

pub fn leader(scale: Scale) -> Vec<Workload> {
    let times = if scale.quick { 3 } else { 20 };
    let about = |how: &str| {
        format!(
            "the leader {how} {times} times, while 2000 puts of {VALUE_BYTES} B a second arrive over {KEYS} keys; gaps in acknowledgements"
        )
    };
    let work = |loss| Work::Leader { loss, times };
    let killed = vec![Mark::ratio("gap_max_ms", 0.5), Mark::none("wait_max_ms")];
    let short = vec![Mark::value("gap_max_ms", 500.0)];
    let terminated = vec![Mark::value("gap_max_ms", 100.0), Mark::value("errors", 0.0)];
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
