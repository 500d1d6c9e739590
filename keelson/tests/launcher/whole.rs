//! A whole cluster: a store, and a control plane on it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Place, Up, eventually, get, is_alive, is_free, kill, output, pid_of, pids};

#[test]
fn it_is_started_in_order_shown_and_stopped_in_order() {
    let place = Place::alone();
    let mut up = Up::ready(place.whole());
    let kubeconfig = place.data().join("kubeconfig");
    up.wait_for(&format!("export KUBECONFIG={}", kubeconfig.display()));
    up.wait_for("kubectl create deployment web --image=nginx --replicas=3");
    let order = ["m1", "apiserver", "controllers"].map(|name| {
        let started = format!("{name}: started, pid ");
        up.said.iter().position(|line| line.starts_with(&started))
    });
    assert!(order.is_sorted() && order[0].is_some(), "{:#?}", up.said);

    let text = fs::read_to_string(&kubeconfig).unwrap();
    let server = format!("server: https://127.0.0.1:{}", place.api_port());
    assert!(text.contains(&server), "{text}");
    assert_eq!(mode(&kubeconfig), 0o600);
    let keys = fs::read_dir(place.data().join("pki")).unwrap();
    let keys = keys.map(|entry| entry.unwrap().path());
    let keys: Vec<_> = keys
        .filter(|path| path.extension().is_some_and(|ext| ext == "key"))
        .collect();
    assert!(keys.len() >= 5, "{keys:?}");
    assert!(keys.iter().all(|key| mode(key) == 0o600));

    let (status, table, _) = output(place.keelson("status"));
    assert!(status.success(), "{table}");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let states: Vec<(&str, &str)> = rows[1..].iter().map(|row| (row[0], row[2])).collect();
    assert_eq!(
        states,
        [
            ("m1", "leader"),
            ("apiserver", "ready"),
            ("controllers", "ready"),
            ("scheduler", "ready"),
            ("node-1", "ready"),
            ("node-2", "ready"),
        ]
    );
    let port = place.api_port().to_string();
    assert_eq!(rows[2].last(), Some(&port.as_str()));
    let node = get(place.port, "/registry/minions/node-2").expect("its objects are in the store");
    assert!(node.contains("10.244.2.0/24"), "{node}");

    let all = pids(&place.data());
    up.signal(Signal::TERM);
    assert!(up.end().success());
    let stopped: Vec<&str> = up
        .said
        .iter()
        .filter_map(|line| line.strip_suffix(": stopped"))
        .collect();
    assert_eq!(stopped.len(), 6, "{:#?}", up.said);
    assert_eq!(
        stopped[4..],
        ["apiserver", "m1"],
        "clients stop before the API server, the store last"
    );
    assert!(all.into_iter().all(|pid| !is_alive(pid)));
    assert!(is_free(place.api_port()));
}

#[test]
fn a_component_killed_with_sigkill_is_started_again() {
    let place = Place::alone();
    let mut up = Up::ready(place.whole());
    for name in ["apiserver", "controllers", "scheduler", "node-1"] {
        kill(pid_of(&place.data(), name), Signal::KILL);
        up.wait_for(&format!(
            "{name}: killed by SIGKILL; starting again in 100ms"
        ));
        up.wait_for(&format!("{name}: started, pid "));
    }
    eventually("all are ready again", || {
        output(place.keelson("status")).0.success()
    });
    let (_, table, _) = output(place.keelson("status"));
    let restarts = table
        .lines()
        .filter(|line| line.split_whitespace().any(|word| word == "1"));
    assert!(restarts.count() >= 4, "{table}");
    let (status, said, _) = output(place.keelson("down"));
    assert!(status.success(), "{said}");
    assert!(up.end().success());
}

