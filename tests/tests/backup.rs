//! Backups: what `kvctl snapshot save` has written becomes, on any number of members, the cluster that it was taken of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::KeyValue;
use keelson_tests::client::{Client, prefix_end};
use keelson_tests::cluster::{Cluster, Spec};
use keelson_tests::member::Member;
use keelson_tests::peers::{Server, program};
use keelson_tests::tool::{self, Said};
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use rand::Rng;
use rand::distr::Alphanumeric;
use tempfile::TempDir;
use tonic::Code;

const LEASE: i64 = 7;
const TTL_S: i64 = 3600;
/// All keys of these tests begin so.
const PREFIX: &str = "k/";
/// A revision at which the history of [`fill`] can still be read, and one at which it cannot.
const PAST: i64 = 4;
const COMPACTED: i64 = 3;

fn kvctl(args: &[&str]) -> Command {
    let mut command = Command::new(program("kvctl"));
    command.args(args);
    command
}

/// Takes a backup of the member at `place`.
async fn save(cluster: &Cluster, place: usize, file: &Path) {
    let url = cluster.member(place).client_url();
    let file = text(file);
    tool::stdout(kvctl(&["--endpoints", &url, "snapshot", "save", file])).await;
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary names are UTF-8")
}

/// `kvctl snapshot restore` of this member.
fn restore(file: &Path, member: &Member, initial: &str) -> Command {
    let data = member.data_dir();
    let mut command = kvctl(&["snapshot", "restore", text(file), "--data-dir", text(&data)]);
    command
        .args(["--name", member.name(), "--initial-cluster", initial])
        .args(["--initial-cluster-token", "keelson-tests"])
        .args(["--initial-advertise-peer-urls", &member.peer_url()]);
    command
}

/// A cluster each of whose members begins with the backup.
async fn restored(turn: &Turn, file: &Path, members: usize) -> Cluster {
    let prepare = async |member: &Member, initial: &str| {
        let said = tool::stdout(restore(file, member, initial)).await;
        assert!(said.starts_with("Restored "), "{said}");
    };
    Cluster::start_on(turn, Spec::of(Server::Kvd, members), prepare).await
}

/// Gives a cluster a past: keys put, overwritten and deleted, a compaction, and a key on a lease.
async fn fill(client: &Client) {
    client.put("k/a", "1").await.expect("a put works");
    client.put("k/a", "2").await.expect("a put works");
    client.put("k/gone", "1").await.expect("a put works");
    let delete = pb::DeleteRangeRequest {
        key: "k/gone".into(),
        ..Default::default()
    };
    client
        .kv()
        .delete_range(delete)
        .await
        .expect("a delete works");
    let grant = pb::LeaseGrantRequest {
        id: LEASE,
        ttl: TTL_S,
    };
    client
        .lease()
        .lease_grant(grant)
        .await
        .expect("a grant works");
    let leased = pb::PutRequest {
        key: "k/leased".into(),
        value: "1".into(),
        lease: LEASE,
        ..Default::default()
    };
    client.kv().put(leased).await.expect("a put works");
    for number in 0..300 {
        let value = number.to_string().repeat(100);
        client
            .put(&format!("k/{number:03}"), &value)
            .await
            .expect("a put works");
    }
    let compact = pb::CompactionRequest {
        revision: COMPACTED,
        physical: false,
    };
    client
        .kv()
        .compact(compact)
        .await
        .expect("a compaction works");
}

/// All that a backup must bring back.
#[derive(Debug, PartialEq)]
struct Contents {
    revision: i64,
    now: Vec<KeyValue>,
    past: Vec<KeyValue>,
    lease_ttl_s: i64,
    lease_keys: Vec<bytes::Bytes>,
    hash: u32,
    compacted: i64,
}

async fn contents(client: &Client) -> Contents {
    let list = async |revision| {
        let request = pb::RangeRequest {
            key: PREFIX.into(),
            range_end: prefix_end(PREFIX),
            revision,
            ..Default::default()
        };
        client
            .kv()
            .range(request)
            .await
            .map(|reply| reply.into_inner())
    };
    let now = list(0).await.expect("a range works");
    let past = list(PAST).await.expect("the past can be read");
    let too_old = list(COMPACTED - 1).await.expect_err("it is compacted");
    assert_eq!(too_old.code(), Code::OutOfRange, "{too_old}");
    let revision = now.header.expect("a range has a header").revision;
    let lease = pb::LeaseTimeToLiveRequest {
        id: LEASE,
        keys: true,
    };
    let lease = client.lease().lease_time_to_live(lease).await;
    let lease = lease.expect("the lease is asked for").into_inner();
    assert!((1..=TTL_S).contains(&lease.ttl), "{lease:?}");
    let hash = pb::HashKvRequest { revision };
    let hash = client.maintenance().hash_kv(hash).await;
    let hash = hash.expect("a hash is computed").into_inner();
    Contents {
        revision,
        now: now.kvs,
        past: past.kvs,
        lease_ttl_s: lease.granted_ttl,
        lease_keys: lease.keys,
        hash: hash.hash,
        compacted: hash.compact_revision,
    }
}

