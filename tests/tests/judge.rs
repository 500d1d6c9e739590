//! The judge of the control plane's histories, judged: histories that are right, and for each rule some that break it.

use keelson_tests::controlplane::history::History;
use keelson_tests::controlplane::judge::{Asked, Rule, ending, judge};
use serde_json::{Value, json};

/// A history that is being written, of one deployment with four pods, one more and one fewer at the most.
struct Tale {
    history: History,
    revision: i64,
}

const OLD: &str = "web-a";
const NEW: &str = "web-b";

impl Tale {
    /// A deployment that is rolled out: a replica set with four ready pods, and statuses that say so.
    fn begin() -> Tale {
        let mut tale = Tale {
            history: History::default(),
            revision: 0,
        };
        tale.node("n1", &[]);
        tale.deployment(1, 4, "image:a", 1);
        tale.set(OLD, 1, 4, "image:a", 1, 0);
        for number in 0..4 {
            tale.start(OLD, number);
        }
        tale.set(OLD, 1, 4, "image:a", 1, 4);
        tale
    }

    fn put(&mut self, key: &str, object: Value) {
        self.revision += 1;
        self.history.add(self.revision, key, Some(object));
    }

    fn gone(&mut self, key: &str) {
        self.revision += 1;
        self.history.add(self.revision, key, None);
    }

    fn node(&mut self, name: &str, taints: &[&str]) {
        let taints: Vec<Value> = taints
            .iter()
            .map(|key| json!({"key": key, "effect": "NoExecute"}))
            .collect();
        self.put(
            &format!("minions/{name}"),
            json!({"metadata": {"name": name}, "spec": {"taints": taints}}),
        );
    }

    /// The deployment, which has been seen up to the generation `observed`.
    fn deployment(&mut self, generation: i64, replicas: i32, image: &str, observed: i64) {
        self.put(
            "deployments/default/web",
            json!({
                "metadata": {"name": "web", "namespace": "default", "uid": "web", "generation": generation},
                "spec": {
                    "replicas": replicas,
                    "selector": {},
                    "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}},
                    "template": template(image),
                },
                "status": {
                    "observedGeneration": observed, "replicas": replicas, "updatedReplicas": replicas,
                    "readyReplicas": replicas, "availableReplicas": replicas,
                },
            }),
        );
    }

    fn set(
        &mut self,
        name: &str,
        generation: i64,
        size: i32,
        image: &str,
        observed: i64,
        available: i32,
    ) {
        self.put(
            &format!("replicasets/default/{name}"),
            set(name, generation, size, image, observed, available),
        );
    }

    /// A pod that is created, bound, and ready.
    fn start(&mut self, set: &str, number: usize) {
        for state in [State::Created, State::Bound, State::Ready] {
            self.pod(set, number, state);
        }
    }

    fn pod(&mut self, set: &str, number: usize, state: State) {
        self.put(
            &format!("pods/default/{set}-{number}"),
            pod(set, number, state),
        );
    }

