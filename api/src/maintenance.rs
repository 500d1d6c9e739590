//! The Maintenance service: the state and the upkeep of one member, and the cluster's alarms.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use keelson_proto::commandpb::command;
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::maintenance_server;
use keelson_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};
use keelson_raft::{Parts, Trouble};
use keelson_store::engine::Engine;
use keelson_store::{MemberId, Reply, Revision};
use tonic::{Request, Response, Status};

use crate::context::{Context, Learner};
use crate::error::Failure;
use crate::kv::{blocking, other_reply};
use crate::snapshot;
use crate::version::{ETCD_VERSION, STORAGE_VERSION};

/// The Maintenance service.
pub struct Maintenance<P: Parts>(pub(crate) Arc<Context<P>>);

#[tonic::async_trait]
impl<P: Parts> maintenance_server::Maintenance for Maintenance<P> {
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let request = request.into_inner();
        if request.action == AlarmAction::Get as i32 {
            let view = self.0.linearizable().await?;
            let alarms = of_kind(view.alarms().map_err(Failure::from)?, request.alarm);
            return Ok(Response::new(AlarmResponse {
                header: self.0.header(view.revision),
                alarms,
            }));
        }
        let (revision, reply) = self.0.propose(command::Request::Alarm(request)).await?;
        let Reply::Alarm(mut response) = reply else {
            return Err(other_reply());
        };
        response.header = self.0.header(revision);
        Ok(Response::new(response))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.0.admit(request.metadata(), Learner::Yes)?;
        let view = self.0.member.reader().now();
        let status = self.0.member.status();
        let size = self.0.member.engine().size().map_err(Failure::from)?;
        let alarms = view.alarms().map_err(Failure::from)?;
        let leader = status.leader.filter(|_| !self.0.member.leader_lost());
        Ok(Response::new(StatusResponse {
            header: self.0.header(view.revision),
            version: ETCD_VERSION.into(),
            // etcdctl divides by it.
            db_size: i64::try_from(size.on_disk.max(1)).unwrap_or(i64::MAX),
            db_size_in_use: i64::try_from(size.in_use).unwrap_or(i64::MAX),
            db_size_quota: self.0.options.quota_bytes,
            leader: leader.map_or(0, |id| id.0),
            raft_index: status.committed_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors: errors(leader, &alarms),
            is_learner: status.is_learner,
            storage_version: STORAGE_VERSION.into(),
            downgrade_info: Some(DowngradeInfo {
                enabled: false,
                target_version: String::new(),
            }),
        }))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let engine = self.0.member.engine();
        tracing::info!("rewriting the files of the store, as a client asked");
        blocking(move || Ok(engine.compact_files()?)).await?;
        tracing::info!("the files of the store have been rewritten");
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let view = self.0.member.reader().now();
        let header = self.0.header(view.revision);
        // etcd hashes its file here; ours differ from member to member, so this is the hash of the data as well.
        let hash = blocking(move || Ok(view.hash_kv(None)?.hash)).await?;
        Ok(Response::new(HashResponse { header, hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let asked = request.into_inner().revision;
        let at = (asked > 0).then_some(Revision(asked));
        let view = self.0.member.reader().now();
        let header = self.0.header(view.revision);
        let found = blocking(move || Ok(view.hash_kv(at)?)).await?;
        Ok(Response::new(HashKvResponse {
            header,
            hash: found.hash,
            compact_revision: found.compact_revision.0,
            hash_revision: found.hash_revision.0,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.0.admit(request.metadata(), Learner::Yes)?;
        let checkpoint = snapshot::checkpoint(&self.0).await?;
        Ok(Response::new(Box::pin(snapshot::stream(checkpoint))))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        if !self.0.member.status().is_leader {
            return Err(Failure::from(Trouble::NotLeader).into());
        }
        let to = MemberId(request.into_inner().target_id);
        self.0.member.move_leader(to).await.map_err(Failure::from)?;
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        _: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(Status::unimplemented(
            "keelson: there is no older version to downgrade to",
        ))
    }
}

/// The alarms of a kind; with NONE all of them.
fn of_kind(mut alarms: Vec<AlarmMember>, kind: i32) -> Vec<AlarmMember> {
    alarms.retain(|alarm| kind == AlarmType::None as i32 || alarm.alarm == kind);
    alarms
}

/// What is wrong with a member, as etcd words it.
fn errors(leader: Option<MemberId>, alarms: &[AlarmMember]) -> Vec<String> {
    let no_leader = leader.is_none().then(|| Trouble::NoLeader.to_string());
    let alarms = alarms.iter().map(|alarm| {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        // With the space at the end that Go's protobuf text has.
        format!("memberID:{} alarm:{kind} ", alarm.member_id)
    });
    no_leader.into_iter().chain(alarms).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_a_missing_leader_and_every_alarm() {
        let alarm = AlarmMember {
            member_id: 7,
            alarm: AlarmType::Nospace as i32,
        };
        assert_eq!(errors(Some(MemberId(1)), &[]), Vec::<String>::new());
        assert_eq!(
            errors(None, &[alarm]),
            ["etcdserver: no leader", "memberID:7 alarm:NOSPACE "]
        );
    }

    #[test]
    fn alarms_are_listed_by_kind_and_none_means_all() {
        let alarm = |kind: AlarmType| AlarmMember {
            member_id: 1,
            alarm: kind as i32,
        };
        let all = vec![alarm(AlarmType::Nospace), alarm(AlarmType::Corrupt)];
        assert_eq!(of_kind(all.clone(), AlarmType::None as i32), all);
        assert_eq!(
            of_kind(all, AlarmType::Corrupt as i32),
            [alarm(AlarmType::Corrupt)]
        );
    }
}
