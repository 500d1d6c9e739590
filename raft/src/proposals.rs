//! Proposing: to openraft where this member leads, to the leader where it does not. Never twice.
//!
//! A command is offered again only if it is certain that it was not appended: openraft refused it before appending,
//! the leader said that it does not lead, or has not read the request, or that never left this member. Everything else ends the proposal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keelson_planted::{Bug, on};
use keelson_proto::commandpb::{self, Command};
use keelson_proto::peerpb;
use keelson_store::{Outcome, Refusal, Revision};
use openraft::AsyncRuntime;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use prost::Message;

use crate::intake::{Entered, Waits};
use crate::shared::{Parts, Shared};
use crate::transport::{CallError, Lane, Reply, Request, Transport};
use crate::trouble::Trouble;
use crate::types::{Proposal, Types};

/// Committed but not applied entries above which new proposals are refused (etcd's number).
const UNAPPLIED_MAX: u64 = 5_000;

/// A command on its way to openraft.
pub(crate) struct Offer<Rt: AsyncRuntime> {
    command: Bytes,
    /// Only in this term.
    term: Option<u64>,
    responder: ProgressResponder<Types<Rt>, ClientWriteResult<Types<Rt>>>,
}

impl<P: Parts> Shared<P> {
    /// Proposes a command and waits until it is applied here: who asks this member afterwards finds what it wrote.
    pub(crate) async fn propose(
        self: &Arc<Self>,
        mut command: Command,
    ) -> Result<Outcome, Trouble> {
        command.member = self.id.0;
        command.quota_bytes = self.quota_bytes;
        let bytes = Bytes::from(command.encode_to_vec());
        // It may hold on to a buffer of the connection that it came by.
        drop(command);
        if bytes.len() > self.max_request_bytes {
            return Err(Trouble::RequestTooLarge);
        }
        let timeout = self.timing.request_timeout();
        let under_way = AtomicBool::new(false);
        let offer = async {
            loop {
                if self.stopping() {
                    return Err(Trouble::Stopped);
                }
                let leader = self.named_leader();
                under_way.store(leader.is_some(), Ordering::Relaxed);
                let offered = match leader {
                    Some(id) if id == self.id.0 => self
                        .propose_here(bytes.clone())
                        .await
                        .map(|(_, outcome)| outcome),
                    Some(id) => self.forward(id, bytes.clone(), timeout).await,
                    None => Err(Offered::NotAppended),
                };
                match offered {
                    Ok(outcome) => return Ok(outcome),
                    Err(Offered::Failed(trouble)) => return Err(trouble),
                    Err(Offered::NotAppended) => {
                        under_way.store(false, Ordering::Relaxed);
                        self.leadership_may_have_changed().await;
                    }
                }
            }
        };
        match P::Rt::timeout(timeout, offer).await {
            Ok(result) => result,
            Err(_) => Err(self.out_of_time(under_way.into_inner())),
        }
    }

    /// The trouble of a change that has run out of time. Only one that is not under way was certainly not made.
    pub(crate) fn out_of_time(&self, under_way: bool) -> Trouble {
        match self.leader_lost() {
            true if !under_way => Trouble::NoLeader,
            true => Trouble::TimeoutLeaderFail,
            false => Trouble::Timeout,
        }
    }

    /// Offers an encoded command to this member's openraft, once. Gives its index, too.
    pub(crate) async fn propose_here(&self, command: Bytes) -> Result<(u64, Outcome), Offered> {
        self.offer(command, None).await
    }

    /// The same, but only if this member still leads in this term.
    pub(crate) async fn propose_in(
        &self,
        term: u64,
        command: Bytes,
    ) -> Result<(u64, Outcome), Offered> {
        self.offer(command, Some(term)).await
    }

