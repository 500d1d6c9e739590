//! Who depends on whom, and what is looked at when.

use proptest::prelude::*;

use super::*;

/// An object; its UID is its name. Of each owner, whether it is blocked.
fn node(name: &str, owners: &[(&str, bool)]) -> Node {
    let owner = |(owner, blocks): &(&str, bool)| OwnerReference {
        api_version: "v1".into(),
        kind: "Thing".into(),
        name: (*owner).into(),
        uid: (*owner).into(),
        block_owner_deletion: Some(*blocks),
        ..OwnerReference::default()
    };
    let meta = ObjectMeta {
        name: Some(name.into()),
        namespace: Some("default".into()),
        uid: Some(name.into()),
        owner_references: Some(owners.iter().map(owner).collect()),
        ..ObjectMeta::default()
    };
    Node::of("v1", "Thing", &meta).unwrap()
}

fn waiting(name: &str) -> Node {
    Node {
        deleted: true,
        foreground: true,
        ..node(name, &[])
    }
}

fn orphaning(name: &str) -> Node {
    Node {
        deleted: true,
        orphaning: true,
        ..node(name, &[])
    }
}

fn graph(nodes: &[Node]) -> Graph {
    let mut graph = Graph::default();
    for node in nodes {
        graph.observe(node.clone());
    }
    graph
}

fn consider(names: &[&str]) -> BTreeSet<Work> {
    let names = names.iter();
    names.map(|name| Work::Consider((*name).into())).collect()
}

#[test]
fn a_change_has_those_looked_at_whom_it_may_free_or_doom() {
    let a = || node("a", &[("o", true)]);
    let b = || node("b", &[("o", false)]);
    let o = || node("o", &[]);
    let orphan = BTreeSet::from([Work::Orphan("o".into())]);
    let cases = [
        ("nothing is new", vec![o(), a()], a(), consider(&[])),
        ("one that nobody owns", vec![], o(), consider(&[])),
        ("one that has an owner", vec![o()], a(), consider(&["a"])),
        ("its owner comes later", vec![a()], o(), consider(&[])),
        (
            "it has another owner besides",
            vec![a()],
            node("a", &[("o", true), ("p", true)]),
            consider(&["a"]),
        ),
        (
            "its owner begins to wait",
            vec![o(), a(), b()],
            waiting("o"),
            consider(&["a", "b", "o"]),
        ),
        (
            "and still does",
            vec![waiting("o"), a()],
            waiting("o"),
            consider(&[]),
        ),
        (
            "it does not name an owner any more that waits",
            vec![waiting("o"), a()],
            node("a", &[]),
            consider(&["o"]),
        ),
        (
            "it does not block it any more",
            vec![waiting("o"), a()],
            node("a", &[("o", false)]),
            consider(&["o"]),
        ),
        (
            "it never did",
            vec![waiting("o"), b()],
            node("b", &[]),
            consider(&[]),
        ),
        (
            "it does not name an owner any more that does not wait",
            vec![o(), a()],
            node("a", &[]),
            consider(&[]),
        ),
        (
            "its owner leaves it behind",
            vec![o(), a()],
            orphaning("o"),
            orphan,
        ),
        (
            "and still does",
            vec![a(), orphaning("o")],
            orphaning("o"),
            consider(&[]),
        ),
    ];
    for (name, before, node, expected) in cases {
        let work = graph(&before).observe(node);
        assert_eq!(BTreeSet::from_iter(work), expected, "{name}");
    }
}

#[test]
fn the_end_of_one_has_those_looked_at_who_named_it_and_whoever_waited_for_it() {
    let a = || node("a", &[("o", true), ("p", true)]);
    let b = || node("b", &[("o", false)]);
    let cases = [
        (
            "an owner",
            vec![node("o", &[]), a(), b()],
            "o",
            consider(&["a", "b"]),
        ),
        (
            "one that waited",
            vec![waiting("o"), a()],
            "o",
            consider(&["a"]),
        ),
        (
            "of two owners, one waited for it",
            vec![waiting("o"), node("p", &[]), a()],
            "a",
            consider(&["o"]),
        ),
        ("one that is not known", vec![a()], "b", consider(&[])),
    ];
    for (name, before, uid, expected) in cases {
        let work = graph(&before).remove(uid);
        assert_eq!(BTreeSet::from_iter(work), expected, "{name}");
    }
}

#[test]
fn a_reference_means_an_object_by_group_kind_name_and_uid_and_reaches_its_own_namespace() {
    let far = Node {
        identity: Identity {
            namespace: "other".into(),
            ..node("far", &[]).identity
        },
        ..node("far", &[])
    };
    let everywhere = Node {
        identity: Identity {
            namespace: String::new(),
            ..node("everywhere", &[]).identity
        },
        ..node("everywhere", &[])
    };
    let graph = graph(&[node("o", &[]), far, everywhere]);
    let reference = |name: &str| node("a", &[(name, true)]).owners.remove(0);
    let with = |change: fn(&mut OwnerReference)| {
        let mut reference = reference("o");
        change(&mut reference);
        reference
    };
    // Whether it finds the owner, and whether that is out of reach.
    let cases = [
        ("as it is", reference("o"), true, false),
        (
            "an older version",
            with(|r| r.api_version = "v1alpha1".into()),
            true,
            false,
        ),
        (
            "another group",
            with(|r| r.api_version = "x/v1".into()),
            false,
            false,
        ),
        (
            "another kind",
            with(|r| r.kind = "Other".into()),
            false,
            false,
        ),
        ("another name", with(|r| r.name = "p".into()), false, false),
        ("another UID", with(|r| r.uid = "p".into()), false, false),
        ("in another namespace", reference("far"), false, true),
        ("in none", reference("everywhere"), true, false),
    ];
    let dependent = node("a", &[]).identity;
    for (name, reference, known, out_of_reach) in cases {
        let found = graph.owner(&dependent, &reference).is_some();
        let far = graph.is_out_of_reach(&dependent, &reference);
        assert_eq!((found, far), (known, out_of_reach), "{name}");
    }
}

proptest! {
    #[test]
    fn who_depends_on_whom_is_what_the_objects_say(
        steps in prop::collection::vec(
            (0..6_usize, prop::option::of(prop::collection::vec((0..6_usize, any::<bool>()), 0..4))),
            0..40,
        ),
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut graph = Graph::default();
        for (at, owners) in steps {
            match owners {
                None => drop(graph.remove(names[at])),
                Some(owners) => {
                    let owners: Vec<_> = owners.iter().map(|(n, b)| (names[*n], *b)).collect();
                    graph.observe(node(names[at], &owners));
                }
            }
            for owner in names {
                let names_it = |node: &&Node| node.owners.iter().any(|one| one.uid == owner);
                let said = graph.nodes.values().filter(names_it);
                let said: BTreeSet<_> = said.map(|node| node.identity.uid.clone()).collect();
                let known = graph.dependents(owner).map(|node| node.identity.uid.clone());
                prop_assert_eq!(known.collect::<BTreeSet<_>>(), said);
            }
            prop_assert!(graph.dependents.values().all(|all| !all.is_empty()));
        }
    }
}
