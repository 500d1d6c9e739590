//! A store alone: its members' lives, and how they are told.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Place, Up, eventually, get, is_alive, is_free, kill, output, pids, put};

#[test]
fn a_member_killed_with_sigkill_is_started_again_and_the_data_survive_down_and_up() {
    let place = Place::alone();
    let mut up = Up::ready(place.up(3));
    put(place.port, "greeting", "hello");

    let before = pids(&place.data());
    assert_eq!(before.len(), 3);
    kill(before[1], Signal::KILL);
    let said = up.wait_for("m2: killed by SIGKILL");
    assert!(
        said.contains("starting again in 100ms; its last line: "),
        "{said}"
    );
    up.wait_for("m2: started, pid ");
    eventually("the restarted member answers", || {
        output(place.keelson("status")).0.success()
    });
    assert_eq!(get(place.port + 2, "greeting").as_deref(), Some("hello"));
    let (_, table, _) = output(place.keelson("status"));
    let second = table.lines().nth(2).expect("a line for m2");
    assert!(
        second.starts_with("m2") && second.ends_with(&format!(" 1  {}", place.port + 2)),
        "one restart is counted: {table}"
    );

    let after = pids(&place.data());
    let (status, said, _) = output(place.keelson("down"));
    assert!(status.success(), "{said}");
    assert!(up.end().success());
    assert_eq!(
        up.said
            .iter()
            .filter(|line| line.ends_with(": stopped"))
            .count(),
        3,
        "{:#?}",
        up.said
    );
    assert!(after.iter().all(|pid| !is_alive(*pid)));
    assert!((place.port..place.port + 6).all(is_free));

    // The directory knows its members and ports.
    let mut again = Up::ready(place.again());
    assert_eq!(get(place.port + 4, "greeting").as_deref(), Some("hello"));
    again.signal(Signal::INT);
    assert!(again.end().success());
}

#[test]
fn the_output_of_a_pipe_is_plain_lines() {
    let place = Place::alone();
    let mut up = Up::ready(place.up(1));
    up.wait_for("watch greeting");
    let pid = pids(&place.data())[0];
    up.signal(Signal::TERM);
    assert!(up.end().success());
    let kvctl = std::path::Path::new(env!("CARGO_BIN_EXE_keelson")).with_file_name("kvctl");
    let kvctl = if kvctl.is_file() {
        kvctl.display().to_string()
    } else {
        "kvctl".to_owned()
    };
    let term = up
        .said
        .iter()
        .find_map(|line| line.strip_prefix("m1: leads in term "))
        .expect("one leads")
        .to_owned();
    let said = up
        .said
        .join("\n")
        .replace(&place.data().display().to_string(), "DIR")
        .replace(&format!("pid {pid}"), "pid PID")
        .replace(&place.port.to_string(), "PORT")
        .replace(&kvctl, "kvctl")
        .replace(&format!("in term {term}"), "in term TERM");
    assert_eq!(
        said,
        "\
starting 1 member in DIR (logs in DIR/<name>.log)
m1: started, pid PID, http://127.0.0.1:PORT
m1: leads in term TERM
ready; try in another terminal:
  kvctl --endpoints 127.0.0.1:PORT put greeting hello
  kvctl --endpoints 127.0.0.1:PORT get greeting
  kvctl --endpoints 127.0.0.1:PORT watch greeting
SIGTERM: stopping 1 member (at most 10 s)
m1: stopped
stopped; the data stays in DIR"
    );
}

#[test]
fn on_a_terminal_the_table_is_repainted_in_place() {
    let place = Place::alone();
    let mut up = Up::start_on_terminal(place.up(1));
    let leads = "\u{1b}[32mleader\u{1b}[0m";
    up.wait_for(leads);
    up.wait_for("Ctrl-C stops all");
    // Head, one member and footer are three lines: up, and all below cleared.
    let repainted = up.wait_for("NAME");
    assert!(
        repainted.starts_with("\r\u{1b}[3A\u{1b}[J"),
        "{repainted:?}"
    );
    up.wait_for(leads);
    up.signal(Signal::TERM);
    assert!(up.end().success());
    let last = up.said.last().expect("it spoke");
    assert!(last.contains("stopped; the data stays in "), "{last:?}");
}

#[test]
fn members_do_not_outlive_a_launcher_that_was_killed() {
    let place = Place::alone();
    let mut up = Up::ready(place.up(3));
    put(place.port, "kept", "yes");
    let members = pids(&place.data());
    up.signal(Signal::KILL);
    assert!(!up.end().success());
    eventually("all members end", || {
        members.iter().all(|pid| !is_alive(*pid))
    });
    let (status, said, _) = output(place.keelson("down"));
    assert!(
        status.success() && said.starts_with("nothing runs in "),
        "{said}"
    );

    let mut again = Up::ready(place.again());
    assert_eq!(get(place.port, "kept").as_deref(), Some("yes"));
    again.signal(Signal::TERM);
    assert!(again.end().success());
}

