//! The cluster under attack: its processes, the wires between them, and what was done to each.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use keelson_jepsen::history::{
    Call, ClientId, MemberChange, MemberIndex, MemberInfo, Operation, Outcome, Range, Record,
    Reply, Workload,
};
use keelson_tests::member::Member;
use keelson_tests::ports;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::target::Target;
use super::world::World;
use crate::client::PATIENCE;
use crate::nemesis::Wires;

const TOKEN: &str = "keelson-jepsen";
/// How much of a log's last line is told.
const LAST_WORDS: usize = 300;
const LOOK: Duration = Duration::from_millis(50);
/// A process that was told to end has to within this time; the machine may be busy.
const END_TIME: Duration = Duration::from_secs(15);

/// A cluster of processes. Members are known by their numbers, which they keep for ever; dropping it kills them.
pub struct Arena {
    pub world: Arc<World>,
    pub target: Target,
    pub wires: Wires,
    nodes: Vec<Node>,
    founders: usize,
    filled: bool,
    /// The client of what the runner itself asks.
    client: ClientId,
    dir: PathBuf,
}

struct Node {
    member: Member,
    /// How it finds the cluster.
    joining: Vec<String>,
    state: State,
    excuse: Excuse,
    /// Whether it has ever answered.
    served: bool,
    failpoints: PathBuf,
}

/// Why a process may end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// It may not.
    None,
    /// Its disk fails, or its log is damaged, or it was told to end.
    Broken,
    /// It may have been removed from the cluster.
    Leaving,
}

/// What a member is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its process runs, as far as we know.
    Up,
    /// It was stopped by a signal and can go on.
    Paused,
    /// Its process has ended.
    Down,
    /// It is no member any more, or never became one.
    Gone,
}