    fn slice(&mut self, pods: &[(&str, usize)]) {
        let endpoint = |(set, number): &(&str, usize)| {
            json!({
                "addresses": [address_of(set, *number)],
                "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "uid": format!("{set}-{number}")},
            })
        };
        let endpoints: Vec<Value> = pods.iter().map(endpoint).collect();
        self.put(
            "endpointslices/default/web-x",
            json!({
                "addressType": "IPv4", "endpoints": endpoints,
                "metadata": {"name": "web-x", "uid": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
            }),
        );
        let addresses: Vec<Value> = pods
            .iter()
            .map(|(set, number)| {
                let pod = json!({"kind": "Pod", "uid": format!("{set}-{number}")});
                json!({"ip": address_of(set, *number), "targetRef": pod})
            })
            .collect();
        self.put(
            "services/endpoints/default/web",
            json!({"metadata": {"name": "web", "uid": "e"}, "subsets": [{"addresses": addresses}]}),
        );
    }

    fn event(&mut self, name: &str, about: &str, reason: &str, message: &str, count: i32) {
        self.put(
            &format!("events/default/{name}"),
            json!({
                "metadata": {"name": name, "uid": name}, "involvedObject": {"uid": about},
                "reason": reason, "message": message, "count": count,
            }),
        );
    }

    /// What is wrong with it, by rule.
    fn wrong(&self) -> Vec<Rule> {
        judge(&self.history)
            .0
            .iter()
            .map(|wrong| wrong.rule)
            .collect()
    }

    fn ending(&self) -> Vec<Rule> {
        let asked = Asked {
            name: "web".into(),
            replicas: 4,
            image: "image:a".into(),
        };
        ending(&self.history, &[asked])
            .iter()
            .map(|wrong| wrong.rule)
            .collect()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Created,
    Bound,
    Ready,
    /// Not ready any more, and not deleted.
    Lost,
    Terminating,
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn set(
    name: &str,
    generation: i64,
    size: i32,
    image: &str,
    observed: i64,
    available: i32,
) -> Value {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = json!(name);
    json!({
        "metadata": {
            "name": name, "uid": name, "generation": generation,
            "annotations": {"deployment.kubernetes.io/revision": if name == OLD { "1" } else { "2" }},
            "ownerReferences": [owned("Deployment", "web")],
        },
        "spec": {"replicas": size, "selector": {}, "template": template},
        "status": {"observedGeneration": observed, "replicas": size, "availableReplicas": available},
    })
}

fn owned(kind: &str, owner: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": owner, "controller": true})
}

fn address_of(set: &str, number: usize) -> String {
    let range = if set == OLD { 1 } else { 2 };
    format!("10.0.{range}.{number}")
}

fn pod(set: &str, number: usize, state: State) -> Value {
    let name = format!("{set}-{number}");
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "ownerReferences": [owned("ReplicaSet", set)]},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"phase": "Pending"},
    });
    if state != State::Created {
        pod["spec"]["nodeName"] = json!("n1");
    }
    if [State::Ready, State::Lost, State::Terminating].contains(&state) {
        let ready = if state == State::Lost {
            "False"
        } else {
            "True"
        };
        pod["status"] = json!({
            "phase": "Running", "podIP": address_of(set, number),
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{
                "name": "c", "containerID": format!("c-{name}"), "restartCount": 0, "ready": true,
                "image": "", "imageID": "",
            }],
        });
    }
    if state == State::Terminating {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    pod
}

/// The first steps of a roll-out to another image, as they should be: one more pod, and when it is ready one fewer.
fn rolling() -> Tale {
    let mut tale = Tale::begin();
    tale.deployment(2, 4, "image:b", 1);
    tale.set(NEW, 1, 1, "image:b", 0, 0);
    tale.start(NEW, 0);
    tale.set(NEW, 1, 1, "image:b", 1, 1);
    tale.deployment(2, 4, "image:b", 2);
    tale.set(OLD, 2, 2, "image:a", 1, 4);
    tale.pod(OLD, 0, State::Terminating);
    tale.pod(OLD, 1, State::Terminating);
    tale.set(OLD, 2, 2, "image:a", 2, 2);
    tale
}

#[test]
fn a_roll_out_within_its_bounds_is_right() {
    let mut tale = rolling();
    tale.gone("pods/default/web-a-0");
    tale.set(NEW, 2, 3, "image:b", 1, 1);
    tale.start(NEW, 1);
    tale.start(NEW, 2);
    assert_eq!(tale.wrong(), []);
    let (_, tally) = judge(&tale.history);
    assert_eq!(
        (
            tally.pods,
            tally.scaled_down,
            tally.taken,
            tally.replica_sets
        ),
        (7, 2, 0, 2)
    );
}