#[test]
fn the_next_start_may_have_another_port_and_other_nodes() {
    let place = Place::alone();
    let mut up = Up::ready(place.whole());
    up.signal(Signal::TERM);
    assert!(up.end().success());

    let kubeconfig = place.path().join("mine");
    let mut again = place.keelson("up");
    again.args(["--nodes", "1", "--hollow-nodes", "3"]);
    again.arg("--kubeconfig").arg(&kubeconfig);
    let mut up = Up::ready(again);
    assert_eq!(mode(&kubeconfig), 0o600);
    let text = fs::read_to_string(&kubeconfig).unwrap();
    assert!(
        text.contains(&format!(":{}\n", place.api_port())),
        "the port was remembered: {text}"
    );
    let node = get(place.port, "/registry/minions/hollow-2").expect("hollow nodes are nodes");
    assert!(node.contains("10.245.2.0/24"), "{node}");
    let (status, table, _) = output(place.keelson("status"));
    assert!(
        status.success() && table.contains("hollow") && !table.contains("node-2"),
        "{table}"
    );
    up.signal(Signal::TERM);
    assert!(up.end().success());

    // A store alone, of a directory that knows of more.
    let mut up = Up::ready(place.again());
    let (status, table, _) = output(place.keelson("status"));
    assert!(status.success() && !table.contains("apiserver"), "{table}");
    up.signal(Signal::TERM);
    assert!(up.end().success());
}

#[test]
fn what_would_go_wrong_is_said_before_anything_is_started() {
    let place = Place::alone();
    let foreign = place.path().join("config");
    fs::write(
        &foreign,
        "clusters: [{name: prod, cluster: {server: 'https://prod'}}]\n",
    )
    .unwrap();
    let mut up = place.whole();
    up.arg("--kubeconfig").arg(&foreign);
    let (status, said, error) = output(up);
    assert!(!status.success() && said.is_empty(), "{said}");
    assert!(
        error.contains("is not a kubeconfig that keelson made, and is left as it is"),
        "{error}"
    );
    assert!(fs::read_to_string(&foreign).unwrap().contains("prod"));

    let _listener = TcpListener::bind(("127.0.0.1", place.api_port())).unwrap();
    let (status, said, error) = output(place.whole());
    assert!(!status.success() && said.is_empty(), "{said}");
    let port = place.api_port();
    assert!(
        error.contains(&format!("port {port}, which the API server needs")),
        "{error}"
    );
    assert!(error.contains("--api-port"), "{error}");
    assert!(!place.data().exists(), "nothing was made");
}

#[test]
fn the_story_of_a_deployment_is_told_from_its_creation_to_its_last_pod() {
    let place = Place::alone();
    let mut up = Up::ready(place.whole());
    let kubeconfig = place.data().join("kubeconfig");
    let mut trace = std::process::Command::new(env!("CARGO_BIN_EXE_keelson"));
    trace
        .args(["trace", "deployment/web", "--until-idle", "3s"])
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .stdin(Stdio::null());
    let mut trace = Up::start_with_stderr(trace);
    trace.wait_for("deployment/web is not there yet; waiting for it");
    crate::support::create_deployment(&kubeconfig, "web", 3);
    assert!(trace.end().success());
    let told = trace.said.join("\n");
    let line = |parts: &[&str]| {
        let has_all = |line: &&String| parts.iter().all(|part| line.contains(part));
        let found = trace.said.iter().find(has_all);
        found
            .unwrap_or_else(|| panic!("no line with {parts:?} in:\n{told}"))
            .clone()
    };
    let revision = |line: &str| -> u64 {
        let (_, rest) = line.split_once("rev ").expect("a revision");
        rest.split_whitespace()
            .next()
            .expect("a number")
            .parse()
            .expect("a number")
    };
    let created = line(&["a-person", "created deployment/web"]);
    assert!(
        created.contains("+0.000s") && !created.contains("because"),
        "{created}"
    );
    let because = format!(
        "because it saw rev {} of deployment/web",
        revision(&created)
    );
    let set = line(&[
        "kube-controller-manager",
        "created replicaset/web-",
        "(owner deployment/web)",
        &because,
    ]);
    let because = format!("because it saw rev {} of replicaset/web-", revision(&set));
    line(&[
        "kube-controller-manager",
        "created pod/web-",
        "(owner replicaset/web-",
        &because,
    ]);
    line(&[
        "kube-scheduler",
        "changed pod/web-",
        "spec.nodeName=node-",
        "because it saw rev ",
    ]);
    line(&[
        "kubelet",
        "status.phase Pending→Running",
        "because it saw rev ",
    ]);
    line(&[
        "changed deployment/web",
        "status.readyReplicas",
        "because it saw rev ",
        " of replicaset/web-",
    ]);
    line(&[
        "said of deployment/web: ScalingReplicaSet: Scaled up replica set web-",
        " from 0 to 3",
    ]);
    let made = trace
        .said
        .iter()
        .filter(|line| line.contains("created pod/web-"))
        .count();
    assert_eq!(made, 3, "{told}");
    up.signal(Signal::TERM);
    assert!(up.end().success());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
