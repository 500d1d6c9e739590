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

fn bench(flags: &[&str], out: &Path) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--quick", "--seconds", "0.3", "--warm-up", "0.1"]);
    bench.args(flags).arg("--out").arg(out);
    bench.output().expect("it starts")
}

fn results(out: &Path) -> Value {
    let text = std::fs::read(out.join("results.json")).expect("results are kept");
    serde_json::from_slice(&text).expect("they are JSON")
}

#[test]
fn both_systems_are_measured_in_turns_without_a_failure() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let server = server().display().to_string();
    let systems = ["--etcd", &server, "--kvd", &server];
    let only = [
        "--only",
        "put-1-100,get-hot-1-10,txn-update-1,lease-grant-revoke-1",
    ];
    let output = bench(&[&systems[..], &only[..]].concat(), dir.path());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let results = results(dir.path());
    let workloads = results["workloads"].as_array().unwrap();
    assert_eq!(workloads.len(), 4, "{errors}");
    for workload in workloads {
        let runs = workload["runs"].as_array().unwrap();
        let systems: Vec<&Value> = runs.iter().map(|run| &run["system"]).collect();
        assert_eq!(systems, ["etcd", "kvd"], "{workload}");
        for run in runs {
            let outcome = &run["outcome"];
            let figure = |name: &str| outcome["figures"][name].as_f64().unwrap();
            assert_eq!(outcome["failures"], 0, "{workload}");
            // The client's own is too little to be seen in so short a time.
            for name in ["rate", "p99_ms", "server_cpu_us"] {
                assert!(figure(name) > 0.0, "{name} in {workload}");
            }
            assert!(figure("peak_mib") > 1.0, "{workload}");
            if workload["name"] == "put-1-100" {
                assert!(
                    figure("written_bytes") > 256.0,
                    "every put's value reaches the disk: {workload}"
                );
            }
        }
    }
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("| get-hot-1-10"), "{table}");
}

#[test]
fn watchers_leases_and_offered_loads_are_measured_too() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let server = server().display().to_string();
    let only = "watch-prefix-1,watch-reconnect-1,lease-keep-alive-1,list-1,put-offered-1";
    let output = bench(&["--kvd", &server, "--only", only], dir.path());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let results = results(dir.path());
    let workloads = results["workloads"].as_array().unwrap();
    assert_eq!(workloads.len(), 5, "{errors}");
    for workload in workloads {
        let outcome = &workload["runs"][0]["outcome"];
        assert_eq!(outcome["failures"], 0, "{workload}");
        assert!(
            outcome["figures"]["rate"].as_f64().unwrap() > 0.0,
            "{workload}"
        );
    }
    let page = std::fs::read_to_string(dir.path().join("results.md")).unwrap();
    assert!(page.contains("watch-reconnect-1"), "{page}");
    assert!(
        dir.path().join("latency.svg").is_file(),
        "a line of offered loads is drawn"
    );
}

#[test]
fn lost_leaders_and_maintenance_are_measured_too() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let server = server().display().to_string();
    let output = bench(
        &["--kvd", &server, "--only", "leader-stopped,compaction-1"],
        dir.path(),
    );
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let results = results(dir.path());
    let figure = |workload: usize, name: &str| {
        results["workloads"][workload]["runs"][0]["outcome"]["figures"][name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} is missing: {results}"))
    };
    let figures = ["p99_growth", "took_s", "spent_cpu_s", "peak_mib"];
    for name in figures {
        assert!(figure(0, name) > 0.0, "{name}: {results}");
    }
    // Puts arrive all the time, so that even a leader that is followed at once leaves a gap.
    assert!(figure(1, "gap_median_ms") > 0.0, "{results}");
    assert!(figure(1, "wait_max_ms") > 0.0, "{results}");
    assert_eq!(figure(1, "errors"), 0.0, "{results}");
}

#[test]
fn a_run_that_goes_on_measures_what_is_missing_and_nothing_else() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let server = server().display().to_string();
    let of = |only: &str| {
        bench(
            &["--kvd", &server, "--continue", "--only", only],
            dir.path(),
        )
    };
    assert!(of("get-hot-1-1").status.success());
    let first = results(dir.path());
    let output = of("get-hot-1-1,get-hot-1-10");
    assert!(output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("get-hot-1-1:") && errors.contains("get-hot-1-10:"),
        "{errors}"
    );
    let both = results(dir.path());
    assert_eq!(both["workloads"][0], first["workloads"][0]);
    assert_eq!(both["workloads"].as_array().unwrap().len(), 2);
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
            .args(["--only", "put-3-100", "--seconds", "600"])
            .arg("--kvd")
            .arg(server())
            .arg("--dir")
            .arg(&dir)
            .arg("--out")
            .arg(place.path().join("results"))
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
    let output = bench(&["--kvd", "/bin/false"], &dir.path().join("results"));
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        error.trim_end(),
        "bench: /bin/false --version fails: is it a server?"
    );
    assert!(!dir.path().join("results").exists());
}
