//! The Cluster service: the members.
//!
//! Replies carry no revision, as etcd's do not.

use std::collections::BTreeSet;
use std::sync::Arc;

use keelson_proto::commandpb::{MemberAttributes, Membership};
use keelson_proto::etcdserverpb::cluster_server;
use keelson_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use keelson_proto::peerpb::member_change::{Add, Change, Update};
use keelson_raft::Parts;
use tonic::{Request, Response, Status};

use crate::context::{Context, Learner, unix_s};
use crate::error::Failure;
use crate::identity;

/// The Cluster service.
pub struct Cluster<P: Parts>(pub(crate) Arc<Context<P>>);

#[tonic::async_trait]
impl<P: Parts> cluster_server::Cluster for Cluster<P> {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let MemberAddRequest {
            peer_ur_ls,
            is_learner,
        } = request.into_inner();
        let peer_urls = checked(&peer_ur_ls)?;
        let id = identity::member_id(&peer_urls, "", Some(unix_s()));
        let add = Add {
            id: id.0,
            peer_urls: peer_urls.clone(),
            learner: is_learner,
        };
        let members = self.change(Change::Add(add)).await?;
        let member = Member {
            id: id.0,
            peer_ur_ls: peer_urls,
            is_learner,
            ..Member::default()
        };
        Ok(Response::new(MemberAddResponse {
            header: Some(self.0.bare_header()),
            member: Some(member),
            members,
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let members = self.change(Change::Remove(request.into_inner().id)).await?;
        Ok(Response::new(MemberRemoveResponse {
            header: Some(self.0.bare_header()),
            members,
        }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let peer_urls = checked(&peer_ur_ls)?;
        let members = self
            .change(Change::Update(Update { id, peer_urls }))
            .await?;
        Ok(Response::new(MemberUpdateResponse {
            header: Some(self.0.bare_header()),
            members,
        }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let linearizable = request.into_inner().linearizable;
        let view = self.0.view(!linearizable).await?;
        let attributes = view.attributes().map_err(Failure::from)?;
        let membership = view
            .state()
            .membership
            .clone()
            .and_then(|stored| stored.membership);
        let members = list(membership.unwrap_or_default(), &attributes);
        Ok(Response::new(MemberListResponse {
            header: Some(self.0.bare_header()),
            members,
        }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let members = self
            .change(Change::Promote(request.into_inner().id))
            .await?;
        Ok(Response::new(MemberPromoteResponse {
            header: Some(self.0.bare_header()),
            members,
        }))
    }
}

impl<P: Parts> Cluster<P> {
    /// Changes the membership and lists the members afterwards.
    async fn change(&self, change: Change) -> Result<Vec<Member>, Status> {
        let membership = self
            .0
            .member
            .change_members(change)
            .await
            .map_err(Failure::from)?;
        let attributes = self
            .0
            .member
            .reader()
            .now()
            .attributes()
            .map_err(Failure::from)?;
        Ok(list(membership, &attributes))
    }
}

fn checked(peer_urls: &[String]) -> Result<Vec<String>, Status> {
    identity::checked_urls(peer_urls).map_err(|_| Failure::BadMemberUrls.into())
}

/// The members in the order of their ids, as etcd lists them. Names and client URLs are known of members that have
/// started. One on its way to become a voter is listed as the voter it was asked to be.
pub(crate) fn list(membership: Membership, attributes: &[MemberAttributes]) -> Vec<Member> {
    let voters: BTreeSet<u64> = membership
        .configs
        .iter()
        .flat_map(|voters| voters.ids.iter().copied())
        .collect();
    let mut members: Vec<Member> = membership
        .nodes
        .into_iter()
        .map(|node| {
            let said = attributes
                .iter()
                .find(|attributes| attributes.id == node.id);
            Member {
                id: node.id,
                name: said.map(|a| a.name.clone()).unwrap_or_default(),
                client_ur_ls: said.map(|a| a.client_urls.clone()).unwrap_or_default(),
                peer_ur_ls: node.peer_urls,
                is_learner: !voters.contains(&node.id) && !node.pending_voter,
            }
        })
        .collect();
    members.sort_unstable_by_key(|member| member.id);
    members
}

#[cfg(test)]
mod tests {
    use keelson_proto::commandpb::{Node, Voters};

    use super::*;

    #[test]
    fn members_are_listed_by_id_with_what_they_said_of_themselves() {
        let node = |id, pending_voter| Node {
            id,
            peer_urls: vec![format!("http://m{id}:2380")],
            pending_voter,
        };
        let membership = Membership {
            configs: vec![Voters { ids: vec![3, 1] }],
            nodes: vec![
                node(3, false),
                node(1, false),
                node(4, true),
                node(2, false),
            ],
        };
        let attributes = [MemberAttributes {
            id: 1,
            name: "one".into(),
            client_urls: vec!["http://m1:2379".into()],
        }];
        let members = list(membership, &attributes);
        let told: Vec<(u64, &str, bool)> = members
            .iter()
            .map(|m| (m.id, m.name.as_str(), m.is_learner))
            .collect();
        assert_eq!(
            told,
            [
                (1, "one", false),
                (2, "", true),
                (3, "", false),
                (4, "", false)
            ]
        );
        assert_eq!(members[0].client_ur_ls, ["http://m1:2379"]);
        assert_eq!(members[3].peer_ur_ls, ["http://m4:2380"]);
    }
}
