//! What the launcher knows of its members, built from events alone: no clock, no process, no socket.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::table::{Cell, Style};

/// Something that happened to a member.
#[derive(Debug)]
pub struct Event {
    /// Its place in the cluster's list.
    pub member: usize,
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// A process was started.
    Started { pid: u32 },
    /// It ended by itself, or could not be started, and will be started again after `retry`.
    Ended {
        why: String,
        last_line: Option<String>,
        retry: Duration,
    },
    /// It was stopped, and will not be started again.
    Stopped { killed: bool },
    /// It was asked how it does, and answered, or did not.
    Report(Option<Report>),
}

/// A member's answer to Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub id: u64,
    pub leader: Option<u64>,
    pub term: u64,
    pub index: u64,
    pub applied: u64,
    pub is_learner: bool,
    pub db_bytes: u64,
}

/// All members.
#[derive(Debug)]
pub struct View {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    endpoint: String,
    process: Process,
    starts: u32,
    /// Ends in a row without an answer between them.
    failures: u32,
    report: Option<Report>,
    /// Whether this process ever answered.
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    NotStarted,
    Running(u32),
    Waiting,
    Stopped,
}

/// Who leads, in which term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    pub member: usize,
    pub term: u64,
}

/// The columns of [`View::cells`]; numbers to the right. They fit into the 80 columns that a terminal has at least.
pub const COLUMNS: [&str; 9] = [
    "MEMBER",
    ">PID",
    "STATE",
    ">TERM",
    ">INDEX",
    ">LAG",
    ">DB SIZE",
    ">RESTARTS",
    "CLIENTS AT",
];

impl View {
    pub fn new(cluster: &Cluster) -> View {
        let row = |member: &crate::cluster::Member| Row {
            name: member.name.clone(),
            endpoint: member.endpoint(),
            process: Process::NotStarted,
            starts: 0,
            failures: 0,
            report: None,
            answered: false,
        };
        View {
            rows: cluster.members.iter().map(row).collect(),
        }
    }

    /// Takes note of an event.
    pub fn apply(&mut self, event: &Event) {
        let Some(row) = self.rows.get_mut(event.member) else {
            return;
        };
        match &event.what {
            What::Started { pid } => {
                row.process = Process::Running(*pid);
                row.starts += 1;
                row.answered = false;
            }
            What::Ended { .. } => {
                row.process = Process::Waiting;
                row.failures += 1;
                row.report = None;
            }
            What::Stopped { .. } => {
                row.process = Process::Stopped;
                row.report = None;
            }
            // An answer may arrive after the end of the process that gave it.
            What::Report(_) if !matches!(row.process, Process::Running(_)) => {}
            What::Report(report) => {
                row.report.clone_from(report);
                if report.is_some() {
                    row.answered = true;
                    row.failures = 0;
                }
            }
        }
    }

    /// Takes over what another launcher knows of a process, for a look at its cluster: how often it was restarted. If
    /// it does not answer now, nobody is there to see it still start: it is silent.
    pub fn take_over(&mut self, member: usize, restarts: u32) {
        if let Some(row) = self.rows.get_mut(member) {
            row.starts = restarts + 1;
            row.answered = true;
        }
    }

    pub fn restarts(&self, member: usize) -> u32 {
        self.rows
            .get(member)
            .map_or(0, |row| row.starts.saturating_sub(1))
    }

    /// The member that leads in the highest term which anybody knows of. A deposed leader that has not noticed yet
    /// names itself, but in an older term.
    pub fn leader(&self) -> Option<Leader> {
        let reports = self.rows.iter().filter_map(|row| row.report.as_ref());
        let newest = reports.max_by_key(|report| (report.term, report.leader.is_some()))?;
        let id = newest.leader?;
        let member = self
            .rows
            .iter()
            .position(|row| row.report.as_ref().is_some_and(|report| report.id == id))?;
        Some(Leader {
            member,
            term: newest.term,
        })
    }

