//! Clients that nobody here wrote, against three members: etcdctl 3.4 and 3.5.1, Python's aetcd, Rust's etcd-client.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use etcd_client::{
    Compare, CompareOp, DeleteOptions, EventType, GetOptions, PutOptions, SortOrder, SortTarget,
    Txn, TxnOp, WatchOptions,
};
use keelson_tests::cluster::{Cluster, Spec, member_id};
use keelson_tests::http;
use keelson_tests::peers::{self, workspace};
use keelson_tests::tool::{self, Said};
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use tokio::io::{AsyncBufReadExt, BufReader};

/// An etcdctl of some version, for one cluster.
struct Etcdctl {
    program: PathBuf,
    endpoints: Vec<String>,
    /// Where it may write.
    dir: PathBuf,
}

impl Etcdctl {
    fn new(release: &str, cluster: &Cluster) -> Etcdctl {
        let program = peers::peer(&format!("{release}/etcdctl"));
        Etcdctl {
            program,
            endpoints: cluster.client_urls(),
            dir: cluster.dir().to_path_buf(),
        }
    }

    /// Only through the member at this place.
    fn at(&self, place: usize) -> Etcdctl {
        Etcdctl {
            program: self.program.clone(),
            endpoints: vec![self.endpoints[place].clone()],
            dir: self.dir.clone(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(name);
            }
        }
        command.env("ETCDCTL_API", "3").current_dir(&self.dir);
        command
            .arg(format!("--endpoints={}", self.endpoints.join(",")))
            .args(args);
        command
    }

    /// What a command prints that must succeed.
    async fn says(&self, args: &[&str]) -> String {
        tool::stdout(self.command(args)).await
    }

    /// What a command says that must fail.
    async fn fails(&self, args: &[&str]) -> Said {
        let said = tool::run(self.command(args)).await;
        assert!(!said.success, "etcdctl {args:?} succeeds: {}", said.stdout);
        said
    }

    /// What `txn` prints for a script on its standard input.
    async fn txn(&self, script: &str) -> String {
        let path = self.dir.join("script");
        std::fs::write(&path, script).expect("a temporary folder can be written");
        let shell = format!("exec \"$0\" \"$@\" < '{}'", path.display());
        let etcdctl = self.command(&["txn"]);
        let mut command = Command::new("sh");
        command
            .env("ETCDCTL_API", "3")
            .args(["-c", &shell])
            .arg(etcdctl.get_program())
            .args(etcdctl.get_args());
        tool::stdout(command).await
    }

