//! The machines: which members there are, and which of them run.
//!
//! A machine is set up for whoever is in the newest membership, and taken down some time after it is no longer in it,
//! or once it has found out by itself. The process on it is started again some time after it went down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keelson_proto::commandpb::{Membership, Node as Peer, Voters};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::checks::leases::DRIFT_PPM_MAX;
use crate::net::Net;
use crate::node::{Life, Node};
use crate::runtime::now;
use crate::tally::Kind;
use crate::truth::Truth;
use crate::workload::Site;

/// Members that found the cluster.
pub const FOUNDERS: u64 = 3;

/// The machines of a cluster.
pub struct Cluster {
    /// The wires between them.
    pub net: Net,
    /// What has really happened.
    pub truth: Truth,
    site: Site,
    rng: StdRng,
    lying_disks: bool,
    nodes: BTreeMap<u64, Node>,
    found: Membership,
    /// When each member that is down is started again, and when a paused one is resumed.
    down_until: BTreeMap<u64, Duration>,
    paused_until: BTreeMap<u64, Duration>,
    /// When a machine whose member is in no membership any more is taken down.
    kept_until: BTreeMap<u64, Duration>,
    /// Members whose disk is gone.
    destroyed: BTreeSet<u64>,
    /// The term in which each member was last seen to lead.
    led: BTreeMap<u64, u64>,
}

impl Cluster {
    /// The founders' machines, not started yet.
    pub fn new(mut rng: StdRng, site: Site, lying_disks: bool) -> Result<Cluster> {
        let truth = site.truth.clone();
        let ids = 1..=FOUNDERS;
        let found = Membership {
            configs: vec![Voters {
                ids: ids.clone().collect(),
            }],
            nodes: ids
                .clone()
                .map(|id| Peer {
                    id,
                    peer_urls: vec![format!("http://member-{id}")],
                    pending_voter: false,
                })
                .collect(),
        };
        let mut cluster = Cluster {
            net: Net::new(rng.random(), truth.clone()),
            truth,
            site,
            rng,
            lying_disks,
            nodes: BTreeMap::new(),
            found,
            down_until: BTreeMap::new(),
            paused_until: BTreeMap::new(),
            kept_until: BTreeMap::new(),
            destroyed: BTreeSet::new(),
            led: BTreeMap::new(),
        };
        for id in ids {
            cluster.set_up(id, Duration::ZERO)?;
        }
        Ok(cluster)
    }

    /// A machine with an empty disk, on which the member is started after a while.
    fn set_up(&mut self, id: u64, after: Duration) -> Result<()> {
        let drift_ppm = self.rng.random_range(-DRIFT_PPM_MAX..DRIFT_PPM_MAX);
        if drift_ppm.abs() >= 5_000 {
            self.truth.count(Kind::Drift);
        }
        let seed = self.rng.random();
        let node = Node::new(id, seed, drift_ppm, self.lying_disks, self.truth.clone())?;
        self.nodes.insert(id, node);
        self.down_until.insert(id, now() + after);
        Ok(())
    }

    /// Brings the machines in step: with the membership, and with what time is over.
    pub async fn tick(&mut self) -> Result<()> {
        self.look_after_power();
        self.look_after_members()?;
        self.follow_membership()?;
        for id in due(&mut self.paused_until) {
            if let Some(life) = self.life(id) {
                life.tasks.resume();
            }
        }
        for id in due(&mut self.down_until) {
            self.start(id).await?;
        }
        Ok(())
    }

    /// Machines that have lost power at a moment of their own are down.
    fn look_after_power(&mut self) {
        let promised = self.net.take_without_power();
        let writing = self.nodes.values().filter(|node| node.is_without_power());
        let writing: Vec<u64> = writing.map(|node| node.id).collect();
        for id in &promised {
            let what = "has promised something, and has lost power";
            self.site.note(format!("member {id} {what}"));
            self.truth.count(Kind::PowerLossAfterPromise);
        }
        for id in &writing {
            self.site
                .note(format!("member {id} has lost power in a write"));
            self.truth.count(Kind::PowerLossInWrite);
        }
        for id in promised.into_iter().chain(writing) {
            self.crash(id, true, 1..1_000);
        }
    }

    async fn start(&mut self, id: u64) -> Result<()> {
        let found = (id <= FOUNDERS).then(|| self.found.clone());
        let node = self
            .nodes
            .get_mut(&id)
            .context("a machine that is set up")?;
        let life = node.start(found, &self.net).await?;
        self.site.is_up(life);
        Ok(())
    }

