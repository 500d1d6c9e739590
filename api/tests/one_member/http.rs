//! The HTTP paths, asked as a probe asks them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::member::{Running, put};

struct Page {
    head: String,
    body: String,
}

impl Page {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("")
    }
}

async fn fetch(running: &Running, method: &str, path: &str) -> Page {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    Page {
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_are_answered_as_etcd_answers_them() {
    let running = Running::start().await;
    let health = fetch(&running, "GET", "/health").await;
    assert_eq!(
        (health.status(), health.body.as_str()),
        ("200", r#"{"health":"true","reason":""}"#)
    );
    let live = fetch(&running, "GET", "/livez").await;
    assert_eq!((live.status(), live.body.as_str()), ("200", "ok\n"));
    let ready = fetch(&running, "GET", "/readyz?verbose&exclude=non_learner").await;
    let lines = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n";
    assert_eq!((ready.status(), ready.body.as_str()), ("200", lines));
    let one = fetch(&running, "GET", "/readyz/linearizable_read").await;
    assert_eq!((one.status(), one.body.as_str()), ("200", "ok\n"));
    assert_eq!(fetch(&running, "POST", "/health").await.status(), "405");
    let nothing = fetch(&running, "GET", "/nothing").await;
    assert_eq!(
        (nothing.status(), nothing.body.as_str()),
        ("404", "404 page not found\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_call_itself_a_call_is_not_taken_for_one() {
    let running = Running::start().await;
    for path in [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.Watch/Watch",
    ] {
        let page = fetch(&running, "POST", path).await;
        assert_eq!(
            (page.status(), page.body.as_str()),
            ("404", "404 page not found\n"),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_makes_a_member_unhealthy_unless_it_is_excluded() {
    let running = Running::start().await;
    running.api.raise_no_space().await.unwrap();
    let sick = fetch(&running, "GET", "/health").await;
    assert_eq!(sick.status(), "503");
    assert_eq!(
        sick.body,
        "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"
    );
    assert_eq!(
        fetch(&running, "GET", "/health?exclude=NOSPACE")
            .await
            .status(),
        "200"
    );
    assert_eq!(fetch(&running, "GET", "/readyz").await.status(), "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_told() {
    let running = Running::start().await;
    let page = fetch(&running, "GET", "/version").await;
    assert!(
        page.head.contains("content-type: application/json"),
        "{}",
        page.head
    );
    assert_eq!(
        page.body,
        r#"{"etcdserver":"3.6.0","etcdcluster":"3.6.0","storage":"3.6.0"}"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_know_the_member_and_what_it_was_asked() {
    let running = Running::start().await;
    running.kv().await.put(put("a", "1")).await.unwrap();
    let page = fetch(&running, "GET", "/metrics").await;
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_is_learner 0",
        "etcd_server_id{server_id=\"5\"} 1",
        "etcd_debugging_mvcc_keys_total 1",
        "etcd_debugging_mvcc_current_revision 2",
        "etcd_server_proposals_failed_total 0",
        "etcd_server_proposals_pending 0",
        "etcd_debugging_mvcc_watcher_total 0",
    ] {
        assert!(
            page.body.lines().any(|found| found == line),
            "{line} is not in\n{}",
            page.body
        );
    }
    let handled = "grpc_method=\"Put\",grpc_code=\"OK\"} 1";
    assert!(
        page.body
            .lines()
            .any(|line| line.starts_with("grpc_server_handled_total") && line.ends_with(handled))
    );
    for name in [
        "etcd_mvcc_db_total_size_in_bytes ",
        "etcd_server_proposals_committed_total ",
        "process_open_fds ",
    ] {
        let value = page
            .body
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or("0");
        assert!(value.parse::<f64>().unwrap() > 0.0, "{name}{value}");
    }
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(page.head.contains(kind), "{}", page.head);
}
