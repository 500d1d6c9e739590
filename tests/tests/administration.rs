//! What operators ask that must be refused, or that changes nothing: the same answers as etcd's, codes and texts included.

use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::cluster::{Cluster, Spec};
use keelson_tests::peers::Server;
use keelson_tests::turn::Turn;
use keelson_tests::wait;
use pb::alarm_request::AlarmAction;
use tonic::{Code, Request, Status};

/// What was asked, and what came of it.
type Answers = Vec<(String, String)>;

/// No member has this id.
const NOBODY: u64 = 12345;

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_answered_as_by_etcd() {
    let turn = Turn::take().await;
    let mut all = Vec::new();
    for server in [Server::under_test(), Server::Etcd35] {
        let mut cluster = Cluster::start(&turn, Spec::of(server, 3)).await;
        all.push(ask(&mut cluster).await);
    }
    let [got, wanted] = &all[..] else {
        unreachable!("there are two")
    };
    let different: Vec<_> = got.iter().zip(wanted).filter(|(a, b)| a != b).collect();
    assert!(different.is_empty(), "under test, and etcd: {different:#?}");
}

async fn ask(cluster: &mut Cluster) -> Answers {
    let leader = cluster.wait_ready().await;
    let follower = (leader + 1) % 3;
    let (leads, follows) = (cluster.client(leader), cluster.client(follower));
    for number in 0..3 {
        let put = leads.put("key", &number.to_string()).await;
        put.expect("a put works");
    }
    let ids = [leader, follower].map(|place| cluster.member(place).peer_url());
    let members = leads.members().await.expect("members are listed");
    let [leader_id, follower_id] = ids.map(|url| {
        let is_it = |member: &&pb::Member| member.peer_ur_ls == [url.clone()];
        members.iter().find(is_it).expect("it is a member").id
    });
    let mut answers = Answers::new();
    move_leader(&mut answers, &leads, &follows, leader_id, follower_id).await;
    change_members(&mut answers, &follows, &members, follower_id).await;
    alarms(&mut answers, &follows, follower_id).await;
    hashes(&mut answers, &leads).await;
    leaderships(&mut answers, &follows).await;
    answers
}

/// Keeps an answer, with `told` of the reply.
fn keep<T>(
    answers: &mut Answers,
    what: &str,
    result: Result<tonic::Response<T>, Status>,
    told: impl FnOnce(T) -> String,
) {
    let answer = match result {
        Ok(reply) => told(reply.into_inner()),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    };
    answers.push((what.to_owned(), answer));
}

/// Which fields of a header are there.
fn header(header: Option<pb::ResponseHeader>) -> String {
    header.map_or("no header".into(), |header| {
        let there = [header.cluster_id, header.member_id, header.raft_term].map(|id| id > 0);
        format!("{there:?} at {}", header.revision)
    })
}

async fn move_leader(
    answers: &mut Answers,
    leads: &Client,
    follows: &Client,
    leader: u64,
    follower: u64,
) {
    let to = |target_id| pb::MoveLeaderRequest { target_id };
    let told = |reply: pb::MoveLeaderResponse| header(reply.header);
    let asked = follows.maintenance().move_leader(to(follower)).await;
    keep(answers, "a follower to move leadership", asked, told);
    let asked = leads.maintenance().move_leader(to(NOBODY)).await;
    keep(answers, "to move leadership to nobody", asked, told);
    let asked = leads.maintenance().move_leader(to(leader)).await;
    keep(answers, "to move leadership to where it is", asked, told);
}

async fn change_members(
    answers: &mut Answers,
    client: &Client,
    members: &[pb::Member],
    follower: u64,
) {
    let taken = members
        .iter()
        .find(|member| member.id != follower)
        .and_then(|member| member.peer_ur_ls.first())
        .expect("members have peer URLs")
        .clone();
    // etcd wants its members to have been connected for some seconds before it changes them.
    wait::until("a cluster that takes itself for healthy", async || {
        let add = pb::MemberAddRequest {
            peer_ur_ls: vec![taken.clone()],
            is_learner: false,
        };
        match client.cluster().member_add(add).await {
            Err(status) if status.code() == Code::Unavailable => Err(status),
            _ => Ok(()),
        }
    })
    .await;
    let urls: [Vec<String>; 6] = [
        vec![],
        vec!["127.0.0.1:1".into()],
        vec!["ftp://127.0.0.1:1".into()],
        vec!["http://127.0.0.1".into()],
        vec!["http://127.0.0.1:1/path".into()],
        vec![taken.clone()],
    ];
    for peer_ur_ls in urls {
        let add = pb::MemberAddRequest {
            peer_ur_ls: peer_ur_ls.clone(),
            is_learner: false,
        };
        let asked = client.cluster().member_add(add).await;
        // Ports differ, numbers of URLs do not.
        let last = peer_ur_ls
            .last()
            .map_or("none", |url| &url[..url.len().min(14)]);
        keep(answers, &format!("to add {last}"), asked, |reply| {
            header(reply.header)
        });
    }
    // No malformed ones: etcd takes them, and the member is lost to it.
    for id in [NOBODY, follower] {
        let update = pb::MemberUpdateRequest {
            id,
            peer_ur_ls: vec![taken.clone()],
        };
        let asked = client.cluster().member_update(update).await;
        keep(
            answers,
            "to have a member where another is",
            asked,
            |reply| header(reply.header),
        );
    }
    let remove = pb::MemberRemoveRequest { id: NOBODY };
    let asked = client.cluster().member_remove(remove).await;
    keep(answers, "to remove nobody", asked, |reply| {
        header(reply.header)
    });
    for id in [NOBODY, follower] {
        let promote = pb::MemberPromoteRequest { id };
        let asked = client.cluster().member_promote(promote).await;
        keep(answers, "to promote", asked, |reply| header(reply.header));
    }
    for number in 1..=2 {
        let add = pb::MemberAddRequest {
            peer_ur_ls: vec![format!("http://127.0.0.1:{number}")],
            is_learner: true,
        };
        let asked = client.cluster().member_add(add).await;
        let mut learner = 0;
        keep(answers, "to add a learner", asked, |reply| {
            let member = reply.member.unwrap_or_default();
            learner = member.id;
            let (name, is_learner) = (member.name, member.is_learner);
            let (urls, members) = (member.peer_ur_ls, reply.members.len());
            format!(
                "{name} {is_learner} {urls:?} {members} {}",
                header(reply.header)
            )
        });
        if learner > 0 {
            let promote = pb::MemberPromoteRequest { id: learner };
            let asked = client.cluster().member_promote(promote).await;
            keep(answers, "to promote one that has nothing", asked, |reply| {
                header(reply.header)
            });
        }
    }
}

