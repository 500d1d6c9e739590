//! A store and a control plane on it, each program a process of its own that may be killed at any time and is started
//! again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::cluster::{Cluster, Spec, member_id};
use crate::peers::Server;
use crate::ports;
use crate::program::Program;
use crate::turn::Turn;
use crate::wait;

/// So long a program that ended by itself is left alone, as a launcher would.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a member is asked who leads.
const ANSWER: Duration = Duration::from_millis(500);
const TAIL_LINES: usize = 15;

/// Who works, of two, is decided anew within two seconds.
const ELECTION: [&str; 3] = [
    "--leader-elect-lease-duration=2s",
    "--leader-elect-renew-deadline=1500ms",
    "--leader-elect-retry-period=200ms",
];
/// A node that is silent for three seconds is down, and its pods go as fast as their tolerations allow.
const NODES_DOWN: [&str; 6] = [
    "--node-monitor-period=200ms",
    "--node-monitor-grace-period=3s",
    "--node-startup-grace-period=10s",
    "--node-eviction-rate=10",
    "--orphaned-pod-quarantine=1s",
    "--pod-gc-period=500ms",
];

/// What can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A member of the store, by its place.
    Member(usize),
    /// The member that leads.
    Leader,
    /// A component, by its place.
    Component(usize),
}

/// The programs. Dropping it kills them; in a failing test it shows first how their logs end.
#[derive(Debug)]
pub struct Programs {
    components: Vec<Program>,
    /// When what was killed, or has ended, is started again.
    due: Vec<(Instant, Victim)>,
    /// What ended by itself, and how.
    ended: Vec<String>,
    cluster: Cluster,
}

impl Programs {
    /// Starts three members of `server`, the API server, two processes of each elected component, and so many nodes.
    pub async fn start(turn: &Turn, server: Server, nodes: usize) -> Programs {
        let cluster = Cluster::start(turn, Spec::of(server, 3)).await;
        let [port] = ports::free();
        let pki = cluster.dir().join("pki");
        let apiserver = vec![
            "apiserver".to_owned(),
            format!("--etcd-servers={}", cluster.client_urls().join(",")),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", pki.display()),
        ];
        let component = |name: &str, command: &str, who: &str, flags: &[&str]| {
            let file = pki.join(format!("{who}.kubeconfig"));
            let own = flags.iter().map(|flag| (*flag).to_owned());
            let arguments: Vec<String> = [
                command.to_owned(),
                format!("--kubeconfig={}", file.display()),
            ]
            .into_iter()
            .chain(own)
            .collect();
            Program::new(name, cluster.dir(), &arguments)
        };
        let mut components = vec![Program::new("apiserver", cluster.dir(), &apiserver)];
        for number in 1..=2 {
            let name = format!("controllers-{number}");
            let flags = [&ELECTION[..], &NODES_DOWN].concat();
            components.push(component(
                &name,
                "controllers",
                "controller-manager",
                &flags,
            ));
        }
        for number in 1..=2 {
            let name = format!("scheduler-{number}");
            components.push(component(&name, "scheduler", "scheduler", &ELECTION));
        }
        for number in 1..=nodes {
            let name = format!("node-{number}");
            let flags = [
                format!("--name={name}"),
                format!("--pod-cidr=10.244.{number}.0/24"),
                "--node-lease-duration-seconds=4".to_owned(),
            ];
            components.push(component(
                &name,
                "node",
                "node",
                &flags.each_ref().map(String::as_str),
            ));
        }
        let mut programs = Programs {
            components,
            due: Vec::new(),
            ended: Vec::new(),
            cluster,
        };
        programs.start_all(nodes).await;
        programs
    }

    async fn start_all(&mut self, nodes: usize) {
        self.components[0].start();
        let pki = self.cluster.dir().join("pki");
        wait::until("everybody's kubeconfig", async || {
            let missing = ["admin", "controller-manager", "scheduler", "node"]
                .into_iter()
                .find(|who| !pki.join(format!("{who}.kubeconfig")).exists());
            missing.map_or(Ok(()), |who| Err(format!("that of {who} is missing")))
        })
        .await;
        for component in &mut self.components[1..] {
            component.start();
        }
        let api: Api<Node> = Api::all(self.client().await);
        wait::until("all nodes", async || {
            let found = api.list(&ListParams::default()).await;
            match found.map_err(|error| error.to_string())?.items.len() {
                count if count == nodes => Ok(()),
                count => Err(format!("there are {count}")),
            }
        })
        .await;
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster.dir().join("pki/admin.kubeconfig")
    }

