//! What `kvctl` does when endpoints are down, hang, or lose an answer; and what it says.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::{Etcd, Running, await_some, etcdctl, kvctl};

/// An address at which nobody listens.
const NOBODY: &str = "127.0.0.1:1";

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn another_endpoint_is_used_when_one_is_down() {
    let etcd = Etcd::start(1, &[]);
    let endpoints = format!("{NOBODY},{}", etcd.endpoints());
    for (args, expected) in [
        (&["put", "k", "v"][..], "OK\n"),
        (&["get", "k"], "k\nv\n"),
        (&["del", "k"], "1\n"),
        (&["compaction", "2"], "compacted revision 2\n"),
        (&["alarm", "list"], ""),
    ] {
        let output = kvctl(&endpoints, args).output().unwrap();
        assert_eq!(
            text(&output),
            (expected.to_owned(), String::new()),
            "{args:?}"
        );
        assert!(output.status.success(), "{args:?}");
    }
}

#[test]
fn when_all_are_down_each_is_named_with_its_reason() {
    for args in [
        &["get", "k"][..],
        &["put", "k", "v"],
        &["watch", "k"],
        &["lease", "keep-alive", "1f"],
        &["snapshot", "save", "/dev/null/x"],
    ] {
        let output = kvctl("127.0.0.1:1,127.0.0.1:2", args).output().unwrap();
        let (stdout, stderr) = text(&output);
        assert_eq!(stdout, "");
        for part in [
            "Error: ",
            "127.0.0.1:1: Connection refused",
            "127.0.0.1:2: Connection refused",
            "Try: ",
            "--endpoints",
        ] {
            assert!(
                stderr.contains(part),
                "{args:?}: {part:?} is missing in\n{stderr}"
            );
        }
        assert!(!output.status.success(), "{args:?}");
    }
}

#[test]
fn a_read_does_not_wait_for_an_endpoint_that_hangs() {
    let etcd = Etcd::start(3, &[]);
    let leader = etcd.leader();
    // A follower, so that the others go on; first in the list, so that it is asked first.
    let hanging = (leader + 1) % 3;
    let pid = etcd.pid(hanging).to_string();
    assert!(
        Command::new("kill")
            .args(["-STOP", &pid])
            .status()
            .unwrap()
            .success()
    );
    let order = [hanging, leader];
    let endpoints = order
        .map(|index| format!("127.0.0.1:{}", etcd.members[index].port))
        .join(",");
    let began = Instant::now();
    let read = kvctl(&endpoints, &["get", "k", "-w", "fields"])
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", text(&read).1);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "it took {:?}",
        began.elapsed()
    );
    // A write is sent once, to the first that takes the connection; nobody can know what came of it.
    let write = kvctl(&endpoints, &["put", "k", "v", "--command-timeout=1s"])
        .output()
        .unwrap();
    let (_, stderr) = text(&write);
    assert_eq!(write.status.code(), Some(1));
    assert!(
        stderr.contains("no answer within 1s") && stderr.contains("may or may not have been done"),
        "{stderr}"
    );
    assert!(
        Command::new("kill")
            .args(["-CONT", &pid])
            .status()
            .unwrap()
            .success()
    );
}

/// Forwards one connection to a server, but nothing that the server says. Returns when told to.
struct DeafProxy {
    address: String,
    client: std::sync::mpsc::Receiver<TcpStream>,
}

impl DeafProxy {
    fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (accepted, client) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let (mut from, _) = listener.accept().unwrap();
            let mut to = TcpStream::connect(server).unwrap();
            accepted.send(from.try_clone().unwrap()).unwrap();
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut chunk) {
                to.write_all(&chunk[..length]).unwrap();
            }
        });
        Self { address, client }
    }

    fn cut(&self) {
        self.client
            .recv()
            .unwrap()
            .shutdown(Shutdown::Both)
            .unwrap();
    }
}

