//! `kvctl watch` prints what etcdctl's prints, and outlives the members that it is connected to.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::{Etcd, Program, Running, await_some, etcdctl, kvctl};

fn do_all(endpoints: &str, commands: &[&[&str]]) {
    for command in commands {
        let output = etcdctl(endpoints, command).output().unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Watches the same with both programs in each format, from history into the present, and compares
/// what they have printed when an event made for the purpose has come.
fn compare(endpoints: &str, args: &[&str], watched_key: &str) {
    for format in ["simple", "fields", "json"] {
        let start = |program: Program| {
            let mut all = vec!["watch", "-w", format];
            all.extend(args);
            Running::start(program(endpoints, &all))
        };
        let (theirs, ours) = (start(etcdctl), start(kvctl));
        // Each has opened its watch when it has printed the history, which every case here has.
        for running in [&theirs, &ours] {
            running.await_printed("the history", |printed| !printed.is_empty());
        }
        let last = format!("last of {args:?} {format}").replace(['"', '\\'], "'");
        do_all(
            endpoints,
            &[
                &["put", "foo", "four"],
                &["del", "foo"],
                &["put", watched_key, &last],
            ],
        );
        let shown = match format {
            "json" => STANDARD.encode(&last),
            _ => last,
        };
        let is_complete = |printed: &str| printed.ends_with('\n') && printed.contains(&shown);
        let expected = theirs.await_printed("etcdctl's last event", is_complete);
        let got = ours.await_printed("kvctl's last event", is_complete);
        assert_eq!(got, expected, "{args:?} {format}");
    }
}

#[test]
fn events_are_printed_alike() {
    let etcd = Etcd::start(1, &[]);
    let endpoints = etcd.endpoints();
    do_all(
        &endpoints,
        &[
            &["put", "foo", "one"],
            &["put", "foo", "two"],
            &["put", "other", "x"],
            &["del", "foo"],
            &["put", "foo/é \"<", "three"],
        ],
    );
    compare(&endpoints, &["foo", "--rev=2"], "foo");
    compare(&endpoints, &["foo", "--rev", "3", "--prev-kv"], "foo");
    compare(
        &endpoints,
        &["--prefix", "foo", "--rev=2", "--prev-kv"],
        "foo/x",
    );
    compare(&endpoints, &["--prefix=true", "", "--rev=4"], "else");
    compare(&endpoints, &["foo", "fop", "--rev=2"], "foo/x");
    compare(
        &endpoints,
        &["foo", "--rev=2", "--hex=false", "--progress-notify"],
        "foo",
    );
}

#[test]
fn a_command_finds_the_event_in_its_environment() {
    let etcd = Etcd::start(1, &[]);
    let endpoints = etcd.endpoints();
    do_all(
        &endpoints,
        &[
            &["put", "a \"key\"", "v\t☃"],
            &["del", "a \"key\""],
            &["put", "a", "last1"],
        ],
    );
    let script = "env | grep ^ETCD_WATCH | sort; test \"$ETCD_WATCH_VALUE\" != '\"last1\"'";
    let run = |program: Program| {
        let output = program(
            &endpoints,
            &[
                "watch", "--prefix", "a", "--rev=2", "--", "sh", "-c", script,
            ],
        )
        .output()
        .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let expected = run(etcdctl);
    assert_eq!(run(kvctl), expected);
    assert!(
        expected.1.contains("ETCD_WATCH_EVENT_TYPE=\"DELETE\""),
        "{}",
        expected.1
    );
    assert_eq!(expected.0, Some(1), "a command that fails ends the watch");
}

#[test]
fn a_refused_watch_ends_alike() {
    let etcd = Etcd::start(1, &[]);
    let endpoints = etcd.endpoints();
    do_all(
        &endpoints,
        &[
            &["put", "k", "1"],
            &["put", "k", "2"],
            &["put", "k", "3"],
            &["compaction", "4"],
        ],
    );
    for args in [&["k", "--rev=2"][..], &["k", "a"], &["k", "k"]] {
        for format in ["simple", "fields", "json"] {
            let run = |program: Program| {
                let mut all = vec!["watch", "-w", format];
                all.extend(args);
                let output = program(&endpoints, &all).output().unwrap();
                let stderr = String::from_utf8(output.stderr).unwrap();
                let refusal = stderr
                    .lines()
                    .find(|line| line.starts_with("watch was canceled"))
                    .map(str::to_owned);
                assert!(refusal.is_some(), "{stderr}");
                (
                    output.status.code(),
                    String::from_utf8(output.stdout).unwrap(),
                    refusal,
                )
            };
            let expected = run(etcdctl);
            assert_eq!(run(kvctl), expected, "{args:?} {format}");
            assert_eq!(expected.0, Some(5));
        }
    }
}

#[test]
fn watches_are_typed_in_alike() {
    let etcd = Etcd::start(1, &[]);
    let endpoints = etcd.endpoints();
    do_all(
        &endpoints,
        &[&["put", "foo", "one"], &["put", "goo", "two"]],
    );
    for format in ["simple", "fields"] {
        let run = |program: Program| {
            let mut running = Running::start(program(&endpoints, &["watch", "-i", "-w", format]));
            running.type_line("nonsense");
            running.type_line("watch foo --rev 2");
            running.await_printed("the first watch", |printed| printed.contains("one"));
            running.type_line("watch --prefix \"g\" --rev=1 -- echo ran a command");
            running.await_printed("the second watch", |printed| {
                printed.contains("ran a command")
            });
            running.type_line("progress");
            // One answer for each of the two watches, and with fields a header after it, as with each event.
            let headers = if format == "fields" { 4 } else { 0 };
            let printed = running.await_printed("progress", |printed| {
                printed.matches("progress notify: 3").count() == 2
                    && printed.matches("\"RaftTerm\"").count() == headers
                    && printed.ends_with('\n')
            });
            // etcdctl's watches may print into each other's lines.
            let mut lines: Vec<_> = printed.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(run(kvctl), run(etcdctl), "{format}");
    }
    let end = |program: Program| {
        program(&endpoints, &["watch", "-i"])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    };
    assert_eq!(end(kvctl).status.code(), end(etcdctl).status.code());
}

#[test]
fn a_watch_outlives_the_members_it_is_connected_to() {
    let mut etcd = Etcd::start(3, &[]);
    // The leader first, which is where the watch connects.
    let leader = etcd.leader();
    let order = [leader, (leader + 1) % 3, (leader + 2) % 3];
    let endpoints = order
        .map(|index| format!("127.0.0.1:{}", etcd.members[index].port))
        .join(",");
    do_all(&endpoints, &[&["put", "k/0", "first"]]);
    let watch = Running::start(kvctl(&endpoints, &["watch", "--prefix", "k/", "--rev=2"]));
    watch.await_printed("the first event", |printed| printed.contains("first"));
    let mut count = 0;
    for round in 0..4 {
        // The watch goes from one endpoint to the next, so this is where it is.
        etcd.kill(order[round % 3]);
        for _ in 0..5 {
            count += 1;
            let value = format!("value-{count}.");
            // A put may find no leader, or lose its answer to the election: then the next try
            // writes the value again, and the watch must print both.
            await_some("a put to succeed", || {
                kvctl(&endpoints, &["put", &format!("k/{count}"), &value])
                    .output()
                    .unwrap()
                    .status
                    .success()
                    .then_some(())
            });
        }
        watch.await_printed("the events of this round", |printed| {
            printed.contains(&format!("value-{count}."))
        });
        etcd.start_member(order[round % 3]);
        etcd.await_ready();
    }
    // Each event once, in order: just what one member tells of it all when asked at the end.
    do_all(&endpoints, &[&["put", "k/end", "end of all"]]);
    let history = Running::start(etcdctl(&endpoints, &["watch", "--prefix", "k/", "--rev=2"]));
    let expected = history.await_printed("the end of the history", |printed| {
        printed.ends_with("end of all\n")
    });
    let got = watch.await_printed("the end", |printed| printed.ends_with("end of all\n"));
    assert_eq!(got, expected);
}

#[test]
fn an_outage_is_told_once_however_often_it_is_tried_again() {
    let mut etcd = Etcd::start(1, &[]);
    let endpoint = etcd.endpoints();
    do_all(&endpoint, &[&["put", "k", "first"]]);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("stderr");
    let said = || std::fs::read_to_string(&log).unwrap();
    let stderr = std::fs::File::create(&log).unwrap();
    // What a person at the terminal is told is told with --debug, too.
    let command = kvctl(&endpoint, &["watch", "k", "--rev=2", "--debug"]);
    let watch = Running::start_with_stderr(command, stderr);
    watch.await_printed("the first event", |printed| printed.contains("first"));
    etcd.kill(0);
    support::await_some("many attempts", || {
        (said().matches("debug: connecting").count() > 10).then_some(())
    });
    etcd.start_member(0);
    etcd.await_ready();
    do_all(&endpoint, &[&["put", "k", "second"]]);
    watch.await_printed("the second event", |printed| printed.contains("second"));
    let said = said();
    let told: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("watch: "))
        .collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].starts_with(&format!("{endpoint}: ")), "{told:#?}");
    assert_eq!(told[1], "no endpoint serves it; trying until one does");
    assert_eq!(
        told[2],
        format!("watching on from revision 3 at {endpoint}")
    );
}
