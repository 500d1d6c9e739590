//! Full disks: a real kvd whose data lie on a file system that really runs full.
//!
//! Promised: a start on a full disk is refused and touches nothing; a disk that runs low raises NOSPACE; a member whose
//! disk has ended all the same stops and says which, and once there is room it starts again with all that was acknowledged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::files::contents;
use keelson_tests::load::{self, Load};
use keelson_tests::member::Member;
use keelson_tests::peers::Server;
use keelson_tests::small_disk::SmallDisk;
use keelson_tests::tool::{self, Said};
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use tempfile::TempDir;
use tonic::Code;

/// Room for a member's files and its reserve, of which half, 128 MiB, is where the disk is called low.
const DISK_MIB: u32 = 512;
const MIB: u64 = 1 << 20;

/// A member whose whole folder, data directory included, is a disk of its own.
struct OnSmallDisk {
    // Ends before its disk does.
    member: Member,
    disk: SmallDisk,
    _dir: TempDir,
}

impl OnSmallDisk {
    fn new() -> OnSmallDisk {
        let dir = TempDir::with_prefix("keelson-test-").expect("a temporary folder can be made");
        let member = Member::new(Server::Kvd, "m0", dir.path());
        let disk = SmallDisk::mount(member.dir(), DISK_MIB);
        let member = member.through(disk.through());
        OnSmallDisk {
            member,
            disk,
            _dir: dir,
        }
    }

    /// How it is started: without a quota, so that nothing but the disk bounds it.
    fn flags(&self) -> Vec<String> {
        vec![
            format!("--initial-cluster={}", self.member.initial_cluster_entry()),
            "--quota-backend-bytes=-1".into(),
            "--log-format=console".into(),
        ]
    }

    async fn start(&mut self) -> Client {
        let flags = self.flags();
        self.member.start(&flags, &[]);
        self.ready().await
    }

    async fn ready(&mut self) -> Client {
        let client = self.member.client();
        wait::until("the member to answer", async || {
            self.member.assert_running();
            client.get("any").await
        })
        .await;
        client
    }

    /// Where the test finds the data directory.
    fn data(&self) -> PathBuf {
        self.disk.path().join("data")
    }

    /// A start that must be refused in one line for want of room.
    async fn refuses_to_start(&self) {
        let mut command: Command = self.member.command();
        command.args(self.flags()).arg("--log-level=error");
        let said: Said = tool::run(command).await;
        assert!(!said.success, "{said:?}");
        assert_eq!(said.stderr.trim_end().lines().count(), 1, "{said:?}");
        let data = self.member.data_dir();
        for words in ["the disk is full", &data.display().to_string()] {
            assert!(said.stderr.contains(words), "no {words:?}: {said:?}");
        }
    }