#[test]
fn a_pod_beyond_the_surge_is_one_too_many_and_a_terminating_one_is_none() {
    let mut tale = rolling();
    tale.set(NEW, 2, 4, "image:b", 1, 1);
    tale.start(NEW, 1);
    tale.start(NEW, 2);
    assert_eq!(tale.wrong(), []);
    tale.pod(NEW, 3, State::Created);
    assert_eq!(
        tale.wrong(),
        [Rule::TooMany],
        "two of the old and four of the new are six"
    );
}

#[test]
fn a_replica_set_that_has_more_pods_than_it_ever_should_was_served_twice() {
    let mut tale = rolling();
    tale.pod(NEW, 1, State::Created);
    assert_eq!(tale.wrong(), [Rule::TooMany], "it was asked for one");
}

#[test]
fn a_larger_size_allows_more_until_a_smaller_one_is_followed() {
    let mut tale = Tale::begin();
    tale.deployment(2, 2, "image:a", 1);
    tale.pod(OLD, 0, State::Lost);
    tale.gone("pods/default/web-a-0");
    tale.start(OLD, 4);
    assert_eq!(
        tale.wrong(),
        [],
        "nobody has seen that yet, and what is gone is replaced"
    );
    let mut tale = Tale::begin();
    tale.deployment(2, 2, "image:a", 1);
    tale.set(OLD, 2, 2, "image:a", 1, 4);
    tale.pod(OLD, 0, State::Terminating);
    tale.pod(OLD, 1, State::Terminating);
    tale.set(OLD, 2, 2, "image:a", 2, 2);
    tale.deployment(2, 2, "image:a", 2);
    assert_eq!(tale.wrong(), []);
    tale.pod(OLD, 4, State::Created);
    assert_eq!(
        tale.wrong(),
        [Rule::TooMany],
        "the larger size is over, for the set"
    );
}

#[test]
fn an_available_pod_that_was_needed_may_not_be_taken_away() {
    let mut tale = rolling();
    tale.pod(OLD, 2, State::Terminating);
    assert_eq!(
        tale.wrong(),
        [Rule::TooFew],
        "two of at least three are left"
    );
}

#[test]
fn what_a_fault_took_is_nobodys_deed_and_excuses_who_could_not_know() {
    let mut tale = Tale::begin();
    tale.deployment(2, 3, "image:a", 1);
    // The node of a pod falls silent, after the controller decided that one pod is too many.
    tale.set(OLD, 2, 3, "image:a", 1, 4);
    tale.pod(OLD, 3, State::Lost);
    tale.pod(OLD, 2, State::Lost);
    tale.pod(OLD, 0, State::Terminating);
    assert_eq!(
        tale.wrong(),
        [],
        "one of at least three is left, and two were lost"
    );
    assert_eq!(judge(&tale.history).1.taken, 2);
}

#[test]
fn who_knew_of_a_lost_pod_is_not_excused_by_it() {
    let mut tale = Tale::begin();
    tale.pod(OLD, 3, State::Lost);
    tale.set(OLD, 1, 4, "image:a", 1, 3);
    tale.deployment(2, 4, "image:b", 2);
    tale.set(NEW, 1, 1, "image:b", 1, 0);
    // By now the lost pod is in the status that whoever sized this set before has seen.
    tale.set(OLD, 2, 3, "image:a", 1, 3);
    tale.gone("pods/default/web-a-3");
    tale.set(OLD, 3, 2, "image:a", 2, 3);
    tale.pod(OLD, 0, State::Terminating);
    assert_eq!(
        tale.wrong(),
        [Rule::TooFew],
        "two of at least three are left"
    );
}

