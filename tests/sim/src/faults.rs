//! What goes wrong, and when it is over.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::cluster::Cluster;
use crate::net::{FAIR, Weather};
use crate::runtime::now;
use crate::tally::Kind;

/// Chooses faults by a seed.
pub struct Faults {
    rng: StdRng,
    next: Duration,
    heal_at: Option<Duration>,
    /// How many there were.
    pub count: usize,
}

impl Faults {
    /// The first comes after a moment.
    pub fn new(rng: StdRng) -> Faults {
        Faults {
            rng,
            next: now() + Duration::from_secs(2),
            heal_at: None,
            count: 0,
        }
    }

    /// Ends what is over on the wires, and begins the next fault if it is time; says which.
    pub fn tick(&mut self, cluster: &mut Cluster) -> Option<String> {
        if self.heal_at.is_some_and(|at| at <= now()) {
            self.heal_at = None;
            cluster.net.heal();
            cluster.net.set_weather(FAIR);
        }
        if now() < self.next {
            return None;
        }
        self.next = now() + self.millis(500..4_000);
        let what = self.choose(cluster)?;
        self.count += 1;
        Some(what)
    }

    fn choose(&mut self, cluster: &mut Cluster) -> Option<String> {
        let ids = cluster.ids();
        let at = |rng: &mut StdRng| ids[rng.random_range(0..ids.len())];
        let id = at(&mut self.rng);
        // One in three is aimed at the leader.
        let id = match cluster.leader() {
            Some(leader) if self.rng.random_ratio(1, 3) => leader,
            _ => id,
        };
        Some(match self.rng.random_range(0..20) {
            0 => {
                cluster.crash(id, true, 50..4_000);
                format!("member {id} loses power")
            }
            1 | 2 => {
                cluster
                    .node(id)
                    .filter(|node| node.running().is_some())?
                    .lose_power_in_a_write();
                format!("member {id} is about to lose power in a write")
            }
            3 => {
                // Long enough for the others to drop the log that it needs.
                cluster.crash(id, true, 5_000..12_000);
                format!("member {id} loses power for long")
            }
            4 | 5 => {
                cluster.crash(id, false, 10..3_000);
                format!("member {id} is killed")
            }
            6 | 7 => {
                cluster.node(id)?.tell_to_stop();
                format!("member {id} is told to stop")
            }
            8 => {
                for id in ids {
                    cluster.crash(id, true, 50..4_000);
                }
                "all lose power".to_string()
            }
            9 | 10 => {
                let until = now() + self.millis(200..4_000);
                cluster.pause(id, until);
                format!("member {id} is paused")
            }
            11 => {
                let until = now() + self.millis(500..4_000);
                cluster.node(id)?.stall(until);
                cluster.truth.count(Kind::DiskHangs);
                format!("the disk of member {id} hangs")
            }
            12 => {
                cluster
                    .node(id)
                    .filter(|node| node.running().is_some())?
                    .fail_sync();
                cluster.truth.count(Kind::DiskFails);
                format!("the disk of member {id} fails")
            }
            13 => {
                self.cut(cluster, |a, b| (a == id) != (b == id));
                format!("member {id} is cut off")
            }
            14 => {
                self.cut(cluster, |a, _| a == id);
                format!("member {id} is not heard")
            }
            15 => {
                self.cut(cluster, |_, b| b == id);
                format!("member {id} hears nothing")
            }
            16 => {
                let side: Vec<bool> = ids.iter().map(|_| self.rng.random()).collect();
                let of = |id: u64| ids.iter().position(|other| *other == id).map(|at| side[at]);
                self.cut(cluster, |a, b| of(a) != of(b));
                "the network is split".to_string()
            }
            17 => {
                let others: Vec<u64> = ids.iter().copied().filter(|other| *other != id).collect();
                let (one, other) = (
                    id,
                    *others.get(self.rng.random_range(0..others.len().max(1)))?,
                );
                self.cut(cluster, |a, b| {
                    (a, b) == (one, other) || (b, a) == (one, other)
                });
                format!("members {one} and {other} do not reach each other")
            }
            18 => {
                let weather = Weather {
                    lost: self.rng.random_range(10..150),
                    ..FAIR
                };
                self.weather(cluster, weather)
            }
            _ => {
                let weather = Weather {
                    twice: self.rng.random_range(50..400),
                    late: self.rng.random_range(5..60),
                    slow: self.rng.random_range(1..12),
                    ..FAIR
                };
                self.weather(cluster, weather)
            }
        })
    }

    fn cut(&mut self, cluster: &Cluster, between: impl Fn(u64, u64) -> bool) {
        let ids = cluster.ids();
        cluster.truth.count(Kind::Cut);
        for from in &ids {
            for to in ids.iter().filter(|to| *to != from) {
                if between(*from, *to) {
                    cluster.net.cut(*from, *to);
                }
            }
        }
        self.heal_at = Some(now() + self.millis(500..6_000));
    }

    fn weather(&mut self, cluster: &Cluster, weather: Weather) -> String {
        cluster.net.set_weather(weather);
        self.heal_at = Some(now() + self.millis(1_000..6_000));
        format!("the network is bad: {weather:?}")
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }
}
