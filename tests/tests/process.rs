//! The process around a member: what it answers before it can take part, and what becomes of it when nobody reads its log.

use std::process::Stdio;

use keelson_tests::http;
use keelson_tests::member::Member;
use keelson_tests::peers::Server;
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use tempfile::TempDir;

fn temporary() -> TempDir {
    TempDir::with_prefix("keelson-test-").expect("a temporary folder can be made")
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_while_there_is_no_quorum() {
    let _turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        // etcd listens to clients when it has a quorum.
        return;
    }
    let dir = temporary();
    let mut member = Member::new(Server::Kvd, "m0", dir.path());
    let missing = Member::new(Server::Kvd, "m1", dir.path());
    let initial = [&member, &missing].map(Member::initial_cluster_entry);
    let joining = [format!("--initial-cluster={}", initial.join(","))];
    member.start(&joining, &[]);
    let url = member.client_url();
    let health = wait::until("an answer of /health", async || {
        http::get(&url, "/health").await
    });
    let (status, body) = health.await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(
        body.trim(),
        r#"{"health":"false","reason":"RAFT NO LEADER"}"#
    );
    let (status, body) = http::get(&url, "/livez").await.expect("it answers");
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", "ok\n")
    );
    let (status, body) = http::get(&url, "/metrics").await.expect("it answers");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("\netcd_server_has_leader 0\n"), "{body}");
    assert!(!member.log().contains("ready to serve client requests"));
    assert!(member.terminate().await.success(), "{}", member.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_opens_as_many_files_as_it_may_whatever_the_usual_limit() {
    let _turn = Turn::take().await;
    let dir = temporary();
    let member = Member::new(Server::under_test(), "m0", dir.path());
    let server = member.command();
    let mut command = tokio::process::Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -Sn 128 && ulimit -Hn 4000 && exec \"$@\"",
            "sh",
        ])
        .arg(server.get_program())
        .args(server.get_args())
        .arg(format!(
            "--initial-cluster={}",
            member.initial_cluster_entry()
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _process = command.kill_on_drop(true).spawn().expect("it can be run");
    let url = member.client_url();
    let metrics = wait::until("its metrics", async || http::get(&url, "/metrics").await);
    let (_, body) = metrics.await;
    let limit = body
        .lines()
        .find_map(|line| line.strip_prefix("process_max_fds "))
        .and_then(|limit| limit.parse::<f64>().ok());
    assert_eq!(limit, Some(4000.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_log_nobody_reads_goes_on_and_ends_in_order() {
    let _turn = Turn::take().await;
    let dir = temporary();
    let member = Member::new(Server::under_test(), "m0", dir.path());
    let mut command = member.command();
    command
        .arg(format!(
            "--initial-cluster={}",
            member.initial_cluster_entry()
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let mut process = command.kill_on_drop(true).spawn().expect("it can be run");
    drop(process.stderr.take());
    let client = member.client();
    wait::until("a put", async || client.put("key", "value").await).await;
    // It says that it is unhealthy, once for each probe, when it is.
    let id = process.id().expect("it runs");
    let id = rustix::process::Pid::from_raw(id.cast_signed()).expect("no process is 0");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
    let status = wait::soon("its end", process.wait())
        .await
        .expect("it ends");
    assert!(status.success(), "{status}");
}
