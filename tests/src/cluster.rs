//! A cluster of real processes on loopback, and what a test may do to it.

use std::collections::BTreeMap;

use keelson_proto::etcdserverpb as pb;
use tempfile::TempDir;
use tonic::Status;

use crate::client::Client;
use crate::member::Member;
use crate::peers::Server;
use crate::turn::Turn;
use crate::wait;

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which server.
    pub server: Server,
    /// How many members.
    pub members: usize,
    /// Flags for each of them, beside those that the harness gives.
    pub flags: Vec<String>,
}

impl Spec {
    /// `members` of the server under test.
    pub fn under_test(members: usize) -> Spec {
        Spec::of(Server::under_test(), members)
    }

    /// `members` of `server`.
    pub fn of(server: Server, members: usize) -> Spec {
        Spec {
            server,
            members,
            flags: Vec::new(),
        }
    }

    /// The same with one more flag.
    pub fn flag(mut self, flag: &str) -> Spec {
        self.flags.push(flag.to_owned());
        self
    }
}

/// A running cluster. Members are known by their place, which they keep for ever, also when they are removed.
/// Dropping it kills them; in a failing test it shows first how their logs end.
#[derive(Debug)]
pub struct Cluster {
    spec: Spec,
    // Before the folder, since members are killed before it goes away.
    members: Vec<Member>,
    /// How the members that were not there at first find the cluster: their flags, by place.
    joining: BTreeMap<usize, Vec<String>>,
    removed: Vec<usize>,
    dir: TempDir,
}

impl Cluster {
    /// Starts the members and waits until each of them knows the leader.
    pub async fn start(turn: &Turn, spec: Spec) -> Cluster {
        Cluster::start_on(turn, spec, async |_, _| ()).await
    }

    /// The same on data that `prepare` makes: it is given each member, and what the initial cluster is.
    pub async fn start_on(
        _turn: &Turn,
        spec: Spec,
        mut prepare: impl AsyncFnMut(&Member, &str),
    ) -> Cluster {
        let dir = TempDir::with_prefix("keelson-test-").expect("a temporary folder can be made");
        let members: Vec<Member> = (0..spec.members)
            .map(|place| Member::new(spec.server, &format!("m{place}"), dir.path()))
            .collect();
        let initial: Vec<String> = members.iter().map(Member::initial_cluster_entry).collect();
        for member in &members {
            prepare(member, &initial.join(",")).await;
        }
        let joining = joining_flags(&initial, "new");
        let joining = (0..members.len())
            .map(|place| (place, joining.clone()))
            .collect();
        let mut cluster = Cluster {
            spec,
            members,
            joining,
            removed: Vec::new(),
            dir,
        };
        for place in 0..cluster.members.len() {
            cluster.restart(place);
        }
        cluster.wait_ready().await;
        cluster
    }

    /// The server that its members are.
    pub fn server(&self) -> Server {
        self.spec.server
    }

    /// The folder that holds everything of this cluster, for a test's own files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The member at `place`.
    pub fn member(&self, place: usize) -> &Member {
        &self.members[place]
    }

    /// The member at `place`, to be changed.
    pub fn member_mut(&mut self, place: usize) -> &mut Member {
        &mut self.members[place]
    }

    /// A client of the member at `place`.
    pub fn client(&self, place: usize) -> Client {
        self.members[place].client()
    }

