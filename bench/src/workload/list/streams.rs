//! Watches and leases.

use std::time::Duration;

use super::{Scale, VALUE_BYTES, closed, other};
use crate::workload::expiry::{Expiry, PUT_KEYS, PUTS};
use crate::workload::operation::Operation;
use crate::workload::reconnect::Reconnect;
use crate::workload::watch::Watchers;
use crate::workload::{Mark, State, Work, Workload};

pub fn watches(members: usize) -> Vec<Workload> {
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
        puts: 16,
        owed_max: 16_000,
    };
    let about = format!(
        "1000 watchers of one prefix on 10 connections x 100 streams, {} puts of {VALUE_BYTES} B under way over {} keys; the rate is of events",
        prefix.puts, prefix.keys
    );
    let one_key = Watchers {
        watchers: 10_000,
        a_stream: 100,
        each_one_key: true,
        keys: 10_000,
        puts: 100,
        owed_max: 1000,
    };
    let each = format!(
        "10000 watchers of a key each on 10 connections x 10 streams, {} puts of {VALUE_BYTES} B under way over them; the rate is of events",
        one_key.puts
    );
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

pub fn reconnects(scale: Scale) -> Vec<Workload> {
    let events = scale.many(100_000);
    let marks = || vec![Mark::ratio("rate", 5.0), Mark::ratio("server_cpu_us", 0.1)];
    let own = Reconnect {
        watchers: 1000,
        events,
        each_all: false,
    };
    let about = format!(
        "1000 watchers come back after {events} events of new keys of {VALUE_BYTES} B, each wants a thousandth; the rate is of events"
    );
    let all = Reconnect {
        watchers: 100,
        events,
        each_all: true,
    };
    let whole = format!(
        "100 watchers come back after {events} events of new keys of {VALUE_BYTES} B, each wants all; the rate is of events"
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

pub fn leases(members: usize, scale: Scale) -> Vec<Workload> {
    let about = "a lease is granted, then revoked".to_owned();
    let leases = scale.many(100_000);
    let kept = format!("keep-alives of one of {leases} leases at random, 100 streams");
    let expiry = Expiry {
        leases,
        loading_max: Duration::from_secs(if scale.quick { 20 } else { 90 }),
    };
    let gone = format!(
        "{leases} leases with a key each run out at once, while {PUTS} puts of {VALUE_BYTES} B a second go on over {PUT_KEYS} other keys"
    );
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