    /// Members go on, unless their disk fails; a term has one leader, which has all that was committed.
    fn look_after_members(&mut self) -> Result<()> {
        let (mut failed, mut stopped) = (Vec::new(), Vec::new());
        for (id, node) in &self.nodes {
            let Some(life) = node.running() else { continue };
            let status = life.member.status();
            match node.has_stopped() {
                Some(true) => {
                    stopped.push(*id);
                    continue;
                }
                // Its consensus ends before all of it does.
                Some(false) if status.failed.is_some() => continue,
                Some(false) | None => {}
            }
            if let Some(why) = status.failed {
                if !node.sync_fails {
                    bail!("member {id} has stopped by itself: {why}");
                }
                failed.push(*id);
                continue;
            }
            if status.is_leader && self.led.get(id) != Some(&status.term) {
                self.led.insert(*id, status.term);
                self.site
                    .note(format!("member {id} leads term {}", status.term));
                self.truth.leads(status.term, *id);
                let log = life.member.log();
                self.truth
                    .leader_has(status.term, *id, log.last(), |index| log.term_at(index));
            }
        }
        for id in failed {
            self.site
                .note(format!("member {id} has stopped, since its disk failed"));
            self.crash(id, true, 50..3_000);
        }
        for id in stopped {
            self.site.note(format!("member {id} has stopped"));
            self.truth.count(Kind::Stop);
            self.crash(id, false, 10..3_000);
        }
        Ok(())
    }

    fn follow_membership(&mut self) -> Result<()> {
        let members: BTreeSet<u64> = self.members().into_iter().collect();
        for id in &members {
            if !self.nodes.contains_key(id) && !self.destroyed.contains(id) {
                self.site.note(format!("member {id} is set up"));
                let after = Duration::from_millis(self.rng.random_range(20..2_000));
                self.set_up(*id, after)?;
            }
        }
        // Before anything is applied, the founders are members.
        let mut gone: Vec<u64> = Vec::new();
        if !members.is_empty() {
            gone.extend(self.nodes.keys().filter(|id| !members.contains(id)));
        }
        for id in gone {
            let until = now() + Duration::from_millis(self.rng.random_range(2_000..20_000));
            let until = *self.kept_until.entry(id).or_insert(until);
            let knows = self.life(id).is_some_and(|life| life.member.removed());
            if knows || until <= now() {
                let how = if knows { "found out" } else { "was told" };
                self.site.note(format!(
                    "member {id} {how} that it was removed, and is taken down"
                ));
                self.take_down(id);
            }
        }
        Ok(())
    }

    fn take_down(&mut self, id: u64) {
        self.crash(id, false, 50..51);
        self.nodes.remove(&id);
        self.kept_until.remove(&id);
        self.down_until.remove(&id);
        self.destroyed.insert(id);
    }

    /// A member's disk is lost, and with it the member.
    pub fn destroy(&mut self, id: u64) {
        self.site
            .note(format!("the disk of member {id} is destroyed"));
        self.take_down(id);
    }

    /// A machine goes down, with its power or without, and comes back after so many milliseconds.
    pub fn crash(&mut self, id: u64, power_loss: bool, back_after_ms: std::ops::Range<u64>) {
        let seed = power_loss.then(|| self.rng.random());
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if node.running().is_some() {
            self.truth.count(match power_loss {
                true => Kind::PowerLoss,
                false => Kind::Kill,
            });
        }
        node.crash(&self.net, seed);
        self.site.is_down(id);
        self.paused_until.remove(&id);
        let back = now() + Duration::from_millis(self.rng.random_range(back_after_ms));
        self.down_until.insert(id, back);
    }

    /// A member's tasks stand still for a while.
    pub fn pause(&mut self, id: u64, until: Duration) {
        if let Some(life) = self.life(id) {
            life.tasks.pause();
            self.truth.count(Kind::Pause);
            self.paused_until.insert(id, until);
        }
    }

    /// The machine of a member.
    pub fn node(&mut self, id: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    /// Every machine.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// How many machines there ever were.
    pub fn ever(&self) -> usize {
        self.nodes.len() + self.destroyed.len()
    }

    /// The newest membership.
    pub fn members(&self) -> Vec<u64> {
        let membership = self.truth.membership();
        membership.nodes.iter().map(|node| node.id).collect()
    }

    /// The member that says that it leads.
    pub fn leader(&self) -> Option<u64> {
        let mut running = self.nodes.values().filter_map(Node::running);
        let leader = running.find(|life| life.member.status().is_leader);
        leader.map(|life| life.member.id().0)
    }

    /// The running member of an id.
    pub fn life(&self, id: u64) -> Option<&Life> {
        self.nodes.get(&id).and_then(Node::running)
    }

    /// Ends every fault: what is down is started, what is paused goes on, the wires are whole.
    pub fn heal(&mut self) {
        self.net.heal();
        self.net.set_weather(crate::net::CALM);
        for until in self
            .down_until
            .values_mut()
            .chain(self.paused_until.values_mut())
        {
            *until = now();
        }
        for node in self.nodes.values() {
            node.stall(now());
            node.keep_power();
        }
    }

    /// Stops everything.
    pub fn stop(&mut self) {
        for node in self.nodes.values_mut() {
            node.crash(&self.net, None);
        }
        self.site.forget();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Members and their tasks hold each other.
        self.stop();
    }
}

/// Takes out what time is over.
fn due(times: &mut BTreeMap<u64, Duration>) -> Vec<u64> {
    let due: Vec<u64> = times
        .iter()
        .filter(|(_, until)| **until <= now())
        .map(|(id, _)| *id)
        .collect();
    times.retain(|id, _| !due.contains(id));
    due
}

/// A generator of its own, from another one.
pub fn branch(rng: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(rng.random())
}
