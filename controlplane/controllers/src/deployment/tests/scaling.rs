//! How a new size is shared out among the replica sets.

use super::*;

struct Scaling {
    name: &'static str,
    /// The sizes for which the deployment is, and was, with its surge then and now.
    from: (i32, i32),
    to: (i32, i32),
    /// The new replica set's size before and after, if there is one.
    new: Option<(i32, i32)>,
    /// The old ones', the newest first.
    old: &'static [(i32, i32)],
}

#[test]
fn scaling_keeps_the_shares_and_gives_the_rest_to_the_largest() {
    let plain = |from, to| ((from, 0), (to, 0));
    let case = |name, ((from, to), new, old)| Scaling {
        name,
        from,
        to,
        new,
        old,
    };
    let cases: Vec<Scaling> = vec![
        case("one grows", (plain(10, 12), Some((10, 12)), &[])),
        case("one shrinks", (plain(10, 5), Some((10, 5)), &[])),
        case("5 to 10", (plain(5, 10), Some((2, 4)), &[(3, 6)])),
        case("5 to 3", (plain(5, 3), Some((2, 1)), &[(3, 2)])),
        case("9 to 4", (plain(9, 4), Some((8, 4)), &[(1, 0)])),
        case("7 to 10", (plain(7, 10), Some((2, 3)), &[(3, 4), (2, 3)])),
        case("13 to 8", (plain(13, 8), Some((2, 1)), &[(8, 5), (3, 2)])),
        case(
            "the rest goes to the newest: 3 to 4",
            (plain(3, 4), Some((1, 2)), &[(1, 1), (1, 1)]),
        ),
        case(
            "the rest comes from the oldest: 3 to 2",
            (plain(3, 2), Some((1, 1)), &[(1, 1), (1, 0)]),
        ),
        case(
            "without a new one: 4 to 5",
            (plain(4, 5), None, &[(2, 3), (2, 2)]),
        ),
        case("to zero", (plain(6, 0), Some((3, 0)), &[(2, 0), (1, 0)])),
        case("from zero", (plain(6, 6), Some((0, 6)), &[(0, 0), (0, 0)])),
        case(
            "with a surge",
            (((10, 2), (20, 2)), Some((6, 11)), &[(6, 11)]),
        ),
        case(
            "the surge changed too",
            (((10, 3), (50, 6)), Some((5, 22)), &[(8, 34)]),
        ),
        case(
            "the template changed too",
            (plain(10, 14), None, &[(7, 10), (3, 4)]),
        ),
    ];
    for case in cases {
        let deployment = deployment(case.to.0, case.to.1, 0);
        let was = |set| sized_for(set, case.from.0, case.from.0 + case.from.1);
        let mut sets = vec![];
        for (n, (before, _)) in (0_i64..).zip(case.old) {
            let image = format!("v{}", 9 - n);
            sets.push(was(replica_set(&image, 9 - n, *before, *before)));
        }
        sets.extend(
            case.new
                .map(|(before, _)| was(replica_set("new", 50, before, before))),
        );
        let mut rollout = look(&deployment, &sets);
        rollout.scale();
        let old: Vec<i32> = case.old.iter().rev().map(|(_, after)| *after).collect();
        let expected = (case.new.map(|(_, after)| after), old);
        assert_eq!(sizes(&rollout), expected, "{}", case.name);
        // Whoever has pods is sized for the deployment as it is now: the event is over.
        assert!(!rollout.is_scaling_event(), "{}", case.name);
    }
}

#[test]
fn one_whose_write_failed_catches_up_while_the_others_stay() {
    let deployment = deployment(5, 0, 0);
    let sets = [
        sized_for(replica_set("v1", 1, 1, 1), 5, 5),
        sized_for(replica_set("v2", 2, 1, 1), 3, 3),
        sized_for(replica_set("new", 3, 2, 2), 5, 5),
    ];
    let mut rollout = look(&deployment, &sets);
    assert!(rollout.is_scaling_event());
    rollout.scale();
    assert_eq!(sizes(&rollout), (Some(2), vec![1, 2]));
}

