//! Read barriers: concurrent linearizable reads share one proof of leadership.
//!
//! A read joins the round that starts after it arrived, never one under way: the proof must be younger than the read.

use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use keelson_planted::{Bug, on};
use openraft::{AsyncRuntime, ReadPolicy};
use parking_lot::Mutex;
use std::sync::Arc;

use keelson_proto::peerpb;
use keelson_store::MemberId;
use openraft::errors::{LinearizableReadError, RaftError};

use crate::shared::{Parts, Shared};
use crate::transport::{Reply, Request};
use crate::trouble::Trouble;

/// Who proved its leadership.
type Proved = Result<MemberId, Trouble>;

type Waiter = oneshot::Sender<Proved>;

/// Those who wait for the next round.
pub(crate) struct Barrier {
    next: Mutex<Next>,
}

struct Next {
    /// None once the member stops.
    waiting: Option<Vec<Waiter>>,
    /// One sender, never a clone: each clone could send once more than the channel holds.
    wake: mpsc::Sender<()>,
}

/// The other end, for [`run`].
pub(crate) struct Rounds(mpsc::Receiver<()>);

impl Barrier {
    pub(crate) fn new() -> (Barrier, Rounds) {
        let (wake, rounds) = mpsc::channel(1);
        let next = Next {
            waiting: Some(Vec::new()),
            wake,
        };
        let next = Mutex::new(next);
        (Barrier { next }, Rounds(rounds))
    }

    /// Joins the next round.
    fn join(&self) -> oneshot::Receiver<Proved> {
        let (sender, receiver) = oneshot::channel();
        let mut next = self.next.lock();
        if let Some(waiting) = &mut next.waiting {
            waiting.push(sender);
            // Full means that a round is about to start, and it will take this waiter along.
            let _ = next.wake.try_send(());
        }
        receiver
    }

    fn take(&self) -> Vec<Waiter> {
        let mut next = self.next.lock();
        next.waiting
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// No round will start any more: who waits for one is let go.
    pub(crate) fn close(&self) {
        let mut next = self.next.lock();
        next.waiting = None;
        next.wake.close_channel();
    }
}

/// Runs round after round until the member stops.
pub(crate) async fn run<P: Parts>(shared: Arc<Shared<P>>, mut rounds: Rounds) {
    while rounds.0.next().await.is_some() {
        let mut waiters = shared.barrier.take();
        if waiters.is_empty() {
            continue;
        }
        let result = round(&shared).await;
        if on(Bug::ReadJoinsEarlierRound) {
            waiters.extend(shared.barrier.take());
        }
        for waiter in waiters {
            let _ = waiter.send(result);
        }
    }
}

impl<P: Parts> Shared<P> {
    /// Joins the next round, unless nobody need be asked: gives the member that has proved its leadership.
    pub(crate) async fn proof(&self) -> Proved {
        if self.leads_alone() {
            return Ok(self.id);
        }
        let joined = self.barrier.join();
        // The round before and the one that is joined have the time of a request each; a caller has it once.
        match P::Rt::timeout(self.timing.request_timeout(), joined).await {
            Ok(result) => result.unwrap_or(Err(Trouble::Stopped)),
            Err(_) => Err(self.read_out_of_time()),
        }
    }

    fn read_out_of_time(&self) -> Trouble {
        if self.leader_lost() {
            Trouble::TimeoutLeaderFail
        } else {
            Trouble::Timeout
        }
    }
}

/// One proof, and applying up to it: within the request timeout.
async fn round<P: Parts>(shared: &Arc<Shared<P>>) -> Proved {
    let work = async {
        let (index, prover) = read_index(shared).await?;
        if let Some(reached) = shared.progress.reached(index) {
            reached.await.map_err(|_| Trouble::Stopped)?;
        }
        Ok(prover)
    };
    match P::Rt::timeout(shared.timing.request_timeout(), work).await {
        Ok(result) => result,
        Err(_) => Err(shared.read_out_of_time()),
    }
}

/// The index that a read arriving now must see, from whoever leads; asks again until somebody does.
async fn read_index<P: Parts>(shared: &Arc<Shared<P>>) -> Result<(u64, MemberId), Trouble> {
    loop {
        if shared.stopping() {
            return Err(Trouble::Stopped);
        }
        match shared.named_leader() {
            Some(id) if id == shared.id.0 => match leader_read_index(shared).await {
                Err(Trouble::NotLeader) => {}
                Err(trouble) => return Err(trouble),
                Ok(index) => return Ok((index, shared.id)),
            },
            Some(id) => {
                let ask = Request::ReadIndex(peerpb::ReadIndex {});
                // A read index changes nothing: asking again is safe.
                if let Some(Reply::ReadIndex(peerpb::ReadIndexReply {
                    result: Some(peerpb::read_index_reply::Result::Index(index)),
                })) = shared.ask_leader(id, ask).await
                {
                    return Ok((index, MemberId(id)));
                }
            }
            None => {}
        }
        shared.leadership_may_have_changed().await;
    }
}

/// Proves that this member leads, now, and gives the index that a read must see.
pub(crate) async fn leader_read_index<P: Parts>(shared: &Arc<Shared<P>>) -> Result<u64, Trouble> {
    if on(Bug::ReadWithoutProof) && shared.is_leader() {
        return Ok(shared.progress.applied().unwrap_or(0));
    }
    match shared
        .raft()
        .get_read_linearizer(ReadPolicy::ReadIndex)
        .await
    {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(
            LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
        )) => Err(Trouble::NotLeader),
        Err(RaftError::Fatal(_)) => Err(Trouble::Stopped),
    }
}
