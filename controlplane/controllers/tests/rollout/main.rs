//! Roll-outs in a model of the world: whatever is asked for meanwhile, however far behind the stores are, and whenever
//! the process is killed, no step breaks a bound, and in the end there is exactly what was asked for.

mod world;

use proptest::prelude::*;
use world::{Ask, World};

/// What happens next. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    /// The stores learn of so many more changes of deployments, replica sets, and pods.
    Learn(usize, usize, usize),
    /// The deployment is looked at; the process is killed after so many writes, if it gets that far.
    Deployment(Option<usize>),
    /// A replica set is looked at.
    ReplicaSet(usize, Option<usize>),
    /// A pod's node gets on with it: it starts it, or ends it.
    Node(usize),
    /// A pod that is ready fails for a while.
    Fail(usize),
    /// Time passes.
    Wait(i64),
    /// The process is killed and started again.
    Kill,
    /// The user asks for something.
    Ask(Ask),
}

fn killed() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![6 => Just(None), 1 => (0..4_usize).prop_map(Some)]
}

fn machinery() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 0..6_usize, 0..12_usize).prop_map(|(d, r, p)| Step::Learn(d, r, p)),
        1 => Just(Step::Learn(99, 999, 999)),
        4 => killed().prop_map(Step::Deployment),
        4 => (any::<usize>(), killed()).prop_map(|(n, kill)| Step::ReplicaSet(n, kill)),
        6 => any::<usize>().prop_map(Step::Node),
        1 => (0..5_i64).prop_map(Step::Wait),
        1 => Just(Step::Kill),
    ]
}

fn asks() -> impl Strategy<Value = Ask> {
    prop_oneof![
        3 => (0..4_u8).prop_map(Ask::Image),
        2 => (0..9_i32).prop_map(Ask::Replicas),
        1 => any::<bool>().prop_map(Ask::Paused),
        1 => any::<bool>().prop_map(Ask::Recreate),
        1 => (0..4_i32, 0..4_i32).prop_map(|(surge, missing)| Ask::Bounds(surge, missing)),
    ]
}

fn anything() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => machinery(),
        1 => any::<usize>().prop_map(Step::Fail),
        1 => asks().prop_map(Step::Ask),
    ]
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Learn(deployments, replica_sets, pods) => {
            world.learn(deployments, replica_sets, pods)
        }
        Step::Deployment(kill) => world.look_at_deployment(kill),
        Step::ReplicaSet(n, kill) => world.look_at_replica_set(n, kill),
        Step::Node(n) => world.node_acts(n),
        Step::Fail(n) => world.pod_fails(n),
        Step::Wait(seconds) => world.now += seconds,
        Step::Kill => world.restart(),
        Step::Ask(ask) => world.ask(ask),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_first_roll_out_creates_each_pod_once(
        replicas in 0..9_i32,
        steps in prop::collection::vec(machinery(), 0..120),
    ) {
        let mut world = World::new(replicas, 2, 1);
        for step in steps {
            take(&mut world, step);
            prop_assert!(world.active() <= replicas, "{} pods", world.active());
        }
        world.settle();
        world.assert_as_asked();
        prop_assert_eq!(world.created, replicas);
        prop_assert_eq!(world.deleted, 0);
    }

    #[test]
    fn a_roll_out_never_has_too_many_pods_nor_too_few(
        replicas in 0..9_i32,
        surge in 0..4_i32,
        missing in 0..4_i32,
        images in prop::collection::vec((0..4_u8, prop::collection::vec(machinery(), 0..80)), 1..4),
    ) {
        let mut world = World::new(replicas, surge, missing);
        world.settle();
        // With neither, one may be missing, or nothing could move.
        let missing = if surge == 0 && missing == 0 { 1 } else { missing };
        for (image, steps) in images {
            world.ask(Ask::Image(image));
            for step in steps {
                take(&mut world, step);
                let (active, available) = (world.active(), world.available());
                prop_assert!(active <= replicas + surge, "{active} pods of {replicas} + {surge}");
                prop_assert!(available >= replicas - missing, "{available} of {replicas} - {missing}");
            }
        }
        while world.settle_once() {
            prop_assert!(world.active() <= replicas + surge);
            prop_assert!(world.available() >= replicas - missing);
        }
        world.assert_as_asked();
    }

    #[test]
    fn one_new_template_replaces_each_pod_once(
        replicas in 0..9_i32,
        steps in prop::collection::vec(machinery(), 0..160),
    ) {
        let mut world = World::new(replicas, 1, 1);
        world.settle();
        world.ask(Ask::Image(7));
        for step in steps {
            take(&mut world, step);
        }
        world.settle();
        world.assert_as_asked();
        prop_assert_eq!(world.created, 2 * replicas);
        prop_assert_eq!(world.deleted, replicas);
    }

    #[test]
    fn from_any_state_it_converges_to_what_was_asked_for_last(
        replicas in 0..9_i32,
        steps in prop::collection::vec(anything(), 0..250),
    ) {
        let mut world = World::new(replicas, 1, 1);
        for step in steps {
            take(&mut world, step);
            let most = world.most_ever_allowed;
            prop_assert!(world.active() <= most, "{} pods, and {most} was the most", world.active());
        }
        world.settle();
        world.assert_as_asked();
    }

    #[test]
    fn recreating_never_runs_two_templates_at_once(
        replicas in 1..6_i32,
        steps in prop::collection::vec(prop_oneof![
            12 => machinery(),
            1 => (0..4_u8).prop_map(|image| Step::Ask(Ask::Image(image))),
        ], 0..200),
    ) {
        let mut world = World::new(replicas, 1, 1);
        world.ask(Ask::Recreate(true));
        world.settle();
        for step in steps {
            take(&mut world, step);
            prop_assert!(world.templates_running() <= 1);
        }
        world.settle();
        world.assert_as_asked();
    }
}
