//! Which old revisions go, in which order, and what those that stay remember.

use super::*;

/// An empty replica set `foo-{name}`, created in that second, of this revision if it has any.
fn old(name: &str, created: i64, revision: Option<i64>) -> ReplicaSet {
    let set = replica_set(name, created, 0, 0);
    revision.map_or(set.clone(), |revision| with_revision(set, revision))
}

fn with_pods(mut set: ReplicaSet) -> ReplicaSet {
    set.status.as_mut().unwrap().replicas = 1;
    set
}

#[test]
fn old_revisions_go_in_the_order_of_their_revisions_whenever_they_were_created() {
    let cases = [
        (
            "the lower revision, though it is younger",
            1,
            vec![old("a", 1, Some(2)), old("b", 2, Some(1))],
            vec!["foo-b"],
        ),
        (
            "one without a revision before one that has any",
            1,
            vec![old("a", 1, Some(1)), old("b", 2, None)],
            vec!["foo-b"],
        ),
        (
            "the same, created the other way round",
            1,
            vec![old("a", 2, Some(1)), old("b", 1, None)],
            vec!["foo-b"],
        ),
        (
            "what has pods stays, and counts",
            1,
            vec![
                with_pods(old("a", 1, Some(1))),
                old("b", 2, Some(2)),
                old("c", 3, Some(3)),
            ],
            vec!["foo-b"],
        ),
        (
            "the two that would go have pods",
            1,
            vec![
                with_pods(old("a", 1, Some(1))),
                with_pods(old("b", 2, Some(2))),
                old("c", 3, Some(3)),
            ],
            vec![],
        ),
        (
            "as many as are over the limit",
            2,
            vec![
                old("a", 1, Some(4)),
                old("b", 2, Some(3)),
                old("c", 3, Some(1)),
                old("d", 4, Some(2)),
            ],
            vec!["foo-c", "foo-d"],
        ),
    ];
    for (name, limit, sets, expected) in cases {
        let mut deployment = deployment(0, 0, 0);
        deployment.spec.revision_history_limit = Some(limit);
        let mut plan = Plan::default();
        look(&deployment, &sets).clean_up(&mut plan);
        let gone = plan.actions.iter().map(|action| match action {
            Action::Delete(set) => set.name_any(),
            other => panic!("{other:?}"),
        });
        assert_eq!(gone.collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn old_revisions_over_the_limit_go_if_nothing_is_left_of_them() {
    let empty = |name: &str, revision| with_revision(replica_set(name, revision, 0, 0), revision);
    let busy = |name: &str, spec, status| {
        let mut set = empty(name, 1);
        set.spec.replicas = Some(spec);
        set.status.as_mut().unwrap().replicas = status;
        set
    };
    let mut deleted = empty("v1", 1);
    deleted.metadata.deletion_timestamp = Some(Time(at(0)));
    let mut unobserved = empty("v1", 1);
    unobserved.metadata.generation = Some(2);
    let cases = [
        (
            "the oldest go",
            vec![empty("v3", 3), empty("v1", 1), empty("v2", 2)],
            1,
            vec!["foo-v1", "foo-v2"],
        ),
        (
            "what wants or has pods stays",
            vec![
                empty("v1", 1),
                busy("v2", 0, 1),
                busy("v3", 1, 0),
                busy("v4", 1, 1),
            ],
            0,
            vec!["foo-v1"],
        ),
        (
            "all of them",
            vec![empty("v1", 1), empty("v2", 2)],
            0,
            vec!["foo-v1", "foo-v2"],
        ),
        (
            "none of them",
            vec![busy("v1", 1, 1), busy("v2", 1, 1)],
            0,
            vec![],
        ),
        (
            "what is being deleted is left alone",
            vec![deleted],
            0,
            vec![],
        ),
        (
            "a status of another generation proves nothing",
            vec![unobserved],
            0,
            vec![],
        ),
        (
            "no limit",
            vec![empty("v1", 1), empty("v2", 2)],
            i32::MAX,
            vec![],
        ),
    ];
    for (name, sets, limit, expected) in cases {
        let mut deployment = deployment(1, 0, 1);
        deployment.spec.revision_history_limit = Some(limit);
        let mut plan = Plan::default();
        look(&deployment, &sets).clean_up(&mut plan);
        let deleted = plan.actions.iter().map(|action| match action {
            Action::Delete(set) => set.name_any(),
            other => panic!("{other:?}"),
        });
        assert_eq!(deleted.collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn a_replica_set_that_returns_has_the_newest_revision_and_remembers_the_others() {
    let deployment = deployment(2, 1, 1);
    let returning = with_revision(replica_set("new", 0, 0, 0), 1);
    let sets = [returning, with_revision(replica_set("old", 1, 2, 2), 2)];
    let plan = plan(&deployment, &sets);
    let Action::Update { new, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    assert_eq!(new.annotations()[REVISION], "3");
    assert_eq!(new.annotations()[REVISION_HISTORY], "1");
    assert!(plan.actions.contains(&Action::SetRevision("3".into())));
    // And once more.
    let mut returning = (**new).clone();
    returning.spec.replicas = Some(0);
    let sets = [returning, with_revision(replica_set("old", 1, 2, 2), 4)];
    let plan = super::tests::plan(&deployment, &sets);
    let Action::Update { new, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    assert_eq!(new.annotations()[REVISION_HISTORY], "1,3");
}

#[test]
fn the_history_of_revisions_is_kept_short() {
    let deployment = deployment(2, 1, 1);
    let mut returning = with_revision(replica_set("new", 0, 2, 2), 1);
    let long = (100_000..101_000)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(",");
    returning
        .annotations_mut()
        .insert(REVISION_HISTORY.into(), long);
    let sets = [returning, with_revision(replica_set("old", 1, 2, 2), 2)];
    let plan = plan(&deployment, &sets);
    let Action::Update { new, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    let history = &new.annotations()[REVISION_HISTORY];
    assert!(
        history.len() <= 2000 && history.ends_with("100999,1"),
        "{history}"
    );
}