    /// The members that belong to the cluster, whether they run or not.
    pub fn places(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|place| !self.removed.contains(place))
            .collect()
    }

    /// The members that run (a paused one does).
    pub fn running(&self) -> Vec<usize> {
        self.places()
            .into_iter()
            .filter(|place| self.members[*place].is_started())
            .collect()
    }

    /// Where clients reach the members that belong to the cluster.
    pub fn client_urls(&self) -> Vec<String> {
        self.places()
            .into_iter()
            .map(|place| self.members[place].client_url())
            .collect()
    }

    /// Starts a member again on its data, without waiting until it is ready.
    pub fn restart(&mut self, place: usize) {
        self.members[place].start(&self.joining[&place], &self.spec.flags);
    }

    /// Waits until every running member answers and knows the leader, and gives the leader's place.
    pub async fn wait_ready(&mut self) -> usize {
        let running = self.running();
        let everyone: Vec<usize> = running.clone();
        self.wait_leader_among(&running, &everyone).await
    }

    /// Waits for a leader that a majority of the members follows, and gives its place. The others need not answer.
    pub async fn wait_leader(&mut self) -> usize {
        let running = self.running();
        self.wait_leader_among(&running, &[]).await
    }

    /// As [`Cluster::wait_leader`], with members that must not be asked since they are paused.
    pub async fn wait_leader_without(&mut self, paused: &[usize]) -> usize {
        let asked: Vec<usize> = self
            .running()
            .into_iter()
            .filter(|place| !paused.contains(place))
            .collect();
        self.wait_leader_among(&asked, &[]).await
    }

    async fn wait_leader_among(&mut self, asked: &[usize], must_agree: &[usize]) -> usize {
        wait::until("a leader that the members agree on", async || {
            for place in asked {
                self.members[*place].assert_running();
            }
            self.leader_now(asked, must_agree).await
        })
        .await
    }

    /// The leader in the highest term that is known, if it knows itself and enough others follow it.
    async fn leader_now(&self, asked: &[usize], must_agree: &[usize]) -> Result<usize, String> {
        let mut seen = BTreeMap::new();
        for place in asked {
            match self.client(*place).status().await {
                Ok(status) => drop(seen.insert(*place, status)),
                Err(status) if must_agree.contains(place) => {
                    return Err(format!("m{place}: {status}"));
                }
                Err(_) => {}
            }
        }
        let newest = seen
            .values()
            .filter(|status| status.leader != 0)
            .max_by_key(|status| status.raft_term);
        let Some(newest) = newest else {
            return Err("no member knows a leader".to_owned());
        };
        let follows = |status: &pb::StatusResponse| {
            status.leader == newest.leader && status.raft_term == newest.raft_term
        };
        let followers = seen.values().filter(|status| follows(status)).count();
        if let Some(place) = must_agree
            .iter()
            .find(|place| !seen.get(place).is_some_and(follows))
        {
            return Err(format!("m{place} does not follow the leader"));
        }
        if followers * 2 <= self.places().len() {
            return Err(format!(
                "only {followers} of {} follow the leader",
                self.places().len()
            ));
        }
        let of_leader = |status: &pb::StatusResponse| member_id(&status.header) == newest.leader;
        let place = seen
            .iter()
            .find(|(_, status)| of_leader(status) && follows(status))
            .map(|(place, _)| *place);
        place.ok_or_else(|| "the leader does not answer".to_owned())
    }

    /// Adds a member, starts it, and waits until it answers reads as one of the cluster. Gives its place.
    pub async fn add_member(&mut self) -> usize {
        let place = self.announce_member(false).await;
        self.restart(place);
        self.wait_joined(place).await;
        place
    }

    /// `member add` (a voter, or a learner) without a start. Gives the place of the new member.
    pub async fn announce_member(&mut self, learner: bool) -> usize {
        let place = self.members.len();
        let member = Member::new(self.spec.server, &format!("m{place}"), self.dir.path());
        let request = pb::MemberAddRequest {
            peer_ur_ls: vec![member.peer_url()],
            is_learner: learner,
        };
        let added = wait::until("member add", async || {
            self.any_client()
                .await?
                .cluster()
                .member_add(request.clone())
                .await
        });
        let added = added.await.into_inner();
        let new_id = added
            .member
            .as_ref()
            .expect("a reply to member add has the member")
            .id;
        // etcd's own recipe: what the reply lists, and this member by its name.
        let initial = added.members.iter().flat_map(|known| {
            let name = if known.id == new_id {
                member.name()
            } else {
                &known.name
            };
            known
                .peer_ur_ls
                .iter()
                .map(move |url| format!("{name}={url}"))
        });
        let initial: Vec<String> = initial.collect();
        self.joining
            .insert(place, joining_flags(&initial, "existing"));
        self.members.push(member);
        place
    }

    /// Waits until the member at `place` answers a linearizable read and the others list it by its name.
    pub async fn wait_joined(&mut self, place: usize) {
        let name = self.members[place].name().to_owned();
        wait::until("a new member that serves", async || {
            self.members[place].assert_running();
            let client = self.client(place);
            client.get("any").await?;
            let members = client.members().await?;
            let listed = members
                .iter()
                .any(|member| member.name == name && !member.is_learner);
            if listed {
                Ok(())
            } else {
                Err(Status::unavailable("it is not listed by its name"))
            }
        })
        .await;
    }

    /// `member remove`, asked of another member, and kills the process if it still runs then.
    pub async fn remove_member(&mut self, place: usize) {
        let url = self.members[place].peer_url();
        self.removed.push(place);
        wait::until("member remove", async || {
            let client = self.any_client().await?;
            let members = client.members().await?;
            let Some(member) = members
                .iter()
                .find(|member| member.peer_ur_ls.contains(&url))
            else {
                return Ok(());
            };
            client
                .cluster()
                .member_remove(pb::MemberRemoveRequest { id: member.id })
                .await
                .map(drop)
        })
        .await;
        if self.members[place].is_started() {
            self.members[place].kill();
        }
    }

    /// A client of the first member that answers.
    pub async fn any_client(&self) -> Result<Client, Status> {
        let mut last = Status::unavailable("no member runs");
        for place in self.running() {
            let client = self.client(place);
            match client.status().await {
                Ok(status) if status.leader != 0 => return Ok(client),
                Ok(_) => last = Status::unavailable(format!("m{place} knows no leader")),
                Err(status) => last = status,
            }
        }
        Err(last)
    }

    /// Waits until all running members have one hash at one revision, and gives both.
    pub async fn wait_equal_hashkv(&self) -> (i64, u32) {
        wait::until("equal hashes on all members", async || {
            let mut newest = 0;
            for place in self.running() {
                let status = self
                    .client(place)
                    .status()
                    .await
                    .map_err(|status| status.to_string())?;
                newest = newest.max(status.header.unwrap_or_default().revision);
            }
            let mut hashes = Vec::new();
            for place in self.running() {
                let request = pb::HashKvRequest { revision: newest };
                let reply = self.client(place).maintenance().hash_kv(request).await;
                let reply = reply
                    .map_err(|status| format!("m{place}: {status}"))?
                    .into_inner();
                hashes.push((reply.compact_revision, reply.hash));
            }
            let first = *hashes.first().ok_or("no member runs")?;
            if hashes.iter().all(|hash| *hash == first) {
                Ok((newest, first.1))
            } else {
                Err(format!(
                    "at revision {newest} (compacted revision, hash): {hashes:?}"
                ))
            }
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in &self.members {
                eprintln!(
                    "--- the log of {} ends with\n{}",
                    member.name(),
                    member.log_tail()
                );
            }
        }
    }
}

/// The id of the member that wrote a header.
pub fn member_id(header: &Option<pb::ResponseHeader>) -> u64 {
    header.as_ref().map_or(0, |header| header.member_id)
}

fn joining_flags(initial: &[String], state: &str) -> Vec<String> {
    vec![
        format!("--initial-cluster={}", initial.join(",")),
        format!("--initial-cluster-state={state}"),
        "--initial-cluster-token=keelson-tests".to_owned(),
    ]
}