#[test]
fn a_new_one_that_is_full_but_broken_takes_nothing_from_the_old_ones() {
    let deployment = deployment(2, 1, 1);
    let sets = [
        sized_for(replica_set("old", 1, 1, 1), 2, 3),
        sized_for(replica_set("new", 3, 2, 0), 2, 3),
    ];
    let mut rollout = look(&deployment, &sets);
    rollout.scale();
    assert_eq!(sizes(&rollout), (Some(2), vec![1]));
}

#[test]
fn a_new_one_that_is_full_and_works_leaves_nothing_to_the_old_ones() {
    let deployment = deployment(2, 1, 1);
    let sets = [
        sized_for(replica_set("old", 1, 1, 1), 2, 3),
        sized_for(replica_set("new", 3, 2, 2), 2, 3),
    ];
    let mut rollout = look(&deployment, &sets);
    rollout.scale();
    assert_eq!(sizes(&rollout), (Some(2), vec![0]));
}

#[test]
fn a_change_of_size_is_noticed_by_the_replica_sets_that_have_pods() {
    let cases = [
        (
            "sized for it",
            sized_for(replica_set("new", 0, 1, 1), 1, 1),
            false,
        ),
        (
            "sized for another",
            sized_for(replica_set("new", 0, 1, 1), 10, 10),
            true,
        ),
        ("never sized", replica_set("new", 0, 1, 1), false),
        (
            "without pods",
            sized_for(replica_set("new", 0, 0, 0), 10, 10),
            false,
        ),
    ];
    // What is no size was not noted.
    let noted = ["x", "", "-1", "2147483648", "0"].map(|text| {
        let mut set = replica_set("new", 0, 1, 1);
        let annotations = set.annotations_mut();
        annotations.insert(DESIRED_REPLICAS.into(), text.into());
        (text, set, text == "0")
    });
    for (name, set, expected) in cases.into_iter().chain(noted) {
        let deployment = deployment(1, 0, 0);
        assert_eq!(
            look(&deployment, &[set]).is_scaling_event(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_surge_beyond_all_numbers_is_no_trouble() {
    let deployment = deployment(10, i32::MAX, 0);
    let old = sized_for(replica_set("old", 0, 5, 5), 5, 5);
    let new = sized_for(replica_set("new", 1, 2, 2), 5, 5);
    let mut scaled = look(&deployment, &[old.clone(), new.clone()]);
    scaled.scale();
    let (grown, shares) = sizes(&scaled);
    let total = i64::from(grown.unwrap()) + shares.into_iter().map(i64::from).sum::<i64>();
    assert_eq!(total, i64::from(i32::MAX));
    assert_eq!(look(&deployment, &[old, new]).new_size(2), 10);
}

#[test]
fn who_was_never_sized_shares_as_the_deployment_was_counted_last() {
    for noted in [None, Some("0")] {
        let set = |name: &str, created| {
            let mut set = replica_set(name, created, 50, 50);
            if let Some(text) = noted {
                let annotations = set.annotations_mut();
                annotations.insert(MAX_REPLICAS.into(), text.into());
            }
            set
        };
        let sets = [set("older", 0), set("newer", 1)];
        // If the deployment was never counted, there are no shares: what is added goes to the newest of equals.
        for (counted, expected) in [(Some(100), vec![60, 60]), (None, vec![50, 70])] {
            let mut deployment = deployment(120, 0, 0);
            deployment.status = counted.map(|replicas| DeploymentStatus {
                replicas: Some(replicas),
                ..DeploymentStatus::default()
            });
            let mut rollout = look(&deployment, &sets);
            rollout.scale();
            assert_eq!(sizes(&rollout), (None, expected), "{noted:?}");
        }
    }
}

#[test]
fn who_is_scaled_notes_for_which_size_and_which_surge() {
    let deployment = deployment(12, 3, 0);
    let mut rollout = look(&deployment, &[replica_set("old", 0, 10, 10)]);
    rollout.scale();
    let annotations = rollout.old[0].get().annotations();
    assert_eq!(annotations[DESIRED_REPLICAS], "12");
    assert_eq!(annotations[MAX_REPLICAS], "15");
}