#[test]
fn what_was_lost_and_is_replaced_excuses_nobody() {
    let mut tale = Tale::begin();
    for number in [0, 1] {
        tale.pod(OLD, number, State::Lost);
        tale.gone(&format!("pods/default/web-a-{number}"));
        tale.start(OLD, 4 + number);
    }
    tale.set(OLD, 1, 4, "image:a", 1, 4);
    tale.deployment(2, 3, "image:a", 1);
    tale.set(OLD, 2, 3, "image:a", 1, 4);
    tale.pod(OLD, 2, State::Terminating);
    assert_eq!(tale.wrong(), []);
    tale.pod(OLD, 3, State::Terminating);
    assert_eq!(tale.wrong(), [Rule::TooFew], "three were asked for");
}

#[test]
fn a_pod_that_nobody_wanted_away_may_not_be_taken_away_though_enough_are_left() {
    let mut tale = Tale::begin();
    tale.pod(OLD, 0, State::Lost);
    tale.gone("pods/default/web-a-0");
    tale.start(OLD, 4);
    tale.set(OLD, 1, 4, "image:a", 1, 4);
    tale.pod(OLD, 1, State::Terminating);
    assert_eq!(
        tale.wrong(),
        [Rule::TooFew],
        "three are enough for the deployment, but not for its replica set"
    );
}

#[test]
fn a_status_that_is_too_good_excuses_who_believes_it_though_another_is_too_bad() {
    let mut tale = Tale::begin();
    tale.pod(OLD, 0, State::Lost);
    tale.gone("pods/default/web-a-0");
    tale.set(OLD, 1, 4, "image:a", 1, 3);
    tale.deployment(2, 4, "image:b", 2);
    tale.set(NEW, 1, 1, "image:b", 1, 0);
    // One more has lost a pod and another has got one, and neither says so yet: three in all, truly and as they say.
    tale.start(NEW, 0);
    tale.pod(OLD, 1, State::Lost);
    tale.set(NEW, 2, 2, "image:b", 1, 0);
    tale.deployment(3, 4, "image:c", 3);
    // So who sees three of the one and none of the other may take away all of the other.
    tale.set(NEW, 3, 0, "image:b", 1, 0);
    tale.pod(NEW, 0, State::Terminating);
    assert_eq!(tale.wrong(), []);
}

#[test]
fn a_deployment_that_stops_all_before_it_starts_any_may_be_without_pods() {
    let mut tale = Tale::begin();
    let mut recreated = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "web", "generation": 2},
        "spec": {
            "replicas": 4, "selector": {}, "strategy": {"type": "Recreate"}, "template": template("image:b"),
        },
        "status": {"observedGeneration": 2},
    });
    tale.put("deployments/default/web", recreated.clone());
    tale.set(OLD, 2, 0, "image:a", 1, 4);
    for number in 0..4 {
        tale.pod(OLD, number, State::Terminating);
    }
    assert_eq!(tale.wrong(), []);
    tale.set(OLD, 2, 0, "image:a", 2, 0);
    tale.set(NEW, 1, 5, "image:b", 1, 0);
    recreated["spec"]["paused"] = json!(true);
    tale.put("deployments/default/web", recreated);
    for number in 0..4 {
        tale.pod(NEW, number, State::Created);
    }
    assert_eq!(tale.wrong(), []);
    tale.pod(NEW, 4, State::Created);
    assert_eq!(tale.wrong(), [Rule::TooMany], "there is no surge");
}

#[test]
fn a_pod_that_is_evicted_from_a_silent_node_was_taken_by_the_fault() {
    let mut tale = Tale::begin();
    tale.node("n1", &["node.kubernetes.io/unreachable"]);
    for number in 0..4 {
        tale.pod(OLD, number, State::Terminating);
    }
    assert_eq!(tale.wrong(), []);
    assert_eq!(judge(&tale.history).1.taken, 4);
}

#[test]
fn a_pod_is_bound_once_and_stays_there() {
    for node in [json!("n2"), Value::Null] {
        let mut tale = Tale::begin();
        let mut moved = pod(OLD, 0, State::Ready);
        moved["spec"]["nodeName"] = node;
        tale.put("pods/default/web-a-0", moved);
        assert!(tale.wrong().contains(&Rule::Twice));
    }
}

