//! What every service shares: the member, the options, the metrics, and the rules that hold for every request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use keelson_proto::commandpb::{Command, Membership, command};
use keelson_proto::etcdserverpb::{AlarmRequest, AlarmType, ResponseHeader, alarm_request};
use keelson_raft::{Member, Parts, Trouble};
use keelson_store::engine::Engine;
use keelson_store::{MemberId, Outcome, Published, Reply, Revision};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::error::Failure;
use crate::metrics::Metrics;

/// A published state of the member's engine.
pub(crate) type View<P> = Published<<<P as Parts>::Engine as Engine>::View>;

/// How the API behaves; the defaults are etcd's.
#[derive(Clone, Debug)]
pub struct Options {
    /// The greatest proposal, in bytes.
    pub max_request_bytes: usize,
    /// The greatest number of operations in a txn.
    pub max_txn_ops: usize,
    /// Logical bytes that the store may hold before NOSPACE is raised; 0: no limit.
    pub quota_bytes: i64,
    /// The election timeout: the shortest lease is one and a half of it, and a stream that requires a leader ends
    /// after three of it without one.
    pub election_timeout: Duration,
    /// Where a snapshot's checkpoint is kept while it is sent: on the file system of the data, which links into it.
    pub scratch_dir: PathBuf,
}

impl Options {
    /// The shortest lease, in seconds: clients ask for less and are granted this.
    pub fn min_lease_ttl_s(&self) -> i64 {
        let ttl_ms = self.election_timeout.as_millis() * 3 / 2;
        i64::try_from(ttl_ms.div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// What the operator allows of a request.
    pub(crate) fn limits(&self) -> keelson_store::check::Limits {
        keelson_store::check::Limits {
            max_txn_ops: self.max_txn_ops,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            quota_bytes: 0,
            election_timeout: Duration::from_secs(1),
            scratch_dir: std::env::temp_dir(),
        }
    }
}

/// Shared by the services; cheap to clone behind its [`Arc`].
pub(crate) struct Context<P: Parts> {
    pub(crate) member: Member<P>,
    pub(crate) options: Options,
    pub(crate) metrics: Arc<Metrics>,
    /// Cancelled when the server begins to shut down: endless streams end then.
    pub(crate) stopping: CancellationToken,
}

/// Whether a request may be answered by a learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learner {
    /// Only voters answer.
    No,
    /// Learners answer as well.
    Yes,
}

impl<P: Parts> Context<P> {
    /// What must hold before a request is looked at: etcd's interceptors.
    pub(crate) fn admit(&self, metadata: &MetadataMap, learner: Learner) -> Result<(), Status> {
        if learner == Learner::No && self.is_learner() {
            return Err(Failure::LearnerUnsupported.into());
        }
        if requires_leader(metadata) && self.member.leader_lost() {
            return Err(Failure::from(Trouble::NoLeader).into());
        }
        Ok(())
    }

    /// Whether this member is a learner, as far as it has applied: asked for every request, so without a copy of
    /// anything.
    pub(crate) fn is_learner(&self) -> bool {
        let view = self.member.reader().now();
        let membership = view
            .state()
            .membership
            .as_ref()
            .and_then(|stored| stored.membership.as_ref());
        membership.is_some_and(|membership| is_learner(membership, self.member.id()))
    }

    /// A header without a revision.
    pub(crate) fn bare_header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.member.cluster_id(),
            member_id: self.member.id().0,
            revision: 0,
            raft_term: self.member.term(),
        }
    }

    /// The header of a reply that shows the store at `revision`.
    pub(crate) fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: revision.0,
            ..self.bare_header()
        })
    }

    /// The header of a reply that shows no particular revision: the store's present one.
    pub(crate) fn header_now(&self) -> Option<ResponseHeader> {
        self.header(self.member.reader().now().revision)
    }

    /// A state in which everything that was acknowledged before this call is visible.
    pub(crate) async fn linearizable(&self) -> Result<Arc<View<P>>, Failure> {
        self.member.read_barrier().await?;
        Ok(self.member.reader().now())
    }

    /// A state for a read: the newest of the cluster, or with `serializable` whatever this member has.
    pub(crate) async fn view(&self, serializable: bool) -> Result<Arc<View<P>>, Failure> {
        if serializable {
            Ok(self.member.reader().now())
        } else {
            self.linearizable().await
        }
    }

    /// Has the cluster agree on a request that has been checked wholly, and gives what applying it gave.
    pub(crate) async fn propose(
        &self,
        request: command::Request,
    ) -> Result<(Revision, Reply), Failure> {
        let command = Command {
            request: Some(request),
            ..Command::default()
        };
        let Outcome { revision, result } =
            self.metrics.proposing(self.member.propose(command)).await?;
        Ok((revision, result?))
    }

    /// Raises the NOSPACE alarm for this member, unless it is up already: its disk runs full.
    pub(crate) async fn raise_no_space(&self) -> Result<(), Failure> {
        let member_id = self.member.id().0;
        let no_space = AlarmType::Nospace as i32;
        let up = self.member.reader().now().alarms()?;
        if up
            .iter()
            .any(|alarm| alarm.member_id == member_id && alarm.alarm == no_space)
        {
            return Ok(());
        }

        let request = AlarmRequest {
            action: alarm_request::AlarmAction::Activate as i32,
            member_id,
            alarm: no_space,
        };
        self.propose(command::Request::Alarm(request))
            .await
            .map(drop)
    }
}

/// Whether a member has no vote and is not on its way to one. One that is not in the membership, since it has not
/// been told of it yet, is no learner.
fn is_learner(membership: &Membership, id: MemberId) -> bool {
    let votes = membership
        .configs
        .iter()
        .any(|voters| voters.ids.contains(&id.0));
    !votes
        && membership
            .nodes
            .iter()
            .any(|node| node.id == id.0 && !node.pending_voter)
}

/// Whether the stream or request wants to hear of it when there is no leader.
pub(crate) fn requires_leader(metadata: &MetadataMap) -> bool {
    static HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
    metadata
        .as_ref()
        .get(&HAS_LEADER)
        .is_some_and(|value| value.as_bytes() == b"true")
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_lease_is_one_and_a_half_election_timeouts_rounded_up() {
        let ttl = |ms| {
            Options {
                election_timeout: Duration::from_millis(ms),
                ..Options::default()
            }
            .min_lease_ttl_s()
        };
        assert_eq!((ttl(1000), ttl(100), ttl(2000), ttl(3000)), (2, 1, 3, 5));
    }

    #[test]
    fn a_learner_is_a_member_without_a_vote_that_is_not_promised_one() {
        use keelson_proto::commandpb::{Node, Voters};
        let node = |id, pending_voter| Node {
            id,
            peer_urls: vec![],
            pending_voter,
        };
        let membership = Membership {
            configs: vec![Voters { ids: vec![1] }],
            nodes: vec![node(1, false), node(2, false), node(3, true)],
        };
        let told = [1, 2, 3, 4].map(|id| is_learner(&membership, MemberId(id)));
        assert_eq!(told, [false, true, false, false]);
    }

    #[test]
    fn only_hasleader_true_requires_a_leader() {
        let mut metadata = MetadataMap::new();
        assert!(!requires_leader(&metadata));
        metadata.insert("hasleader", "false".parse().unwrap());
        assert!(!requires_leader(&metadata));
        metadata.insert("hasleader", "true".parse().unwrap());
        assert!(requires_leader(&metadata));
    }
}
