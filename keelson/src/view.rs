//! What the launcher knows of its parts, built from events alone: no clock, no process, no socket.

use crate::part::{Part, Stage};
use crate::row::{Row, What};
use crate::table::Cell;

/// Something that happened to a part.
#[derive(Debug)]
pub struct Event {
    /// Its place in the list.
    pub part: usize,
    pub what: What,
}

/// All parts.
#[derive(Debug)]
pub struct View {
    rows: Vec<Row>,
}

/// Who leads, in which term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// Its place in the list.
    pub member: usize,
    pub term: u64,
}

impl View {
    pub fn new(parts: &[Part]) -> View {
        View {
            rows: parts.iter().map(Row::new).collect(),
        }
    }

    /// Takes note of an event.
    pub fn apply(&mut self, event: &Event) {
        if let Some(row) = self.rows.get_mut(event.part) {
            row.apply(&event.what);
        }
    }

    /// One of them.
    pub fn row(&self, part: usize) -> Option<&Row> {
        self.rows.get(part)
    }

    /// See [`Row::take_over`].
    pub fn take_over(&mut self, part: usize, restarts: u32) {
        if let Some(row) = self.rows.get_mut(part) {
            row.take_over(restarts);
        }
    }

    /// The member that leads in the highest term which anybody knows of. A deposed leader that has not noticed yet
    /// names itself, but in an older term.
    pub fn leader(&self) -> Option<Leader> {
        let reports = self.rows.iter().filter_map(Row::member);
        let newest = reports.max_by_key(|report| (report.term, report.leader.is_some()))?;
        let id = newest.leader?;
        let member = self
            .rows
            .iter()
            .position(|row| row.member().is_some_and(|report| report.id == id))?;
        Some(Leader {
            member,
            term: newest.term,
        })
    }

    /// Whether what needs this stage can be started: the store is of use as soon as a member leads.
    pub fn can_be_used(&self, stage: Stage) -> bool {
        match stage {
            Stage::Store => self.leader().is_some(),
            Stage::Api | Stage::Clients => self.of(stage).all(Row::is_ready),
        }
    }

    /// Whether every part does what it is there for.
    pub fn is_whole(&self) -> bool {
        self.rows.iter().all(Row::is_ready) && self.leader().is_some()
    }

    /// Whether parts end again and again without which the cluster cannot be: so many members that the others are no
    /// majority, or anything else.
    pub fn is_hopeless(&self, failures: u32) -> bool {
        let is_sound = |row: &&Row| row.failures < failures;
        let sound_members = self.of(Stage::Store).filter(is_sound).count();
        let others = [Stage::Api, Stage::Clients];
        let all_others_sound = others
            .into_iter()
            .all(|stage| self.of(stage).all(|row| is_sound(&row)));
        sound_members * 2 <= self.of(Stage::Store).count() || !all_others_sound
    }

    /// Whether no process of a stage is left.
    pub fn has_stopped(&self, stage: Stage) -> bool {
        self.of(stage).all(Row::is_stopped)
    }

    /// Whether no process is left.
    pub fn is_stopped(&self) -> bool {
        self.rows.iter().all(Row::is_stopped)
    }

    /// One line of the table for each part, in the order of [`crate::row::COLUMNS`].
    pub fn cells(&self) -> Vec<Vec<Cell>> {
        let leader = self.leader();
        let leader = leader.and_then(|leader| self.rows.get(leader.member)?.member());
        self.rows.iter().map(|row| row.cells(leader)).collect()
    }

