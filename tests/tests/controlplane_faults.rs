//! A control plane whose programs are killed all the time while deployments are rolled out: all that its store has seen is
//! judged, revision by revision, and in the end there is what was asked for.
//!
//! `KEELSON_SEED` repeats the plan of what is asked and killed; how processes interleave it cannot. `KEELSON_FAULTS_SECONDS`
//! makes it longer.

use std::cell::Cell;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use keelson_tests::controlplane::history::{History, ROOT};
use keelson_tests::controlplane::judge::{Asked, ending, judge};
use keelson_tests::controlplane::programs::{Programs, Victim};
use keelson_tests::observer::Observer;
use keelson_tests::peers::Server;
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

const SECONDS: u64 = 15;
/// So long a run is surely one in which a node with pods falls silent.
const LONG: u64 = 60;
const NODES: usize = 3;
const REPLICAS_MAX: i32 = 8;
const IMAGES: u8 = 5;
/// Between two looks at what is to be started again.
const TICK: Duration = Duration::from_millis(20);
/// Between two faults at the most, and for how long what was killed is down at the most.
const FAULT_PAUSE_MAX_MS: u64 = 1_200;
const DOWN_MAX_MS: u64 = 1_000;
/// Longer than a node may be silent, also if the controllers are killed meanwhile and count anew: its pods go elsewhere.
const NODE_DOWN: Duration = Duration::from_secs(9);
/// Between two nodes that are silent for so long, at the most.
const SILENCE_PAUSE_MAX_MS: u64 = 10_000;
const ASK_PAUSE_MAX_MS: u64 = 1_500;
/// How often something else is asked for at the least, however slow the machine.
const ASKS_MIN: usize = 6;
/// So soon after the last fault there must be what was asked for.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn roll_outs_keep_their_bounds_and_end_as_asked_whatever_is_killed() {
    let seed = number("KEELSON_SEED").unwrap_or_else(rand::random);
    let seconds = number("KEELSON_FAULTS_SECONDS").unwrap_or(SECONDS);
    println!("KEELSON_SEED={seed} KEELSON_FAULTS_SECONDS={seconds}");
    let turn = Turn::take().await;
    let mut programs = Programs::start(&turn, Server::under_test(), NODES).await;
    let observer = Observer::start(ROOT, &programs.cluster().client_urls());
    let user = User {
        client: programs.client().await,
        observer: &observer,
    };
    let mut asked = vec![
        user.deploy("careful", 4, json!({"maxSurge": 1, "maxUnavailable": 0}))
            .await,
        user.deploy(
            "brisk",
            6,
            json!({"maxSurge": "50%", "maxUnavailable": "25%"}),
        )
        .await,
    ];
    user.wait_for(&asked).await;
    let first = ending(&History::of(&observer.events()), &asked);
    assert_eq!(first, [], "though nothing was killed");

    let until = Instant::now() + Duration::from_secs(seconds);
    let phase = Cell::new(Phase::Attacked);
    let mut chance = StdRng::seed_from_u64(seed);
    let faults = StdRng::seed_from_u64(chance.random());
    let roll_outs = async {
        let asks = user.roll_out(&mut asked, chance, until).await;
        phase.set(Phase::Healed);
        user.wait_for(&asked).await;
        phase.set(Phase::Over);
        asks
    };
    let (asks, kills) = tokio::join!(roll_outs, attack(&mut programs, faults, &phase));

    let client = programs
        .cluster()
        .any_client()
        .await
        .expect("a member answers");
    let last = client
        .get("any")
        .await
        .and(client.status().await)
        .expect("a member answers");
    let events = observer
        .wait_revision(last.header.unwrap_or_default().revision)
        .await;
    let history = History::of(&events);
    let (mut wrong, tally) = judge(&history);
    wrong.extend(ending(&history, &asked));
    println!(
        "{asks} asked, {kills} killed, {} revisions, {tally:?}",
        history.revisions.len()
    );
    if !wrong.is_empty() {
        let list: Vec<String> = wrong.iter().map(|wrong| format!("{wrong:?}")).collect();
        let file = keep(&history, seed);
        panic!(
            "KEELSON_SEED={seed}: (the history is in {file})\n{}",
            list.join("\n")
        );
    }
    programs.assert_nobody_failed();
    assert!(
        kills > 5 && tally.pods > 10 && tally.scaled_down > 5 && tally.slices > 5,
        "too little has happened to prove anything"
    );
    assert!(
        tally.taken > 0 || seconds < LONG,
        "no pod was lost to a fault"
    );
}

/// What is going on.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Programs are killed.
    Attacked,
    /// They are started again, and left alone.
    Healed,
    /// Nothing is asked any more.
    Over,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Writes a history down, a change a line, and says where.
fn keep(history: &History, seed: u64) -> String {
    let path = std::env::temp_dir().join(format!("keelson-faults-{seed}.jsonl"));
    let mut lines = String::new();
    for revision in &history.revisions {
        for change in &revision.changes {
            let line =
                json!({"revision": revision.number, "key": change.key, "object": change.object});
            lines.push_str(&format!("{line}\n"));
        }
    }
    std::fs::write(&path, lines).expect("a temporary folder can be written");
    path.display().to_string()
}

/// Who asks for deployments, and asks again until somebody answers.
struct User<'a> {
    client: Client,
    observer: &'a Observer,
}

