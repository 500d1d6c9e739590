//! What all parts of a run share: the clock, the record, the members' addresses, and the word to stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use keelson_jepsen::history::{
    Act, Call, ClientId, ConnectionId, Fault, History, HistoryError, Leader, MemberIndex, Micros,
    Operation, OperationId, Outcome, Record, Revision, Run, StreamId, WatchStream, Workload,
    Writer,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::filler;
use crate::client::{Connection, Unreachable};

/// Shared by the clients, the nemesis and the status line.
pub struct World {
    began: Instant,
    /// Whether watchers may ask for progress.
    pub answers_progress: bool,
    /// When clients and faults began.
    worked: OnceLock<Instant>,
    record: Mutex<Recording>,
    /// The client ports of the members that clients may ask, by their number.
    endpoints: Mutex<BTreeMap<MemberIndex, u16>>,
    stop: watch::Sender<bool>,
    next_operation: AtomicU64,
    next_stream: AtomicU64,
    next_connection: AtomicU32,
    next_client: AtomicU32,
    next_value: AtomicU64,
    /// How far each watch of everything has come, by its name.
    recorders: Mutex<BTreeMap<String, Revision>>,
    /// The highest revision in any reply.
    newest: AtomicI64,
    pub counts: Counts,
    faults: Mutex<BTreeMap<u64, Fault>>,
    next_fault: AtomicU64,
    leader: Mutex<Option<Leader>>,
    member_ids: Mutex<BTreeMap<u64, MemberIndex>>,
    failed_to_record: AtomicBool,
}

struct Recording {
    history: History,
    /// None when the record is closed.
    writer: Option<Writer>,
}

/// Operations by their outcomes.
#[derive(Default)]
pub struct Counts {
    pub done: AtomicU64,
    pub unknown: AtomicU64,
    pub refused: AtomicU64,
}

/// A fault that is in force, until it is told to be over.
#[derive(Debug)]
#[must_use = "a fault that began has to end"]
pub struct InForce(u64);

impl World {
    /// Begins the record, in a new file.
    pub fn begin(
        run: Run,
        answers_progress: bool,
        path: &Path,
    ) -> Result<Arc<World>, HistoryError> {
        let mut writer = Writer::create(path)?;
        writer.write(&Record::Run(run.clone()))?;
        let mut history = History::default();
        history.push(Record::Run(run));
        Ok(Arc::new(World {
            began: Instant::now(),
            answers_progress,
            worked: OnceLock::new(),
            record: Mutex::new(Recording {
                history,
                writer: Some(writer),
            }),
            endpoints: Mutex::default(),
            stop: watch::Sender::new(false),
            next_operation: AtomicU64::new(1),
            next_stream: AtomicU64::new(1),
            next_connection: AtomicU32::new(1),
            next_client: AtomicU32::new(1),
            next_value: AtomicU64::new(1),
            recorders: Mutex::default(),
            newest: AtomicI64::new(0),
            counts: Counts::default(),
            faults: Mutex::default(),
            next_fault: AtomicU64::new(1),
            leader: Mutex::default(),
            member_ids: Mutex::default(),
            failed_to_record: AtomicBool::new(false),
        }))
    }

