//! In which order old revisions go.

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
