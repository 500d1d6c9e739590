//! The order of starting and stopping: each stage starts when the one before it can be used, and stops before it.

use tokio_util::sync::CancellationToken;

use crate::part::Stage;
use crate::supervise::Orders;
use crate::view::View;

/// What supervisors were ordered so far.
#[derive(Debug, Default)]
pub struct Stages {
    orders: [(CancellationToken, CancellationToken); Stage::ALL.len()],
    kill: CancellationToken,
    /// Everything should stop.
    stopping: bool,
}

impl Stages {
    /// What the supervisor of a part listens to.
    pub fn orders(&self, stage: Stage) -> Orders {
        let (start, stop) = self.of(stage).clone();
        Orders {
            start,
            stop,
            kill: self.kill.clone(),
        }
    }

    /// From now on everything is to stop.
    pub fn begin_to_stop(&mut self) {
        self.stopping = true;
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Kills what has not stopped yet, and does not wait for any order.
    pub fn kill(&self) {
        for stage in Stage::ALL {
            self.of(stage).1.cancel();
        }
        self.kill.cancel();
    }

    /// Orders what follows from what is known now. `before` is done before a stage is started, and may fail.
    pub fn advance(
        &self,
        view: &View,
        mut before: impl FnMut(Stage) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.stopping {
            for stage in Stage::ALL.into_iter().rev() {
                self.of(stage).1.cancel();
                if !view.has_stopped(stage) {
                    break;
                }
            }
            return Ok(());
        }
        for stage in Stage::ALL {
            let start = &self.of(stage).0;
            if !start.is_cancelled() {
                before(stage)?;
                start.cancel();
            }
            if !view.can_be_used(stage) {
                break;
            }
        }
        Ok(())
    }

    fn of(&self, stage: Stage) -> &(CancellationToken, CancellationToken) {
        let [store, api, clients] = &self.orders;
        match stage {
            Stage::Store => store,
            Stage::Api => api,
            Stage::Clients => clients,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::cluster::Cluster;
    use crate::part::Part;
    use crate::row::{MemberReport, Report, What};
    use crate::view::Event;

    /// One member, and a control plane: the places of its parts are 0, 1 and 2 to 5.
    fn view() -> View {
        View::new(&Part::all_of(&Cluster::plan(Some(1), None).unwrap(), false))
    }

    fn happened(view: &mut View, part: usize, what: What) {
        view.apply(&Event { part, what });
    }

    fn ready(view: &mut View, part: usize, report: Report) {
        let at = SystemTime::UNIX_EPOCH;
        happened(view, part, What::Started { pid: 1, at });
        happened(view, part, What::Report(Some(report)));
    }

    fn started(stages: &Stages) -> [bool; 3] {
        Stage::ALL.map(|stage| stages.orders(stage).start.is_cancelled())
    }

    fn stopped(stages: &Stages) -> [bool; 3] {
        Stage::ALL.map(|stage| stages.orders(stage).stop.is_cancelled())
    }

    #[test]
    fn each_stage_starts_when_the_one_before_it_can_be_used() {
        let (stages, mut view) = (Stages::default(), view());
        let mut done = Vec::new();
        let mut advance = |view: &View| {
            let mut before = |stage| {
                done.push(stage);
                Ok(())
            };
            stages.advance(view, &mut before).unwrap();
            started(&stages)
        };
        assert_eq!(advance(&view), [true, false, false]);
        let leader = MemberReport {
            id: 1,
            leader: Some(1),
            term: 1,
            index: 1,
            applied: 1,
            is_learner: false,
            db_bytes: 0,
        };
        ready(&mut view, 0, Report::Member(leader));
        assert_eq!(advance(&view), [true, true, false]);
        ready(&mut view, 1, Report::ApiServer { is_ready: true });
        assert_eq!(advance(&view), [true, true, true]);
        // What was started once stays so, whatever happens below it.
        happened(&mut view, 0, What::Report(None));
        assert_eq!(advance(&view), [true, true, true]);
        assert_eq!(done, Stage::ALL);
    }

    #[test]
    fn clients_stop_before_the_api_server_and_that_before_the_store() {
        let (mut stages, mut view) = (Stages::default(), view());
        stages.begin_to_stop();
        let stop = |view: &mut View, part| happened(view, part, What::Stopped { killed: false });
        let advance = |view: &View| {
            stages.advance(view, |_| Ok(())).unwrap();
            stopped(&stages)
        };
        assert_eq!(advance(&view), [false, false, true]);
        for client in 2..5 {
            stop(&mut view, client);
        }
        assert_eq!(
            advance(&view),
            [false, false, true],
            "one client still runs"
        );
        stop(&mut view, 5);
        assert_eq!(advance(&view), [false, true, true]);
        stop(&mut view, 1);
        assert_eq!(advance(&view), [true, true, true]);
        assert_eq!(started(&stages), [false; 3]);
    }
}
