//! The story of a deployment, told from its changes.

use serde_json::json;

use super::*;

/// Changes in the order of their revisions, which begin at 129.
struct Teller {
    story: Story,
    revision: u64,
}

impl Teller {
    fn of(kind: &str, name: &str) -> Teller {
        Teller {
            story: Story::of(kind, name),
            revision: 128,
        }
    }

    /// What the story says of the next change: of a kind, with a body to which name and revision are added.
    fn change(
        &mut self,
        kind: &str,
        name: &str,
        by: &str,
        body: Value,
        is_gone: bool,
    ) -> Option<String> {
        self.revision += 1;
        let mut object = body;
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        // As if each manager took a field of its own with each write.
        object["metadata"]["managedFields"] = json!([{
            "manager": by, "operation": "Update", "subresource": self.revision.to_string(),
            "fieldsV1": {"f:x": {}},
        }]);
        let line = self.story.take(Change {
            at: Some(Duration::from_millis(self.revision - 129)),
            object: Object::new(kind, object),
            is_gone,
        });
        line.map(|line| line.to_string())
    }

    fn written(&mut self, kind: &str, name: &str, by: &str, body: Value) -> Option<String> {
        self.change(kind, name, by, body, false)
    }
}

fn owned_by(kind: &str, name: &str) -> Value {
    json!({"ownerReferences": [{"kind": kind, "name": name, "uid": format!("uid-of-{name}")}], "labels": {"app": "web"}})
}

const KCM: &str = "kube-controller-manager";

#[test]
fn what_is_in_another_namespace_belongs_to_nobody_here_whatever_it_says() {
    let placed = |namespace: &str| {
        let mut metadata = owned_by("Deployment", "web");
        metadata["namespace"] = json!(namespace);
        json!({ "metadata": metadata })
    };
    let mut story = Teller::of("deployment", "web");
    let web = json!({"metadata": {"namespace": "default"}});
    story.written("Deployment", "web", "kubectl-create", web);
    assert_eq!(
        story.written("ReplicaSet", "foreign", KCM, placed("other")),
        None
    );
    assert!(
        story
            .written("ReplicaSet", "web-1", KCM, placed("default"))
            .is_some()
    );
}

#[test]
fn what_is_wanted_flows_down_and_how_it_goes_flows_back_up() {
    let mut story = Teller::of("deployment", "web");
    let replicas =
        |wanted: u64, are: u64| json!({"spec": {"replicas": wanted}, "status": {"replicas": are}});
    let set = |wanted: u64, are: u64| {
        let mut set = replicas(wanted, are);
        set["metadata"] = owned_by("Deployment", "web");
        set
    };
    let pod = |node: Option<&str>, phase: &str| json!({"metadata": owned_by("ReplicaSet", "web-1"), "spec": {"nodeName": node}, "status": {"phase": phase}});
    let told = vec![
        story.written("Deployment", "web", "kubectl-create", replicas(1, 0)),
        story.written("ReplicaSet", "web-1", KCM, set(1, 0)),
        story.written("Pod", "web-1-a", KCM, pod(None, "Pending")),
        story.written(
            "Pod",
            "web-1-a",
            "kube-scheduler",
            pod(Some("node-1"), "Pending"),
        ),
        story.written("Pod", "web-1-a", "kubelet", pod(Some("node-1"), "Running")),
        story.written("ReplicaSet", "web-1", KCM, set(1, 1)),
        story.written("Deployment", "web", KCM, replicas(1, 1)),
        story.written("Deployment", "web", "kubectl", replicas(3, 1)),
        story.written("ReplicaSet", "web-1", KCM, set(3, 1)),
    ];
    let told: Vec<String> = told.into_iter().flatten().collect();
    assert_eq!(
        told,
        [
            "  +0.000s  rev 129   kubectl-create           created deployment/web",
            "  +0.001s  rev 130   kube-controller-manager  created replicaset/web-1 (owner deployment/web)  because it saw rev 129 of deployment/web",
            "  +0.002s  rev 131   kube-controller-manager  created pod/web-1-a (owner replicaset/web-1)  because it saw rev 130 of replicaset/web-1",
            "  +0.003s  rev 132   kube-scheduler           changed pod/web-1-a: spec.nodeName null→node-1  because it saw rev 131 of pod/web-1-a",
            "  +0.004s  rev 133   kubelet                  changed pod/web-1-a: status.phase Pending→Running  because it saw rev 132 of pod/web-1-a",
            "  +0.005s  rev 134   kube-controller-manager  changed replicaset/web-1: status.replicas 0→1  because it saw rev 133 of pod/web-1-a",
            "  +0.006s  rev 135   kube-controller-manager  changed deployment/web: status.replicas 0→1  because it saw rev 134 of replicaset/web-1",
            "  +0.007s  rev 136   kubectl                  changed deployment/web: spec.replicas 1→3",
            "  +0.008s  rev 137   kube-controller-manager  changed replicaset/web-1: spec.replicas 1→3  because it saw rev 136 of deployment/web",
        ]
    );
}

