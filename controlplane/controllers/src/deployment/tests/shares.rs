//! Shares of replica sets that do not say for which size they were sized.

use super::*;

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