impl Arena {
    /// `members` that are not started yet, with their files in `dir`.
    pub async fn new(
        world: Arc<World>,
        target: Target,
        wires: Wires,
        members: u32,
        dir: &Path,
    ) -> anyhow::Result<Arena> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut arena = Arena {
            client: world.new_client(),
            world,
            target,
            wires,
            nodes: Vec::new(),
            founders: members as usize,
            filled: false,
            dir: dir.to_owned(),
        };
        for _ in 0..members {
            arena.build().await?;
        }
        let initial = arena
            .nodes
            .iter()
            .map(|node| node.member.initial_cluster_entry());
        let joining = joining_flags(&initial.collect::<Vec<_>>(), "new");
        for node in &mut arena.nodes {
            node.joining.clone_from(&joining);
        }
        Ok(arena)
    }

    /// A new member with a proxy in front of its peer port, and no flags to join with.
    async fn build(&mut self) -> anyhow::Result<MemberIndex> {
        let index = MemberIndex(self.nodes.len() as u32 + 1);
        let [proxy_port] = ports::free();
        let listener = TcpListener::bind(("127.0.0.1", proxy_port))
            .await
            .with_context(|| format!("cannot listen on port {proxy_port} for a proxy"))?;
        let name = format!("m{}", index.0);
        let member = Member::of_program(self.target.program.clone(), &name, &self.dir);
        let failpoints = member.dir().join("failpoints");
        fs::write(&failpoints, "")
            .with_context(|| format!("cannot write {}", failpoints.display()))?;
        let mut member = member.behind_proxy(proxy_port);
        if self.target.failpoints {
            member = member.with_environment("KEELSON_FAILPOINTS", &failpoints);
        }
        for (name, value) in &self.target.environment {
            member = member.with_environment(name, value);
        }
        self.wires
            .lead_to(index.0 as usize, listener, member.peer_port());
        self.nodes.push(Node {
            member,
            joining: Vec::new(),
            state: State::Down,
            excuse: Excuse::None,
            served: false,
            failpoints,
        });
        Ok(index)
    }

    fn node(&self, member: MemberIndex) -> &Node {
        &self.nodes[member.0 as usize - 1]
    }

    fn node_mut(&mut self, member: MemberIndex) -> &mut Node {
        &mut self.nodes[member.0 as usize - 1]
    }

    /// The members that belong to the cluster.
    pub fn members(&self) -> Vec<MemberIndex> {
        self.in_states(&[State::Up, State::Paused, State::Down])
    }

    /// The members that are in one of these states.
    pub fn in_states(&self, states: &[State]) -> Vec<MemberIndex> {
        let numbers = 1..=self.nodes.len() as u32;
        numbers
            .map(MemberIndex)
            .filter(|member| states.contains(&self.node(*member).state))
            .collect()
    }

    /// The client of what the runner itself asks.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Whether the store may be filled up: once in a run, since it takes space and time.
    pub fn may_fill(&mut self) -> bool {
        !std::mem::replace(&mut self.filled, true)
    }

    /// How many members there were in the beginning.
    pub fn founders(&self) -> usize {
        self.founders
    }

    /// The members that run.
    pub fn up(&self) -> Vec<MemberIndex> {
        self.in_states(&[State::Up])
    }

    pub fn is_up(&self, member: MemberIndex) -> bool {
        self.node(member).state == State::Up
    }

    /// Where the raft log of a kvd is.
    pub fn log_dir(&self, member: MemberIndex) -> PathBuf {
        self.node(member).member.data_dir().join("log")
    }

    /// All that the member's process has said.
    pub fn log(&self, member: MemberIndex) -> String {
        self.node(member).member.log()
    }

    /// Notes something that no server may do.
    pub fn find(&mut self, what: String) {
        self.world.record(Record::Found(what));
    }

    /// Starts the member on its data.
    pub fn start(&mut self, member: MemberIndex) {
        let flags = self.target.flags.clone();
        // Another nemesis may start it while its disk fails.
        let fails = self.has_failpoints(member);
        let node = self.node_mut(member);
        if node.state != State::Down {
            return;
        }
        let joining = node.joining.clone();
        node.member.start(&joining, &flags);
        node.state = State::Up;
        if node.excuse == Excuse::Broken && !fails {
            node.excuse = Excuse::None;
        }
        if let Some(process) = node.member.process_id() {
            self.wires.process(member.0 as usize, process);
        }
        let url = self.node(member).member.client_url();
        if let Some(port) = url.rsplit(':').next().and_then(|port| port.parse().ok()) {
            self.world.add_endpoint(member, port);
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self, member: MemberIndex) {
        let node = self.node_mut(member);
        if node.member.is_started() {
            node.member.kill();
        }
        if node.state != State::Gone {
            node.state = State::Down;
        }
    }

    /// SIGSTOP.
    pub fn pause(&mut self, member: MemberIndex) {
        let node = self.node_mut(member);
        if node.state == State::Up {
            node.member.pause();
            node.state = State::Paused;
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self, member: MemberIndex) {
        let node = self.node_mut(member);
        if node.state == State::Paused {
            node.member.resume();
            node.state = State::Up;
        }
    }

    /// SIGTERM, and waits for the end, which has to come.
    pub async fn terminate(&mut self, member: MemberIndex) {
        let node = self.node_mut(member);
        if node.state != State::Up {
            return;
        }
        node.excuse = Excuse::Broken;
        node.member.ask_to_end();
        if self.ended_within(member, END_TIME).await.is_none() {
            let what = format!(
                "m{} did not end within {} s of SIGTERM",
                member.0,
                END_TIME.as_secs()
            );
            // An etcd may wait for a peer that is stopped. That is no promise of its.
            if self.target.kvd {
                self.find(what);
            } else {
                self.world.record(Record::Note(what));
            }
            self.kill(member);
        }
    }

    /// Lets the member's process end by itself from now on.
    pub fn excuse(&mut self, member: MemberIndex, excuse: Excuse) {
        self.node_mut(member).excuse = excuse;
    }

    /// Waits until its process has ended, and tells whether it ended well.
    pub async fn ended_within(&mut self, member: MemberIndex, time: Duration) -> Option<bool> {
        let deadline = Instant::now() + time;
        loop {
            let node = self.node_mut(member);
            if let Some(status) = node.member.ended() {
                if node.state != State::Gone {
                    node.state = State::Down;
                }
                return Some(status.success());
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks whether a process ended though nobody meant it to. Such a one is a finding, and is started again.
    pub fn look_after(&mut self) {
        for member in self.in_states(&[State::Up, State::Paused]) {
            let node = self.node_mut(member);
            let Some(status) = node.member.ended() else {
                continue;
            };
            node.state = State::Down;
            if node.excuse == Excuse::None {
                let joining = !node.served;
                let tail = node.member.log_tail();
                let last = tail.lines().last().unwrap_or_default();
                let last: String = last.chars().take(LAST_WORDS).collect();
                let what = format!(
                    "m{} ended by itself ({status}); its log ends with: {last}",
                    member.0
                );
                // A new etcd ends if the peer that it asks has not heard of it yet, and is to be started again.
                if joining && !self.target.kvd {
                    self.world.record(Record::Note(what));
                } else {
                    self.find(what);
                }
                self.start(member);
            } else if node.excuse == Excuse::Broken && !self.has_failpoints(member) {
                // It took its time to find out that its disk failed, and meanwhile that was mended.
                self.start(member);
            }
        }
    }

    /// Sets what fails in the member's process; nothing if `what` is empty.
    pub fn set_failpoints(&mut self, member: MemberIndex, what: &str) {
        let path = self.node(member).failpoints.clone();
        // In one step, since the process may read it at any time.
        let new = path.with_extension("new");
        let written = fs::write(&new, what).and_then(|()| fs::rename(&new, &path));
        if let Err(error) = written {
            self.find(format!("cannot write {}: {error}", path.display()));
        }
    }

    /// Whether anything fails in it by our doing.
    pub fn has_failpoints(&self, member: MemberIndex) -> bool {
        fs::read(&self.node(member).failpoints).is_ok_and(|text| !text.is_empty())
    }

    /// Asks the member something, as the runner. None if it cannot be reached.
    pub async fn ask(&self, member: MemberIndex, call: Call) -> Option<Operation> {
        let connection = self.world.connect(member).await?.ok()?;
        let operation =
            self.world
                .operate(Workload::Runner, self.client, &connection, call, PATIENCE);
        Some(operation.await)
    }

    /// Asks one running member after another, the leader first, until one answers, within `time`.
    pub async fn ask_any(&self, call: Call, time: Duration) -> Result<Operation, String> {
        let deadline = Instant::now() + time;
        let mut why = "no member runs".to_owned();
        while Instant::now() < deadline {
            let leader = self.world.leader();
            let mut members = self.up();
            members.sort_by_key(|member| Some(*member) != leader);
            for member in members {
                let Some(operation) = self.ask(member, call.clone()).await else {
                    continue;
                };
                match &operation.outcome {
                    Outcome::Done { .. } => return Ok(operation),
                    Outcome::Refused { error } | Outcome::Unknown { error } => {
                        why.clone_from(error);
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(why)
    }

    /// Whether the member answers a linearizable read.
    pub async fn answers(&self, member: MemberIndex) -> bool {
        let range = Range {
            key: "any".into(),
            ..Range::default()
        };
        let operation = self.ask(member, Call::Range(range)).await;
        operation.is_some_and(|operation| matches!(operation.outcome, Outcome::Done { .. }))
    }

    /// Waits until the member answers linearizable reads.
    pub async fn answers_within(&mut self, member: MemberIndex, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.look_after();
            if self.answers(member).await {
                self.node_mut(member).served = true;
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Who the members are, as the cluster says.
    pub async fn listed(&self, time: Duration) -> Result<Vec<MemberInfo>, String> {
        let list = Call::MemberList { linearizable: true };
        let operation = self.ask_any(list, time).await?;
        match operation.outcome {
            Outcome::Done {
                reply: Reply::Members(members),
                ..
            } => Ok(members),
            other => Err(format!("{other:?}")),
        }
    }

    /// The cluster's id of a member, and whether it is a learner.
    pub async fn listed_as(
        &self,
        member: MemberIndex,
        time: Duration,
    ) -> Result<Option<MemberInfo>, String> {
        let url = self.node(member).member.peer_url();
        let mut listed = self.listed(time).await?.into_iter();
        Ok(listed.find(|info| info.peer_urls.contains(&url)))
    }

    /// `member add`, and starts it. None, with the reason, if it did not come to be as far as we know.
    pub async fn add(&mut self, learner: bool, time: Duration) -> Result<MemberIndex, String> {
        let new = self.build().await.map_err(|error| format!("{error:#}"))?;
        let change = MemberChange::Add {
            peer_urls: vec![self.node(new).member.peer_url()],
            learner,
        };
        let added = self.change(change, time).await;
        // Whatever was answered: the list tells.
        let listed = match &added {
            Ok(members) => Ok(members.clone()),
            Err(_) => self.listed(time).await,
        };
        let url = self.node(new).member.peer_url();
        let name = self.node(new).member.name().to_owned();
        let here = |info: &MemberInfo| info.peer_urls.contains(&url);
        let members = match listed {
            Ok(members) if members.iter().any(here) => members,
            other => {
                self.node_mut(new).state = State::Gone;
                return Err(added.or(other).err().unwrap_or_default());
            }
        };
        let initial = members.iter().flat_map(|info| {
            let name = if here(info) { &name } else { &info.name };
            info.peer_urls
                .iter()
                .map(move |peer| format!("{name}={peer}"))
        });
        self.node_mut(new).joining = joining_flags(&initial.collect::<Vec<_>>(), "existing");
        self.start(new);
        Ok(new)
    }

    /// `member remove`, and ends the process. It may be a member still, if the answer says so little.
    pub async fn remove(&mut self, member: MemberIndex, time: Duration) -> Result<(), String> {
        let Some(info) = self.listed_as(member, time).await? else {
            self.forget(member);
            return Ok(());
        };
        self.excuse(member, Excuse::Leaving);
        self.change(MemberChange::Remove { id: info.id }, time)
            .await?;
        self.forget(member);
        Ok(())
    }

    /// Gives up a member whose data are lost, whether the cluster has removed it by now or will be told to at the end.
    pub fn abandon(&mut self, member: MemberIndex) {
        self.forget(member);
    }

    fn forget(&mut self, member: MemberIndex) {
        self.world.remove_endpoint(member);
        self.resume(member);
        self.node_mut(member).state = State::Gone;
        self.kill(member);
    }

    /// Changes the membership. Sent again only when it was refused: etcd says "unhealthy" for a while, and the like.
    pub async fn change(
        &self,
        change: MemberChange,
        time: Duration,
    ) -> Result<Vec<MemberInfo>, String> {
        let deadline = Instant::now() + time;
        let mut why = "no member runs".to_owned();
        while Instant::now() < deadline {
            for member in self.up() {
                let call = Call::Member(change.clone());
                let Some(operation) = self.ask(member, call).await else {
                    continue;
                };
                match operation.outcome {
                    Outcome::Done {
                        reply: Reply::Members(members),
                        ..
                    } => return Ok(members),
                    Outcome::Unknown { error } if error != "etcdserver: unhealthy cluster" => {
                        return Err(error);
                    }
                    Outcome::Refused { error } | Outcome::Unknown { error } => why = error,
                    Outcome::Done { reply, .. } => why = format!("{reply:?}"),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(why)
    }

    /// Brings our list of members and the cluster's together after changes whose outcome was not known.
    pub async fn reconcile(&mut self, time: Duration) -> Result<(), String> {
        let listed = self.listed(time).await?;
        for member in self.members() {
            let url = self.node(member).member.peer_url();
            if !listed.iter().any(|info| info.peer_urls.contains(&url)) {
                self.forget(member);
            } else if self.node(member).excuse == Excuse::Leaving {
                self.excuse(member, Excuse::None);
            }
        }
        let ours: Vec<String> = self
            .members()
            .into_iter()
            .map(|member| self.node(member).member.peer_url())
            .collect();
        for info in listed {
            // A learner that was to be promoted and was not, is not wanted either.
            if info.learner || !info.peer_urls.iter().any(|url| ours.contains(url)) {
                self.change(MemberChange::Remove { id: info.id }, time)
                    .await?;
                return Err(format!("the member {:x} had to be removed", info.id));
            }
        }
        Ok(())
    }

    /// Kills all processes.
    pub fn kill_all(&mut self) {
        for node in &mut self.nodes {
            if node.member.is_started() {
                node.member.kill();
            }
        }
    }
}

fn joining_flags(initial: &[String], state: &str) -> Vec<String> {
    vec![
        format!("--initial-cluster={}", initial.join(",")),
        format!("--initial-cluster-state={state}"),
        format!("--initial-cluster-token={TOKEN}"),
    ]
}