    pub fn now(&self) -> Micros {
        Micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes that all clients are there.
    pub fn working(&self) {
        self.worked.get_or_init(Instant::now);
    }

    /// For how long they have been.
    pub fn working_for(&self) -> Option<Duration> {
        self.worked.get().map(Instant::elapsed)
    }

    pub fn new_client(&self) -> ClientId {
        ClientId(self.next_client.fetch_add(1, Ordering::Relaxed))
    }

    pub fn new_stream(&self) -> StreamId {
        StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed))
    }

    /// A number that no other write of this run has: what makes values unique.
    pub fn new_value(&self) -> u64 {
        self.next_value.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets clients ask this member.
    pub fn add_endpoint(&self, member: MemberIndex, port: u16) {
        lock(&self.endpoints).insert(member, port);
    }

    /// Keeps clients from asking a member that was removed.
    pub fn remove_endpoint(&self, member: MemberIndex) {
        lock(&self.endpoints).remove(&member);
    }

    /// The members that clients may ask.
    pub fn members(&self) -> Vec<MemberIndex> {
        lock(&self.endpoints).keys().copied().collect()
    }

    /// A new connection to a member.
    pub async fn connect(&self, member: MemberIndex) -> Option<Result<Connection, Unreachable>> {
        let port = *lock(&self.endpoints).get(&member)?;
        Some(self.connect_to(member, port).await)
    }

    /// A new connection to a member that clients are not told of, or not any more.
    pub async fn connect_to(
        &self,
        member: MemberIndex,
        port: u16,
    ) -> Result<Connection, Unreachable> {
        let id = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        Connection::open(id, member, port).await
    }

    /// Sends a request, records it with its outcome, and gives it.
    pub async fn operate(
        &self,
        workload: Workload,
        client: ClientId,
        connection: &Connection,
        call: Call,
        patience: Duration,
    ) -> Operation {
        let recorded = call.clone();
        self.operate_as(workload, client, connection, call, recorded, patience)
            .await
    }

    /// Sends `call`, and records it as `recorded`, which says the same in fewer words.
    pub async fn operate_as(
        &self,
        workload: Workload,
        client: ClientId,
        connection: &Connection,
        call: Call,
        recorded: Call,
        patience: Duration,
    ) -> Operation {
        let id = OperationId(self.next_operation.fetch_add(1, Ordering::Relaxed));
        let start = self.now();
        let mut outcome = connection.call(&call, patience).await;
        filler::shorten_outcome(&mut outcome);
        let operation = Operation {
            id,
            workload,
            client,
            member: connection.member,
            connection: connection.id,
            call: recorded,
            start,
            end: self.now(),
            outcome,
        };
        let count = match &operation.outcome {
            Outcome::Done { header, .. } => {
                self.newest.fetch_max(header.revision.0, Ordering::Relaxed);
                &self.counts.done
            }
            Outcome::Unknown { .. } => &self.counts.unknown,
            Outcome::Refused { .. } => &self.counts.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.record(Record::Operation(operation.clone()));
        operation
    }

    pub fn act(&self, act: Act) {
        self.record(Record::Act(act));
    }

    pub fn watched(&self, stream: WatchStream) {
        self.record(Record::Watch(stream));
    }

    /// Adds a line to the history.
    pub fn record(&self, record: Record) {
        let mut recording = lock(&self.record);
        let Some(writer) = recording.writer.as_mut() else {
            return;
        };
        if let Err(error) = writer.write(&record)
            && !self.failed_to_record.swap(true, Ordering::Relaxed)
        {
            eprintln!("the history cannot be written, and is kept in memory only: {error}");
        }
        recording.history.push(record);
    }

    /// Notes that a fault begins.
    pub fn fault_begins(&self, name: &str, members: Vec<MemberIndex>, detail: String) -> InForce {
        let id = self.next_fault.fetch_add(1, Ordering::Relaxed);
        let fault = Fault {
            name: name.to_owned(),
            members,
            detail,
            start: self.now(),
            end: None,
        };
        lock(&self.faults).insert(id, fault);
        InForce(id)
    }

    /// Notes that it is over.
    pub fn fault_ends(&self, fault: InForce) {
        if let Some(mut fault) = lock(&self.faults).remove(&fault.0) {
            fault.end = Some(self.now());
            self.record(Record::Fault(fault));
        }
    }

    /// The faults in force, in words.
    pub fn faults_in_force(&self) -> Vec<String> {
        let describe = |fault: &Fault| {
            let members: Vec<String> = fault
                .members
                .iter()
                .map(|member| format!("m{}", member.0))
                .collect();
            format!("{} {}", fault.name, members.join(","))
                .trim()
                .to_owned()
        };
        lock(&self.faults).values().map(describe).collect()
    }

    /// Notes who leads, if that is news.
    pub fn leader_seen(&self, member: Option<MemberIndex>, term: u64) {
        let mut last = lock(&self.leader);
        let known = last.as_ref().map(|leader| (leader.member, leader.term));
        if known == Some((member, term)) {
            return;
        }
        let leader = Leader {
            at: self.now(),
            member,
            term,
        };
        *last = Some(leader.clone());
        drop(last);
        self.record(Record::Leader(leader));
    }

    /// Notes to whom the leadership was moved, before anybody has looked.
    pub fn leader_moved(&self, member: Option<MemberIndex>) {
        let mut last = lock(&self.leader);
        if let (Some(last), Some(member)) = (last.as_mut(), member) {
            last.member = Some(member);
        }
    }

    /// Notes the cluster's id of a member.
    pub fn member_id_seen(&self, id: u64, member: MemberIndex) {
        lock(&self.member_ids).insert(id, member);
    }

    /// The members by the cluster's ids, as far as they have told.
    pub fn member_ids(&self) -> BTreeMap<u64, MemberIndex> {
        lock(&self.member_ids).clone()
    }

    /// Who led when somebody last looked.
    pub fn leader(&self) -> Option<MemberIndex> {
        lock(&self.leader).as_ref().and_then(|leader| leader.member)
    }

    /// Notes how far a watch of everything has come.
    pub fn recorder_at(&self, watcher: &str, revision: Revision) {
        lock(&self.recorders).insert(watcher.to_owned(), revision);
    }

    /// What every watch of everything has seen: below it, history may be compacted.
    pub fn recorded(&self) -> Revision {
        let recorders = lock(&self.recorders);
        recorders.values().min().copied().unwrap_or_default()
    }

    /// The newest revision that any client was told.
    pub fn newest(&self) -> Revision {
        Revision(self.newest.load(Ordering::Relaxed))
    }

    /// Tells everybody to finish what they are at and begin nothing more.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Ends when everybody is told to stop.
    pub async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // It cannot be closed: `self` holds the other end.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Sleeps, unless it is time to stop.
    pub async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stopped()).await;
    }

    /// Closes the record and gives all that is in it. What comes later is not recorded.
    pub fn finish(&self) -> Result<History, HistoryError> {
        let endless = std::mem::take(&mut *lock(&self.faults));
        for fault in endless.into_values() {
            self.record(Record::Fault(fault));
        }
        let mut recording = lock(&self.record);
        if let Some(writer) = recording.writer.take() {
            writer.finish()?;
        }
        Ok(std::mem::take(&mut recording.history))
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds the lock")
}