async fn alarms(answers: &mut Answers, client: &Client, follower: u64) {
    use AlarmAction::{Activate, Deactivate, Get};
    let (none, no_space, corrupt) = (0, 1, 2);
    for (what, action, member_id, alarm) in [
        ("alarms when there are none", Get, 0, none),
        (
            "to disarm what is not there",
            Deactivate,
            follower,
            no_space,
        ),
        ("to raise an alarm", Activate, follower, no_space),
        ("to raise it again", Activate, follower, no_space),
        ("alarms", Get, 0, none),
        ("alarms of a kind", Get, 0, no_space),
        ("alarms of another kind", Get, 0, corrupt),
        ("alarms of one member", Get, NOBODY, none),
        ("to disarm another member's", Deactivate, NOBODY, no_space),
        ("to disarm no kind", Deactivate, follower, none),
        ("to disarm all of one member", Deactivate, 0, none),
        ("to disarm it", Deactivate, follower, no_space),
        ("alarms after that", Get, 0, none),
    ] {
        let request = pb::AlarmRequest {
            action: action.into(),
            member_id,
            alarm,
        };
        let asked = client.maintenance().alarm(request).await;
        keep(answers, what, asked, |reply| {
            let alarms: Vec<_> = reply
                .alarms
                .iter()
                .map(|alarm| (alarm.member_id == follower, alarm.alarm))
                .collect();
            format!("{alarms:?} {}", header(reply.header))
        });
    }
}

async fn hashes(answers: &mut Answers, client: &Client) {
    for revision in [-1, 0, 2, 4, 1000] {
        let asked = client
            .maintenance()
            .hash_kv(pb::HashKvRequest { revision })
            .await;
        keep(answers, &format!("a hash at {revision}"), asked, |reply| {
            format!("{} {}", reply.compact_revision, header(reply.header))
        });
    }
    let compact = pb::CompactionRequest {
        revision: 3,
        physical: true,
    };
    client
        .kv()
        .compact(compact)
        .await
        .expect("it can be compacted");
    // At the compacted revision itself newer etcds have a hash, and 3.5.1 has none.
    for revision in [2] {
        let asked = client
            .maintenance()
            .hash_kv(pb::HashKvRequest { revision })
            .await;
        keep(
            answers,
            &format!("a hash at {revision} of 3"),
            asked,
            |reply| format!("{} {}", reply.compact_revision, header(reply.header)),
        );
    }
    let asked = client.maintenance().hash(pb::HashRequest {}).await;
    keep(answers, "a hash", asked, |reply| header(reply.header));
    let asked = client.maintenance().status(pb::StatusRequest {}).await;
    keep(answers, "its status", asked, |reply| {
        let (errors, learner) = (reply.errors, reply.is_learner);
        format!("{errors:?} {learner} {}", header(reply.header))
    });
    let asked = client
        .maintenance()
        .defragment(pb::DefragmentRequest {})
        .await;
    keep(answers, "to defragment", asked, |reply| {
        header(reply.header)
    });
    let asked = client
        .cluster()
        .member_list(pb::MemberListRequest { linearizable: true })
        .await;
    keep(answers, "the members", asked, |reply| {
        let told = |member: &pb::Member| {
            (
                member.name.clone(),
                member.client_ur_ls.len(),
                member.is_learner,
            )
        };
        let mut members: Vec<_> = reply.members.iter().map(told).collect();
        members.sort();
        format!("{members:?} {}", header(reply.header))
    });
}

/// Requests that need a leader, of which there is one.
async fn leaderships(answers: &mut Answers, client: &Client) {
    for value in ["true", "false", "TRUE", ""] {
        let mut request = Request::new(pb::RangeRequest {
            key: "key".into(),
            ..Default::default()
        });
        let value = value.parse().expect("it is ASCII");
        request.metadata_mut().insert("hasleader", value);
        let asked = client.kv().range(request).await;
        keep(answers, "a range that needs a leader", asked, |reply| {
            header(reply.header)
        });
    }
}
