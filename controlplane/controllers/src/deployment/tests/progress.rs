//! What counts as progress, and what the counts say.

use super::*;

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
