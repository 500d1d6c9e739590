//! A model of the API server, the nodes, and a process with the two controllers whose stores lag behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Container, Pod, PodCondition, PodSpec, PodStatus, PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use keelson_controllers::common::expectations::Expectations;
use keelson_controllers::common::owner::{Owner, is_controlled_by};
use keelson_controllers::common::pods::{is_active, is_ready};
use keelson_controllers::common::writes::Writes;
use keelson_controllers::{deployment, replicaset};
use kube::ResourceExt;
use kube::api::ObjectMeta;

const REVISION: &str = "deployment.kubernetes.io/revision";

/// What a user may ask for.
#[derive(Debug, Clone)]
pub enum Ask {
    Image(u8),
    Replicas(i32),
    Paused(bool),
    Recreate(bool),
    Bounds(i32, i32),
}

/// The killed process makes no further write.
struct Killed;

/// The objects of one kind: as they are, and every change of them; the process has seen the first few.
struct Kind<K> {
    live: BTreeMap<String, Arc<K>>,
    log: Vec<(String, Option<Arc<K>>)>,
    seen: BTreeMap<String, Arc<K>>,
    seen_to: usize,
}

/// An object as it was, and as it is.
type Seen<K> = (Option<Arc<K>>, Option<Arc<K>>);

impl<K: ResourceExt> Kind<K> {
    fn new() -> Self {
        Kind {
            live: BTreeMap::new(),
            log: vec![],
            seen: BTreeMap::new(),
            seen_to: 0,
        }
    }

    fn put(&mut self, mut object: K) -> Arc<K> {
        object.meta_mut().resource_version = Some((self.log.len() + 1).to_string());
        let (name, object) = (object.name_any(), Arc::new(object));
        self.live.insert(name.clone(), object.clone());
        self.log.push((name, Some(object.clone())));
        object
    }

    fn remove(&mut self, name: &str) {
        self.live.remove(name);
        self.log.push((name.to_owned(), None));
    }

    /// The next change that the process has not seen, with what it saw of the object before.
    fn next(&mut self) -> Option<Seen<K>> {
        let (name, new) = self.log.get(self.seen_to)?.clone();
        self.seen_to += 1;
        let old = match &new {
            Some(new) => self.seen.insert(name, new.clone()),
            None => self.seen.remove(&name),
        };
        Some((old, new))
    }

    fn list(&mut self) {
        self.seen = self.live.clone();
        self.seen_to = self.log.len();
    }
}

pub struct World {
    pub now: i64,
    pub created: i32,
    pub deleted: i32,
    /// The most pods that any deployment so far could have allowed.
    pub most_ever_allowed: i32,
    deployments: Kind<Deployment>,
    replica_sets: Kind<ReplicaSet>,
    pods: Kind<Pod>,
    expectations: Expectations,
    writes: Writes,
    /// Whether anything was written since this was cleared.
    written: bool,
}

