//! The program that is shipped holds neither the bugs nor the failpoints that test the tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use keelson_planted::Bug;

const KVD: &str = env!("CARGO_BIN_EXE_kvd");
const VARIABLES: [&str; 2] = ["KEELSON_BUG", "KEELSON_FAILPOINTS"];

/// The words in a program's bytes, a line each.
fn words(program: &[u8]) -> String {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut words = String::new();
    for run in program.split(|byte| !is_word(byte)) {
        if run.len() >= 8 {
            words.extend(run.iter().map(|byte| char::from(*byte)));
            words.push('\n');
        }
    }
    words
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(KVD)
        .args(arguments)
        .env_remove(VARIABLES[0])
        .env_remove(VARIABLES[1])
        .envs(variables.iter().copied())
        .output()
        .expect("kvd can be run")
}

#[test]
fn the_shipped_program_does_not_know_the_bugs_the_failpoints_or_what_chooses_them() {
    let words = words(&std::fs::read(KVD).expect("kvd can be read"));
    // What a program knows is found in its bytes.
    assert!(words.contains("listen-client-urls"));
    let names = Bug::ALL.iter().map(|bug| bug.name());
    for name in names.chain(VARIABLES) {
        assert!(
            name.len() >= 8 && !words.contains(name),
            "kvd holds {name:?}"
        );
    }
}

#[test]
fn the_shipped_program_does_the_same_with_a_bug_or_a_failpoint_asked_for() {
    for arguments in [&["--version"][..], &["--help"], &["--no-such-flag"]] {
        let plain = run(arguments, &[]);
        // kvd-faulty refuses both: a bug that it does not know, and a file that is a directory.
        let asked = [("KEELSON_BUG", "no-such-bug"), ("KEELSON_FAILPOINTS", "/")];
        assert_eq!(plain, run(arguments, &asked));
    }
}

#[test]
fn a_disk_that_is_told_to_fail_does_not_fail_the_shipped_program() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let failpoints = dir.path().join("failpoints");
    std::fs::write(&failpoints, "fsync=fail\nwrite=enospc\n").expect("written");
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (client, peer) = (url(free_port()), url(free_port()));
    let mut kvd = Command::new(KVD)
        .args(["--name", "m1", "--initial-cluster", &format!("m1={peer}")])
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .env("KEELSON_BUG", Bug::SyncSkipped.name())
        .env("KEELSON_FAILPOINTS", &failpoints)
        .stderr(Stdio::piped())
        .spawn()
        .expect("kvd can be run");
    let said = BufReader::new(kvd.stderr.take().expect("piped"));
    // Ends with the process, if that ends before it serves.
    let serves = said
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("ready to serve client requests"));
    let killed = kvd.kill();
    kvd.wait().expect("kvd ends");
    assert!(serves && killed.is_ok(), "kvd must have served");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
