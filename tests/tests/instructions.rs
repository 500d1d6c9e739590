//! What a put, a get and an event cost a member: counted instructions, held against the figures that are written down here.
//!
//! Times on a shared machine vary by more than most regressions; instructions do not. One client does one thing after
//! the other, so that no two operations share work, and what an idle member executes is taken off.
//!
//! A figure fails that is too low, too: behind what has become cheaper, the next regressions would hide.
//! How to change one is said in `docs/testing.md`.

// Another processor has other instructions.
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_tests::callgrind::Counted;
use keelson_tests::client::{Client, prefix_end};
use keelson_tests::peers::{Server, target};
use keelson_tests::turn::Turn;
use keelson_tests::watch::session::Session;

/// Instructions of one of each.
const PUT: f64 = 156_000.0;
const GET: f64 = 56_000.0;
/// What one watcher adds to a put that it is told of.
const EVENT: f64 = 14_000.0;

/// By what share a cost may differ from its figure: more than runs do, and less than a regression of a fifth.
const MARGIN: f64 = 0.15;

/// Operations that are counted together, and uncounted ones before the first.
const BATCH: usize = 10;
/// The lower quartile of the batches counts. RocksDB's flushes, one every second or two, only add, and to a few short
/// batches; of the very cheapest, more was taken off for an idle member than there was.
const BATCHES: usize = 12;

/// Beside many others, a thread that waits for another is switched away more often, and a whole reading can be a fifth too
/// high. What fails was so in each of these.
const READINGS: usize = 3;

/// Of one prefix, each on a connection of its own: on a shared one it is chance which events are written at once.
const WATCHERS: usize = 10;

/// For how long an idle member is looked at, and how often: the least counts.
const IDLE: Duration = Duration::from_millis(300);
const IDLE_WINDOWS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_put_a_get_and_an_event_execute_what_is_written_down() {
    let turn = Turn::take().await;
    if Server::under_test() != Server::Kvd {
        // The figures are kvd's.
        return;
    }
    let profiles = target().join("instructions");
    let mut meter = Meter::new(Counted::start(&turn, &profiles).await).await;

    let mut complaints = Vec::new();
    for reading in 0..READINGS {
        complaints = meter.read(reading).await;
        if complaints.is_empty() {
            return;
        }
    }
    panic!(
        "\n{}\nThe figures are constants in tests/tests/instructions.rs; \"Counted instructions\" in docs/testing.md says \
         how to find the cause, and when to change a figure.",
        complaints.join("\n")
    );
}

/// What one operation costs.
struct Cost {
    instructions: f64,
    profile: PathBuf,
}

/// Prints what `name` costs; the complaint says what to do, if that is not what was written down.
fn judge(name: &str, cost: &Cost, written: f64) -> Result<(), String> {
    let now = cost.instructions;
    let change = now / written - 1.0;
    let percent = change * 100.0;
    let found = format!(
        "{name} executes {now:.0} instructions, {percent:+.1} % to the {written:.0} written down"
    );
    println!("{found}");
    if change > MARGIN {
        let profile = cost.profile.display();
        return Err(format!(
            "{found}: it has become dearer. What it executes: callgrind_annotate --inclusive=yes {profile}"
        ));
    }
    if change < -MARGIN {
        return Err(format!(
            "{found}: it has become cheaper. Write down {now:.0}, or what makes it dear again goes unseen"
        ));
    }
    Ok(())
}

/// Knows what a member executes that has nothing to do.
struct Meter {
    kvd: Counted,
    idle_per_second: f64,
}

impl Meter {
    async fn new(mut kvd: Counted) -> Meter {
        let mut rates = Vec::new();
        kvd.forget().await;
        for _ in 0..IDLE_WINDOWS {
            let idle = kvd.count("idle", tokio::time::sleep(IDLE)).await;
            rates.push(idle.instructions as f64 / idle.took.as_secs_f64());
        }
        println!("idle: {rates:.0?} instructions a second");
        // What is left to do after the start falls into some. Taking off too much would hide a regression.
        Meter {
            kvd,
            idle_per_second: rates.into_iter().fold(f64::INFINITY, f64::min),
        }
    }

