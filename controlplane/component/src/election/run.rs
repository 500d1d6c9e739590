//! The loop around a candidate: acquire, work while renewing, stop in time, release.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::leases::Served;
use super::{Candidate, ElectionArgs, Leases, Step, Timing};
use crate::Connect;

/// Waits for the Lease, then does `work` while renewing it.
///
/// `work` is told to stop, by its token, when `stop` comes or when the Lease could not be renewed in time; in the latter
/// case it is dropped if it has not ended well before anybody else may begin, and the result is an error. Tasks that it
/// spawns must end when it is dropped. The Lease is released once the work has ended.
pub async fn lead<F, Fut>(
    connect: &Connect,
    args: &ElectionArgs,
    stop: CancellationToken,
    work: F,
) -> anyhow::Result<()>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    if !args.leader_elect {
        return work(stop).await;
    }
    let timing = args.timing()?;
    let name = args
        .leader_elect_resource_name
        .clone()
        .unwrap_or_else(|| connect.name.clone());
    let identity = identity();
    let leases = Served {
        api: Api::namespaced(
            connect.client.clone(),
            &args.leader_elect_resource_namespace,
        ),
        name: name.clone(),
        post: connect.post(),
    };
    let candidate = Candidate::new(&name, &identity, timing.clone());
    lead_with(&leases, candidate, timing, stop, work).await
}

/// The host's name, for people, and chance, so that a restarted process is another.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), rand::random::<u64>())
}

pub(crate) async fn lead_with<L, F, Fut>(
    leases: &L,
    mut candidate: Candidate,
    timing: Timing,
    stop: CancellationToken,
    work: F,
) -> anyhow::Result<()>
where
    L: Leases,
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let acquire = acquire(leases, &mut candidate, &timing);
    let Some(held) = stop.run_until_cancelled(acquire).await else {
        if candidate.may_hold() {
            release(leases, &candidate, &timing, None).await;
        }
        return Ok(());
    };
    info!("leading");
    let mut lease = held.lease;
    let work_stop = stop.child_token();
    let mut working = std::pin::pin!(work(work_stop.clone()));
    let lost_at = {
        let renewing = renew(leases, &mut candidate, &timing, &mut lease, held.since);
        tokio::select! {
            result = &mut working => Ok(result),
            since = renewing => Err(since),
        }
    };
    match lost_at {
        Ok(result) => {
            release(leases, &candidate, &timing, Some(lease)).await;
            result
        }
        Err(since) => {
            warn!("could not renew the lease in time: stopping");
            work_stop.cancel();
            // Others begin after the lease's whole duration. A quarter of the rest stays for what is on its way.
            let rest = timing.lease_duration - timing.renew_deadline;
            let deadline = since + timing.renew_deadline + rest.mul_f64(0.75);
            let _ = timeout_at(deadline, working).await;
            bail!("leader election was lost")
        }
    }
}

/// Gives up the Lease, so that the next need not wait for its end. `known` is how it was written last, if it is ours.
async fn release<L: Leases>(
    leases: &L,
    candidate: &Candidate,
    timing: &Timing,
    known: Option<Lease>,
) {
    let give_up = async |lease: Lease| {
        let released = candidate.release(lease, Timestamp::now());
        anyhow::Ok(leases.write(&released).await?.is_some())
    };
    let releasing = async {
        if let Some(known) = known
            && give_up(known).await?
        {
            return Ok(true);
        }
        // What was on its way when the work ended may have been written all the same.
        match leases.read().await?.filter(|lease| candidate.holds(lease)) {
            Some(lease) => give_up(lease).await,
            None => Ok(false),
        }
    };
    match timeout(timing.retry_period, releasing).await {
        Ok(Ok(true)) => debug!("released the lease"),
        Ok(Ok(false)) => debug!("the lease is no longer ours"),
        Ok(Err(error)) => debug!("could not release the lease; it will run out: {error:#}"),
        Err(_) => debug!("could not release the lease; it will run out: no answer"),
    }
}

/// How long one attempt may take: a connection that is open at this end only must not use up the time for a second.
fn attempt_max(timing: &Timing) -> Duration {
    timing.renew_deadline / 2
}

/// The Lease, and from when on it is surely ours.
struct Held {
    lease: Lease,
    since: Instant,
}

async fn acquire<L: Leases>(leases: &L, candidate: &mut Candidate, timing: &Timing) -> Held {
    loop {
        match timeout(attempt_max(timing), attempt(leases, candidate, None)).await {
            Ok(Ok(Some(held))) => return held,
            Ok(Ok(None)) => (),
            Ok(Err(error)) => debug!("cannot acquire the lease: {error:#}"),
            Err(_) => debug!("cannot acquire the lease: no answer"),
        }
        // Not all at the same time.
        sleep(
            timing
                .retry_period
                .mul_f64(1.0 + 0.2 * rand::random::<f64>()),
        )
        .await;
    }
}

