//! What counts as progress, and what the counts say.

use super::*;

fn condition(status: &str, reason: &str, updated: i64) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some("Progressing".into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: None,
        last_update_time: Some(Time(at(updated))),
        last_transition_time: Some(Time(at(updated))),
    }
}

/// A deployment of three, with a deadline of a minute, that has been seen with these counts.
fn counted(
    replicas: i32,
    updated: i32,
    available: i32,
    known: Option<DeploymentCondition>,
) -> Deployment {
    let mut deployment = deployment(3, 0, 1);
    deployment.spec.progress_deadline_seconds = Some(60);
    deployment.status = Some(DeploymentStatus {
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        available_replicas: Some(available),
        ready_replicas: Some(available),
        conditions: known.map(|known| vec![known]),
        ..DeploymentStatus::default()
    });
    deployment
}

#[test]
fn progress_is_told_with_the_time_at_which_it_was_made_and_changed() {
    let updated = || Some(condition("True", "ReplicaSetUpdated", 0));
    let failed = || Some(condition("False", "ProgressDeadlineExceeded", 0));
    let done = || Some(condition("True", "NewReplicaSetAvailable", 0));
    let new = |replicas, available| {
        let mut set = replica_set("new", 1, 3, available);
        set.status.as_mut().unwrap().replicas = replicas;
        set
    };
    // name, as counted before, replica sets: status, reason, update and transition
    let cases = [
        (
            "one that was complete stays so",
            counted(3, 3, 3, done()),
            vec![new(3, 2)],
            ("True", "NewReplicaSetAvailable", 0, 0),
        ),
        (
            "progress keeps the transition, and moves the update",
            counted(2, 2, 1, updated()),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 50, 0),
        ),
        (
            "progress after a failure moves both",
            counted(2, 2, 1, failed()),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 50, 50),
        ),
        (
            "progress where none was known",
            counted(2, 2, 1, None),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 50, 50),
        ),
        (
            "completion keeps the transition",
            counted(3, 3, 2, updated()),
            vec![new(3, 3)],
            ("True", "NewReplicaSetAvailable", 50, 0),
        ),
        (
            "completion after a failure moves both",
            counted(3, 3, 2, failed()),
            vec![new(3, 3)],
            ("True", "NewReplicaSetAvailable", 50, 50),
        ),
        (
            "no progress, but time is left",
            counted(3, 3, 2, updated()),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 0, 0),
        ),
        (
            "a failure that is known is not told again",
            counted(3, 3, 2, failed()),
            vec![new(3, 2)],
            ("False", "ProgressDeadlineExceeded", 0, 0),
        ),
    ];
    let late = [
        (
            "no progress, and no time is left",
            counted(3, 3, 2, updated()),
            vec![new(3, 2)],
            ("False", "ProgressDeadlineExceeded", 61, 61),
        ),
        (
            "progress at the last moment",
            counted(3, 3, 1, updated()),
            vec![new(3, 2)],
            ("True", "ReplicaSetUpdated", 61, 0),
        ),
    ];
    let cases = cases.map(|case| (50, case)).into_iter();
    for (now, (name, mut deployment, sets, expected)) in cases.chain(late.map(|case| (61, case))) {
        let plan = plan_at(&deployment, &sets, at(now));
        let written = status(&plan).cloned().or(deployment.status.take()).unwrap();
        let known = conditions::get(&written.conditions, "Progressing").unwrap();
        let second = |time: &Option<Time>| time.as_ref().unwrap().0.as_second() - 1_700_000_000;
        let found = (
            known.status.as_deref().unwrap(),
            known.reason.as_deref().unwrap(),
            second(&known.last_update_time),
            second(&known.last_transition_time),
        );
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_deployment_is_complete_when_all_that_it_has_is_new_and_available() {
    let set = |image: &str, pods: i32, available: i32| {
        let mut set = replica_set(image, 0, pods, available);
        set.status.as_mut().unwrap().replicas = pods;
        set
    };
    let cases = [
        ("nothing yet", 5, vec![], false),
        ("not all are there", 5, vec![set("new", 4, 4)], false),
        ("not all are available", 5, vec![set("new", 5, 4)], false),
        ("all are old", 5, vec![set("old", 5, 5)], false),
        (
            "an old one still runs",
            5,
            vec![set("old", 1, 1), set("new", 5, 5)],
            false,
        ),
        (
            "the only one never becomes available",
            1,
            vec![set("new", 1, 0)],
            false,
        ),
        (
            "all are new and available",
            5,
            vec![set("old", 0, 0), set("new", 5, 5)],
            true,
        ),
        ("it asks for none", 0, vec![set("new", 0, 0)], true),
    ];
    for (name, replicas, sets, expected) in cases {
        let deployment = deployment(replicas, 1, 1);
        assert_eq!(look(&deployment, &sets).is_complete(), expected, "{name}");
    }
}

#[test]
fn without_a_deadline_no_progress_is_told() {
    for deadline in [None, Some(i32::MAX)] {
        let mut deployment = counted(3, 3, 2, Some(condition("True", "ReplicaSetUpdated", 0)));
        deployment.spec.progress_deadline_seconds = deadline;
        let plan = plan(&deployment, &[replica_set("new", 1, 3, 2)]);
        let written = status(&plan).unwrap();
        assert_eq!(conditions::get(&written.conditions, "Progressing"), None);
        assert_eq!(plan.again_after, None);
    }
}

#[test]
fn a_roll_out_that_is_stuck_is_looked_at_again_when_its_deadline_has_passed() {
    let stuck = || Some(condition("True", "ReplicaSetUpdated", 0));
    let set = |available| vec![replica_set("new", 1, 3, available)];
    let cases = [
        ("complete", counted(3, 3, 3, stuck()), set(3), 30, None),
        (
            "failed already",
            counted(
                3,
                3,
                1,
                Some(condition("False", "ProgressDeadlineExceeded", 0)),
            ),
            set(1),
            30,
            None,
        ),
        (
            "30 s are left",
            counted(3, 3, 1, stuck()),
            set(1),
            30,
            Some(31),
        ),
        (
            "1 s is left",
            counted(3, 3, 1, stuck()),
            set(1),
            59,
            Some(2),
        ),
        ("it is due", counted(3, 3, 1, stuck()), set(1), 60, Some(1)),
        ("it is overdue", counted(3, 3, 1, stuck()), set(1), 61, None),
    ];
    for (name, deployment, sets, second, expected) in cases {
        let plan = plan_at(&deployment, &sets, at(second));
        assert_eq!(
            plan.again_after,
            expected.map(Duration::from_secs),
            "{name}"
        );
    }
}

/// Pods of all replica sets, of the new one, those that are ready, and those that are available.
type Counts = [i32; 4];

/// Whether it is progress, from these counts to those.
fn is_progress(before: Counts, after: Counts) -> bool {
    let updated = condition("True", "ReplicaSetUpdated", 0);
    let mut deployment = counted(before[0], before[1], before[3], Some(updated));
    // So many that nothing of this is the end.
    deployment.spec.replicas = Some(100);
    deployment.status.as_mut().unwrap().ready_replicas = Some(before[2]);
    let set = |name: &str, pods, ready, available| {
        let mut set = replica_set(name, 0, 100, available);
        let status = set.status.as_mut().unwrap();
        (status.replicas, status.ready_replicas) = (pods, Some(ready));
        set
    };
    let [total, new, ready, available] = after;
    let sets = [
        set("old", total - new, 0, 0),
        set("new", new, ready, available),
    ];
    let plan = plan_at(&deployment, &sets, at(50));
    let written = status(&plan).expect("a status is written");
    let known = conditions::get(&written.conditions, "Progressing").unwrap();
    assert_eq!(known.reason.as_deref(), Some("ReplicaSetUpdated"));
    known.last_update_time == Some(Time(at(50)))
}

#[test]
fn progress_is_more_of_the_new_fewer_of_the_old_or_more_that_work() {
    let cases = [
        ("more of the new", [10, 2, 2, 2], [10, 3, 2, 2], true),
        ("nothing has changed", [10, 4, 4, 4], [10, 4, 4, 4], false),
        ("fewer of the old", [10, 4, 4, 4], [8, 4, 4, 4], true),
        ("fewer of the new", [10, 4, 4, 4], [10, 3, 4, 4], false),
        (
            "fewer of all, but more of the new",
            [10, 4, 4, 4],
            [8, 6, 2, 2],
            true,
        ),
        ("more that are ready", [10, 4, 3, 3], [10, 4, 4, 3], true),
        (
            "more that are available",
            [10, 4, 4, 3],
            [10, 4, 4, 4],
            true,
        ),
        ("fewer that work", [10, 4, 4, 4], [10, 4, 3, 3], false),
    ];
    for (name, before, after, expected) in cases {
        assert_eq!(is_progress(before, after), expected, "{name}");
    }
}

#[test]
fn one_that_was_complete_has_no_deadline_behind_it() {
    let done = condition("True", "NewReplicaSetAvailable", 0);
    let mut deployment = counted(3, 3, 3, Some(done));
    deployment.spec.template = template("newer");
    let sets = [replica_set("new", 0, 3, 3), replica_set("newer", 1, 0, 0)];
    // Long after the sixty seconds that it may take, a roll-out begins.
    let plan = plan_at(&deployment, &sets, at(1000));
    let written = status(&plan).expect("a status is written");
    let known = conditions::get(&written.conditions, "Progressing").unwrap();
    assert_eq!(known.status.as_deref(), Some("True"));
}

#[test]
fn the_pods_that_are_going_are_known_if_every_replica_set_knows_its_own() {
    let set = |name: &str, going: Option<i32>, observed: Option<i64>| {
        let mut set = replica_set(name, 0, 1, 1);
        let status = set.status.as_mut().unwrap();
        (status.terminating_replicas, status.observed_generation) = (going, observed);
        set
    };
    let cases = [
        ("none at all", vec![], Some(0)),
        (
            "all say that none is",
            vec![set("new", Some(0), Some(1))],
            Some(0),
        ),
        (
            "they are added up",
            vec![set("old", Some(2), Some(1)), set("new", Some(1), Some(1))],
            Some(3),
        ),
        (
            "one that nobody has looked at yet has none",
            vec![set("old", Some(2), Some(1)), set("new", None, None)],
            Some(2),
        ),
        (
            "one that does not tell",
            vec![set("old", Some(2), Some(1)), set("new", None, Some(1))],
            None,
        ),
    ];
    for (name, sets, expected) in cases {
        let plan = plan(&deployment(1, 0, 0), &sets);
        let written = status(&plan).expect("a status is written");
        assert_eq!(written.terminating_replicas, expected, "{name}");
    }
}