    async fn offer(&self, command: Bytes, term: Option<u64>) -> Result<(u64, Outcome), Offered> {
        let unapplied = self.metrics(|metrics| {
            let index =
                |id: &Option<crate::types::RaftLogId>| id.as_ref().map_or(0, |id| id.index());
            index(&metrics.local_committed).saturating_sub(index(&metrics.last_applied))
        });
        if unapplied > UNAPPLIED_MAX {
            return Err(Offered::Failed(Trouble::TooManyRequests));
        }
        let (responder, answer) = ProgressResponder::complete_only();
        let offer = Offer {
            command,
            term,
            responder,
        };
        let bytes = offer.command.len();
        let waits = Waits::new(&self.intake);
        match self.intake.enter(offer, bytes, &waits) {
            Entered::Go(offer) => self.hand_over_offer(offer).await,
            Entered::Waits => {}
            Entered::Full => {
                waits.over();
                return Err(Offered::Failed(Trouble::TooManyRequests));
            }
            Entered::Closed => {
                waits.over();
                return Err(Offered::NotAppended);
            }
        }
        match answer.await {
            Ok(Ok(written)) => {
                waits.over();
                Ok((written.log_id.index(), written.data))
            }
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Offered::NotAppended),
            Ok(Err(_)) => Err(Offered::Failed(Trouble::LeaderChanged)),
            // Dropped by openraft, which has stopped.
            Err(_) => Err(Offered::Failed(Trouble::Stopped)),
        }
    }

    /// Gives openraft an offer. If it has stopped, whoever waits for the answer is told.
    pub(crate) async fn hand_over_offer(&self, offer: Offer<P::Rt>) {
        let mut write = self
            .raft()
            .write(Proposal(offer.command))
            .responder(offer.responder);
        if let Some(term) = offer.term {
            write = write.with_leader(term);
        }
        // What is not sent drops the responder.
        let _ = write.await;
    }

    /// Nothing is proposed here any more: who waits to be handed over is told that it was not appended. Completes when
    /// openraft has answered all that it has.
    pub(crate) async fn close_intake(&self) {
        for offer in self.intake.close() {
            let not_here = ClientWriteError::ForwardToLeader(ForwardToLeader::empty());
            offer.responder.on_complete(Err(not_here));
        }
        self.intake.all_answered().await;
    }

    async fn forward(
        &self,
        leader: u64,
        command: Bytes,
        timeout: Duration,
    ) -> Result<Outcome, Offered> {
        let request = Request::Propose(peerpb::Propose {
            command,
            deadline_ms: timeout.as_millis() as u64,
        });
        let call = self.net.call(leader, Lane::Forward, request);
        let grace = self.timing.election;
        let Some(answer) = self.while_it_leads(leader, grace, call).await else {
            return Err(Offered::Failed(Trouble::LeaderChanged));
        };
        match answer {
            Ok(Reply::Propose(peerpb::ProposeReply {
                index,
                result: Some(result),
            })) => match result {
                peerpb::propose_reply::Result::Outcome(outcome) => {
                    if let Some(reached) = self.progress.reached(index) {
                        let stopped = |_| Offered::Failed(Trouble::Stopped);
                        reached.await.map_err(stopped)?;
                    }
                    outcome_from_pb(outcome).ok_or(Offered::Failed(Trouble::Unknown))
                }
                peerpb::propose_reply::Result::Trouble(trouble) => match Trouble::from_pb(&trouble)
                {
                    Trouble::NotLeader => Err(Offered::NotAppended),
                    trouble => Err(Offered::Failed(trouble)),
                },
            },
            Ok(_) => Err(Offered::Failed(Trouble::Unknown)),
            Err(CallError::NotSent { .. }) => Err(Offered::NotAppended),
            Err(CallError::Lost { .. }) if on(Bug::WriteSentTwice) => Err(Offered::NotAppended),
            Err(CallError::Lost { .. }) => Err(Offered::Failed(Trouble::TimeoutConnectionLost)),
        }
    }
}

/// What became of an offer that brought no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Certainly not appended: it may be offered again.
    NotAppended,
    /// It ended here; the outcome may be unknown.
    Failed(Trouble),
}

pub(crate) fn outcome_to_pb(outcome: Outcome) -> commandpb::Outcome {
    let result = match outcome.result {
        Ok(reply) => reply,
        Err(refusal) => commandpb::outcome::Result::Refused(commandpb::Refused {
            code: refusal.code(),
        }),
    };
    commandpb::Outcome {
        revision: outcome.revision.0,
        result: Some(result),
    }
}

fn outcome_from_pb(outcome: commandpb::Outcome) -> Option<Outcome> {
    let result = match outcome.result? {
        commandpb::outcome::Result::Refused(refused) => Err(Refusal::from_code(refused.code)?),
        reply => Ok(reply),
    };
    Some(Outcome {
        revision: Revision(outcome.revision),
        result,
    })
}