    /// Whether every member answers and one of them leads.
    pub fn is_whole(&self) -> bool {
        self.rows.iter().all(|row| row.report.is_some()) && self.leader().is_some()
    }

    /// Whether so many members end again and again that the others are no majority.
    pub fn is_hopeless(&self, failures: u32) -> bool {
        let sound = self
            .rows
            .iter()
            .filter(|row| row.failures < failures)
            .count();
        sound * 2 <= self.rows.len()
    }

    /// Whether no process is left.
    pub fn is_stopped(&self) -> bool {
        self.rows.iter().all(|row| row.process == Process::Stopped)
    }

    /// One line of the table for each member, in the order of [`COLUMNS`].
    pub fn cells(&self) -> Vec<Vec<Cell>> {
        let leader = self.leader();
        let head = leader
            .and_then(|leader| self.rows.get(leader.member))
            .and_then(|row| row.report.as_ref());
        self.rows
            .iter()
            .enumerate()
            .map(|(member, row)| {
                let report = row.report.as_ref();
                let number = |value: Option<u64>| {
                    Cell::plain(value.map_or("-".to_owned(), |value| value.to_string()))
                };
                let lag = report
                    .zip(head)
                    .map(|(report, head)| head.index.saturating_sub(report.applied));
                let pid = match row.process {
                    Process::Running(pid) => Some(pid),
                    Process::NotStarted | Process::Waiting | Process::Stopped => None,
                };
                vec![
                    Cell::plain(row.name.clone()),
                    number(pid.map(u64::from)),
                    row.state(leader.is_some_and(|leader| leader.member == member)),
                    number(report.map(|report| report.term)),
                    number(report.map(|report| report.index)),
                    number(lag),
                    Cell::plain(report.map_or("-".to_owned(), |report| bytes(report.db_bytes))),
                    number(Some(u64::from(self.restarts(member)))),
                    Cell::plain(row.endpoint.clone()),
                ]
            })
            .collect()
    }
}