#[test]
fn what_is_not_related_is_not_told() {
    let mut story = Teller::of("deployment", "web");
    let nothing = || json!({"metadata": {}});
    assert!(
        story
            .written("Deployment", "other", "me", nothing())
            .is_none()
    );
    assert!(story.written("ConfigMap", "web", "me", nothing()).is_none());
    assert!(!story.story.has_begun());
    assert!(
        story
            .written("Deployment", "web", "me", nothing())
            .is_some()
    );
    let owned = json!({"metadata": owned_by("Deployment", "other")});
    assert!(
        story
            .written("ReplicaSet", "other-1", "me", owned)
            .is_none()
    );
    assert!(story.story.has_begun());
}

#[test]
fn endpoints_follow_from_their_service_and_its_pods() {
    let mut story = Teller::of("deployment", "web");
    story.written("Deployment", "web", "kubectl", json!({"metadata": {}}));
    let pod = json!({"metadata": owned_by("Deployment", "web")});
    story.written("Pod", "web-1", KCM, pod);
    let service = json!({"spec": {"selector": {"app": "web"}}});
    assert!(
        story
            .written("Service", "web", "kubectl-expose", service)
            .is_some()
    );
    let slice = json!({"metadata": {"labels": {"kubernetes.io/service-name": "web"}}});
    let made = story.written("EndpointSlice", "web-x", KCM, slice).unwrap();
    assert!(
        made.ends_with("because it saw rev 131 of service/web"),
        "{made}"
    );
    let ready = json!({"metadata": owned_by("Deployment", "web"), "status": {"phase": "Running"}});
    story.written("Pod", "web-1", "kubelet", ready);
    let slice =
        json!({"metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "endpoints": [{}]});
    let grown = story.written("EndpointSlice", "web-x", KCM, slice).unwrap();
    assert!(
        grown.ends_with("because it saw rev 133 of pod/web-1"),
        "{grown}"
    );
    let other = json!({"metadata": {"labels": {"kubernetes.io/service-name": "other"}}});
    assert!(
        story
            .written("EndpointSlice", "other-x", KCM, other)
            .is_none()
    );
}

#[test]
fn events_are_told_in_their_own_words_and_by_whom_they_name() {
    let mut story = Teller::of("deployment", "web");
    story.written("Deployment", "web", "kubectl", json!({"metadata": {}}));
    let event = |of: &str| {
        json!({
            "involvedObject": {"kind": "Deployment", "name": of, "uid": format!("uid-of-{of}")},
            "reason": "ScalingReplicaSet",
            "message": "Scaled up replica set web-1 from 0 to 3",
            "source": {"component": "deployment-controller"},
        })
    };
    assert_eq!(
        story.written("Event", "web.1", KCM, event("web")).unwrap(),
        "  +0.001s  rev 130   deployment-controller    said of deployment/web: ScalingReplicaSet: Scaled up replica set web-1 from 0 to 3"
    );
    assert!(
        story
            .written("Event", "other.1", KCM, event("other"))
            .is_none()
    );
}

#[test]
fn who_deletes_leaves_no_name_and_what_takes_its_place_follows() {
    let mut story = Teller::of("replicaset", "web");
    let pod = || json!({"metadata": owned_by("ReplicaSet", "web")});
    story.written("ReplicaSet", "web", "kubectl", json!({"metadata": {}}));
    story.written("Pod", "web-a", KCM, pod());
    let mut leaving = pod();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(
        story.written("Pod", "web-a", KCM, leaving).unwrap(),
        "  +0.002s  rev 131   (somebody)               asked for the deletion of pod/web-a"
    );
    let next = story.written("Pod", "web-b", KCM, pod()).unwrap();
    assert!(
        next.ends_with("because it saw rev 131 of pod/web-a"),
        "{next}"
    );
    let gone = story.change("Pod", "web-a", KCM, pod(), true).unwrap();
    assert_eq!(
        gone,
        "  +0.004s  rev 133   (somebody)               deleted pod/web-a  because it saw rev 131 of pod/web-a"
    );
}

#[test]
fn what_is_too_much_or_left_behind_is_deleted_because_of_its_owner() {
    let mut story = Teller::of("replicaset", "web");
    let set = |replicas: u64| json!({"metadata": {}, "spec": {"replicas": replicas}});
    let pod = || json!({"metadata": owned_by("ReplicaSet", "web")});
    let because = |line: Option<String>| {
        let line = line.unwrap();
        line.split_once("because it saw ")
            .map_or(String::new(), |(_, cause)| cause.to_owned())
    };
    story.written("ReplicaSet", "web", "kubectl", set(2));
    for name in ["web-a", "web-b", "web-c"] {
        story.written("Pod", name, KCM, pod());
    }
    let more = story.change("Pod", "web-a", KCM, pod(), true);
    assert_eq!(because(more), "rev 129 of replicaset/web");
    let enough = story.change("Pod", "web-b", KCM, pod(), true);
    assert_eq!(because(enough), "");
    story.written("ReplicaSet", "web", "kubectl", set(0));
    story.change("ReplicaSet", "web", KCM, set(0), true);
    let left = story.change("Pod", "web-c", KCM, pod(), true);
    assert_eq!(because(left), "rev 136 of replicaset/web");
}

#[test]
fn what_a_person_may_have_deleted_has_no_cause() {
    let mut story = Teller::of("deployment", "web");
    let wants = |replicas: u64| json!({"metadata": {}, "spec": {"replicas": replicas}});
    let set = |replicas: u64| {
        let mut set = wants(replicas);
        set["metadata"] = owned_by("Deployment", "web");
        set
    };
    let pod = |phase: &str| json!({"metadata": owned_by("ReplicaSet", "web-2"), "status": {"phase": phase}});
    story.written("Deployment", "web", "kubectl", wants(1));
    // An old one, and the one that is in use: a deployment does not want one replica set.
    story.written("ReplicaSet", "web-1", KCM, set(0));
    story.written("ReplicaSet", "web-2", KCM, set(1));
    let old = story.change("ReplicaSet", "web-1", KCM, set(0), true);
    assert!(!old.as_ref().unwrap().contains("because"), "{old:?}");
    // One that has failed beside one that runs are not too many, and which of them goes is nobody's need.
    story.written("Pod", "web-2-a", KCM, pod("Failed"));
    story.written("Pod", "web-2-b", KCM, pod("Running"));
    for (name, phase) in [("web-2-b", "Running"), ("web-2-a", "Failed")] {
        let gone = story.change("Pod", name, KCM, pod(phase), true);
        assert!(!gone.as_ref().unwrap().contains("because"), "{gone:?}");
    }
}

#[test]
fn a_stream_that_begins_again_repeats_nothing() {
    let mut story = Teller::of("deployment", "web");
    let body = || json!({"metadata": {}});
    assert!(
        story
            .written("Deployment", "web", "kubectl", body())
            .is_some()
    );
    story.revision -= 1;
    assert!(
        story
            .written("Deployment", "web", "kubectl", body())
            .is_none()
    );
}

#[test]
fn what_was_there_before_is_told_as_it_stands() {
    let mut story = Teller::of("deployment", "web");
    let line = story.story.take(Change {
        at: None,
        object: Object::new(
            "Deployment",
            json!({"metadata": {"name": "web", "uid": "u", "resourceVersion": "7", "managedFields": [
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:x": {}}}]}}),
        ),
        is_gone: false,
    });
    assert_eq!(
        line.unwrap().to_string(),
        "   before  rev 7     kubectl                  last wrote deployment/web"
    );
}
