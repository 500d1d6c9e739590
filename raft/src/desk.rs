//! Answers what other members ask.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keelson_planted::{Bug, on};
use keelson_proto::peerpb;
use keelson_store::LeaseId;
use openraft::AsyncRuntime;
use openraft::errors::RaftError;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest,
};

use crate::barrier::leader_read_index;
use crate::network::last_of;
use crate::proposals::{Offered, outcome_to_pb};
use crate::shared::{Parts, Shared};
use crate::transport::{Answer, PROTOCOL, Reply, Request};
use crate::trouble::Trouble;
use crate::types::{
    Types, decode_entry, log_id_from_pb, log_id_to_pb, raft_log_id, vote_from_pb, vote_to_pb,
};

/// The member, as its peers meet it.
pub(crate) struct Desk<P: Parts>(pub(crate) Arc<Shared<P>>);

impl<P: Parts> Answer for Desk<P> {
    fn admit(&self, hello: &peerpb::Hello) -> peerpb::HelloReply {
        use peerpb::hello_reply::Verdict;
        let shared = &self.0;
        // A member that is about to start knows neither the cluster nor itself: it may ask, and nothing else.
        let probing = hello.cluster_id == 0;
        let removed = || shared.reader.now().removed_members().unwrap_or_default();
        let verdict = if hello.protocol != PROTOCOL {
            Verdict::OtherProtocol
        } else if !probing && hello.cluster_id != shared.cluster_id {
            Verdict::OtherCluster
        } else if !probing && hello.to != shared.id.0 {
            Verdict::NotThatMember
        } else if !probing && removed().iter().any(|id| id.0 == hello.from) {
            Verdict::Removed
        } else {
            Verdict::Welcome
        };
        peerpb::HelloReply {
            verdict: verdict as i32,
            cluster_id: shared.cluster_id,
            member_id: shared.id.0,
        }
    }

    fn answer(&self, from: u64, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let shared = self.0.clone();
        Box::pin(async move {
            // Who was let in without saying who it is may only ask about the cluster.
            if from == 0 && !matches!(request, Request::ClusterProbe(_)) {
                return Reply::Failed("only members may ask this".into());
            }
            answer(&shared, request).await
        })
    }

    fn ended(&self, from: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let shared = self.0.clone();
        Box::pin(async move { shared.connection_ended(from).await })
    }
}

async fn answer<P: Parts>(shared: &Arc<Shared<P>>, request: Request) -> Reply {
    if shared.stopping() || shared.leaving() && is_for_who_stays(&request) {
        return gone(&request);
    }
    match request {
        Request::Append(append) => append_entries(shared, append).await,
        Request::Vote(ask) => vote(shared, ask).await,
        Request::TransferLeader(transfer) => transfer_leader(shared, transfer).await,
        Request::SnapshotBegin(begin) => snapshot_begin(shared, begin).await,
        Request::SnapshotChunk(chunk) => shared.snapshot_chunk(chunk).await,
        Request::SnapshotEnd(end) => shared.snapshot_end(end).await,
        Request::Propose(propose) => Reply::Propose(propose_here(shared, propose).await),
        Request::ReadIndex(_) => {
            let result = match leader_read_index(shared).await {
                Ok(index) => peerpb::read_index_reply::Result::Index(index),
                Err(trouble) => peerpb::read_index_reply::Result::Trouble(trouble.to_pb()),
            };
            Reply::ReadIndex(peerpb::ReadIndexReply {
                result: Some(result),
            })
        }
        Request::LeaseRenew(renew) => {
            let result = match shared.renew_here(LeaseId(renew.id)).await {
                Ok(ttl) => peerpb::lease_renew_reply::Result::Ttl(ttl),
                Err(trouble) => {
                    peerpb::lease_renew_reply::Result::Trouble(ask_the_next(trouble).to_pb())
                }
            };
            Reply::LeaseRenew(peerpb::LeaseRenewReply {
                result: Some(result),
            })
        }
        Request::LeaseRemaining(lease) => {
            let result = match shared.remaining_here(LeaseId(lease.id)).await {
                Ok(ttl) => peerpb::lease_remaining_reply::Result::Ttl(ttl),
                Err(trouble) => {
                    peerpb::lease_remaining_reply::Result::Trouble(ask_the_next(trouble).to_pb())
                }
            };
            Reply::LeaseRemaining(peerpb::LeaseRemainingReply {
                result: Some(result),
            })
        }
        Request::MemberChange(change) => {
            let result = match change.change {
                Some(change) => shared.change_members_here(change).await,
                None => Err(Trouble::Unknown),
            };
            let result = match result {
                Ok(membership) => peerpb::member_change_reply::Result::Membership(membership),
                Err(trouble) => peerpb::member_change_reply::Result::Trouble(trouble.to_pb()),
            };
            Reply::MemberChange(peerpb::MemberChangeReply {
                result: Some(result),
            })
        }
        Request::ClusterProbe(probe) => cluster_probe(shared, probe),
    }
}

