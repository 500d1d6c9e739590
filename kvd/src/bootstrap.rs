//! Who this member is: what its data says, what founding the cluster makes it, or what the cluster that it joins
//! calls it.
//!
//! A member that founds a cluster first asks the others whether that has happened before. One that has been a member
//! and lost its data must not come back as if it were new: it would vote again where it has voted, and what was
//! acknowledged on its word could be lost.

use std::time::Duration;

use futures::future::join_all;
use keelson_proto::commandpb::Membership;
use keelson_proto::peerpb::{ClusterProbe, ClusterProbeReply};
use keelson_raft::tcp::{ProbeError, probe};
use keelson_store::MemberId;
use thiserror::Error;

use crate::config::{Bootstrap, ClusterState};
use crate::data_dir::Identity;

/// How a member starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Who it is.
    pub identity: Identity,
    /// The first membership, for one that may have to found the cluster.
    pub found: Option<Membership>,
}

/// Why a member cannot take part.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum BootstrapError {
    #[error(
        "the data directory belongs to cluster {data:x}, and --initial-cluster founds cluster {flags:x}: choose \
         another --data-dir, or say --initial-cluster-state=existing if the members have changed since"
    )]
    OtherCluster { data: u64, flags: u64 },
    #[error(
        "the member at {url} is of cluster {theirs:x}, not of {ours:x}: choose another --initial-cluster-token"
    )]
    OtherClusterThere { url: String, theirs: u64, ours: u64 },
    #[error(
        "this member ({id:x}) was in the cluster before, and its data is gone: it cannot start as new; remove it with \
         'kvctl member remove {id:x}', add it again with 'kvctl member add', and start it with \
         --initial-cluster-state=existing"
    )]
    WasHere { id: u64 },
    #[error(
        "the cluster is there, and this member is not in it: add it with 'kvctl member add', and start it with \
         --initial-cluster-state=existing"
    )]
    NotAFounder,
    #[error(
        "the cluster does not know a member at {urls}: add it first, with 'kvctl member add --peer-urls={urls}'"
    )]
    NotAdded { urls: String },
    #[error("no member of the cluster answers: {0}")]
    NobodyAnswers(String),
    #[error(
        "--initial-cluster-state=existing needs another member in --initial-cluster, to ask about the cluster"
    )]
    NobodyToAsk,
}

/// What one of the others said.
pub struct Answer {
    /// Who was asked.
    pub url: String,
    /// What it said.
    pub reply: ClusterProbeReply,
}

/// Decides how a member starts.
pub async fn plan(
    flags: &Bootstrap,
    data: Option<Identity>,
    patience: Duration,
) -> Result<Plan, BootstrapError> {
    if let Some(identity) = data {
        return restart(flags, identity);
    }
    let me = flags.founder_id();
    let (answers, failures) = ask(&flags.other_urls(), me, patience).await;
    match flags.state {
        ClusterState::New => found(flags, &answers),
        ClusterState::Existing => join(flags, &answers, &failures),
    }
}

async fn ask(urls: &[String], me: MemberId, patience: Duration) -> (Vec<Answer>, Vec<ProbeError>) {
    let asked = urls.iter().map(|url| async move {
        let reply = probe(url, ClusterProbe { member_id: me.0 }, patience).await?;
        Ok(Answer {
            url: url.clone(),
            reply,
        })
    });
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for result in join_all(asked).await {
        match result {
            Ok(answer) => answers.push(answer),
            Err(error) => failures.push(error),
        }
    }
    (answers, failures)
}

/// A member with data is who its data says. Flags that would found another cluster are a mistake.
fn restart(flags: &Bootstrap, identity: Identity) -> Result<Plan, BootstrapError> {
    let founding = identity.founded && flags.state == ClusterState::New;
    let same =
        flags.cluster_id() == identity.cluster_id && flags.founder_id() == identity.member_id;
    if founding && flags.explicit && !same {
        return Err(BootstrapError::OtherCluster {
            data: identity.cluster_id,
            flags: flags.cluster_id(),
        });
    }
    // It may have been stopped before the cluster was founded; one that is founded stays as it is.
    let found = (founding && same).then(|| flags.membership());
    Ok(Plan { identity, found })
}

fn found(flags: &Bootstrap, answers: &[Answer]) -> Result<Plan, BootstrapError> {
    let (me, cluster_id) = (flags.founder_id(), flags.cluster_id());
    for Answer { url, reply } in answers {
        if reply.known || reply.removed {
            return Err(BootstrapError::WasHere { id: me.0 });
        }
        if reply.cluster_id != cluster_id {
            let (theirs, ours) = (reply.cluster_id, cluster_id);
            return Err(BootstrapError::OtherClusterThere {
                url: url.clone(),
                theirs,
                ours,
            });
        }
        let members = reply
            .membership
            .as_ref()
            .map_or(&[][..], |membership| &membership.nodes);
        if reply.initialized && !members.is_empty() && !members.iter().any(|node| node.id == me.0) {
            return Err(BootstrapError::NotAFounder);
        }
    }
    let identity = Identity {
        cluster_id,
        member_id: me,
        founded: true,
    };
    Ok(Plan {
        identity,
        found: Some(flags.membership()),
    })
}

