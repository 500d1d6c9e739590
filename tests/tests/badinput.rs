//! What must be refused, is refused with one clear line (or the API's own error), and nothing else comes to harm.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::cluster::{Cluster, Spec};
use keelson_tests::files::contents;
use keelson_tests::member::Member;
use keelson_tests::peers::Server;
use keelson_tests::tool::{self, Said};
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use tempfile::TempDir;
use tonic::Code;

/// A member that was never started, as the only one of its cluster.
fn lone_member(dir: &TempDir) -> Member {
    Member::new(Server::under_test(), "m0", dir.path())
}

fn temporary() -> TempDir {
    TempDir::with_prefix("keelson-test-").expect("a temporary folder can be made")
}

/// Runs a server that must refuse to start, and has `names` what it refuses.
async fn refuses(mut command: Command, names: &str) -> Said {
    command.arg("--log-level=error");
    let said = tool::run(command).await;
    assert!(!said.success, "it exits as if all were well: {said:?}");
    assert!(
        format!("{}{}", said.stdout, said.stderr).contains(names),
        "it does not name {names:?}: {said:?}"
    );
    // etcd's manners are not ours to test.
    if Server::under_test() == Server::Kvd {
        assert_eq!(
            said.stderr.trim_end().lines().count(),
            1,
            "not one clear line: {said:?}"
        );
        assert!(!said.stderr.contains("panicked"), "{said:?}");
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_flag_is_refused() {
    let _turn = Turn::take().await;
    let dir = temporary();
    let member = lone_member(&dir);
    let mut command = member.command();
    command.arg("--no-such-flag=1");
    let said = tool::run(command).await;
    assert!(!said.success, "{said:?}");
    assert!(said.stderr.contains("no-such-flag"), "{said:?}");
    assert!(!member.data_dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_url_is_refused() {
    let _turn = Turn::take().await;
    let dir = temporary();
    let member = lone_member(&dir);
    for (flag, value) in [
        ("--listen-client-urls", "127.0.0.1:1"),
        ("--listen-peer-urls", "http://127.0.0.1"),
        ("--initial-advertise-peer-urls", "ftp://127.0.0.1:1"),
        ("--listen-client-urls", "http://127.0.0.1:99999"),
    ] {
        let mut command = member.command();
        // etcd takes the last of two equal flags; one at a time is clearer.
        let kept: Vec<_> = command
            .get_args()
            .filter(|arg| !arg.to_string_lossy().starts_with(flag))
            .map(Into::into)
            .collect();
        let program = command.get_program().to_owned();
        command = Command::new(program);
        command
            .args::<_, std::ffi::OsString>(kept)
            .arg(format!("{flag}={value}"));
        let said = tool::run(command).await;
        assert!(!said.success, "{flag}={value}: {said:?}");
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(text.contains(value), "{flag}={value}: {said:?}");
        assert!(
            !member.data_dir().exists(),
            "{flag}={value} left a data directory"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_this_member_is_refused() {
    let _turn = Turn::take().await;
    let dir = temporary();
    let member = lone_member(&dir);
    let mut command = member.command();
    command.arg("--initial-cluster=other=http://127.0.0.1:1");
    refuses(command, "m0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_refused() {
    let _turn = Turn::take().await;
    let dir = temporary();
    let member = lone_member(&dir);
    for url in [member.client_url(), member.peer_url()] {
        let address = url.strip_prefix("http://").expect("it is plain HTTP");
        let _taken = TcpListener::bind(address).expect("the port is free");
        let mut command = member.command();
        command.arg(format!(
            "--initial-cluster={}",
            member.initial_cluster_entry()
        ));
        refuses(command, address).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_used_is_refused() {
    let _turn = Turn::take().await;
    let dir = temporary();
    let member = lone_member(&dir);
    fs::write(member.data_dir(), "not a folder").expect("a temporary folder can be written");
    let mut command = member.command();
    command.arg(format!(
        "--initial-cluster={}",
        member.initial_cluster_entry()
    ));
    refuses(command, &member.data_dir().display().to_string()).await;
    let kept = fs::read_to_string(member.data_dir()).expect("it is still a file");
    assert_eq!(kept, "not a folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_refused() {
    let turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        // etcd waits for the other process to let go of its lock.
        return;
    }
    let cluster = Cluster::start(&turn, Spec::under_test(1)).await;
    let dir = temporary();
    let other = lone_member(&dir);
    let used = cluster.member(0).data_dir();
    let mut command = Command::new(Server::under_test().program());
    command
        .arg(format!("--name={}", other.name()))
        .arg(format!("--data-dir={}", used.display()))
        .arg(format!("--listen-client-urls={}", other.client_url()))
        .arg(format!("--advertise-client-urls={}", other.client_url()))
        .arg(format!("--listen-peer-urls={}", other.peer_url()))
        .arg(format!(
            "--initial-advertise-peer-urls={}",
            other.peer_url()
        ))
        .arg(format!(
            "--initial-cluster={}",
            other.initial_cluster_entry()
        ));
    refuses(command, &used.display().to_string()).await;
    cluster
        .client(0)
        .put("key", "value")
        .await
        .expect("the one that has it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn etcds_own_data_directory_is_refused_and_left_alone() {
    let turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        return;
    }
    let mut etcd = Cluster::start(&turn, Spec::of(Server::Etcd35, 1)).await;
    etcd.client(0)
        .put("key", "value")
        .await
        .expect("a put works");
    etcd.member_mut(0).terminate().await;
    let theirs = etcd.member(0).data_dir();
    let before = contents(&theirs);
    assert!(!before.is_empty());

    let dir = temporary();
    let member = lone_member(&dir);
    fs::rename(&theirs, member.data_dir()).expect("a folder can be moved within another");
    let mut command = member.command();
    command.arg(format!(
        "--initial-cluster={}",
        member.initial_cluster_entry()
    ));
    refuses(command, "etcd").await;
    assert!(
        contents(&member.data_dir()) == before,
        "its files have changed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_the_data_of_another_cluster_is_refused() {
    let turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        return;
    }
    let mut other = Cluster::start(&turn, Spec::under_test(1)).await;
    other
        .client(0)
        .put("key", "other")
        .await
        .expect("a put works");
    other.member_mut(0).terminate().await;

    let mut cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    cluster
        .client(0)
        .put("key", "ours")
        .await
        .expect("a put works");
    cluster.member_mut(2).kill();
    let data = cluster.member(2).data_dir();
    fs::remove_dir_all(&data).expect("a stopped member's data can be removed");
    fs::rename(other.member(0).data_dir(), &data).expect("a folder can be moved");
    let before = contents(&data);
    cluster.restart(2);
    let status = cluster.member_mut(2).wait_exit().await;
    assert!(!status.success());
    let log = cluster.member(2).log();
    assert!(
        log.lines()
            .last()
            .is_some_and(|line| line.contains("cluster")),
        "{log}"
    );
    assert!(contents(&data) == before, "its files have changed");
    assert_eq!(
        cluster
            .client(0)
            .get("key")
            .await
            .expect("the others go on")
            .as_deref(),
        Some("ours")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn security_that_is_not_there_is_refused_and_not_ignored() {
    let _turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        return;
    }
    let dir = temporary();
    let member = lone_member(&dir);
    for flag in [
        "--cert-file=x",
        "--key-file=x",
        "--client-cert-auth",
        "--trusted-ca-file=x",
        "--auto-tls",
        "--peer-cert-file=x",
        "--peer-key-file=x",
        "--peer-client-cert-auth",
        "--peer-trusted-ca-file=x",
        "--peer-auto-tls",
        "--cipher-suites=x",
        "--auth-token=jwt",
    ] {
        let mut command = member.command();
        command.arg(flag).arg(format!(
            "--initial-cluster={}",
            member.initial_cluster_entry()
        ));
        let name = flag
            .trim_start_matches('-')
            .split('=')
            .next()
            .expect("a split has a first part");
        refuses(command, name).await;
        assert!(!member.data_dir().exists(), "{flag} left a data directory");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_too_large_is_refused_and_the_connection_lives_on() {
    let turn = Turn::take().await;
    let cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    let client = cluster.client(0);
    let put = |bytes: usize| pb::PutRequest {
        key: "key".into(),
        value: vec![0; bytes].into(),
        ..Default::default()
    };
    client
        .kv()
        .put(put(1_500_000))
        .await
        .expect("just below the bound");
    let refused = client
        .kv()
        .put(put(1_600_000))
        .await
        .expect_err("above the bound");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    // More than the transport takes: whatever it says, it says it to this request only.
    let refused = client
        .kv()
        .put(put(8 << 20))
        .await
        .expect_err("far above the bound");
    assert!(
        matches!(refused.code(), Code::ResourceExhausted | Code::OutOfRange),
        "{refused:?}"
    );
    assert_eq!(
        client
            .kv()
            .put(put(1))
            .await
            .expect("a put works")
            .into_inner()
            .header
            .expect("a header")
            .revision,
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_harm_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let turn = Turn::take().await;
    let cluster = Cluster::start(&turn, Spec::under_test(3)).await;
    for url in [cluster.member(0).client_url(), cluster.member(0).peer_url()] {
        let address = url
            .strip_prefix("http://")
            .expect("it is plain HTTP")
            .to_owned();
        for garbage in [
            &b"GET /no/such/page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"[..],
            &[0xff; 4096],
        ] {
            let mut stream = tokio::net::TcpStream::connect(&address)
                .await
                .expect("it listens");
            // It may hang up while we still write.
            let _ = stream.write_all(garbage).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = wait::soon("the end of the connection", stream.read_to_end(&mut answer)).await;
        }
    }
    cluster
        .client(0)
        .put("key", "value")
        .await
        .expect("a put works");
    cluster.wait_equal_hashkv().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_quota_only_deletes_and_reads_work_until_the_alarm_is_disarmed() {
    let turn = Turn::take().await;
    let quota = 16 << 20;
    let spec = Spec::under_test(3).flag(&format!("--quota-backend-bytes={quota}"));
    let cluster = Cluster::start(&turn, spec).await;
    let client = cluster.client(0);
    let put = |key: String| pb::PutRequest {
        key: key.into(),
        value: vec![7; 1 << 20].into(),
        ..Default::default()
    };
    let mut refused = None;
    for number in 0..64 {
        if let Err(status) = client.kv().put(put(format!("fill/{number}"))).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("the quota is reached");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(
        refused.message(),
        "etcdserver: mvcc: database space exceeded"
    );
    let alarms = alarms(&client).await;
    assert_eq!(
        alarms.first().map(|alarm| alarm.alarm()),
        Some(pb::AlarmType::Nospace),
        "{alarms:?}"
    );
    // Small ones too, through any member, and leases.
    for place in cluster.places() {
        cluster
            .client(place)
            .put("small", "x")
            .await
            .expect_err("the alarm stops puts on every member");
    }
    let grant = pb::LeaseGrantRequest { id: 1, ttl: 60 };
    client
        .lease()
        .lease_grant(grant)
        .await
        .expect_err("the alarm stops new leases");
    assert!(client.get("fill/0").await.expect("reads work").is_some());
    let delete = pb::DeleteRangeRequest {
        key: "fill/".into(),
        range_end: "fill0".into(),
        prev_kv: false,
    };
    let deleted = client
        .kv()
        .delete_range(delete)
        .await
        .expect("deletes work")
        .into_inner();
    let revision = deleted.header.expect("a header").revision;
    client
        .kv()
        .compact(pb::CompactionRequest {
            revision,
            physical: true,
        })
        .await
        .expect("compaction works");
    for place in cluster.places() {
        cluster
            .client(place)
            .maintenance()
            .defragment(pb::DefragmentRequest {})
            .await
            .expect("defragment works");
    }
    for alarm in self::alarms(&client).await {
        // Each member may have raised its own.
        let disarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate.into(),
            alarm: alarm.alarm,
            member_id: alarm.member_id,
        };
        client
            .maintenance()
            .alarm(disarm)
            .await
            .expect("an alarm can be disarmed");
    }
    wait::until("puts to work again", async || {
        client.put("small", "x").await
    })
    .await;
}

async fn alarms(client: &Client) -> Vec<pb::AlarmMember> {
    let action = pb::alarm_request::AlarmAction::Get.into();
    let request = pb::AlarmRequest {
        action,
        ..Default::default()
    };
    let listed = client.maintenance().alarm(request).await;
    listed.expect("alarms are listed").into_inner().alarms
}
