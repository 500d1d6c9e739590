//! Read barriers: concurrent linearizable reads share one proof of leadership.
//!
//! A read joins the round that starts after it arrived, never one under way: the proof must be younger than the read.

use futures::channel::{mpsc, oneshot};
use futures::{SinkExt, StreamExt};
use openraft::{AsyncRuntime, ReadPolicy};
use parking_lot::Mutex;
use std::sync::Arc;

use keelson_proto::peerpb;
use keelson_store::MemberId;
use openraft::errors::{LinearizableReadError, RaftError};

use crate::shared::{Parts, Shared};
use crate::transport::{CallError, Lane, Reply, Request, Transport};
use crate::trouble::Trouble;

/// Who proved its leadership.
type Proved = Result<MemberId, Trouble>;

type Waiter = oneshot::Sender<Proved>;

/// Those who wait for the next round.
pub(crate) struct Barrier {
    waiting: Mutex<Vec<Waiter>>,
    wake: mpsc::Sender<()>,
}

/// The other end, for [`run`].
pub(crate) struct Rounds(mpsc::Receiver<()>);

impl Barrier {
    pub(crate) fn new() -> (Barrier, Rounds) {
        let (wake, rounds) = mpsc::channel(1);
        (
            Barrier {
                waiting: Mutex::default(),
                wake,
            },
            Rounds(rounds),
        )
    }

    /// Joins the next round.
    pub(crate) fn join(&self) -> oneshot::Receiver<Proved> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().push(sender);
        // Full means that a round is about to start, and it will take this waiter along.
        let _ = self.wake.clone().try_send(());
        receiver
    }

    /// Starts a round even if none is asked for: to end [`run`] at shutdown.
    pub(crate) async fn nudge(&self) {
        let _ = self.wake.clone().send(()).await;
    }
}

/// Runs round after round until the member stops.
pub(crate) async fn run<P: Parts>(shared: Arc<Shared<P>>, mut rounds: Rounds) {
    while rounds.0.next().await.is_some() {
        if shared.stopping() {
            break;
        }
        let waiters = std::mem::take(&mut *shared.barrier.waiting.lock());
        if waiters.is_empty() {
            continue;
        }
        let result = round(&shared).await;
        for waiter in waiters {
            let _ = waiter.send(result);
        }
    }
    for waiter in std::mem::take(&mut *shared.barrier.waiting.lock()) {
        let _ = waiter.send(Err(Trouble::Stopped));
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
        Err(_) if shared.leader_lost() => Err(Trouble::TimeoutLeaderFail),
        Err(_) => Err(Trouble::Timeout),
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
                match shared.net.call(id, Lane::Forward, ask).await {
                    Ok(Reply::ReadIndex(peerpb::ReadIndexReply {
                        result: Some(result),
                    })) => match result {
                        peerpb::read_index_reply::Result::Index(index) => {
                            return Ok((index, MemberId(id)));
                        }
                        peerpb::read_index_reply::Result::Trouble(_) => {}
                    },
                    // A read index changes nothing: asking again is safe.
                    Ok(_) | Err(CallError::NotSent { .. } | CallError::Lost { .. }) => {}
                }
            }
            None => {}
        }
        shared.leadership_may_have_changed().await;
    }
}

/// Proves that this member leads, now, and gives the index that a read must see.
pub(crate) async fn leader_read_index<P: Parts>(shared: &Arc<Shared<P>>) -> Result<u64, Trouble> {
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
