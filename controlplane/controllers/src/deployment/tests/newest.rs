//! Which replica set is the new one, and how it is named.

use super::*;

#[test]
fn a_first_roll_out_creates_a_replica_set_named_after_its_template() {
    let mut deployment = deployment(3, 1, 1);
    deployment.spec.progress_deadline_seconds = Some(600);
    let annotations = deployment.annotations_mut();
    annotations.insert("kubernetes.io/change-cause".into(), "first".into());
    annotations.insert(
        "kubectl.kubernetes.io/last-applied-configuration".into(),
        "{}".into(),
    );
    let plan = plan(&deployment, &[]);
    let Action::Create(created) = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    let hash = crate::common::template::hash(&deployment.spec.template, None);
    assert_eq!(created.name_any(), format!("foo-{hash}"));
    assert_eq!(size(created), 3);
    assert_eq!(created.labels()["pod-template-hash"], hash);
    let selector = created.spec.selector.match_labels.as_ref().unwrap();
    assert_eq!(
        (&*selector["app"], &*selector["pod-template-hash"]),
        ("foo", &*hash)
    );
    let annotations = created.annotations();
    assert_eq!(annotations[REVISION], "1");
    assert_eq!(
        (&*annotations[DESIRED_REPLICAS], &*annotations[MAX_REPLICAS]),
        ("3", "4")
    );
    assert_eq!(annotations["kubernetes.io/change-cause"], "first");
    assert!(!annotations.contains_key("kubectl.kubernetes.io/last-applied-configuration"));
    assert_eq!(plan.actions[1], Action::SetRevision("1".into()));
    let progress = conditions::get(&status(&plan).unwrap().conditions, "Progressing").unwrap();
    assert_eq!(progress.reason.as_deref(), Some("NewReplicaSetCreated"));
    assert_eq!(
        progress.message.as_deref(),
        Some(&*format!("Created new replica set \"foo-{hash}\""))
    );
    // The same again, from the same state, is the same: after a crash it is found, not created twice.
    assert_eq!(super::tests::plan(&deployment, &[]).actions, plan.actions);
}

#[test]
fn another_name_is_tried_once_the_first_was_found_to_be_taken() {
    let mut deployment = deployment(3, 1, 1);
    let first = new_sizes(&plan(&deployment, &[]));
    deployment.status = Some(now_collided(&deployment));
    assert_eq!(deployment.status.as_ref().unwrap().collision_count, Some(1));
    let second = new_sizes(&plan(&deployment, &[]));
    assert_ne!(first[0].0, second[0].0);
}

#[test]
fn the_new_replica_set_is_the_oldest_whose_template_is_equal_but_for_the_hash() {
    let mut labelled = replica_set("new", 5, 1, 1);
    let template = labelled.spec.template.as_mut().unwrap();
    let labels = &mut template.metadata.as_mut().unwrap().labels;
    labels
        .get_or_insert_default()
        .insert("pod-template-hash".into(), "x".into());
    let mut twin = replica_set("new", 6, 1, 1);
    twin.metadata.name = Some("foo-twin".into());
    let deployment = deployment(2, 1, 1);
    let rollout = look(&deployment, &[twin, replica_set("old", 7, 1, 1), labelled]);
    assert_eq!(rollout.new.unwrap().get().name_any(), "foo-new");
    let old: Vec<_> = rollout
        .old
        .iter()
        .map(|slot| slot.get().name_any())
        .collect();
    assert_eq!(old, ["foo-twin", "foo-old"]);
}