/// Renews until it cannot; returns from when on the Lease was last surely ours.
async fn renew<L: Leases>(
    leases: &L,
    candidate: &mut Candidate,
    timing: &Timing,
    lease: &mut Lease,
    mut since: Instant,
) -> Instant {
    let mut known = true;
    loop {
        let deadline = since + timing.renew_deadline;
        if timeout_at(deadline, sleep(timing.retry_period))
            .await
            .is_err()
        {
            return since;
        }
        // Usually nobody wrote since we did, and reading first would be a second request.
        let fast = known.then(|| lease.clone());
        let answer_by = deadline.min(Instant::now() + attempt_max(timing));
        match timeout_at(answer_by, attempt(leases, candidate, fast)).await {
            Err(_) if answer_by == deadline => return since,
            // It may have been written: the next attempt reads first.
            Err(_) => known = false,
            Ok(Ok(Some(held))) => {
                since = held.since;
                *lease = held.lease;
                known = true;
            }
            Ok(Ok(None)) => known = false,
            Ok(Err(error)) => {
                debug!("cannot renew the lease: {error:#}");
                known = false;
            }
        }
    }
}

/// One attempt: read (unless `known`), decide, write.
async fn attempt<L: Leases>(
    leases: &L,
    candidate: &mut Candidate,
    known: Option<Lease>,
) -> anyhow::Result<Option<Held>> {
    let lease = match known {
        Some(lease) => Some(lease),
        None => leases.read().await.context("reading the lease")?,
    };
    match candidate.step(lease, Instant::now(), Timestamp::now()) {
        Step::Wait => Ok(None),
        Step::Write(lease) => {
            // Before it is sent: whoever sees it sees it later.
            let since = Instant::now();
            let written = leases.write(&lease).await.context("writing the lease")?;
            let written = written.filter(|lease| candidate.holds(lease));
            Ok(written.map(|lease| Held { lease, since }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use parking_lot::Mutex;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A Lease in memory, and a network that can be cut for each who uses it.
    #[derive(Clone, Default)]
    struct Memory {
        lease: Arc<Mutex<(Option<Lease>, u64)>>,
        cut: Arc<AtomicBool>,
        /// A request that arrives, and whose answer is lost.
        mute: Arc<AtomicBool>,
        /// The next request is never answered; those after it are.
        stuck: Arc<AtomicBool>,
        /// The next write arrives, and its answer is lost; those after it are answered.
        lost: Arc<AtomicBool>,
    }

    impl Memory {
        fn peer(&self) -> Memory {
            Memory {
                lease: self.lease.clone(),
                ..Memory::default()
            }
        }

        async fn reach(&self) {
            if self.cut.load(Ordering::Relaxed) || self.stuck.swap(false, Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        }
    }

    impl Leases for Memory {
        async fn read(&self) -> anyhow::Result<Option<Lease>> {
            self.reach().await;
            Ok(self.lease.lock().0.clone())
        }

        async fn write(&self, lease: &Lease) -> anyhow::Result<Option<Lease>> {
            self.reach().await;
            let written = {
                let mut stored = self.lease.lock();
                let version = stored
                    .0
                    .as_ref()
                    .and_then(|l| l.metadata.resource_version.clone());
                if version != lease.metadata.resource_version {
                    return Ok(None);
                }
                stored.1 += 1;
                let mut lease = lease.clone();
                lease.metadata.resource_version = Some(stored.1.to_string());
                stored.0 = Some(lease.clone());
                lease
            };
            if self.mute.load(Ordering::Relaxed) || self.lost.swap(false, Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            Ok(Some(written))
        }
    }

    fn timing() -> Timing {
        Timing {
            lease_duration: 15 * SECOND,
            renew_deadline: 10 * SECOND,
            retry_period: 2 * SECOND,
        }
    }

    /// Counts who works; two at a time is a failure.
    #[derive(Clone, Default)]
    struct Office {
        inside: Arc<AtomicU32>,
        log: Arc<Mutex<Vec<Entry>>>,
    }

    /// Who did what, when.
    type Entry = (&'static str, &'static str, Instant);

    struct Seat(Office, &'static str);

    impl Drop for Seat {
        fn drop(&mut self) {
            self.0.inside.fetch_sub(1, Ordering::SeqCst);
            self.0.log.lock().push((self.1, "left", Instant::now()));
        }
    }

    impl Office {
        fn enter(&self, who: &'static str) -> Seat {
            assert_eq!(
                self.inside.fetch_add(1, Ordering::SeqCst),
                0,
                "two work at a time"
            );
            self.log.lock().push((who, "entered", Instant::now()));
            Seat(self.clone(), who)
        }

        fn entered(&self, who: &str) -> Option<Instant> {
            let log = self.log.lock();
            let entry = log
                .iter()
                .find(|(name, what, _)| *name == who && *what == "entered");
            entry.map(|(_, _, at)| *at)
        }

        async fn wait_for(&self, who: &str) -> Instant {
            loop {
                if let Some(at) = self.entered(who) {
                    return at;
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Starts one who wants to work; `deaf` work does not end when it is told to.
    fn start(
        who: &'static str,
        leases: &Memory,
        office: &Office,
        deaf: bool,
    ) -> (
        CancellationToken,
        tokio::task::JoinHandle<anyhow::Result<()>>,
    ) {
        let stop = CancellationToken::new();
        let (leases, office, token) = (leases.clone(), office.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let candidate = Candidate::new("lease", who, timing());
            lead_with(&leases, candidate, timing(), token, |stop| async move {
                let _seat = office.enter(who);
                if deaf {
                    std::future::pending::<()>().await;
                }
                stop.cancelled().await;
                Ok(())
            })
            .await
        });
        (stop, task)
    }

    #[tokio::test(start_paused = true)]
    async fn one_works_and_the_other_waits_as_long_as_the_first_renews() {
        let (leases, office) = (Memory::default(), Office::default());
        let _a = start("a", &leases, &office, false);
        office.wait_for("a").await;
        let _b = start("b", &leases.peer(), &office, false);
        sleep(600 * SECOND).await;
        assert_eq!(office.entered("b"), None);
        assert_eq!(office.inside.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_stopped_releases_the_lease_and_the_next_begins_within_a_retry() {
        let (leases, office) = (Memory::default(), Office::default());
        let (stop, task) = start("a", &leases, &office, false);
        office.wait_for("a").await;
        let _b = start("b", &leases.peer(), &office, false);
        sleep(5 * SECOND).await;
        stop.cancel();
        task.await.unwrap().unwrap();
        let stopped = Instant::now();
        let began = office.wait_for("b").await;
        assert!(began - stopped < 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_stopped_while_it_writes_the_lease_releases_what_it_wrote() {
        for leads in [true, false] {
            let (leases, office) = (Memory::default(), Office::default());
            leases.lost.store(!leads, Ordering::Relaxed);
            let (stop, task) = start("a", &leases, &office, false);
            if leads {
                office.wait_for("a").await;
                leases.lost.store(true, Ordering::Relaxed);
            }
            let _b = start("b", &leases.peer(), &office, false);
            while leases.lost.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(10)).await;
            }
            stop.cancel();
            task.await.unwrap().unwrap();
            let stopped = Instant::now();
            let began = office.wait_for("b").await;
            assert!(began - stopped < 3 * SECOND, "leads: {leads}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_renew_stops_before_the_next_begins_even_if_its_work_does_not_listen() {
        for deaf in [false, true] {
            let (leases, office) = (Memory::default(), Office::default());
            let (_, a) = start("a", &leases, &office, deaf);
            office.wait_for("a").await;
            let _b = start("b", &leases.peer(), &office, false);
            sleep(30 * SECOND).await;
            leases.cut.store(true, Ordering::Relaxed);
            assert!(a.await.unwrap().is_err());
            let left = Instant::now();
            assert!(office.wait_for("b").await > left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_whose_answer_was_lost_does_not_count() {
        let (leases, office) = (Memory::default(), Office::default());
        let (_, a) = start("a", &leases, &office, false);
        office.wait_for("a").await;
        leases.mute.store(true, Ordering::Relaxed);
        let muted = Instant::now();
        let _b = start("b", &leases.peer(), &office, false);
        assert!(a.await.unwrap().is_err());
        assert!(muted.elapsed() <= 12 * SECOND);
        office.wait_for("b").await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_that_is_never_answered_costs_neither_the_lease_nor_the_hope_for_it() {
        let (leases, office) = (Memory::default(), Office::default());
        leases.stuck.store(true, Ordering::Relaxed);
        let (_stop, a) = start("a", &leases, &office, false);
        office.wait_for("a").await;
        for _ in 0..5 {
            sleep(20 * SECOND).await;
            leases.stuck.store(true, Ordering::Relaxed);
        }
        sleep(60 * SECOND).await;
        assert!(!leases.stuck.load(Ordering::Relaxed));
        assert!(!a.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_who_begin_at_once_one_works() {
        let (leases, office) = (Memory::default(), Office::default());
        let names = ["a", "b", "c", "d", "e"];
        let _all: Vec<_> = names
            .map(|who| start(who, &leases.peer(), &office, false))
            .into();
        sleep(60 * SECOND).await;
        assert_eq!(office.inside.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_of_the_work_is_passed_on_and_the_lease_released() {
        let leases = Memory::default();
        let candidate = Candidate::new("lease", "a", timing());
        let stop = CancellationToken::new();
        let result = lead_with(&leases, candidate, timing(), stop, |_| async {
            anyhow::bail!("out of work")
        })
        .await;
        assert_eq!(result.unwrap_err().to_string(), "out of work");
        let spec = leases.lease.lock().0.clone().unwrap().spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some(""));
    }
}