    fn of(&self, stage: Stage) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.stage == stage)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::cluster::Cluster;
    use crate::row::{COLUMNS, MemberReport, Report};

    /// Three members alone.
    fn three() -> View {
        View::new(&Part::all_of(&Cluster::plan(None, None).unwrap(), true))
    }

    /// The same, and a control plane with two nodes.
    fn whole() -> View {
        View::new(&Part::all_of(&Cluster::plan(None, None).unwrap(), false))
    }

    const APISERVER: usize = 3;
    const SCHEDULER: usize = 5;

    fn member(id: u64, leader: u64, term: u64, index: u64, applied: u64) -> MemberReport {
        let leader = Some(leader).filter(|leader| *leader != 0);
        MemberReport {
            id,
            leader,
            term,
            index,
            applied,
            is_learner: false,
            db_bytes: 20 << 10,
        }
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn start(view: &mut View, part: usize, second: u64) {
        let what = What::Started {
            pid: 100,
            at: at(second),
        };
        view.apply(&Event { part, what });
    }

    fn report(view: &mut View, part: usize, report: Report) {
        let what = What::Report(Some(report));
        view.apply(&Event { part, what });
    }

    fn started(view: &mut View, part: usize, answer: MemberReport) {
        start(view, part, 0);
        report(view, part, Report::Member(answer));
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
        started(&mut view, 0, member(1, 2, 5, 95, 90));
        started(&mut view, 1, member(2, 2, 5, 100, 100));
        assert!(!view.is_whole());
        started(
            &mut view,
            2,
            MemberReport {
                is_learner: true,
                ..member(3, 2, 5, 40, 40)
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
        started(&mut view, 0, member(1, 1, 5, 100, 100));
        started(&mut view, 1, member(2, 2, 6, 101, 101));
        started(&mut view, 2, member(3, 0, 6, 101, 100));
        assert_eq!(view.leader(), Some(Leader { member: 1, term: 6 }));
        assert_eq!(column(&view, "STATE"), ["follower", "leader", "no leader"]);
    }

    #[test]
    fn a_process_that_ended_is_down_until_it_is_started_again() {
        let mut view = three();
        started(&mut view, 0, member(1, 1, 5, 100, 100));
        view.apply(&Event {
            part: 0,
            what: ended(),
        });
        // An answer that was still under way does not revive it.
        report(&mut view, 0, Report::Member(member(1, 1, 5, 100, 100)));
        assert_eq!(view.leader(), None);
        assert_eq!(column(&view, "STATE")[0], "down");
        start(&mut view, 0, 1);
        assert_eq!(column(&view, "STATE")[0], "starting");
        assert_eq!(column(&view, "RESTARTS")[0], "1");
        report(&mut view, 0, Report::Member(member(1, 1, 5, 100, 100)));
        view.apply(&Event {
            part: 0,
            what: What::Report(None),
        });
        assert_eq!(column(&view, "STATE")[0], "silent");
    }

    #[test]
    fn a_process_taken_over_is_silent_if_it_does_not_answer() {
        let mut view = three();
        start(&mut view, 0, 0);
        view.take_over(0, 2);
        view.apply(&Event {
            part: 0,
            what: What::Report(None),
        });
        assert_eq!(column(&view, "STATE")[0], "silent");
        assert_eq!(column(&view, "RESTARTS")[0], "2");
    }

    #[test]
    fn a_cluster_is_hopeless_when_a_majority_cannot_run() {
        let mut view = three();
        let fail_thrice = |view: &mut View, part| {
            for _ in 0..3 {
                view.apply(&Event {
                    part,
                    what: ended(),
                });
            }
        };
        fail_thrice(&mut view, 0);
        assert!(!view.is_hopeless(3));
        fail_thrice(&mut view, 2);
        assert!(view.is_hopeless(3));
        started(&mut view, 2, member(3, 0, 1, 0, 0));
        assert!(!view.is_hopeless(3), "an answer ends the row of failures");

        let mut view = whole();
        fail_thrice(&mut view, SCHEDULER);
        assert!(view.is_hopeless(3), "there is one scheduler");
    }

    #[test]
    fn a_stage_can_be_used_when_what_is_in_it_answers() {
        let mut view = whole();
        started(&mut view, 1, member(2, 2, 1, 3, 3));
        assert!(
            view.can_be_used(Stage::Store),
            "one member leads, so a majority runs"
        );
        start(&mut view, APISERVER, 0);
        report(&mut view, APISERVER, Report::ApiServer { is_ready: false });
        assert!(!view.can_be_used(Stage::Api));
        assert_eq!(column(&view, "STATE")[APISERVER], "not ready");
        report(&mut view, APISERVER, Report::ApiServer { is_ready: true });
        assert!(view.can_be_used(Stage::Api));
    }

    #[test]
    fn a_client_is_ready_once_it_renews_its_lease_itself() {
        let mut view = whole();
        start(&mut view, SCHEDULER, 50);
        let state = |view: &View| column(view, "STATE")[SCHEDULER].clone();
        report(&mut view, SCHEDULER, Report::Client { renewed: at(49) });
        assert_eq!(state(&view), "starting", "that was the process before it");
        report(&mut view, SCHEDULER, Report::Client { renewed: at(51) });
        assert_eq!(state(&view), "ready");
    }

    #[test]
    fn only_members_have_terms_and_logs() {
        let mut view = whole();
        started(&mut view, 0, member(1, 1, 5, 100, 100));
        let ports = ["2379", "22379", "32379", "6443", "", "", "", ""];
        assert_eq!(column(&view, "PORT"), ports);
        let terms = ["5", "-", "-", "", "", "", "", ""];
        assert_eq!(column(&view, "TERM"), terms);
    }

    #[test]
    fn a_line_fits_into_80_columns() {
        let mut view = whole();
        for part in 0..8 {
            let what = What::Started {
                pid: 4_194_304,
                at: at(0),
            };
            view.apply(&Event { part, what });
        }
        for part in 0..3 {
            let answer = MemberReport {
                db_bytes: 1_000_000,
                ..member(part as u64, 0, 2, 99_999, 99_990)
            };
            report(&mut view, part, Report::Member(answer));
        }
        let lines = crate::table::lines(&COLUMNS, &view.cells(), 80, false);
        for line in &lines[1..4] {
            assert!(line.ends_with("379"), "the port is cut off: {lines:#?}");
        }
    }
}