    /// A client with the administrator's rights, once there is a namespace for what it makes.
    pub async fn client(&self) -> Client {
        let client = client(self.kubeconfig()).await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        wait::until("the default namespace", async || {
            namespaces.get("default").await
        })
        .await;
        client
    }

    /// The store.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How many components there are.
    pub fn components(&self) -> usize {
        self.components.len()
    }

    /// The place of a component.
    pub fn place_of(&self, name: &str) -> usize {
        let place = self
            .components
            .iter()
            .position(|component| component.name() == name);
        place.unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// What a victim is called.
    pub fn name(&self, victim: Victim) -> String {
        match victim {
            Victim::Member(place) => self.cluster.member(place).name().to_owned(),
            Victim::Leader => "the leader".to_owned(),
            Victim::Component(place) => self.components[place].name().to_owned(),
        }
    }

    /// SIGKILL, if it runs. It is started again after `down`; `None`: never.
    pub async fn kill(&mut self, victim: Victim, down: Option<Duration>) -> bool {
        let victim = match victim {
            Victim::Leader => match self.leader().await {
                Some(place) => Victim::Member(place),
                None => return false,
            },
            victim => victim,
        };
        match victim {
            Victim::Component(place) if self.components[place].is_started() => {
                self.components[place].kill();
            }
            Victim::Member(place) if self.cluster.member(place).is_started() => {
                self.cluster.member_mut(place).kill();
            }
            _ => return false,
        }
        self.due
            .extend(down.map(|down| (Instant::now() + down, victim)));
        true
    }

    /// The place of the member that leads, if any that answers knows.
    async fn leader(&self) -> Option<usize> {
        let mut ids = Vec::new();
        let mut leader = None;
        for place in self.cluster.running() {
            let client = self.cluster.client(place);
            let asked = tokio::time::timeout(ANSWER, client.status()).await;
            if let Ok(Ok(status)) = asked {
                ids.push((member_id(&status.header), place));
                leader = Some(status.leader).filter(|id| *id != 0).or(leader);
            }
        }
        let leads = |(id, _): &&(u64, usize)| Some(*id) == leader;
        ids.iter().find(leads).map(|(_, place)| *place)
    }

    /// Starts again whose time has come, and notes who has ended without being told to. To be called often.
    pub fn tend(&mut self) {
        let now = Instant::now();
        for place in 0..self.components.len() {
            if let Some(status) = self.components[place].ended() {
                let name = self.components[place].name();
                self.ended.push(format!("{name}: {status}"));
                self.due.push((now + PAUSE, Victim::Component(place)));
            }
        }
        for place in self.cluster.running() {
            self.cluster.member_mut(place).assert_running();
        }
        let (due, later) = self.due.iter().partition(|(at, _)| *at <= now);
        self.due = later;
        for (_, victim) in Vec::<(Instant, Victim)>::clone(&due) {
            match victim {
                Victim::Component(place) => self.components[place].start(),
                Victim::Member(place) => self.cluster.restart(place),
                Victim::Leader => unreachable!("a leader is killed as a member"),
            }
        }
    }

    /// Panics unless what ended by itself had a reason to: who has lost its leadership ends, and nobody panics.
    pub fn assert_nobody_failed(&self) {
        let may_end =
            |ended: &&String| ended.starts_with("controllers-") || ended.starts_with("scheduler-");
        let wrong: Vec<&String> = self.ended.iter().filter(|ended| !may_end(ended)).collect();
        assert!(wrong.is_empty(), "these ended by themselves: {wrong:?}");
        for component in &self.components {
            let log = component.log();
            let panicked = log.lines().find(|line| line.contains("panicked at"));
            assert_eq!(panicked, None, "{} has panicked", component.name());
        }
    }
}

/// A client with what a kubeconfig says, that repeats nothing by itself.
pub async fn client(kubeconfig: PathBuf) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.expect("the kubeconfig is whole");
    config.default_retry = false;
    config.read_timeout = Some(Duration::from_secs(10));
    Client::try_from(config).expect("a client can be made")
}

impl Drop for Programs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for component in &self.components {
                let log = component.log();
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
                eprintln!(
                    "--- the log of {} (started {} times) ends with\n{}",
                    component.name(),
                    component.starts(),
                    tail.join("\n")
                );
            }
        }
    }
}