impl User<'_> {
    /// Asks for a deployment and a service of its name.
    async fn deploy(&self, name: &str, replicas: i32, bounds: serde_json::Value) -> Asked {
        let image = "image:0".to_owned();
        let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1});
        let deployment = json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": bounds},
                "template": {
                    "metadata": {
                        "labels": {"app": name},
                        "annotations": {"hollow.keelson.dev/ready-after": "100ms"},
                    },
                    "spec": {
                        "containers": [{"name": "main", "image": image}],
                        "tolerations": [
                            toleration("node.kubernetes.io/not-ready"),
                            toleration("node.kubernetes.io/unreachable"),
                        ],
                    },
                },
            },
        });
        let service = json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
        });
        let (deployments, services) = (
            self.deployments(),
            Api::<Service>::default_namespaced(self.client.clone()),
        );
        let parameters = PostParams::default();
        let deployment: Deployment = serde_json::from_value(deployment).expect("it is one");
        let service: Service = serde_json::from_value(service).expect("it is one");
        deployments
            .create(&parameters, &deployment)
            .await
            .expect("nothing is killed yet");
        services
            .create(&parameters, &service)
            .await
            .expect("nothing is killed yet");
        Asked {
            name: name.to_owned(),
            replicas,
            image,
        }
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::default_namespaced(self.client.clone())
    }

    /// Asks for other sizes and images until it is time, and was often enough. Gives how often.
    async fn roll_out(&self, asked: &mut [Asked], mut chance: StdRng, until: Instant) -> usize {
        let mut asks = 0;
        while Instant::now() < until || asks < ASKS_MIN {
            let place = chance.random_range(0..asked.len());
            let (what, whether) = (chance.random_range(0..3), chance.random_bool(0.3));
            let asked = &mut asked[place];
            if what != 0 {
                asked.image = format!("image:{}", chance.random_range(0..IMAGES));
            }
            if what != 1 {
                asked.replicas = chance.random_range(0..=REPLICAS_MAX);
            }
            self.ask(asked).await;
            asks += 1;
            let pause = Duration::from_millis(chance.random_range(0..ASK_PAUSE_MAX_MS));
            if whether {
                self.wait_rolled_out(asked, until).await;
            } else {
                sleep(pause).await;
            }
        }
        asks
    }

    async fn ask(&self, asked: &Asked) {
        let patch = json!({"spec": {
            "replicas": asked.replicas,
            "template": {"spec": {"containers": [{"name": "main", "image": asked.image}]}},
        }});
        let deployments = self.deployments();
        wait::until("an answer to what is asked", async || {
            let patch = Patch::Strategic(&patch);
            deployments
                .patch(&asked.name, &PatchParams::default(), &patch)
                .await
        })
        .await;
    }

    async fn wait_rolled_out(&self, asked: &Asked, until: Instant) {
        while Instant::now() < until {
            let deployment = self.deployments().get(&asked.name).await;
            if deployment.is_ok_and(|deployment| is_complete(&deployment)) {
                return;
            }
            sleep(TICK * 5).await;
        }
    }

    /// Waits until there is all that was asked for, and nothing else, or it is too late for that.
    async fn wait_for(&self, asked: &[Asked]) {
        let too_late = Instant::now() + SETTLED_WITHIN;
        while Instant::now() < too_late {
            let mut complete = true;
            for asked in asked {
                let deployment = self.deployments().get(&asked.name).await;
                complete &= deployment.is_ok_and(|deployment| is_complete(&deployment));
            }
            if complete && ending(&History::of(&self.observer.events()), asked).is_empty() {
                return;
            }
            sleep(TICK * 5).await;
        }
    }
}

/// Whether a deployment says that it is as it should be.
fn is_complete(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let replicas = deployment.spec.replicas;
    let counts = [
        status.replicas,
        status.updated_replicas,
        status.available_replicas,
    ];
    status.observed_generation == deployment.metadata.generation
        && counts
            .iter()
            .all(|count| count.unwrap_or_default() == replicas.unwrap_or(1))
}

/// Kills programs while they are to be attacked, and starts again what has ended until all is over. Gives how many it
/// killed.
async fn attack(programs: &mut Programs, mut chance: StdRng, phase: &Cell<Phase>) -> usize {
    let mut kills = 0;
    let mut next = Instant::now();
    let mut next_silence = next + ms(&mut chance, 0..SILENCE_PAUSE_MAX_MS / 8);
    while phase.get() != Phase::Over {
        programs.tend();
        let now = Instant::now();
        if phase.get() == Phase::Attacked && now >= next_silence {
            let node = format!("node-{}", chance.random_range(1..=NODES));
            let victim = Victim::Component(programs.place_of(&node));
            if programs.kill(victim, Some(NODE_DOWN)).await {
                kills += 1;
                next_silence = now + NODE_DOWN + ms(&mut chance, 0..SILENCE_PAUSE_MAX_MS);
            }
        }
        if phase.get() == Phase::Attacked && now >= next {
            let victims = if chance.random_bool(0.2) { 3 } else { 1 };
            for _ in 0..victims {
                let victim = victim(programs, &mut chance);
                let down = ms(&mut chance, 0..DOWN_MAX_MS);
                kills += usize::from(programs.kill(victim, Some(down)).await);
            }
            next = now + ms(&mut chance, 50..FAULT_PAUSE_MAX_MS);
        }
        sleep_until(now + TICK).await;
    }
    kills
}

fn ms(chance: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(chance.random_range(range))
}

fn victim(programs: &Programs, chance: &mut StdRng) -> Victim {
    match chance.random_range(0..10) {
        0 => Victim::Leader,
        1 => Victim::Member(chance.random_range(0..3)),
        _ => Victim::Component(chance.random_range(0..programs.components())),
    }
}
