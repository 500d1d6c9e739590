//! How far the new replica set grows and the old ones shrink, in one step.

use super::*;

#[test]
fn the_new_replica_set_grows_as_far_as_the_surge_allows() {
    let cases = [
        // replicas, surge, old, new: new afterwards
        ("no room", 10, 0, 10, 0, 0),
        ("room for the surge", 10, 2, 10, 0, 2),
        ("room for what the old one left, too", 10, 2, 5, 0, 7),
        ("the room is taken already", 10, 2, 10, 2, 2),
        ("never more than was asked for", 10, 2, 2, 11, 10),
    ];
    for (name, replicas, surge, old, new, expected) in cases {
        let deployment = deployment(replicas, surge, 0);
        let sets = [replica_set("old", 0, old, 0), replica_set("new", 1, new, 0)];
        let mut rollout = look(&deployment, &sets);
        rollout.roll();
        assert_eq!(sizes(&rollout).0, Some(expected), "{name}");
    }
}

#[test]
fn the_old_replica_sets_shrink_as_far_as_availability_allows() {
    let cases = [
        // replicas, unavailable, old, new, old available, new available: old afterwards
        (
            "none may be missing, but then nothing could move",
            10,
            0,
            10,
            0,
            10,
            0,
            9,
        ),
        ("two may be missing", 10, 2, 10, 0, 10, 0, 8),
        ("two do not work, and go", 10, 2, 10, 0, 8, 0, 8),
        (
            "one does not work and goes, and one that works",
            10,
            2,
            10,
            0,
            9,
            0,
            8,
        ),
        (
            "the new one's unavailable pods are not counted on twice",
            10,
            2,
            8,
            2,
            8,
            0,
            8,
        ),
    ];
    for (name, replicas, unavailable, old, new, old_ok, new_ok, expected) in cases {
        let deployment = deployment(replicas, 0, unavailable);
        let sets = [
            replica_set("old", 0, old, old_ok),
            replica_set("new", 1, new, new_ok),
        ];
        let mut rollout = look(&deployment, &sets);
        rollout.roll();
        assert_eq!(sizes(&rollout).1, [expected], "{name}");
    }
}

#[test]
fn what_does_not_work_goes_first_as_far_as_there_is_room() {
    let cases = [
        // old, available, room: taken
        (10, 8, 1, 1),
        (10, 8, 3, 2),
        (10, 8, 0, 0),
        (10, 10, 3, 0),
    ];
    for (old, available, room, expected) in cases {
        let deployment = deployment(10, 2, 2);
        let mut rollout = look(&deployment, &[replica_set("old", 0, old, available)]);
        assert_eq!(
            rollout.shrink_unhealthy(room),
            expected,
            "{old} {available} {room}"
        );
    }
}

#[test]
fn what_works_goes_only_while_there_is_more_than_needed() {
    let cases = [
        // unavailable, available, old: old afterwards
        (1, 10, 10, 9),
        (2, 10, 10, 8),
        (2, 8, 10, 10),
        (2, 10, 0, 0),
        (2, 1, 10, 10),
    ];
    for (unavailable, available, old, expected) in cases {
        let deployment = deployment(10, 0, unavailable);
        let mut rollout = look(&deployment, &[replica_set("old", 0, old, available)]);
        rollout.shrink_healthy(10 - unavailable);
        assert_eq!(
            sizes(&rollout).1,
            [expected],
            "{unavailable} {available} {old}"
        );
    }
}

#[test]
fn a_status_from_before_a_replica_set_shrank_counts_for_no_more_than_its_size() {
    // Two sized 8 and 5 whose statuses still say 10 and 5: one step may not go below 8 in all.
    let deployment = deployment(10, 3, 2);
    let mut old = replica_set("old", 0, 8, 10);
    old.status.as_mut().unwrap().replicas = 10;
    let mut rollout = look(&deployment, &[old, replica_set("new", 1, 5, 5)]);
    rollout.roll();
    let (new, old) = sizes(&rollout);
    assert!(new.unwrap() + old[0] >= 8);
}