    /// The member must end by itself; its last line must name what has failed, and where.
    async fn stops_and_names(&mut self, place: &Path) {
        let status = self.member.wait_exit().await;
        assert!(!status.success(), "{status}");
        let log = self.member.log();
        assert!(!log.contains("panicked"), "{log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("kvd: "), "{last}\n{log}");
        let place = place.display().to_string();
        for words in ["No space left on device", &place] {
            assert!(
                last.contains(words),
                "no {words:?} in its last line: {last}\n{log}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_does_not_start_on_a_full_disk_and_leaves_nothing_there() {
    let _turn = Turn::take().await;
    let mut small = OnSmallDisk::new();
    for leave in [0, 20 * MIB] {
        small.disk.fill(leave);
        small.refuses_to_start().await;
        assert!(!small.data().exists(), "it has left something");
        small.disk.make_room();
    }
    small.start().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_does_not_start_on_a_full_disk_and_its_data_stay_as_they_were() {
    let _turn = Turn::take().await;
    let mut small = OnSmallDisk::new();
    let client = small.start().await;
    client.put("key", "value").await.expect("a put works");
    small.member.terminate().await;
    let before = contents(&small.data());

    small.disk.fill(0);
    small.refuses_to_start().await;
    assert!(contents(&small.data()) == before, "its files have changed");

    small.disk.make_room();
    let client = small.start().await;
    let value = client.get("key").await.expect("a get works");
    assert_eq!(value.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_runs_low_stops_writes_and_not_reads_until_there_is_room() {
    let _turn = Turn::take().await;
    let mut small = OnSmallDisk::new();
    let client = small.start().await;
    client.put("key", "value").await.expect("a put works");

    small.disk.fill(100 * MIB);
    wait::until("the NOSPACE alarm", async || no_space(&client).await).await;
    let refused = client.put("key", "other").await.expect_err("no room");
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded"
        )
    );
    let value = client.get("key").await.expect("reads work");
    assert_eq!(value.as_deref(), Some("value"));
    let delete = pb::DeleteRangeRequest {
        key: "key".into(),
        ..Default::default()
    };
    client
        .kv()
        .delete_range(delete)
        .await
        .expect("deletes work");
    let warnings = small.member.log();
    let warnings = warnings.matches("the disk is almost full").count();
    assert_eq!(warnings, 1, "said once, however long it stays so");

    small.disk.make_room();
    disarm(&client).await;
    client.put("key", "again").await.expect("there is room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_disk_has_ended_stops_and_has_lost_nothing_when_there_is_room() {
    let _turn = Turn::take().await;
    let mut small = OnSmallDisk::new();
    small.start().await;
    let url = small.member.client_url();
    let load = Load::start("full", &[url], 4);
    load.wait_more(200).await;

    // From one moment to the next, so that no alarm comes before it. The log has room left in its segment, so writes are
    // acknowledged until the alarm, and refusals are written to it after that; then the state cannot be flushed.
    small.disk.fill(0);
    let acknowledged = load.stop().await;
    let full = Instant::now();
    let data = small.member.data_dir();
    small.stops_and_names(&data).await;
    // The clients' connections are still open, and must not hold it up.
    assert!(
        full.elapsed() < Duration::from_secs(10),
        "{:?}",
        full.elapsed()
    );
    small.refuses_to_start().await;

    small.disk.make_room();
    let client = small.start().await;
    let found = client.list(load::PREFIX).await.expect("reads work");
    load::assert_kept(&acknowledged, &found);
    disarm(&client).await;
    client.put("key", "value").await.expect("there is room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_logs_disk_has_ended_stops_and_has_lost_nothing_when_there_is_room() {
    let _turn = Turn::take().await;
    let mut small = OnSmallDisk::new();
    // The log alone is on the small disk.
    let data = TempDir::with_prefix("keelson-test-").expect("a temporary folder can be made");
    let wal = small.member.dir().join("wal");
    let mut flags = small.flags();
    flags.push(format!("--data-dir={}", data.path().join("data").display()));
    flags.push(format!("--wal-dir={}", wal.display()));
    small.member.start(&flags, &[]);
    let client = small.ready().await;
    let load = Load::start("full", &[small.member.client_url()], 4);
    load.wait_more(200).await;
    let acknowledged = load.stop().await;

    small.disk.fill(10 * MIB);
    wait::until("the NOSPACE alarm", async || no_space(&client).await).await;
    // What is still let through, and takes room in the log: it ends when that needs its next segment.
    let delete = pb::DeleteRangeRequest {
        key: vec![b'k'; MIB as usize].into(),
        ..Default::default()
    };
    let mut deletes = 0;
    while client.kv().delete_range(delete.clone()).await.is_ok() {
        deletes += 1;
        assert!(deletes < 100, "the log's disk must have ended");
    }
    small.stops_and_names(&wal).await;

    small.disk.make_room();
    small.member.start(&flags, &[]);
    let client = small.ready().await;
    let found = client.list(load::PREFIX).await.expect("reads work");
    load::assert_kept(&acknowledged, &found);
    disarm(&client).await;
    client.put("key", "value").await.expect("there is room");
    // Before its data are.
    small.member.terminate().await;
}

async fn alarms(client: &Client) -> Result<Vec<pb::AlarmMember>, tonic::Status> {
    let request = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Get.into(),
        ..Default::default()
    };
    Ok(client
        .maintenance()
        .alarm(request)
        .await?
        .into_inner()
        .alarms)
}

async fn no_space(client: &Client) -> Result<(), String> {
    let alarms = alarms(client).await.map_err(|status| status.to_string())?;
    let is_there = |alarm: &pb::AlarmMember| alarm.alarm() == pb::AlarmType::Nospace;
    if alarms.iter().any(is_there) {
        Ok(())
    } else {
        Err("there is no alarm".into())
    }
}

async fn disarm(client: &Client) {
    for alarm in alarms(client).await.expect("alarms are listed") {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate.into(),
            alarm: alarm.alarm,
            member_id: alarm.member_id,
        };
        let disarmed = client.maintenance().alarm(request).await;
        disarmed.expect("an alarm can be disarmed");
    }
}