/// Who is about to stop has no business with it, though it still takes part.
fn is_for_who_stays(request: &Request) -> bool {
    matches!(
        request,
        Request::Propose(_)
            | Request::MemberChange(_)
            | Request::TransferLeader(_)
            | Request::ClusterProbe(_)
    )
}

/// What may be asked twice is no trouble for a client because this member stops: another leads, or will.
fn ask_the_next(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Stopped => Trouble::NotLeader,
        trouble => trouble,
    }
}

/// Who is about to stop is not there any more: nobody should hand it leadership, or wait for openraft's error. What it was
/// to do for a client it has certainly not done, and another leader can.
fn gone(request: &Request) -> Reply {
    let not_leader = Trouble::NotLeader.to_pb();
    match request {
        Request::Propose(_) => Reply::Propose(peerpb::ProposeReply {
            index: 0,
            result: Some(peerpb::propose_reply::Result::Trouble(not_leader)),
        }),
        Request::MemberChange(_) => Reply::MemberChange(peerpb::MemberChangeReply {
            result: Some(peerpb::member_change_reply::Result::Trouble(not_leader)),
        }),
        _ => Reply::Failed("this member stops".into()),
    }
}

async fn append_entries<P: Parts>(shared: &Arc<Shared<P>>, append: peerpb::Append) -> Reply {
    let Some(vote) = append.vote.as_ref().map(vote_from_pb) else {
        return Reply::Failed("an append without a vote".into());
    };
    let prev = append.prev.as_ref().map(log_id_from_pb);
    let last = last_of(prev, &append.entries);
    let mut entries = Vec::with_capacity(append.entries.len());
    for entry in append.entries {
        let Some(id) = &entry.id else {
            return Reply::Failed("an entry without a log id".into());
        };
        match decode_entry(log_id_from_pb(id), entry.payload) {
            Ok(entry) => entries.push(entry),
            Err(error) => return Reply::Failed(error.to_string()),
        }
    }
    let leader_commit = append.commit.as_ref().map(log_id_from_pb);
    let request = AppendEntriesRequest::<Types<P::Rt>> {
        vote,
        prev_log_id: prev,
        entries,
        leader_commit,
    };
    use peerpb::append_reply::Result as R;
    let result = match shared.raft().append_entries(request).await {
        Ok(AppendEntriesResponse::HigherVote(vote)) => R::HigherVote(vote_to_pb(&vote)),
        Ok(response) => {
            // It leads: it holds the highest vote that this member knows.
            shared.heard_from_leader();
            match response {
                AppendEntriesResponse::Conflict => match &prev {
                    Some(prev) => R::Conflict(log_id_to_pb(prev)),
                    None => return Reply::Failed("a conflict before the first entry".into()),
                },
                AppendEntriesResponse::PartialSuccess(matching) => {
                    R::Success(peerpb::append_reply::Success {
                        matching: matching.as_ref().map(log_id_to_pb),
                    })
                }
                _ => R::Success(peerpb::append_reply::Success {
                    matching: last.as_ref().map(log_id_to_pb),
                }),
            }
        }
        Err(error) => return fatal(error),
    };
    Reply::Append(peerpb::AppendReply {
        result: Some(result),
    })
}