fn template(image: u8) -> PodTemplateSpec {
    let container = Container {
        name: "main".into(),
        image: Some(format!("image:{image}")),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some([("app".into(), "web".into())].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
    }
}

impl World {
    /// A world in which a deployment was just created.
    pub fn new(replicas: i32, surge: i32, missing: i32) -> World {
        let mut world = World {
            now: 0,
            created: 0,
            deleted: 0,
            most_ever_allowed: 0,
            deployments: Kind::new(),
            replica_sets: Kind::new(),
            pods: Kind::new(),
            expectations: Expectations::default(),
            writes: Writes::default(),
            written: false,
        };
        let rolling = RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(surge)),
            max_unavailable: Some(IntOrString::Int(missing)),
        };
        world.put_deployment(Deployment {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("default".into()),
                uid: Some("web-uid".into()),
                generation: Some(1),
                ..ObjectMeta::default()
            },
            spec: DeploymentSpec {
                replicas: Some(replicas),
                progress_deadline_seconds: Some(600),
                revision_history_limit: Some(10),
                selector: LabelSelector {
                    match_labels: Some([("app".into(), "web".into())].into()),
                    ..LabelSelector::default()
                },
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(rolling),
                }),
                template: template(0),
                ..DeploymentSpec::default()
            },
            status: None,
        });
        world
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + self.now).unwrap()
    }

    fn mono(&self) -> Duration {
        Duration::from_secs(self.now.unsigned_abs())
    }

    fn deployment(&self) -> Arc<Deployment> {
        self.deployments.live["web"].clone()
    }

    fn put_deployment(&mut self, deployment: Deployment) {
        let replicas = deployment.spec.replicas.unwrap_or(1);
        let posts = deployment::Fenceposts::of(&deployment.spec);
        self.most_ever_allowed = self.most_ever_allowed.max(replicas + posts.surge);
        self.deployments.put(deployment);
    }

    pub fn ask(&mut self, ask: Ask) {
        let mut new = (*self.deployment()).clone();
        match ask {
            Ask::Image(image) => new.spec.template = template(image),
            Ask::Replicas(replicas) => new.spec.replicas = Some(replicas),
            Ask::Paused(paused) => new.spec.paused = Some(paused),
            Ask::Recreate(recreate) => {
                let kind = if recreate {
                    "Recreate"
                } else {
                    "RollingUpdate"
                };
                new.spec.strategy.get_or_insert_default().type_ = Some(kind.into());
            }
            Ask::Bounds(surge, missing) => {
                let strategy = new.spec.strategy.get_or_insert_default();
                strategy.rolling_update = Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(missing)),
                });
            }
        }
        if new.spec != self.deployment().spec {
            *new.metadata.generation.get_or_insert_default() += 1;
            self.put_deployment(new);
        }
    }

    pub fn learn(&mut self, deployments: usize, replica_sets: usize, pods: usize) {
        let unseen = self.deployments.log.len() - self.deployments.seen_to;
        for _ in 0..deployments.min(unseen) {
            self.deployments.next();
        }
        for _ in 0..replica_sets {
            if let Some((Some(old), None)) = self.replica_sets.next() {
                self.expectations.forget(&Owner::of(&*old));
                let owner = Owner::named_by(&old.metadata).unwrap();
                self.writes.saw_deletion(&owner, &old.uid().unwrap());
            }
        }
        for _ in 0..pods {
            match self.pods.next() {
                Some((None, Some(new))) if new.metadata.deletion_timestamp.is_none() => {
                    let owner = Owner::named_by(&new.metadata).unwrap();
                    self.expectations.saw_creation(&owner);
                }
                Some((old, new)) => {
                    let going = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_some();
                    let gone = new.as_ref().filter(going).or(match &new {
                        None => old.as_ref(),
                        Some(_) => None,
                    });
                    if let Some(pod) = gone {
                        let owner = Owner::named_by(&pod.metadata).unwrap();
                        self.expectations.saw_deletion(&owner, &pod.uid().unwrap());
                    }
                }
                None => return,
            }
        }
    }

    /// The process is killed and started again: it remembers nothing, and lists everything.
    pub fn restart(&mut self) {
        self.expectations = Expectations::default();
        self.writes = Writes::default();
        self.deployments.list();
        self.replica_sets.list();
        self.pods.list();
    }

    /// One more write, if the process lives to make it.
    fn write(&mut self, left: &mut Option<usize>) -> Result<(), Killed> {
        match left {
            Some(0) => return Err(Killed),
            Some(left) => *left -= 1,
            None => (),
        }
        self.written = true;
        Ok(())
    }

    pub fn look_at_deployment(&mut self, kill_after: Option<usize>) {
        let Some(seen) = self.deployments.seen.get("web").cloned() else {
            return;
        };
        let replica_sets: Vec<_> = self.replica_sets.seen.values().cloned().collect();
        let owner = Owner::of(&*seen);
        for set in &replica_sets {
            let generation = set.metadata.generation.unwrap();
            self.writes.saw(&owner, &set.uid().unwrap(), generation);
        }
        let now = self.mono();
        if !self.writes.are_seen(&owner, now) {
            return;
        }
        let has_pods = |set: &&Arc<ReplicaSet>| {
            let mut pods = self.pods.seen.values();
            pods.any(|pod| is_controlled_by(&pod.metadata, &***set))
        };
        let with_pods = replica_sets.iter().filter(has_pods);
        let with_pods: Vec<_> = with_pods.filter_map(|set| set.uid()).collect();
        let plan = deployment::reconcile(&deployment::Observed {
            deployment: &seen,
            replica_sets: &replica_sets,
            with_pods: &with_pods,
            now: self.time(),
        });
        let mut left = kill_after;
        let mut version = seen.resource_version();
        for action in plan.actions {
            match self.act_on_deployment(&seen, &mut version, action, &mut left) {
                Ok(true) => (),
                Ok(false) => return,
                Err(Killed) => return self.restart(),
            }
        }
    }

    /// Whether it was accepted.
    fn act_on_deployment(
        &mut self,
        seen: &Deployment,
        version: &mut Option<String>,
        action: deployment::Action,
        left: &mut Option<usize>,
    ) -> Result<bool, Killed> {
        use deployment::Action;
        match action {
            Action::Create(new) => {
                self.write(left)?;
                if let Some(live) = self.replica_sets.live.get(&new.name_any()).cloned() {
                    assert!(is_controlled_by(&live.metadata, seen));
                    self.wrote(&live);
                    return Ok(true);
                }
                let mut new = *new;
                new.metadata.uid = Some(format!(
                    "{}-{}",
                    new.name_any(),
                    self.replica_sets.log.len()
                ));
                new.metadata.generation = Some(1);
                new.metadata.creation_timestamp = Some(Time(self.time()));
                let new = self.replica_sets.put(new);
                self.wrote(&new);
            }
            Action::Update { old, new } => {
                self.write(left)?;
                let Some(live) = self.replica_sets.live.get(&old.name_any()).cloned() else {
                    return Ok(false);
                };
                if live.resource_version() != old.resource_version() {
                    return Ok(false);
                }
                let mut new = *new;
                if new.spec != live.spec {
                    *new.metadata.generation.get_or_insert_default() += 1;
                }
                let new = self.replica_sets.put(new);
                self.wrote(&new);
            }
            Action::Delete(old) => {
                self.write(left)?;
                let live = self.replica_sets.live.get(&old.name_any()).cloned();
                if live.is_some_and(|live| live.uid() == old.uid()) {
                    self.replica_sets.remove(&old.name_any());
                }
            }
            Action::SetRevision(revision) => {
                self.write(left)?;
                let mut live = (*self.deployment()).clone();
                if live.resource_version() != *version {
                    return Ok(false);
                }
                live.annotations_mut().insert(REVISION.into(), revision);
                self.put_deployment(live);
                *version = self.deployment().resource_version();
            }
            Action::SetStatus(status) => {
                self.write(left)?;
                let mut live = (*self.deployment()).clone();
                if live.resource_version() != *version {
                    return Ok(false);
                }
                live.status = Some(status);
                self.put_deployment(live);
            }
            Action::Adopt(_) | Action::Release(_) | Action::WarnSelectsAll => {
                panic!("nothing here asks for {action:?}")
            }
        }
        Ok(true)
    }

    fn wrote(&mut self, set: &ReplicaSet) {
        let (uid, generation) = (set.uid().unwrap(), set.metadata.generation.unwrap());
        let owner = Owner::named_by(&set.metadata).unwrap();
        let now = self.mono();
        self.writes.wrote(&owner, &uid, generation, now);
    }

    pub fn look_at_replica_set(&mut self, n: usize, kill_after: Option<usize>) {
        let count = self.replica_sets.seen.len();
        if count == 0 {
            return;
        }
        let set = self
            .replica_sets
            .seen
            .values()
            .nth(n % count)
            .unwrap()
            .clone();
        let owner = Owner::of(&*set);
        let settled = self.expectations.are_met(&owner, self.mono());
        let owned = |pod: &&Arc<Pod>| is_controlled_by(&pod.metadata, &*set);
        let mut pods: Vec<_> = self.pods.seen.values().filter(owned).cloned().collect();
        pods.retain(|pod| {
            pod.metadata.deletion_timestamp.is_some()
                || !self.expectations.is_going(&owner, &pod.uid().unwrap())
        });
        let related: Vec<_> = self.pods.seen.values().cloned().collect();
        let plan = replicaset::reconcile(&replicaset::Observed {
            replica_set: &set,
            pods: &pods,
            related: &related,
            settled,
            creating: self.expectations.creating(&owner),
            now: self.time(),
        });
        let mut left = kill_after;
        for action in plan.actions {
            if self.act_on_replica_set(&set, action, &mut left).is_err() {
                return self.restart();
            }
        }
    }

    fn act_on_replica_set(
        &mut self,
        set: &ReplicaSet,
        action: replicaset::Action,
        left: &mut Option<usize>,
    ) -> Result<(), Killed> {
        use replicaset::Action;
        let owner = Owner::of(set);
        let now = self.mono();
        match action {
            Action::Create(count) => {
                self.expectations.expect_creations(&owner, count, now);
                for _ in 0..count {
                    self.write(left)?;
                    self.created += 1;
                    let mut pod = replicaset::pod_from_template(set);
                    let name = format!("{}-{}", set.name_any(), self.created);
                    pod.metadata.uid = Some(name.clone());
                    pod.metadata.name = Some(name);
                    pod.metadata.creation_timestamp = Some(Time(self.time()));
                    self.pods.put(pod);
                }
            }
            Action::Delete(victims) => {
                let uids = victims.iter().map(|pod| pod.uid().unwrap());
                self.expectations.expect_deletions(&owner, uids, now);
                for victim in victims {
                    self.write(left)?;
                    let live = self.pods.live.get(&victim.name_any()).cloned();
                    let Some(live) = live.filter(|pod| pod.metadata.deletion_timestamp.is_none())
                    else {
                        continue;
                    };
                    self.deleted += 1;
                    let mut going = (*live).clone();
                    going.metadata.deletion_timestamp = Some(Time(self.time()));
                    self.pods.put(going);
                }
            }
            Action::SetStatus(status) => {
                self.write(left)?;
                let live = self.replica_sets.live.get(&set.name_any()).cloned();
                let current =
                    |live: &Arc<ReplicaSet>| live.resource_version() == set.resource_version();
                if let Some(live) = live.filter(current) {
                    let mut new = (*live).clone();
                    new.status = Some(status);
                    self.replica_sets.put(new);
                }
            }
            Action::Adopt(_) | Action::Release(_) => panic!("nothing here asks for {action:?}"),
        }
        Ok(())
    }

    pub fn node_acts(&mut self, n: usize) {
        let count = self.pods.live.len();
        if count == 0 {
            return;
        }
        let pod = self.pods.live.values().nth(n % count).unwrap().clone();
        if pod.metadata.deletion_timestamp.is_some() {
            self.pods.remove(&pod.name_any());
        } else if !is_ready(&pod) {
            self.set_ready(&pod, "True");
        }
    }

    pub fn pod_fails(&mut self, n: usize) {
        let count = self.pods.live.len().max(1);
        let pod = self.pods.live.values().nth(n % count).cloned();
        if let Some(pod) = pod.filter(|pod| is_ready(pod)) {
            self.set_ready(&pod, "False");
        }
    }

    fn set_ready(&mut self, pod: &Pod, ready: &str) {
        let mut new = pod.clone();
        new.status = Some(PodStatus {
            phase: Some("Running".into()),
            conditions: Some(vec![PodCondition {
                type_: "Ready".into(),
                status: ready.into(),
                last_transition_time: Some(Time(self.time())),
                ..PodCondition::default()
            }]),
            ..PodStatus::default()
        });
        self.pods.put(new);
    }

    /// Pods that are not going.
    pub fn active(&self) -> i32 {
        self.pods.live.values().filter(|pod| is_active(pod)).count() as i32
    }

    /// Pods that are ready and not going.
    pub fn available(&self) -> i32 {
        let available = |pod: &&Arc<Pod>| is_active(pod) && is_ready(pod);
        self.pods.live.values().filter(available).count() as i32
    }

    /// Of how many templates there are pods, those that are going too.
    pub fn templates_running(&self) -> usize {
        let hashes = self
            .pods
            .live
            .values()
            .map(|pod| &pod.labels()["pod-template-hash"]);
        hashes.collect::<BTreeSet<_>>().len()
    }

    /// One round in which everybody does what is to be done. Whether anything was.
    pub fn settle_once(&mut self) -> bool {
        let log = |world: &World| {
            (
                world.deployments.log.len(),
                world.replica_sets.log.len(),
                world.pods.log.len(),
            )
        };
        let before = log(self);
        self.written = false;
        self.now += 1;
        self.learn(10_000, 10_000, 10_000);
        self.look_at_deployment(None);
        self.learn(0, 10_000, 10_000);
        for n in 0..self.replica_sets.seen.len() {
            self.look_at_replica_set(n, None);
        }
        for name in self.pods.live.keys().cloned().collect::<Vec<_>>() {
            let at = self.pods.live.keys().position(|key| *key == name).unwrap();
            self.node_acts(at);
        }
        self.written || before != log(self)
    }

    /// Rounds until nothing is left to do, as it must come.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            if !self.settle_once() {
                return;
            }
        }
        panic!("it never settles");
    }

    /// There is exactly what was asked for, and it says so.
    pub fn assert_as_asked(&self) {
        let deployment = self.deployment();
        let replicas = deployment.spec.replicas.unwrap();
        let sizes: i32 = self
            .replica_sets
            .live
            .values()
            .map(|set| set.spec.replicas.unwrap())
            .sum();
        let status = deployment.status.clone().unwrap_or_default();
        assert_eq!(
            self.active(),
            sizes,
            "pods and the sizes of their replica sets"
        );
        assert_eq!(self.pods.live.len() as i32, sizes, "no pod is left over");
        assert_eq!(status.observed_generation, deployment.metadata.generation);
        assert_eq!(status.replicas.unwrap_or_default(), self.active());
        assert_eq!(
            status.available_replicas.unwrap_or_default(),
            self.available()
        );
        if deployment.spec.paused == Some(true) {
            return;
        }
        assert_eq!(sizes, replicas, "as many as asked for");
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone();
        let wanted = deployment.spec.template.spec.as_ref().unwrap().containers[0]
            .image
            .clone();
        assert!(
            self.pods.live.values().all(|pod| image(pod) == wanted),
            "of the last template"
        );
        assert_eq!(status.updated_replicas.unwrap_or_default(), replicas);
        let revision = |set: &Arc<ReplicaSet>| set.annotations()[REVISION].parse::<i32>().unwrap();
        let mut revisions: Vec<_> = self.replica_sets.live.values().map(revision).collect();
        revisions.sort_unstable();
        let own = deployment.annotations()[REVISION].parse().ok();
        assert_eq!(own, revisions.pop(), "its revision is the newest");
        // Of older ones two may have the same, as in Kubernetes: where the template goes back to an old one before the store has heard
        // of the set that was made for the one in between.
        assert_ne!(own, revisions.pop(), "the newest is one replica set's");
    }
}