#[test]
fn what_a_pod_was_it_may_not_cease_to_be() {
    let mut tale = Tale::begin();
    tale.pod(OLD, 0, State::Terminating);
    tale.pod(OLD, 0, State::Ready);
    assert!(
        tale.wrong().contains(&Rule::Twice),
        "it was not deleted after all"
    );
    let changes = [
        ("/status/phase", json!("Pending")),
        ("/status/podIP", json!("10.0.9.9")),
        ("/status/containerStatuses/0/containerID", json!("another")),
    ];
    for (place, value) in changes {
        let mut tale = Tale::begin();
        let mut other = pod(OLD, 0, State::Ready);
        *other.pointer_mut(place).expect("a pod has that") = value;
        tale.put("pods/default/web-a-0", other);
        assert_eq!(tale.wrong(), [Rule::Twice], "{place}");
    }
}

#[test]
fn a_pod_that_is_gone_does_not_come_again() {
    let mut tale = rolling();
    tale.gone("pods/default/web-a-0");
    tale.pod(OLD, 0, State::Terminating);
    assert_eq!(tale.wrong(), [Rule::Twice]);
}

#[test]
fn a_pod_that_never_got_anywhere_does_not_come_again_either() {
    let mut tale = Tale::begin();
    tale.deployment(2, 5, "image:a", 1);
    tale.set(OLD, 2, 5, "image:a", 2, 4);
    tale.pod(OLD, 4, State::Created);
    tale.gone("pods/default/web-a-4");
    assert_eq!(tale.wrong(), []);
    tale.pod(OLD, 4, State::Created);
    assert_eq!(tale.wrong(), [Rule::Twice]);
}

#[test]
fn a_container_that_prepares_a_pod_is_started_once() {
    let mut tale = Tale::begin();
    for (container, expected) in [("c-1", vec![]), ("c-2", vec![Rule::Twice])] {
        let mut prepared = pod(OLD, 0, State::Ready);
        prepared["status"]["initContainerStatuses"] = json!([{
            "name": "prepare", "containerID": container, "restartCount": 0, "ready": true,
            "image": "", "imageID": "",
        }]);
        tale.put("pods/default/web-a-0", prepared);
        assert_eq!(tale.wrong(), expected);
    }
}

#[test]
fn an_address_is_one_pods() {
    let mut tale = Tale::begin();
    let mut other = pod(OLD, 3, State::Ready);
    other["metadata"]["name"] = json!("other");
    other["metadata"]["uid"] = json!("other");
    other["metadata"]["ownerReferences"] = json!([]);
    tale.put("pods/default/other", other.clone());
    assert_eq!(tale.wrong(), [Rule::Twice]);
    let mut tale = Tale::begin();
    other["status"]["podIP"] = json!("10.0.9.9");
    tale.put("pods/default/other", other);
    assert_eq!(tale.wrong(), []);
}

