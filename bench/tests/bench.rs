//! The harness from outside, on a real server: `kvd` from the same build, or what KEELSON_KVD names.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The machine's only cluster, while a test has it.
fn turn() -> File {
    let uid = rustix::process::getuid().as_raw();
    let lock = std::env::temp_dir().join(format!("keelson-tests-{uid}.lock"));
    let lock = File::create(lock).expect("the lock file can be made");
    lock.lock().expect("the lock can be had");
    lock
}

fn server() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_bench")).with_file_name("kvd");
    let server = std::env::var_os("KEELSON_KVD").map_or(beside, PathBuf::from);
    assert!(
        server.is_file(),
        "{} is missing: run `make build`",
        server.display()
    );
    server
}

fn bench(flags: &[&str], json: &Path) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--seconds", "0.5", "--warm-up", "0.1", "--rounds", "1"]);
    bench.args(["--keys", "100", "--clients", "4", "--members", "1"]);
    bench.args(flags).arg("--json").arg(json);
    bench.output().expect("it starts")
}

#[test]
fn every_workload_is_measured_on_both_systems_without_a_failure() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("bench.json");
    let server = server().display().to_string();
    let output = bench(&["--etcd", &server, "--kvd", &server], &json);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 3, "put, get and get-serializable");
    for cell in cells {
        let systems = cell["systems"].as_array().unwrap();
        assert_eq!(systems.len(), 2, "{cell}");
        for system in systems {
            let round = &system["rounds"][0];
            assert!(round["operations"].as_u64().unwrap() > 0, "{cell}");
            assert_eq!(round["failures"], 0, "{cell}");
            assert!(round["cpu_us_per_operation"].as_f64().unwrap() > 0.0);
            assert!(round["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
        }
    }
    let put = cells
        .iter()
        .find(|cell| cell["workload"] == "put")
        .expect("put is measured");
    let round = &put["systems"][0]["rounds"][0];
    let (operations, written) = (&round["operations"], &round["written_bytes"]);
    assert!(
        written.as_u64().unwrap() > 256 * operations.as_u64().unwrap(),
        "every put's value reaches the disk: {put}"
    );
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = table.lines().filter(|line| line.starts_with('|')).count();
    assert_eq!(lines, 2 + 3 * 2, "head and a line a system:\n{table}");
}

/// The processes that have this in their command line.
fn processes_with(word: &str) -> Vec<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(word))
        .collect()
}

#[test]
fn nothing_is_left_of_a_run_that_is_told_to_stop() {
    let _turn = turn();
    // Not in /tmp, which may be in memory, where nothing is measured.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = place.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(["--members", "3", "--clients", "4", "--seconds", "600"])
            .arg("--kvd")
            .arg(server())
            .arg("--dir")
            .arg(&dir)
            .arg("--json")
            .arg(place.path().join("bench.json"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let members = dir.display().to_string() + "/bench-data-";
        let began = Instant::now();
        while processes_with(&members).len() < 3 {
            assert!(began.elapsed() < Duration::from_secs(60));
            assert!(bench.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(20));
        }
        let pid = Pid::from_child(&bench);
        kill_process(pid, signal).unwrap();
        assert_eq!(bench.wait().unwrap().code(), Some(1), "{signal:?}");
        assert_eq!(processes_with(&members), [""; 0], "{signal:?}");
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        assert!(left.is_empty(), "{signal:?}: {left:?}");
    }
}

#[test]
fn a_program_that_is_no_server_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("bench.json");
    let output = bench(&["--kvd", "/bin/false"], &json);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        error.trim_end(),
        "bench: /bin/false --version fails: is it a server?"
    );
    assert!(!json.exists());
}