/// The cluster's id, and its members' ids and names.
async fn identity(client: &Client) -> (u64, BTreeSet<u64>, BTreeSet<String>) {
    let members = client.members().await.expect("members are listed");
    let status = client.status().await.expect("a member has a status");
    let ids = members.iter().map(|member| member.id).collect();
    let names = members.into_iter().map(|member| member.name).collect();
    (
        status.header.expect("it has a header").cluster_id,
        ids,
        names,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn three_restored_members_are_the_cluster_that_was_saved_and_go_on_from_there() {
    let turn = Turn::take().await;
    let home = TempDir::new().expect("a temporary folder can be made");
    let file = home.path().join("backup.db");
    let (before, old) = {
        let mut cluster = Cluster::start(&turn, Spec::of(Server::Kvd, 3)).await;
        let leader = cluster.wait_leader().await;
        let client = cluster.client(leader);
        fill(&client).await;
        let before = contents(&client).await;
        save(&cluster, leader, &file).await;
        // What comes after the backup is not in it.
        client.put("k/later", "1").await.expect("a put works");
        (before, identity(&client).await)
    };

    let mut cluster = restored(&turn, &file, 3).await;
    for place in cluster.places() {
        assert_eq!(contents(&cluster.client(place)).await, before, "m{place}");
    }
    let new = identity(&cluster.client(0)).await;
    assert_ne!(new.0, old.0, "the cluster's id");
    assert!(new.1.is_disjoint(&old.1), "{new:?} {old:?}");
    assert_eq!(new.1.len(), 3);
    let names: BTreeSet<String> = ["m0", "m1", "m2"].map(str::to_owned).into();
    wait::until("the members' names", async || {
        let (_, _, found) = identity(&cluster.client(0)).await;
        if found == names {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;

    // The first write has the next revision, on whichever member it arrives.
    for (written, place) in (1..).zip(cluster.places()) {
        let revision = cluster
            .client(place)
            .put(&format!("new/{place}"), "1")
            .await;
        assert_eq!(revision.expect("a put works"), before.revision + written);
    }
    cluster.wait_equal_hashkv().await;

    // All at once and without a warning: what they were restored with and what came since is there.
    for place in cluster.places() {
        cluster.member_mut(place).kill();
    }
    for place in cluster.places() {
        cluster.restart(place);
    }
    let leader = cluster.wait_ready().await;
    let client = cluster.client(leader);
    assert_eq!(client.list("new/").await.expect("a list works").count, 3);
    let after = client.list(PREFIX).await.expect("a list works");
    assert_eq!(after.kvs, before.now);

    // One that joins finds no log to begin with: the data come as a snapshot.
    let fourth = cluster.add_member().await;
    assert!(
        cluster
            .member(fourth)
            .log()
            .contains("a snapshot was installed"),
        "{}",
        cluster.member(fourth).log_tail()
    );
    cluster.wait_equal_hashkv().await;
    let leader = cluster.wait_leader().await;
    cluster.member_mut(leader).kill();
    cluster.wait_leader().await;
    let survivor = cluster.any_client().await.expect("a member answers");
    wait::until("a write without the old leader", async || {
        survivor.put("new/last", "1").await
    })
    .await;
    cluster.wait_equal_hashkv().await;
    let found = survivor.list(PREFIX).await.expect("a list works");
    assert_eq!(found.kvs, before.now);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_not_restored_is_kept_out_of_the_restored_cluster() {
    let turn = Turn::take().await;
    let (_home, file) = backup(&turn).await;
    let mut cluster = restored(&turn, &file, 3).await;
    cluster.member_mut(2).kill();
    let member = cluster.member(2);
    fs::remove_dir_all(member.data_dir()).expect("a data directory can be removed");
    let initial: Vec<String> = cluster
        .places()
        .into_iter()
        .map(|place| cluster.member(place).initial_cluster_entry())
        .collect();
    let mut command = member.command();
    command
        .arg(format!("--initial-cluster={}", initial.join(",")))
        .arg("--initial-cluster-token=keelson-tests");
    let said = tool::run(command).await;
    assert!(!said.success, "{said:?}");
    assert!(said.stderr.contains("is of cluster"), "{said:?}");
    assert!(!member.data_dir().exists());
}

/// A backup of a cluster of one.
async fn backup(turn: &Turn) -> (TempDir, PathBuf) {
    let home = TempDir::new().expect("a temporary folder can be made");
    let file = home.path().join("backup.db");
    let cluster = Cluster::start(turn, Spec::of(Server::Kvd, 1)).await;
    fill(&cluster.client(0)).await;
    save(&cluster, 0, &file).await;
    (home, file)
}

fn names(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).expect("a temporary folder can be read");
    entries
        .map(|entry| entry.expect("it can be read").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

fn assert_one_clear_line(said: &Said, names: &str) {
    assert!(!said.success, "{said:?}");
    assert_eq!(said.stdout, "", "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert!(said.stderr.starts_with("Error: "), "{said:?}");
    assert!(said.stderr.contains(names), "not {names:?}: {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_backup_is_told_without_a_server() {
    let turn = Turn::take().await;
    let (_home, file) = backup(&turn).await;
    let bytes = fs::read(&file).expect("the backup can be read");
    let checksum: String = bytes[bytes.len() - 32..][..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let hash = u32::from_str_radix(&checksum, 16).expect("it is hexadecimal");
    let size = bytes.len() - 32;
    // 2 of the keys that are left, 300 more; 304 puts and a delete after revision 1.
    let status = async |format| {
        tool::stdout(kvctl(&["snapshot", "status", text(&file), "-w", format])).await
    };
    assert_eq!(
        status("json").await,
        format!("{{\"hash\":{hash},\"revision\":306,\"totalKey\":302,\"totalSize\":{size}}}\n")
    );
    assert!(
        status("simple")
            .await
            .starts_with(&format!("{hash:x}, 306, 302, "))
    );
    assert!(status("fields").await.contains("\"Keys\" : 302\n"));
    assert!(status("table").await.contains("| TOTAL KEYS |"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_backup_is_one_clear_line_and_leaves_nothing() {
    let turn = Turn::take().await;
    let (home, file) = backup(&turn).await;
    let whole = fs::read(&file).expect("the backup can be read");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let (middle, last) = (whole.len() / 2, whole.len() - 1);
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", vec![], "is not a snapshot of Keelson's"),
        (
            "text",
            b"a letter\n".to_vec(),
            "is not a snapshot of Keelson's",
        ),
        ("short", whole[..1000].to_vec(), "is truncated or damaged"),
        ("cut", whole[..last].to_vec(), "is truncated or damaged"),
        (
            "bare",
            whole[..whole.len() - 32].to_vec(),
            "is truncated or damaged",
        ),
        ("flipped", flipped(middle), "is truncated or damaged"),
        ("checksum", flipped(last), "is truncated or damaged"),
        ("format", flipped(520), "is truncated or damaged"),
    ];
    let member = Member::new(Server::Kvd, "m0", home.path());
    let initial = member.initial_cluster_entry();
    let of_member = names(&home.path().join("m0"));
    for (name, bytes, problem) in cases {
        let path = home.path().join(name);
        fs::write(&path, bytes).expect("a temporary file can be written");
        for command in [
            kvctl(&["snapshot", "status", text(&path)]),
            restore(&path, &member, &initial),
        ] {
            let said = tool::run(command).await;
            assert_one_clear_line(&said, problem);
            assert_one_clear_line(&said, text(&path));
        }
        assert_eq!(names(&home.path().join("m0")), of_member, "{name}");
    }
    let missing = tool::run(kvctl(&["snapshot", "status", "/nowhere/backup.db"])).await;
    assert_one_clear_line(&missing, "/nowhere/backup.db: No such file or directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_an_etcd_is_known_for_what_it_is() {
    let turn = Turn::take().await;
    let cluster = Cluster::start(&turn, Spec::of(Server::Etcd35, 1)).await;
    let file = cluster.dir().join("etcd.db");
    save(&cluster, 0, &file).await;
    let member = Member::new(Server::Kvd, "new", cluster.dir());
    for command in [
        kvctl(&["snapshot", "status", text(&file)]),
        restore(&file, &member, &member.initial_cluster_entry()),
    ] {
        let said = tool::run(command).await;
        assert_one_clear_line(
            &said,
            "etcd.db is a snapshot of an etcd (a bbolt database): use etcdutl",
        );
    }
    assert!(!member.data_dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_its_checksum_is_restored_if_that_is_asked_for() {
    let turn = Turn::take().await;
    let (home, file) = backup(&turn).await;
    let whole = fs::read(&file).expect("the backup can be read");
    let bare = home.path().join("bare.db");
    fs::write(&bare, &whole[..whole.len() - 32]).expect("a temporary file can be written");
    let prepare = async |member: &Member, initial: &str| {
        let mut command = restore(&bare, member, initial);
        command.arg("--skip-hash-check");
        tool::stdout(command).await;
    };
    let cluster = Cluster::start_on(&turn, Spec::of(Server::Kvd, 1), prepare).await;
    let found = contents(&cluster.client(0)).await;
    assert_eq!((found.revision, found.now.len()), (306, 302));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_is_refused_before_anything_is_made() {
    let turn = Turn::take().await;
    let (home, file) = backup(&turn).await;
    let member = Member::new(Server::Kvd, "m0", home.path());
    let initial = member.initial_cluster_entry();
    let data = member.data_dir();

    fs::create_dir(&data).expect("a folder can be made");
    fs::write(data.join("thesis.tex"), "x").expect("a file can be written");
    let said = tool::run(restore(&file, &member, &initial)).await;
    assert_one_clear_line(&said, "is not empty");
    assert_eq!(names(&data), ["thesis.tex".to_owned()].into());
    fs::remove_dir_all(&data).expect("a folder can be removed");

    let said = tool::run(restore(&file, &member, "other=http://127.0.0.1:1")).await;
    assert_one_clear_line(
        &said,
        "--initial-cluster: it does not name this member, \"m0\"",
    );
    let said = tool::run(restore(&file, &member, "m0=http://127.0.0.1:1")).await;
    assert_one_clear_line(&said, "--initial-cluster: it says m0=http://127.0.0.1:1");
    let said = tool::run(restore(&file, &member, "m0=127.0.0.1:1")).await;
    assert_one_clear_line(&said, "--initial-cluster: ");
    assert!(!data.exists());

    // Alone in a folder, and with nothing in PATH.
    let alone = home.path().join("kvctl");
    fs::copy(program("kvctl"), &alone).expect("a program can be copied");
    let mut command = Command::new(&alone);
    command
        .args(["snapshot", "status", text(&file)])
        .env("PATH", "");
    let said = tool::run(command).await;
    assert_one_clear_line(&said, "kvd is neither beside kvctl nor in PATH");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_leaves_nothing_that_starts_and_is_simply_repeated() {
    const VALUE_BYTES: usize = 1 << 20;
    let turn = Turn::take().await;
    let home = TempDir::new().expect("a temporary folder can be made");
    let file = home.path().join("backup.db");
    {
        let cluster = Cluster::start(&turn, Spec::of(Server::Kvd, 1)).await;
        let client = cluster.client(0);
        // Nothing that could be compressed: it shall take a while.
        for number in 0..48 {
            let value = rand::rng().sample_iter(Alphanumeric).take(VALUE_BYTES);
            let value: String = value.map(char::from).collect();
            client
                .put(&format!("k/{number}"), &value)
                .await
                .expect("a put works");
        }
        save(&cluster, 0, &file).await;
    }
    let prepare = async |member: &Member, initial: &str| {
        kill_a_restore(&file, member, initial).await;
        assert!(!member.data_dir().exists());
        tool::stdout(restore(&file, member, initial)).await;
        let folder = member.data_dir();
        let folder = folder.parent().expect("it is in the member's folder");
        assert_eq!(names(folder), ["data".to_owned()].into());
    };
    let cluster = Cluster::start_on(&turn, Spec::of(Server::Kvd, 1), prepare).await;
    let found = cluster.client(0).list(PREFIX).await.expect("a list works");
    assert_eq!(found.count, 48);
}

/// Kills `kvd snapshot-restore` when it has begun to unpack and not yet finished.
async fn kill_a_restore(file: &Path, member: &Member, initial: &str) {
    const TRIES: usize = 50;
    let data = member.data_dir();
    let unfinished = data.with_file_name("data.restoring");
    let unpacked = unfinished.join("state").join("0");
    for _ in 0..TRIES {
        let mut restore = Command::new(program("kvd"));
        restore
            .args(["snapshot-restore", text(file)])
            .arg(format!("--name={}", member.name()))
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--initial-cluster={initial}"))
            .arg(format!(
                "--initial-advertise-peer-urls={}",
                member.peer_url()
            ))
            .stdout(Stdio::null());
        let mut process = restore.spawn().expect("kvd can be run");
        wait::until("the restore to begin", async || {
            let begun = fs::read_dir(&unpacked).is_ok_and(|mut files| files.next().is_some());
            let ended = process.try_wait().expect("a child can be waited for");
            if begun || ended.is_some() {
                Ok(())
            } else {
                Err("nothing is unpacked yet")
            }
        })
        .await;
        // It may have ended.
        let _ = process.kill();
        process.wait().expect("a child can be waited for");
        if unfinished.exists() {
            return;
        }
        fs::remove_dir_all(&data).expect("a data directory can be removed");
    }
    panic!("the restore was never caught in the middle");
}