fn join(
    flags: &Bootstrap,
    answers: &[Answer],
    failures: &[ProbeError],
) -> Result<Plan, BootstrapError> {
    if flags.other_urls().is_empty() {
        return Err(BootstrapError::NobodyToAsk);
    }
    if answers.is_empty() {
        let why: Vec<String> = failures.iter().map(ToString::to_string).collect();
        return Err(BootstrapError::NobodyAnswers(why.join("; ")));
    }
    // A member that is behind may not know of this one yet: any that does will do.
    for Answer { reply, .. } in answers {
        for node in reply
            .membership
            .iter()
            .flat_map(|membership| &membership.nodes)
        {
            let mut urls = node.peer_urls.clone();
            urls.sort_unstable();
            if urls != flags.advertise_peer {
                continue;
            }
            if reply
                .attributes
                .iter()
                .any(|attributes| attributes.id == node.id)
            {
                return Err(BootstrapError::WasHere { id: node.id });
            }
            let identity = Identity {
                cluster_id: reply.cluster_id,
                member_id: MemberId(node.id),
                founded: false,
            };
            return Ok(Plan {
                identity,
                found: None,
            });
        }
    }
    Err(BootstrapError::NotAdded {
        urls: flags.advertise_peer.join(","),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keelson_proto::commandpb::{MemberAttributes, Node};

    use super::*;

    const OURS: &str = "http://127.0.0.1:1";
    const THEIRS: &str = "http://127.0.0.1:2";

    fn flags(state: ClusterState) -> Bootstrap {
        let members = BTreeMap::from([
            ("a".into(), vec![OURS.into()]),
            ("b".into(), vec![THEIRS.into()]),
        ]);
        Bootstrap {
            state,
            explicit: true,
            members,
            token: "t".into(),
            advertise_peer: vec![OURS.into()],
        }
    }

    fn answer(change: impl FnOnce(&mut ClusterProbeReply)) -> [Answer; 1] {
        let flags = flags(ClusterState::New);
        let mut reply = ClusterProbeReply {
            cluster_id: flags.cluster_id(),
            initialized: true,
            membership: Some(flags.membership()),
            ..ClusterProbeReply::default()
        };
        change(&mut reply);
        [Answer {
            url: THEIRS.into(),
            reply,
        }]
    }

    #[test]
    fn a_founder_founds_whether_the_others_are_there_or_not() {
        let flags = flags(ClusterState::New);
        for answers in [
            &[][..],
            &answer(|_| ()),
            &answer(|reply| reply.membership = None),
        ] {
            let plan = found(&flags, answers).unwrap();
            assert_eq!(plan.identity.member_id, flags.founder_id());
            assert_eq!(plan.found, Some(flags.membership()));
        }
    }

    #[test]
    fn a_member_that_lost_its_data_does_not_come_back_as_new() {
        let flags = flags(ClusterState::New);
        for answers in [
            answer(|reply| reply.known = true),
            answer(|reply| reply.removed = true),
        ] {
            assert!(matches!(
                found(&flags, &answers),
                Err(BootstrapError::WasHere { .. })
            ));
        }
    }

    #[test]
    fn a_founder_is_not_taken_in_by_another_cluster_or_one_that_goes_without_it() {
        let flags = flags(ClusterState::New);
        let other = answer(|reply| reply.cluster_id = 7);
        assert!(matches!(
            found(&flags, &other),
            Err(BootstrapError::OtherClusterThere { theirs: 7, .. })
        ));
        let without = answer(|reply| {
            let us = flags.founder_id().0;
            reply
                .membership
                .as_mut()
                .unwrap()
                .nodes
                .retain(|node| node.id != us);
        });
        assert!(matches!(
            found(&flags, &without),
            Err(BootstrapError::NotAFounder)
        ));
    }

    #[test]
    fn a_member_joins_under_the_id_that_the_cluster_gave_it() {
        let flags = flags(ClusterState::Existing);
        let added = |reply: &mut ClusterProbeReply| {
            let node = Node {
                id: 42,
                peer_urls: vec![OURS.into()],
                pending_voter: true,
            };
            reply.membership = Some(Membership {
                configs: vec![],
                nodes: vec![node],
            });
            reply.cluster_id = 7;
        };
        let plan = join(&flags, &answer(added), &[]).unwrap();
        assert_eq!(
            plan.identity,
            Identity {
                cluster_id: 7,
                member_id: MemberId(42),
                founded: false
            }
        );
        assert_eq!(plan.found, None);

        let started_before = answer(|reply| {
            added(reply);
            reply.attributes = vec![MemberAttributes {
                id: 42,
                ..MemberAttributes::default()
            }];
        });
        assert!(matches!(
            join(&flags, &started_before, &[]),
            Err(BootstrapError::WasHere { id: 42 })
        ));
    }

    #[test]
    fn a_member_that_was_not_added_is_told_how_to_be() {
        let flags = flags(ClusterState::Existing);
        let unknown = answer(|reply| reply.membership = None);
        let error = join(&flags, &unknown, &[]).unwrap_err().to_string();
        assert!(
            error.contains("kvctl member add --peer-urls=http://127.0.0.1:1"),
            "{error}"
        );
        assert!(matches!(
            join(&flags, &[], &[]),
            Err(BootstrapError::NobodyAnswers(_))
        ));
    }

    #[test]
    fn a_member_with_data_is_who_it_was() {
        let flags = flags(ClusterState::New);
        let identity = Identity {
            cluster_id: flags.cluster_id(),
            member_id: flags.founder_id(),
            founded: true,
        };
        assert_eq!(
            restart(&flags, identity).unwrap().found,
            Some(flags.membership())
        );

        let other = Identity {
            cluster_id: 7,
            ..identity
        };
        assert!(matches!(
            restart(&flags, other),
            Err(BootstrapError::OtherCluster { data: 7, .. })
        ));
        let assumed = Bootstrap {
            explicit: false,
            ..flags.clone()
        };
        assert_eq!(
            restart(&assumed, other).unwrap(),
            Plan {
                identity: other,
                found: None
            }
        );
        let joined = Identity {
            founded: false,
            ..other
        };
        assert_eq!(
            restart(&flags, joined).unwrap(),
            Plan {
                identity: joined,
                found: None
            }
        );
    }
}
