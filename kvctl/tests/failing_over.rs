//! What `kvctl` does when endpoints are down, hang, or lose an answer; and what it says.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, sync_channel};
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
fn nobody_waits_for_an_endpoint_that_hangs() {
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
    let endpoints = order.map(|index| format!("127.0.0.1:{}", etcd.members[index].port));
    let began = Instant::now();
    for args in [&["put", "k", "v"][..], &["get", "k"], &["del", "k"]] {
        let output = kvctl(&endpoints.join(","), args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output).1);
    }
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        began.elapsed()
    );
    // Nothing is sent to a server that gives no sign of life, so nothing is in doubt.
    let put = kvctl(&endpoints[0], &["put", "k", "v"]).output().unwrap();
    let (_, stderr) = text(&put);
    assert_eq!(put.status.code(), Some(1));
    assert!(
        stderr.contains("put: no endpoint answers") && stderr.contains("no answer within 2s"),
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

/// A key that makes the proxy go deaf.
const MARK_KEY: &str = "now go deaf";

/// Forwards one connection to a server and back, until the client has sent [`MARK_KEY`] or the server
/// so many bytes: from then on what the server says is lost.
struct DeafProxy {
    address: String,
    client: Receiver<TcpStream>,
}

impl DeafProxy {
    fn start(server: String, mut bytes_back: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (accepted, client) = sync_channel(1);
        let deaf = Arc::new(AtomicBool::new(false));
        std::thread::spawn(move || {
            let (from, _) = listener.accept().unwrap();
            let to = TcpStream::connect(server).unwrap();
            accepted.send(from.try_clone().unwrap()).unwrap();
            let (back_from, back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            let is_deaf = deaf.clone();
            std::thread::spawn(move || {
                forward(back_from, back_to, |chunk| {
                    bytes_back = bytes_back.saturating_sub(chunk.len());
                    bytes_back > 0 && !is_deaf.load(SeqCst)
                });
            });
            let mut sent = Vec::new();
            forward(from, to, |chunk| {
                sent.extend_from_slice(chunk);
                if sent
                    .windows(MARK_KEY.len())
                    .any(|window| window == MARK_KEY.as_bytes())
                {
                    deaf.store(true, SeqCst);
                }
                true
            });
        });
        Self { address, client }
    }

    /// Ends the client's connection.
    fn cut(&self) {
        self.client
            .recv()
            .unwrap()
            .shutdown(Shutdown::Both)
            .unwrap();
    }
}

/// Copies what `passes` until either end is closed.
fn forward(mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        if passes(&chunk[..length]) && to.write_all(&chunk[..length]).is_err() {
            return;
        }
    }
}

#[test]
fn a_write_whose_answer_is_lost_is_not_sent_again() {
    let etcd = Etcd::start(1, &[]);
    let direct = etcd.endpoints();
    let proxy = DeafProxy::start(direct.clone(), usize::MAX);
    let endpoints = format!("{},{direct}", proxy.address);
    let put = kvctl(&endpoints, &["put", MARK_KEY, "v"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let get = || {
        text(
            &etcdctl(&direct, &["get", MARK_KEY, "-w", "fields"])
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
        etcdctl(&direct, &["put", MARK_KEY, "v"])
            .status()
            .unwrap()
            .success()
    );
    let proxy = DeafProxy::start(direct.clone(), usize::MAX);
    let endpoints = format!("{},{direct}", proxy.address);
    let get = kvctl(&endpoints, &["get", MARK_KEY])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    proxy.cut();
    assert_eq!(
        text(&get.wait_with_output().unwrap()).0,
        format!("{MARK_KEY}\nv\n")
    );
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

/// A server that gives this answer to whatever it is told, and hangs up.
fn stranger(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            // Whoever asked may be gone.
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn a_server_that_is_no_member_is_named_for_what_it_is() {
    for (answer, who) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "an HTTP server"),
        (b"\x15\x03\x01\0\x02\x02\x32", "the server there wants TLS"),
    ] {
        let address = stranger(answer);
        for args in [
            &["get", "k"][..],
            &["put", "k", "v"],
            &["watch", "k"],
            &["lease", "keep-alive", "1f"],
            &["endpoint", "health"],
            &["endpoint", "status"],
            &["defrag"],
            &["snapshot", "save", "/dev/null/x"],
        ] {
            let began = Instant::now();
            let output = kvctl(&address, args).output().unwrap();
            let (stdout, stderr) = text(&output);
            assert_eq!(stdout, "");
            assert!(stderr.contains(who), "{args:?}: {stderr}");
            assert!(!output.status.success(), "{args:?}");
            // Not one after all attempts that --command-timeout leaves room for.
            assert!(began.elapsed() < Duration::from_secs(4), "{args:?}");
        }
    }
}

#[test]
fn a_read_that_takes_too_long_names_each_endpoint_and_what_became_of_it() {
    // The system accepts connections for it; nobody answers them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let args = ["get", "k", "--command-timeout=2500ms"];
    let output = kvctl(&format!("{silent},{NOBODY}"), &args)
        .output()
        .unwrap();
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "get: no answer within 2.5s\n",
        // It was asked for as long as the other's refusal left of that, which is less where the machine is busy.
        &format!("  {silent}: no answer within "),
        &format!("  {NOBODY}: Connection refused\n"),
    ] {
        assert!(stderr.contains(part), "{part:?} is missing in\n{stderr}");
    }
    let args = ["endpoint", "health", "--command-timeout=1s"];
    let health = kvctl(&silent.to_string(), &args).output().unwrap();
    let (_, stderr) = text(&health);
    assert!(
        stderr.contains("failed to commit proposal: no answer within 1s"),
        "{stderr}"
    );
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
    assert_eq!(refused.status.code(), Some(5));
    let occupied = kvctl(
        &endpoints,
        &["snapshot", "save", directory.path().to_str().unwrap()],
    )
    .output()
    .unwrap();
    assert_eq!(occupied.status.code(), Some(5));
    assert!(
        text(&occupied)
            .1
            .contains("cannot be written: is a directory"),
        "{}",
        text(&occupied).1
    );

    let proxy = DeafProxy::start(endpoints, 50_000);
    let cut_path = directory.path().join("cut.db");
    let cut = kvctl(
        &proxy.address,
        &["snapshot", "save", cut_path.to_str().unwrap()],
    )
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let part = directory.path().join("cut.db.part");
    await_some("some of the snapshot", || {
        std::fs::metadata(&part).ok().filter(|part| part.len() > 0)
    });
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
        assert!(
            script.contains("descend") && !script.contains("cacert"),
            "{shell}: values are offered, and flags that are refused are not"
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
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
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