async fn vote<P: Parts>(shared: &Arc<Shared<P>>, ask: peerpb::VoteAsk) -> Reply {
    let Some(vote) = ask.vote.as_ref().map(vote_from_pb) else {
        return Reply::Failed("a request for a vote without one".into());
    };
    if !ask.leadership_transfer && shared.keeps_to_its_leader() {
        return Reply::Failed("this member hears from its leader".into());
    }
    let mut last = ask.last.as_ref().map(log_id_from_pb);
    if on(Bug::VoteForShorterLog) {
        last = last.max(shared.log.last().map(|id| raft_log_id(id.term, id.index)));
    }
    let mut request = VoteRequest::<Types<P::Rt>>::new(vote, last);
    request.leadership_transfer = ask.leadership_transfer;
    let response = if ask.pre_vote {
        shared.raft().pre_vote(request).await
    } else {
        shared.raft().vote(request).await
    };
    match response {
        Ok(response) => Reply::Vote(peerpb::VoteReply {
            vote: Some(vote_to_pb(&response.vote)),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(log_id_to_pb),
        }),
        Err(error) => fatal(error),
    }
}

async fn transfer_leader<P: Parts>(
    shared: &Arc<Shared<P>>,
    transfer: peerpb::TransferLeader,
) -> Reply {
    let Some(from) = transfer.from_leader.as_ref().map(vote_from_pb) else {
        return Reply::Failed("a transfer of leadership without a vote".into());
    };
    let last = transfer.last.as_ref().map(log_id_from_pb);
    let request = TransferLeaderRequest::<Types<P::Rt>>::new(from, transfer.to, last);
    let refused = match shared.raft().handle_transfer_leader(request).await {
        Ok(Ok(())) => String::new(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Reply::TransferLeader(peerpb::TransferLeaderReply { refused })
}

async fn snapshot_begin<P: Parts>(shared: &Arc<Shared<P>>, begin: peerpb::SnapshotBegin) -> Reply {
    let vote = begin.vote.as_ref().map(vote_from_pb);
    // A leader that was deposed, and does not know, must not push aside what its successor sends.
    if vote < Some(shared.metrics(|metrics| metrics.vote)) {
        return Reply::Failed("another member leads".into());
    }
    shared.heard_from_leader();
    shared.snapshot_begin(begin).await
}

async fn propose_here<P: Parts>(
    shared: &Arc<Shared<P>>,
    propose: peerpb::Propose,
) -> peerpb::ProposeReply {
    let limit = Duration::from_millis(propose.deadline_ms).min(shared.timing.request_timeout());
    let trouble = match P::Rt::timeout(limit, shared.propose_here(propose.command)).await {
        Ok(Ok((index, outcome))) => {
            let result = peerpb::propose_reply::Result::Outcome(outcome_to_pb(outcome));
            return peerpb::ProposeReply {
                index,
                result: Some(result),
            };
        }
        Ok(Err(Offered::NotAppended)) => Trouble::NotLeader,
        Ok(Err(Offered::Failed(trouble))) => trouble,
        Err(_) => Trouble::Timeout,
    };
    peerpb::ProposeReply {
        index: 0,
        result: Some(peerpb::propose_reply::Result::Trouble(trouble.to_pb())),
    }
}

fn cluster_probe<P: Parts>(shared: &Arc<Shared<P>>, probe: peerpb::ClusterProbe) -> Reply {
    let published = shared.reader.now();
    let removed = published.removed_members().unwrap_or_default();
    let attributes = published.attributes().unwrap_or_default();
    let known = attributes.iter().any(|member| member.id == probe.member_id);
    Reply::ClusterProbe(peerpb::ClusterProbeReply {
        cluster_id: shared.cluster_id,
        initialized: shared.metrics(|metrics| metrics.last_log_index.is_some()),
        known,
        removed: removed.iter().any(|id| id.0 == probe.member_id),
        membership: Some(shared.membership()),
        attributes,
    })
}

fn fatal<E: std::fmt::Display, RT: AsyncRuntime>(error: RaftError<Types<RT>, E>) -> Reply {
    Reply::Failed(error.to_string())
}