    /// Measures each road, and complains of those that are not as written down. `number` is this reading's alone.
    async fn read(&mut self, number: usize) -> Vec<String> {
        let client = self.kvd.client();
        let put = async |batch: String| puts(&client, &format!("{number}/{batch}")).await;
        let put = self.each("put", put).await;
        let get = self.each("get", async |_| gets(&client).await).await;
        let mut watchers = Vec::new();
        for _ in 0..WATCHERS {
            watchers.push(watch(&self.kvd.client(), &format!("{number}/event/")).await);
        }
        let told = async |batch: String| {
            told_puts(&client, &mut watchers, &format!("{number}/{batch}")).await;
        };
        let mut event = self.each("event", told).await;
        event.instructions = (event.instructions - put.instructions) / WATCHERS as f64;
        let verdicts = [
            judge("a put", &put, PUT),
            judge("a get", &get, GET),
            judge("an event", &event, EVENT),
        ];
        verdicts.into_iter().filter_map(Result::err).collect()
    }

    /// What one of a [`BATCH`] of operations costs, which `work` does under a name that it is given.
    async fn each(&mut self, name: &str, mut work: impl AsyncFnMut(String)) -> Cost {
        work(format!("{name}/warm-up")).await;
        self.kvd.forget().await;
        let mut costs = Vec::new();
        for batch in 0..BATCHES {
            let work = work(format!("{name}/{batch}"));
            let count = self.kvd.count(&format!("{name}-{batch}"), work).await;
            let idle = self.idle_per_second * count.took.as_secs_f64();
            costs.push(Cost {
                instructions: (count.instructions as f64 - idle) / BATCH as f64,
                profile: count.profile,
            });
        }
        costs.sort_by(|a, b| a.instructions.total_cmp(&b.instructions));
        let all: Vec<f64> = costs.iter().map(|cost| cost.instructions).collect();
        println!("{name}: {all:.0?}");
        let mut chosen = costs.swap_remove(BATCHES / 4);
        for other in costs {
            fs::remove_file(other.profile).expect("callgrind's profiles are ours");
        }
        // Under one name in every run, so that two runs' can be compared.
        let profile = chosen.profile.with_file_name(format!("{name}.callgrind"));
        fs::rename(&chosen.profile, &profile).expect("callgrind's profiles are ours");
        chosen.profile = profile;
        chosen
    }
}

/// Puts of 256 bytes to new keys, one after the other.
async fn puts(client: &Client, prefix: &str) {
    for number in 0..BATCH {
        put(client, prefix, number).await;
    }
}

/// The same, where the next put waits until every watcher was told of the last one.
async fn told_puts(client: &Client, watchers: &mut [Session], prefix: &str) {
    for number in 0..BATCH {
        let revision = put(client, prefix, number).await;
        for watcher in &mut *watchers {
            watcher.wait_revision(0, revision).await;
        }
    }
}

async fn put(client: &Client, prefix: &str, number: usize) -> i64 {
    let key = format!("{prefix}/{number:06}");
    let put = client.put(&key, &"v".repeat(256)).await;
    put.expect("a member alone takes a put")
}

/// Linearizable gets of one key.
async fn gets(client: &Client) {
    for _ in 0..BATCH {
        let value = client.get("0/put/warm-up/000000").await;
        let value = value.expect("a member alone answers a get");
        assert_eq!(value.map(|value| value.len()), Some(256));
    }
}

async fn watch(client: &Client, prefix: &str) -> Session {
    let request = pb::WatchCreateRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix),
        ..Default::default()
    };
    let (session, created) = Session::open("kvd", client, request).await;
    assert_eq!(created.watch_id, 0, "it is the stream's first");
    session
}

#[test]
fn what_is_within_the_margin_is_no_complaint_and_what_is_beyond_it_is_one_on_either_side() {
    let judged = |instructions: f64| {
        let profile = PathBuf::from("profiles/put.callgrind");
        let cost = Cost {
            instructions,
            profile,
        };
        judge("a put", &cost, 1000.0)
    };
    for within in [860.0, 1000.0, 1140.0] {
        assert_eq!(judged(within), Ok(()));
    }
    let dearer = judged(1160.0).unwrap_err();
    assert!(
        dearer.contains("callgrind_annotate --inclusive=yes profiles/put.callgrind"),
        "{dearer}"
    );
    let cheaper = judged(840.0).unwrap_err();
    assert!(cheaper.contains("Write down 840"), "{cheaper}");
}
