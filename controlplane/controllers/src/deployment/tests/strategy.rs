//! What stops a roll-out: a pause, and old pods that are to go first.

use super::*;

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut deployment = deployment(10, 0, 1);
    deployment.spec.paused = Some(true);
    let old = sized_for(replica_set("old", 0, 5, 5), 5, 5);
    assert_eq!(
        new_sizes(&plan(&deployment, &[old])),
        [("foo-old".into(), 10)]
    );
    let old = sized_for(replica_set("old", 0, 10, 10), 10, 10);
    assert_eq!(new_sizes(&plan(&deployment, &[old])), []);
    deployment.spec.paused = None;
    let old = sized_for(replica_set("old", 0, 10, 10), 10, 10);
    assert_eq!(new_sizes(&plan(&deployment, &[old])).len(), 1);
}

#[test]
fn a_pause_and_its_end_are_conditions_and_stop_the_clock() {
    let mut deployment = deployment(10, 0, 1);
    deployment.spec.progress_deadline_seconds = Some(60);
    deployment.spec.paused = Some(true);
    let sets = [sized_for(replica_set("new", 0, 10, 5), 10, 10)];
    let paused = plan(&deployment, &sets);
    let status = |plan: &Plan| super::tests::status(plan).cloned().unwrap();
    let progress = |status: &DeploymentStatus| {
        let known = conditions::get(&status.conditions, "Progressing").unwrap();
        known.reason.clone().unwrap()
    };
    assert_eq!(progress(&status(&paused)), "DeploymentPaused");
    // However long it is paused, it is not late.
    deployment.status = Some(status(&paused));
    let later = plan_at(&deployment, &sets, at(10_000));
    assert_eq!(super::tests::status(&later), None);
    deployment.spec.paused = None;
    let resumed = plan_at(&deployment, &sets, at(10_000));
    assert_eq!(progress(&status(&resumed)), "DeploymentResumed");
    deployment.status = Some(status(&resumed));
    let late = plan_at(&deployment, &sets, at(10_061));
    assert_eq!(progress(&status(&late)), "ProgressDeadlineExceeded");
}

fn recreating() -> Deployment {
    let mut deployment = deployment(3, 0, 0);
    let strategy = deployment.spec.strategy.get_or_insert_default();
    strategy.type_ = Some("Recreate".into());
    strategy.rolling_update = None;
    deployment
}

#[test]
fn recreating_stops_the_old_ones_and_starts_the_new_one_when_their_last_pod_has_gone() {
    let deployment = recreating();
    let old = |size, counted| {
        let mut set = sized_for(replica_set("old", 0, size, 0), 3, 3);
        set.status.as_mut().unwrap().replicas = counted;
        set
    };
    let act = |set, with_pods: &[String]| {
        let sets = [Arc::new(set)];
        let plan = reconcile(&Observed {
            deployment: &deployment,
            replica_sets: &sets,
            with_pods,
            now: at(100),
        });
        new_sizes(&plan)
            .into_iter()
            .map(|(_, size)| size)
            .collect::<Vec<_>>()
    };
    let left = ["foo-old-uid".to_owned()];
    assert_eq!(act(old(3, 3), &left), [0], "it is stopped");
    let mut unaware = old(0, 0);
    unaware.metadata.generation = Some(3);
    unaware.status.as_mut().unwrap().observed_generation = Some(2);
    assert_eq!(act(unaware, &[]), [0; 0], "it may be creating pods");
    assert_eq!(act(old(0, 3), &left), [0; 0], "its pods are going");
    assert_eq!(
        act(old(0, 0), &left),
        [0; 0],
        "the last is going, though no status counts it"
    );
    assert_eq!(act(old(0, 3), &[]), [0; 0], "the status is not up to date");
    assert_eq!(act(old(0, 0), &[]), [3], "the new one starts");
}