impl Row {
    fn state(&self, leads: bool) -> Cell {
        let (text, style) = match (self.process, &self.report) {
            (Process::NotStarted, _) => ("starting", Style::Faint),
            (Process::Waiting, _) => ("down", Style::Bad),
            (Process::Stopped, _) => ("stopped", Style::Faint),
            (Process::Running(_), None) if self.answered => ("silent", Style::Bad),
            (Process::Running(_), None) => ("starting", Style::Faint),
            (Process::Running(_), Some(_)) if leads => ("leader", Style::Good),
            (Process::Running(_), Some(report)) if report.is_learner => ("learner", Style::Plain),
            (Process::Running(_), Some(report)) if report.leader.is_none() => {
                ("no leader", Style::Bad)
            }
            (Process::Running(_), Some(_)) => ("follower", Style::Plain),
        };
        Cell {
            text: text.to_owned(),
            style,
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

    fn three() -> View {
        View::new(&Cluster::plan(None, None).unwrap())
    }

    fn report(id: u64, leader: u64, term: u64, index: u64, applied: u64) -> Report {
        let leader = Some(leader).filter(|leader| *leader != 0);
        Report {
            id,
            leader,
            term,
            index,
            applied,
            is_learner: false,
            db_bytes: 20 << 10,
        }
    }

    fn started(view: &mut View, member: usize, report: Report) {
        view.apply(&Event {
            member,
            what: What::Started { pid: 100 },
        });
        view.apply(&Event {
            member,
            what: What::Report(Some(report)),
        });
    }

    fn ended() -> What {
        What::Ended {
            why: String::new(),
            last_line: None,
            retry: Duration::ZERO,
        }
    }

    fn column(view: &View, name: &str) -> Vec<String> {
        let place = COLUMNS
            .iter()
            .position(|column| column.trim_start_matches('>') == name)
            .unwrap();
        view.cells()
            .into_iter()
            .map(|row| row[place].text.clone())
            .collect()
    }

    #[test]
    fn states_and_lag_are_told_from_the_leaders_log() {
        let mut view = three();
        started(&mut view, 0, report(1, 2, 5, 95, 90));
        started(&mut view, 1, report(2, 2, 5, 100, 100));
        assert!(!view.is_whole());
        started(
            &mut view,
            2,
            Report {
                is_learner: true,
                ..report(3, 2, 5, 40, 40)
            },
        );
        assert!(view.is_whole());
        assert_eq!(view.leader(), Some(Leader { member: 1, term: 5 }));
        assert_eq!(column(&view, "STATE"), ["follower", "leader", "learner"]);
        assert_eq!(column(&view, "LAG"), ["10", "0", "60"]);
    }

    #[test]
    fn a_deposed_leader_of_an_older_term_is_not_the_leader() {
        let mut view = three();
        started(&mut view, 0, report(1, 1, 5, 100, 100));
        started(&mut view, 1, report(2, 2, 6, 101, 101));
        started(&mut view, 2, report(3, 0, 6, 101, 100));
        assert_eq!(view.leader(), Some(Leader { member: 1, term: 6 }));
        assert_eq!(column(&view, "STATE"), ["follower", "leader", "no leader"]);
    }

    #[test]
    fn a_process_that_ended_is_down_until_it_is_started_again() {
        let mut view = three();
        started(&mut view, 0, report(1, 1, 5, 100, 100));
        view.apply(&Event {
            member: 0,
            what: ended(),
        });
        // An answer that was still under way does not revive it.
        view.apply(&Event {
            member: 0,
            what: What::Report(Some(report(1, 1, 5, 100, 100))),
        });
        assert_eq!(view.leader(), None);
        assert_eq!(column(&view, "STATE")[0], "down");
        view.apply(&Event {
            member: 0,
            what: What::Started { pid: 101 },
        });
        assert_eq!(column(&view, "STATE")[0], "starting");
        assert_eq!(column(&view, "RESTARTS")[0], "1");
        view.apply(&Event {
            member: 0,
            what: What::Report(Some(report(1, 1, 5, 100, 100))),
        });
        view.apply(&Event {
            member: 0,
            what: What::Report(None),
        });
        assert_eq!(column(&view, "STATE")[0], "silent");
    }

    #[test]
    fn a_process_taken_over_is_silent_if_it_does_not_answer() {
        let mut view = three();
        view.apply(&Event {
            member: 0,
            what: What::Started { pid: 100 },
        });
        view.take_over(0, 2);
        view.apply(&Event {
            member: 0,
            what: What::Report(None),
        });
        assert_eq!(column(&view, "STATE")[0], "silent");
        assert_eq!(column(&view, "RESTARTS")[0], "2");
    }

    #[test]
    fn a_cluster_is_hopeless_when_a_majority_cannot_run() {
        let mut view = three();
        for _ in 0..3 {
            view.apply(&Event {
                member: 0,
                what: ended(),
            });
        }
        assert!(!view.is_hopeless(3));
        for _ in 0..3 {
            view.apply(&Event {
                member: 2,
                what: ended(),
            });
        }
        assert!(view.is_hopeless(3));
        started(&mut view, 2, report(3, 0, 1, 0, 0));
        assert!(!view.is_hopeless(3), "an answer ends the row of failures");
    }

    #[test]
    fn a_line_fits_into_80_columns() {
        let mut view = three();
        for member in 0..3 {
            let what = What::Started { pid: 4_194_304 };
            view.apply(&Event { member, what });
            let report = Report {
                db_bytes: 1_000_000,
                ..report(member as u64, 0, 2, 99_999, 99_990)
            };
            view.apply(&Event {
                member,
                what: What::Report(Some(report)),
            });
        }
        let lines = crate::table::lines(&COLUMNS, &view.cells(), 80, false);
        for line in &lines[1..] {
            assert!(line.contains("379"), "the port is cut off: {lines:#?}");
        }
    }

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