#[test]
fn down_stops_members_that_a_killed_launcher_left_hanging() {
    let place = Place::alone();
    let mut up = Up::start(with(place.up(1), "--kvd", &stubborn(&place)));
    up.wait_for("m1: started, pid ");
    eventually("the member is recorded", || {
        place.data().join("running.json").exists() && pids(&place.data()).len() == 1
    });
    let member = pids(&place.data())[0];
    eventually("the member ignores SIGTERM", || ignores_sigterm(member));
    up.signal(Signal::KILL);
    up.end();
    assert!(
        is_alive(member),
        "it ignores the signal that it got when its launcher died"
    );

    let (status, said, _) = output(place.keelson("down"));
    assert!(status.success(), "{said}");
    assert!(
        said.contains("m1: did not stop within 10 s; killing it"),
        "{said}"
    );
    assert!(!is_alive(member));
}

#[test]
fn a_second_ctrl_c_kills_what_does_not_stop() {
    let place = Place::alone();
    let mut up = Up::start(with(place.up(1), "--kvd", &stubborn(&place)));
    up.wait_for("m1: started, pid ");
    eventually("the member is recorded", || {
        place.data().join("running.json").exists() && pids(&place.data()).len() == 1
    });
    let member = pids(&place.data())[0];
    eventually("the member ignores SIGTERM", || ignores_sigterm(member));
    up.signal(Signal::INT);
    up.wait_for("Ctrl-C: stopping 1 member");
    up.signal(Signal::INT);
    up.wait_for("m1: did not stop by itself and was killed with SIGKILL");
    assert!(up.end().success());
    assert!(!is_alive(member));
}

#[test]
fn a_second_launcher_and_another_shape_are_refused_in_one_line() {
    let place = Place::alone();
    let mut up = Up::ready(place.up(1));
    let (status, _, said) = output(place.again());
    assert!(!status.success());
    assert!(
        said.contains("a cluster already runs in ") && said.contains("keelson down --data-dir"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    up.signal(Signal::TERM);
    assert!(up.end().success());

    let recorded = fs::read(place.data().join("cluster.json")).unwrap();
    for (flag, value) in [
        ("--members", "3".to_owned()),
        ("--client-port", (place.port + 2).to_string()),
    ] {
        let (status, _, said) = output(with(place.again(), flag, &value));
        assert!(!status.success());
        assert!(
            said.contains("holds a cluster") && said.contains("choose another --data-dir"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(
        fs::read(place.data().join("cluster.json")).unwrap(),
        recorded
    );
}

#[test]
fn a_port_in_use_is_named_before_anything_is_started() {
    let place = Place::alone();
    let taken = place.port + 3;
    let _listener = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let (status, said, error) = output(place.up(3));
    assert!(!status.success());
    assert!(
        error.contains(&format!("port {taken}, which member m2 needs")),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(said, "", "nothing was started");
    assert!(!place.data().exists(), "nothing was made");
}

#[test]
fn a_cluster_whose_members_do_not_start_is_given_up_with_their_last_words() {
    let place = Place::alone();
    let failing = script(
        &place,
        "failing",
        "echo 'kvd: the disk is on fire' >&2; exit 3",
    );
    let (status, _, error) = output(with(place.up(3), "--kvd", &failing));
    assert!(!status.success());
    assert!(
        error.contains(
            " does not start: ended with exit code 3; its last line: kvd: the disk is on fire"
        ),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    let (status, _, error) = output(with(place.up(3), "--kvd", "/dev/null/kvd"));
    assert!(!status.success());
    assert!(
        error.contains("there is no member program at /dev/null/kvd"),
        "{error}"
    );
}

#[test]
fn down_and_status_where_nothing_ever_ran_say_so() {
    let place = Place::alone();
    let (status, said, _) = output(place.keelson("down"));
    assert!(status.success());
    assert!(said.starts_with("nothing runs in "), "{said}");
    let (status, _, error) = output(place.keelson("status"));
    assert!(!status.success());
    assert!(error.contains("no cluster was ever started in "), "{error}");
    assert!(!place.data().exists());
}

#[test]
fn a_damaged_record_is_named_and_left_alone() {
    let place = Place::alone();
    fs::create_dir(place.data()).unwrap();
    fs::write(place.data().join("cluster.json"), "{").unwrap();
    let (status, _, error) = output(place.again());
    assert!(!status.success());
    assert!(error.contains("cluster.json is damaged"), "{error}");
    assert_eq!(fs::read(place.data().join("cluster.json")).unwrap(), b"{");
}

fn with(mut command: Command, flag: &str, value: &str) -> Command {
    command.arg(flag).arg(value);
    command
}

/// A member that takes any flags and does not heed SIGTERM.
fn stubborn(place: &Place) -> String {
    script(place, "stubborn", "trap '' TERM; exec sleep 1000")
}

fn ignores_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap_or("0")
        .trim();
    u64::from_str_radix(ignored, 16).is_ok_and(|signals| signals & (1 << 14) != 0)
}

fn script(place: &Place, name: &str, text: &str) -> String {
    let path = place.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}