    /// The first lines that a command prints which never ends.
    async fn first_lines(&self, args: &[&str], count: usize) -> Vec<String> {
        let mut command = tokio::process::Command::from(self.command(args));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("etcdctl can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let mut first = Vec::new();
        while first.len() < count {
            let line = wait::soon("a line of etcdctl's", lines.next_line())
                .await
                .expect("its output is text");
            first.push(line.unwrap_or_else(|| panic!("etcdctl {args:?} ended after {first:?}")));
        }
        first
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_3_5_works_unchanged() {
    etcdctl_works("etcd-3.5.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_3_4_works_unchanged() {
    etcdctl_works("etcd-3.4").await;
}

async fn etcdctl_works(release: &str) {
    let turn = Turn::take().await;
    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let etcdctl = Etcdctl::new(release, &cluster);
    keys(&etcdctl).await;
    transactions(&etcdctl).await;
    watches(&etcdctl).await;
    leases(&etcdctl).await;
    compaction(&etcdctl).await;
    members_and_endpoints(&etcdctl).await;
    alarms_and_upkeep(&etcdctl).await;
    leader_moves(&etcdctl, &mut cluster).await;
    snapshot(&etcdctl).await;
}

async fn keys(etcdctl: &Etcdctl) {
    assert_eq!(etcdctl.says(&["put", "a/1", "one"]).await, "OK\n");
    assert_eq!(etcdctl.says(&["put", "a/2", "two"]).await, "OK\n");
    assert_eq!(etcdctl.says(&["put", "b", "bee"]).await, "OK\n");
    assert_eq!(
        etcdctl.says(&["put", "--prev-kv", "b", "bee2"]).await,
        "OK\nb\nbee\n"
    );
    assert_eq!(etcdctl.says(&["put", "--ignore-value", "b"]).await, "OK\n");
    // Each member has it.
    for place in 0..3 {
        assert_eq!(etcdctl.at(place).says(&["get", "a/1"]).await, "a/1\none\n");
    }
    assert_eq!(
        etcdctl.says(&["get", "--prefix", "a/"]).await,
        "a/1\none\na/2\ntwo\n"
    );
    assert_eq!(
        etcdctl
            .says(&["get", "--prefix", "--keys-only", "a/"])
            .await,
        "a/1\n\na/2\n\n"
    );
    assert_eq!(
        etcdctl
            .says(&[
                "get",
                "--prefix",
                "--limit=1",
                "--order=DESCEND",
                "--print-value-only",
                "a/"
            ])
            .await,
        "two\n"
    );
    assert_eq!(
        etcdctl.says(&["get", "--from-key", "a/2"]).await,
        "a/2\ntwo\nb\nbee2\n"
    );
    assert_eq!(
        etcdctl.says(&["get", "--rev=2", "--prefix", "a/"]).await,
        "a/1\none\n"
    );
    assert_eq!(
        etcdctl.says(&["get", "--consistency=s", "a/1"]).await,
        "a/1\none\n"
    );
    assert!(
        etcdctl
            .says(&["get", "-w=fields", "a/1"])
            .await
            .contains("\"CreateRevision\" : 2\n")
    );
    assert_eq!(
        etcdctl.says(&["del", "--prev-kv", "a/1"]).await,
        "1\na/1\none\n"
    );
    assert_eq!(etcdctl.says(&["del", "--prefix", "a/"]).await, "1\n");
    assert_eq!(etcdctl.says(&["del", "nothing"]).await, "0\n");
    let said = etcdctl.fails(&["put", "", "value"]).await;
    assert!(
        said.stderr.contains("etcdserver: key is not provided"),
        "{said:?}"
    );
    let said = etcdctl.fails(&["get", "--rev=1000000", "b"]).await;
    assert!(
        said.stderr
            .contains("etcdserver: mvcc: required revision is a future revision"),
        "{said:?}"
    );
}

async fn transactions(etcdctl: &Etcdctl) {
    let script = "value(\"b\") = \"bee2\"\n\nput t yes\nget t\n\nput t no\n\n";
    assert_eq!(etcdctl.txn(script).await, "SUCCESS\n\nOK\n\nt\nyes\n");
    let script = "version(\"t\") > \"1\"\n\nput t yes\n\nput t no\nget t\n\n";
    assert_eq!(etcdctl.txn(script).await, "FAILURE\n\nOK\n\nt\nno\n");
}

async fn watches(etcdctl: &Etcdctl) {
    etcdctl.says(&["put", "w/1", "one"]).await;
    etcdctl.says(&["put", "w/1", "two"]).await;
    etcdctl.says(&["del", "w/1"]).await;
    let expected = [
        "PUT", "w/1", "one", "PUT", "w/1", "two", "DELETE", "w/1", "",
    ];
    for place in 0..3 {
        let lines = etcdctl
            .at(place)
            .first_lines(&["watch", "--rev=1", "--prefix", "w/"], 9)
            .await;
        assert_eq!(lines, expected);
    }
    let lines = etcdctl
        .first_lines(&["watch", "--rev=1", "--prev-kv", "w/1"], 13)
        .await;
    assert_eq!(
        lines[3..],
        [
            "PUT", "w/1", "one", "w/1", "two", "DELETE", "w/1", "two", "w/1", ""
        ]
    );
}

async fn leases(etcdctl: &Etcdctl) {
    let granted = etcdctl.says(&["lease", "grant", "600"]).await;
    let id = granted
        .strip_prefix("lease ")
        .and_then(|rest| rest.strip_suffix(" granted with TTL(600s)\n"));
    let id = id
        .unwrap_or_else(|| panic!("lease grant says {granted:?}"))
        .to_owned();
    etcdctl
        .says(&["put", &format!("--lease={id}"), "leased", "value"])
        .await;
    assert!(etcdctl.says(&["lease", "list"]).await.contains(&id));
    let ttl = etcdctl.says(&["lease", "timetolive", "--keys", &id]).await;
    assert!(
        ttl.starts_with(&format!("lease {id} granted with TTL(600s), remaining(")),
        "{ttl:?}"
    );
    assert!(ttl.contains("attached keys([leased])"), "{ttl:?}");
    let alive = etcdctl.says(&["lease", "keep-alive", "--once", &id]).await;
    assert_eq!(alive, format!("lease {id} keepalived with TTL(600)\n"));
    assert_eq!(
        etcdctl.says(&["lease", "revoke", &id]).await,
        format!("lease {id} revoked\n")
    );
    assert_eq!(etcdctl.says(&["get", "leased"]).await, "");
    assert_eq!(
        etcdctl.says(&["lease", "timetolive", &id]).await,
        format!("lease {id} already expired\n")
    );
    let said = etcdctl.fails(&["lease", "revoke", &id]).await;
    assert!(
        said.stderr
            .contains("etcdserver: requested lease not found"),
        "{said:?}"
    );
}

async fn compaction(etcdctl: &Etcdctl) {
    let fields = etcdctl.says(&["get", "-w=fields", "b"]).await;
    let revision = fields
        .lines()
        .find_map(|line| line.strip_prefix("\"Revision\" : "))
        .expect("it has a revision");
    let compacted = etcdctl.says(&["compaction", "--physical", revision]).await;
    assert_eq!(compacted, format!("compacted revision {revision}\n"));
    let said = etcdctl.fails(&["compaction", revision]).await;
    assert!(
        said.stderr
            .contains("etcdserver: mvcc: required revision has been compacted"),
        "{said:?}"
    );
    let said = etcdctl.fails(&["get", "--rev=2", "b"]).await;
    assert!(
        said.stderr
            .contains("etcdserver: mvcc: required revision has been compacted"),
        "{said:?}"
    );
    assert_eq!(etcdctl.says(&["get", "b"]).await, "b\nbee2\n");
}

async fn members_and_endpoints(etcdctl: &Etcdctl) {
    let list = etcdctl.says(&["member", "list"]).await;
    assert_eq!(list.lines().count(), 3, "{list}");
    for (place, url) in etcdctl.endpoints.iter().enumerate() {
        let is_it = |line: &str| {
            let fields: Vec<&str> = line.split(", ").collect();
            fields[1] == "started"
                && fields[2] == format!("m{place}")
                && fields[4] == *url
                && fields[5] == "false"
        };
        assert!(list.lines().any(is_it), "{list}");
    }
    let health = tool::run(etcdctl.command(&["endpoint", "health"])).await;
    assert!(health.success, "{health:?}");
    for url in &etcdctl.endpoints {
        let line = format!("{url} is healthy: successfully committed proposal");
        assert!(
            format!("{}{}", health.stdout, health.stderr).contains(&line),
            "{health:?}"
        );
    }
    let status = etcdctl.says(&["endpoint", "status"]).await;
    // endpoint, id, version, size, is leader, ...
    let leaders = status
        .lines()
        .filter(|line| line.split(", ").nth(4) == Some("true"))
        .count();
    assert_eq!((status.lines().count(), leaders), (3, 1), "{status}");
    let status = etcdctl
        .says(&["endpoint", "status", "--cluster", "-w=table"])
        .await;
    let members = status.lines().filter(|line| line.contains("http://"));
    assert_eq!(members.count(), 3, "{status}");
    wait::until("equal hashes", async || {
        let hashes = etcdctl.says(&["endpoint", "hashkv", "--cluster"]).await;
        let first = hashes
            .lines()
            .next()
            .and_then(|line| line.split(", ").nth(1))
            .map(str::to_owned);
        let equal = hashes
            .lines()
            .filter(|line| line.split(", ").nth(1) == first.as_deref())
            .count();
        if equal == 3 { Ok(()) } else { Err(hashes) }
    })
    .await;
}

async fn alarms_and_upkeep(etcdctl: &Etcdctl) {
    assert_eq!(etcdctl.says(&["alarm", "list"]).await, "");
    assert_eq!(etcdctl.says(&["alarm", "disarm"]).await, "");
    let defragmented = etcdctl.says(&["defrag"]).await;
    assert_eq!(
        defragmented
            .matches("Finished defragmenting etcd member")
            .count(),
        3,
        "{defragmented}"
    );
}

async fn leader_moves(etcdctl: &Etcdctl, cluster: &mut Cluster) {
    let leader = cluster.wait_ready().await;
    let to = (leader + 1) % 3;
    let status = cluster
        .client(to)
        .status()
        .await
        .expect("a running member has a status");
    let id = format!("{:x}", member_id(&status.header));
    let moved = etcdctl.says(&["move-leader", &id]).await;
    assert!(
        moved.starts_with("Leadership transferred from "),
        "{moved:?}"
    );
    assert_eq!(cluster.wait_ready().await, to);
}

async fn snapshot(etcdctl: &Etcdctl) {
    let saved = etcdctl
        .at(0)
        .says(&["snapshot", "save", "snapshot.db"])
        .await;
    assert!(saved.contains("Snapshot saved at snapshot.db"), "{saved:?}");
    let bytes = std::fs::metadata(etcdctl.dir.join("snapshot.db"))
        .expect("the file is there")
        .len();
    assert!(bytes > 32, "the snapshot has {bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_aetcd_works_unchanged() {
    let turn = Turn::take().await;
    let cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    for place in cluster.places() {
        let mut python = Command::new(peers::peer("python/bin/python"));
        python
            .arg(workspace().join("tests/clients/matrix.py"))
            .arg(cluster.client_urls()[place].as_str());
        assert_eq!(tool::stdout(python).await.lines().last(), Some("all good"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_etcd_client_works_unchanged() {
    let turn = Turn::take().await;
    let cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let mut client = etcd_client::Client::connect(cluster.client_urls(), None)
        .await
        .expect("it connects");
    rust_keys(&mut client).await;
    rust_transaction(&mut client).await;
    rust_watch(&mut client).await;
    rust_lease(&mut client).await;
    rust_upkeep(&mut client).await;
}

async fn rust_keys(client: &mut etcd_client::Client) {
    client.put("k/1", "one", None).await.expect("put");
    let replaced = client
        .put("k/1", "uno", Some(PutOptions::new().with_prev_key()))
        .await
        .expect("put");
    assert_eq!(replaced.prev_key().expect("it was there").value(), b"one");
    client.put("k/2", "dos", None).await.expect("put");
    let descending = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Key, SortOrder::Descend)
        .with_limit(1);
    let found = client.get("k/", Some(descending)).await.expect("get");
    assert_eq!(
        (found.count(), found.more(), found.kvs()[0].value()),
        (2, true, &b"dos"[..])
    );
    let deleted = client
        .delete("k/", Some(DeleteOptions::new().with_prefix()))
        .await
        .expect("delete");
    assert_eq!(deleted.deleted(), 2);
    let error = client.put("", "", None).await.expect_err("a key is needed");
    assert!(
        error
            .to_string()
            .contains("etcdserver: key is not provided"),
        "{error}"
    );
}

async fn rust_transaction(client: &mut etcd_client::Client) {
    let create = || {
        Txn::new()
            .when([Compare::version("lock", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("lock", "me", None)])
            .or_else([TxnOp::get("lock", None)])
    };
    assert!(client.txn(create()).await.expect("txn").succeeded());
    let second = client.txn(create()).await.expect("txn");
    assert!(!second.succeeded());
    assert_eq!(second.op_responses().len(), 1);
}

async fn rust_watch(client: &mut etcd_client::Client) {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("w/", Some(options)).await.expect("watch");
    client.put("w/1", "one", None).await.expect("put");
    client.delete("w/1", None).await.expect("delete");
    let mut events = Vec::new();
    while events.len() < 2 {
        let response = wait::soon("an event", stream.message())
            .await
            .expect("a response")
            .expect("the stream lives");
        events.extend(response.events().iter().map(|event| {
            let previous = event.prev_kv().map(|kv| kv.value().to_vec());
            (
                event.event_type(),
                event.kv().expect("an event has a key").key().to_vec(),
                previous,
            )
        }));
    }
    let key = b"w/1".to_vec();
    assert_eq!(
        events,
        [
            (EventType::Put, key.clone(), None),
            (EventType::Delete, key, Some(b"one".to_vec()))
        ]
    );
}

async fn rust_lease(client: &mut etcd_client::Client) {
    let id = client.lease_grant(600, None).await.expect("grant").id();
    client
        .put("leased", "", Some(PutOptions::new().with_lease(id)))
        .await
        .expect("put");
    let (mut keeper, mut stream) = client.lease_keep_alive(id).await.expect("keep-alive");
    keeper.keep_alive().await.expect("keep-alive");
    let alive = wait::soon("a renewal", stream.message())
        .await
        .expect("a response")
        .expect("the stream lives");
    assert_eq!(alive.ttl(), 600);
    client.lease_revoke(id).await.expect("revoke");
    assert_eq!(client.get("leased", None).await.expect("get").count(), 0);
}

async fn rust_upkeep(client: &mut etcd_client::Client) {
    assert_eq!(client.member_list().await.expect("list").members().len(), 3);
    let status = client.status().await.expect("status");
    assert!(status.db_size() > 0 && status.leader() != 0, "{status:?}");
    let mut snapshot = client.snapshot().await.expect("snapshot");
    let mut bytes = 0;
    while let Some(chunk) = snapshot.message().await.expect("a chunk") {
        bytes += chunk.blob().len();
    }
    assert!(bytes > 32, "the snapshot has {bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_is_answered_over_plain_http_on_the_client_port() {
    let turn = Turn::take().await;
    let cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    for url in cluster.client_urls() {
        let (status, body) = http::get(&url, "/health").await.expect("it answers");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(body.contains("\"health\":\"true\""), "{body}");
        let (status, body) = http::get(&url, "/version").await.expect("it answers");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(
            body.contains("\"etcdserver\":") && body.contains("\"etcdcluster\":"),
            "{body}"
        );
        let (status, body) = http::get(&url, "/metrics").await.expect("it answers");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let has = |line: &str| body.lines().any(|found| found == line);
        assert!(has("etcd_server_has_leader 1"), "{body}");
        assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
    }
}