#[test]
fn a_template_and_a_revision_have_one_replica_set() {
    let mut tale = Tale::begin();
    tale.set("web-c", 1, 0, "image:a", 1, 0);
    assert_eq!(tale.wrong(), [Rule::Twice], "another of the same template");
    let mut tale = Tale::begin();
    tale.deployment(2, 4, "image:b", 1);
    let mut second = set(NEW, 1, 0, "image:b", 1, 0);
    second["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("1");
    tale.put("replicasets/default/web-b", second);
    assert_eq!(tale.wrong(), [Rule::Twice], "another of the same revision");
}

#[test]
fn an_event_tells_one_deed_once() {
    let resized = "Scaled down replica set web-a from 4 to 2";
    for (reason, message, about) in [
        ("SuccessfulCreate", "Created pod: web-b-0", NEW),
        (
            "Scheduled",
            "Successfully assigned default/web-b-0 to n1",
            "web-b-0",
        ),
        ("ScalingReplicaSet", resized, "web"),
    ] {
        let mut tale = rolling();
        tale.event("e1", about, reason, message, 1);
        assert_eq!(tale.wrong(), [], "{message}");
        tale.event("e1", about, reason, message, 2);
        assert_eq!(tale.wrong(), [Rule::Twice], "{message}, counted twice");
        tale.event("e1", about, reason, message, 1);
        tale.event("e2", about, reason, message, 1);
        assert_eq!(tale.wrong(), [Rule::Twice], "{message}, in two events");
    }
    for (reason, message, about) in [
        (
            "Scheduled",
            "Successfully assigned default/web-b-0 to n2",
            "web-b-0",
        ),
        (
            "ScalingReplicaSet",
            "Scaled up replica set web-b from 1 to 9",
            "web",
        ),
    ] {
        let mut tale = rolling();
        tale.event("e1", about, reason, message, 1);
        assert_eq!(
            tale.wrong(),
            [Rule::Twice],
            "{message}, which never happened"
        );
    }
}

#[test]
fn an_endpoint_is_not_ready_before_its_pod() {
    let mut tale = rolling();
    tale.slice(&[(OLD, 2), (OLD, 3), (NEW, 0)]);
    tale.set(NEW, 2, 2, "image:b", 1, 1);
    tale.pod(NEW, 1, State::Bound);
    assert_eq!(tale.wrong(), []);
    tale.slice(&[(OLD, 2), (OLD, 3), (NEW, 0), (NEW, 1)]);
    assert_eq!(
        tale.wrong(),
        [Rule::Endpoints, Rule::Endpoints],
        "the slice, and the old form"
    );
}

#[test]
fn a_replica_set_goes_after_its_pods() {
    let mut tale = Tale::begin();
    tale.gone("replicasets/default/web-a");
    assert_eq!(tale.wrong(), [Rule::Leak]);
}

#[test]
fn in_the_end_there_is_what_was_asked_for_and_nothing_else() {
    let mut tale = Tale::begin();
    tale.slice(&[(OLD, 0), (OLD, 1), (OLD, 2), (OLD, 3)]);
    assert_eq!(tale.ending(), []);
    let settled = tale.history.clone();
    let after = |change: &dyn Fn(&mut Tale)| {
        let mut tale = Tale {
            history: settled.clone(),
            revision: 1_000,
        };
        change(&mut tale);
        tale.ending()
    };
    let leaks = after(&|tale| {
        let mut orphan = pod(NEW, 7, State::Bound);
        orphan["metadata"]["ownerReferences"] = json!([]);
        tale.put("pods/default/orphan", orphan);
    });
    assert_eq!(leaks, [Rule::Leak]);
    let systems = after(&|tale| {
        let mut orphan = pod(NEW, 7, State::Bound);
        orphan["metadata"]["ownerReferences"] = json!([]);
        orphan["metadata"]["namespace"] = json!("kube-system");
        tale.put("pods/kube-system/orphan", orphan);
    });
    assert_eq!(systems, []);
    let leaks = after(&|tale| tale.pod("web-of-yore", 7, State::Bound));
    assert_eq!(leaks, [Rule::Leak], "its owner is gone");
    let leaks = after(&|tale| tale.pod(OLD, 9, State::Terminating));
    assert!(leaks.contains(&Rule::Leak));
    assert!(after(&|tale| tale.slice(&[(OLD, 0)])).contains(&Rule::Endpoints));
    assert!(after(&|tale| tale.pod(OLD, 0, State::Lost)).contains(&Rule::Ending));
    assert!(after(&|tale| tale.deployment(2, 4, "image:a", 1)).contains(&Rule::Ending));
    assert!(after(&|tale| tale.set(NEW, 1, 1, "image:b", 1, 0)).contains(&Rule::Ending));
    assert!(after(&|tale| tale.gone("deployments/default/web")).contains(&Rule::Ending));
}
