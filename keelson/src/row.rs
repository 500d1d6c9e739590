//! What the launcher knows of one part, built from events alone, and how it is shown.

use std::time::{Duration, SystemTime};

use crate::part::{Part, Stage};
use crate::table::{Cell, Style};

/// What happened to a part.
#[derive(Debug)]
pub enum What {
    /// A process was started.
    Started { pid: u32, at: SystemTime },
    /// It ended by itself, or could not be started, and will be started again after `retry`.
    Ended {
        why: String,
        last_line: Option<String>,
        retry: Duration,
    },
    /// It was stopped, or never started, and will not be started again.
    Stopped { killed: bool },
    /// It was asked how it does, and answered, or did not.
    Report(Option<Report>),
}

/// How a part does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A member's answer to Status.
    Member(MemberReport),
    /// The API server's answer to `/readyz`.
    ApiServer { is_ready: bool },
    /// When the Lease of a client of the API server was last renewed, by it or by one before it.
    Client { renewed: SystemTime },
}

/// A member's answer to Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberReport {
    pub id: u64,
    pub leader: Option<u64>,
    pub term: u64,
    pub index: u64,
    pub applied: u64,
    pub is_learner: bool,
    pub db_bytes: u64,
}

/// One part.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub stage: Stage,
    port: Option<u16>,
    process: Process,
    starts: u32,
    /// Ends in a row without an answer between them.
    pub failures: u32,
    report: Option<Report>,
    /// Whether this process ever answered.
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    NotStarted,
    Running { pid: u32, since: SystemTime },
    Waiting,
    Stopped,
}

/// The columns of [`Row::cells`]; numbers to the right. They fit into the 80 columns that a terminal has at least.
pub const COLUMNS: [&str; 9] = [
    "NAME",
    ">PID",
    "STATE",
    ">TERM",
    ">INDEX",
    ">LAG",
    ">DB SIZE",
    ">RESTARTS",
    ">PORT",
];

impl Row {
    pub fn new(part: &Part) -> Row {
        Row {
            name: part.name.clone(),
            stage: part.stage(),
            port: part.port(),
            process: Process::NotStarted,
            starts: 0,
            failures: 0,
            report: None,
            answered: false,
        }
    }

    /// Takes note of what happened.
    pub fn apply(&mut self, what: &What) {
        match what {
            What::Started { pid, at } => {
                self.process = Process::Running {
                    pid: *pid,
                    since: *at,
                };
                self.starts += 1;
                self.report = None;
                self.answered = false;
            }
            What::Ended { .. } => {
                self.process = Process::Waiting;
                self.failures += 1;
                self.report = None;
            }
            What::Stopped { .. } => {
                self.process = Process::Stopped;
                self.report = None;
            }
            What::Report(report) => {
                let Process::Running { since, .. } = self.process else {
                    // An answer may arrive after the end of the process that gave it.
                    return;
                };
                self.report = report.clone().filter(|report| report.is_of(since));
                if self.report.is_some() {
                    self.answered = true;
                    self.failures = 0;
                }
            }
        }
    }

    /// Takes over what another launcher knows of this process: how often it was restarted. If it does not answer now,
    /// nobody is there to see it still start: it is silent.
    pub fn take_over(&mut self, restarts: u32) {
        self.starts = restarts + 1;
        self.answered = true;
    }

    pub fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    pub fn was_started(&self) -> bool {
        self.starts > 0
    }

    pub fn is_stopped(&self) -> bool {
        self.process == Process::Stopped
    }

    /// Whether it answers, and does what it is there for. (A member alone may answer and have no leader.)
    pub fn is_ready(&self) -> bool {
        match &self.report {
            Some(Report::ApiServer { is_ready }) => *is_ready,
            Some(Report::Member(_) | Report::Client { .. }) => true,
            None => false,
        }
    }

    /// A member's last answer, if it still stands.
    pub fn member(&self) -> Option<&MemberReport> {
        match &self.report {
            Some(Report::Member(report)) => Some(report),
            _ => None,
        }
    }

    /// A line of the table, in the order of [`COLUMNS`]: what only members have is empty for all others. `leader` is
    /// the answer of the member that leads.
    pub fn cells(&self, leader: Option<&MemberReport>) -> Vec<Cell> {
        let pid = match self.process {
            Process::Running { pid, .. } => Some(pid),
            Process::NotStarted | Process::Waiting | Process::Stopped => None,
        };
        let report = self.member();
        let of_members = |value: Option<String>| match self.stage {
            Stage::Store => Cell::plain(value.unwrap_or("-".to_owned())),
            Stage::Api | Stage::Clients => Cell::plain(String::new()),
        };
        let number = |value: Option<u64>| of_members(value.map(|value| value.to_string()));
        let both = report.zip(leader);
        let lag = both.map(|(report, leader)| leader.index.saturating_sub(report.applied));
        let leads = both.is_some_and(|(report, leader)| report.id == leader.id);
        vec![
            Cell::plain(self.name.clone()),
            Cell::plain(pid.map_or("-".to_owned(), |pid| pid.to_string())),
            self.state(leads),
            number(report.map(|report| report.term)),
            number(report.map(|report| report.index)),
            number(lag),
            of_members(report.map(|report| bytes(report.db_bytes))),
            Cell::plain(self.restarts().to_string()),
            Cell::plain(self.port.map_or(String::new(), |port| port.to_string())),
        ]
    }

    fn state(&self, leads: bool) -> Cell {
        let (text, style) = match (self.process, &self.report) {
            (Process::NotStarted, _) => ("waiting", Style::Faint),
            (Process::Waiting, _) => ("down", Style::Bad),
            (Process::Stopped, _) => ("stopped", Style::Faint),
            (Process::Running { .. }, None) if self.answered => ("silent", Style::Bad),
            (Process::Running { .. }, None) => ("starting", Style::Faint),
            (Process::Running { .. }, Some(report)) => match report {
                Report::Member(_) if leads => ("leader", Style::Good),
                Report::Member(report) if report.is_learner => ("learner", Style::Plain),
                Report::Member(report) if report.leader.is_none() => ("no leader", Style::Bad),
                Report::Member(_) => ("follower", Style::Plain),
                Report::ApiServer { is_ready: false } => ("not ready", Style::Bad),
                Report::ApiServer { is_ready: true } | Report::Client { .. } => {
                    ("ready", Style::Good)
                }
            },
        };
        Cell {
            text: text.to_owned(),
            style,
        }
    }
}

impl Report {
    /// Whether it tells of a process that was started then: a Lease may still be that of the one before it.
    fn is_of(&self, started: SystemTime) -> bool {
        match self {
            Report::Client { renewed } => *renewed >= started,
            Report::Member(_) | Report::ApiServer { .. } => true,
        }
    }
}

/// A size for people: three digits or so.
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut whole = count;
    let mut tenths = 0;
    let mut name = "B";
    for unit in units {
        if whole < 1024 {
            break;
        }
        tenths = whole % 1024 * 10 / 1024;
        whole /= 1024;
        name = unit;
    }
    if whole < 100 {
        format!("{whole}.{tenths} {name}")
    } else {
        format!("{whole} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        let sizes = [0, 1023, 1024, 20 << 10, 1_572_864, 200 << 20, 3 << 30].map(bytes);
        assert_eq!(
            sizes,
            [
                "0 B", "1023 B", "1.0 KiB", "20.0 KiB", "1.5 MiB", "200 MiB", "3.0 GiB"
            ]
        );
    }
}