#[test]
fn a_write_whose_answer_is_lost_is_not_sent_again() {
    let etcd = Etcd::start(1, &[]);
    let direct = etcd.endpoints();
    let proxy = DeafProxy::start(direct.clone());
    let endpoints = format!("{},{direct}", proxy.address);
    let put = kvctl(&endpoints, &["put", "k", "v"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let get = || {
        text(
            &etcdctl(&direct, &["get", "k", "-w", "fields"])
                .output()
                .unwrap(),
        )
        .0
    };
    await_some("the write to arrive", || {
        get().contains("\"Version\" : 1").then_some(())
    });
    proxy.cut();
    let put = put.wait_with_output().unwrap();
    let (stdout, stderr) = text(&put);
    assert_eq!((put.status.code(), stdout.as_str()), (Some(1), ""));
    for part in [
        &format!("put at {}", proxy.address),
        "connection was lost",
        "may or may not have been done",
        "was not sent again",
    ] {
        assert!(stderr.contains(part), "{part:?} is missing in\n{stderr}");
    }
    assert!(get().contains("\"Version\" : 1"), "it was written twice");
}

#[test]
fn a_read_whose_answer_is_lost_is_asked_elsewhere() {
    let etcd = Etcd::start(1, &[]);
    let direct = etcd.endpoints();
    assert!(
        etcdctl(&direct, &["put", "k", "v"])
            .status()
            .unwrap()
            .success()
    );
    let proxy = DeafProxy::start(direct.clone());
    let endpoints = format!("{},{direct}", proxy.address);
    let get = kvctl(&endpoints, &["get", "k", "--debug"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    proxy.cut();
    assert_eq!(text(&get.wait_with_output().unwrap()).0, "k\nv\n");
}

#[test]
fn a_lease_is_kept_alive_when_its_member_dies() {
    let mut etcd = Etcd::start(3, &[]);
    let leader = etcd.leader();
    let order = [leader, (leader + 1) % 3, (leader + 2) % 3];
    let endpoints = order
        .map(|index| format!("127.0.0.1:{}", etcd.members[index].port))
        .join(",");
    let granted = text(
        &kvctl(&endpoints, &["lease", "grant", "6"])
            .output()
            .unwrap(),
    )
    .0;
    let lease = granted.split(' ').nth(1).unwrap().to_owned();
    let keeping = Running::start(kvctl(&endpoints, &["lease", "keep-alive", &lease]));
    let renewals = |printed: &str| printed.matches("keepalived with TTL(6)").count();
    keeping.await_printed("a renewal", |printed| renewals(printed) >= 1);
    etcd.kill(leader);
    let before = renewals(&keeping.printed());
    // A renewal every two seconds: these take longer than the lease would live.
    keeping.await_printed("renewals elsewhere", |printed| {
        renewals(printed) >= before + 4
    });
    await_some("the lease to be revoked", || {
        kvctl(&endpoints, &["lease", "revoke", &lease])
            .output()
            .unwrap()
            .status
            .success()
            .then_some(())
    });
    keeping.await_printed("the end", |printed| {
        printed.ends_with(&format!("lease {lease} expired or revoked.\n"))
    });
    assert_eq!(keeping.await_exit(), Some(0));
}

#[test]
fn what_cannot_be_honoured_is_refused_and_never_ignored() {
    let etcd = Etcd::start(1, &[]);
    let endpoints = etcd.endpoints();
    for flag in [
        "--cert=x",
        "--key=x",
        "--cacert=x",
        "--user=root:x",
        "--password=x",
        "--insecure-skip-tls-verify",
        "--insecure-transport=false",
        "--discovery-srv=x",
        "-w=protobuf",
    ] {
        let output = kvctl(&endpoints, &["put", "k", "v", flag])
            .output()
            .unwrap();
        let (stdout, stderr) = text(&output);
        assert_eq!(
            (output.status.code(), stdout.as_str()),
            (Some(4), ""),
            "{flag}"
        );
        assert!(stderr.contains("not supported"), "{flag}: {stderr}");
    }
    let from_environment = kvctl(&endpoints, &["put", "k", "v"])
        .env("ETCDCTL_USER", "root")
        .output()
        .unwrap();
    assert_eq!(from_environment.status.code(), Some(4));
    let https = kvctl("https://127.0.0.1:1", &["put", "k", "v"])
        .output()
        .unwrap();
    assert!(text(&https).1.contains("TLS (https) is not supported yet"));
    let nothing_written = etcdctl(&endpoints, &["get", "--prefix", ""])
        .output()
        .unwrap();
    assert_eq!(text(&nothing_written).0, "");
}

#[test]
fn endpoints_come_from_the_environment_too() {
    let etcd = Etcd::start(1, &[]);
    for (variable, other) in [
        ("KVCTL_ENDPOINTS", "ETCDCTL_ENDPOINTS"),
        ("ETCDCTL_ENDPOINTS", "KVCTL_DIAL_TIMEOUT"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_kvctl"))
            .args(["put", "k", "v"])
            .env_remove("KVCTL_ENDPOINTS")
            .env(
                other,
                if other.ends_with("ENDPOINTS") {
                    NOBODY
                } else {
                    "1s"
                },
            )
            .env(variable, etcd.endpoints())
            .output()
            .unwrap();
        assert_eq!(text(&output).0, "OK\n", "{variable}: {}", text(&output).1);
    }
}

#[test]
fn a_snapshot_is_saved_whole_or_not_at_all() {
    let etcd = Etcd::start(1, &[]);
    let endpoints = etcd.endpoints();
    assert!(
        etcdctl(&endpoints, &["put", "k", &"v".repeat(100_000)])
            .status()
            .unwrap()
            .success()
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backup.db");
    let file = path.to_str().unwrap();
    let saved = kvctl(&endpoints, &["snapshot", "save", file])
        .output()
        .unwrap();
    assert_eq!(
        text(&saved).0,
        format!("Snapshot saved at {file}\n"),
        "{}",
        text(&saved).1
    );
    let checked = etcdctl(&endpoints, &["snapshot", "status", file, "-w", "json"])
        .output()
        .unwrap();
    assert!(
        text(&checked).0.contains("\"totalKey\":"),
        "{}",
        text(&checked).1
    );
    let ours = kvctl(&endpoints, &["snapshot", "status", file])
        .output()
        .unwrap();
    assert_eq!(ours.status.code(), Some(4));
    assert!(
        text(&ours)
            .1
            .contains("a snapshot of etcd (a bbolt database)"),
        "{}",
        text(&ours).1
    );

    let missing = directory.path().join("missing/backup.db");
    let refused = kvctl(&endpoints, &["snapshot", "save", missing.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        text(&refused)
            .1
            .contains("backup.db.part: cannot be created: No such file"),
        "{}",
        text(&refused).1
    );
    assert_eq!(refused.status.code(), Some(1));

    let proxy = DeafProxy::start(endpoints);
    let cut_path = directory.path().join("cut.db");
    let cut = kvctl(
        &proxy.address,
        &["snapshot", "save", cut_path.to_str().unwrap()],
    )
    .stderr(std::process::Stdio::piped())
    .spawn()
    .unwrap();
    proxy.cut();
    let cut = cut.wait_with_output().unwrap();
    assert_eq!(cut.status.code(), Some(5), "{}", text(&cut).1);
    assert!(text(&cut).1.contains("was not written"), "{}", text(&cut).1);
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["backup.db"]);
}

#[test]
fn shells_accept_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Command::new(env!("CARGO_BIN_EXE_kvctl"))
            .args(["completion", shell])
            .output()
            .unwrap();
        let (script, _) = text(&script);
        assert!(
            script.contains("timetolive") && script.contains("kvctl"),
            "{shell}"
        );
        let installed = Command::new(shell).arg("--version").output().is_ok();
        if installed {
            let checked = support::run_with_input(Command::new(shell).arg("-n"), script.as_bytes());
            assert!(checked.status.success(), "{shell}: {}", text(&checked).1);
        }
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let etcd = Etcd::start(1, &[]);
    let endpoints = etcd.endpoints();
    // More than a pipe holds.
    assert!(
        etcdctl(&endpoints, &["put", "k", &"v".repeat(100_000)])
            .status()
            .unwrap()
            .success()
    );
    let mut get = kvctl(&endpoints, &["get", "k"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(get.stdout.take());
    let end = get.wait_with_output().unwrap();
    assert_eq!(text(&end).1, "");
    assert_eq!(
        end.status.code(),
        Some(128 + 13),
        "as if SIGPIPE had ended it"
    );
}
