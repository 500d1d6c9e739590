//! A server under test and a reference that get the same commands, in lockstep.

use std::collections::VecDeque;

use rand::Rng;

use super::command::Command;
use super::generate::{Allowed, Generator};
use super::known::Known;
use super::reply::{self, Reply};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::peers::Server;

/// How many commands before the one that differs are shown.
const SHOWN: usize = 4;

/// Two servers with the same history.
pub struct Pair {
    seed: u64,
    generator: Generator,
    /// One client for each member of the server under test; each command goes to any of them.
    subject: Vec<Client>,
    reference: Client,
    known: &'static [Known],
    sent: u64,
    recent: VecDeque<(Command, Reply)>,
}

impl Pair {
    /// Both must be empty. The reference is asked through its first member.
    pub fn new(seed: u64, subject: &Cluster, reference: &Cluster, known: &'static [Known]) -> Pair {
        let server = subject.server();
        let subject: Vec<Client> = subject
            .places()
            .into_iter()
            .map(|place| subject.client(place))
            .collect();
        let alone = subject.len() == 1;
        let allowed = Allowed {
            serializable: alone,
            revision_in_txn: alone || server == Server::Kvd,
        };
        let generator = Generator::new(seed, allowed);
        Pair {
            seed,
            generator,
            subject,
            reference: reference.client(0),
            known,
            sent: 0,
            recent: VecDeque::new(),
        }
    }

    /// What makes the commands.
    pub fn generator(&mut self) -> &mut Generator {
        &mut self.generator
    }

    /// Any client of the server under test, and the reference's.
    pub fn clients(&mut self) -> (Client, Client) {
        let place = self.generator.random().random_range(0..self.subject.len());
        (self.subject[place].clone(), self.reference.clone())
    }

    /// True once in `many` times.
    pub fn one_in(&mut self, many: u32) -> bool {
        self.generator.random().random_ratio(1, many)
    }

    /// Sends `count` commands that `next` makes, each to both, and panics at the first that differs.
    pub async fn run(&mut self, count: usize, next: fn(&mut Generator) -> Command) {
        for _ in 0..count {
            let command = next(&mut self.generator);
            self.send(command).await;
        }
    }

    /// Sends one command to both; panics if the replies differ.
    pub async fn send(&mut self, command: Command) -> Reply {
        let (subject, reference) = self.clients();
        let (mut got, mut wanted) = tokio::join!(
            reply::ask(&subject, &command),
            reply::ask(&reference, &command)
        );
        self.sent += 1;
        self.generator.observe(&command, &wanted);
        let answer = wanted.clone();
        for known in self.known {
            (known.forgive)(&command, &mut got);
            (known.forgive)(&command, &mut wanted);
        }
        assert!(
            got == wanted,
            "{}",
            self.difference(&command, &got, &wanted)
        );
        if self.recent.len() == SHOWN {
            self.recent.pop_front();
        }
        self.recent.push_back((command, answer.clone()));
        answer
    }

    fn difference(&self, command: &Command, got: &Reply, wanted: &Reply) -> String {
        let before: Vec<String> = self
            .recent
            .iter()
            .map(|(command, reply)| format!("{command:?}\n-> {reply:?}"))
            .collect();
        format!(
            "reply {} differs (KEELSON_SEED={} makes the same commands)\nbefore it:\n{}\ncommand: {command:?}\n\
             under test: {got:?}\nreference:  {wanted:?}\nline by line:\n{}",
            self.sent,
            self.seed,
            before.join("\n"),
            line_by_line(&format!("{got:#?}"), &format!("{wanted:#?}")),
        )
    }
}

/// The seed that `KEELSON_SEED` asks for, or a new one; printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let seed = match std::env::var("KEELSON_SEED") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("KEELSON_SEED is {text:?}: {e}")),
        Err(_) => rand::rng().random(),
    };
    println!("KEELSON_SEED={seed}");
    seed
}

/// The lines from the first to the last that differ.
fn line_by_line(got: &str, wanted: &str) -> String {
    let (got, wanted): (Vec<&str>, Vec<&str>) = (got.lines().collect(), wanted.lines().collect());
    let same = got.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
    let rest = got.len().min(wanted.len()) - same;
    let same_at_end = got
        .iter()
        .rev()
        .zip(wanted.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    let shown = |sign: &str, lines: &[&str]| -> Vec<String> {
        lines[same..lines.len() - same_at_end]
            .iter()
            .map(|line| format!("{sign} {line}"))
            .collect()
    };
    let mut lines = shown("under test:", &got);
    lines.extend(shown("reference: ", &wanted));
    lines.join("\n")
}
