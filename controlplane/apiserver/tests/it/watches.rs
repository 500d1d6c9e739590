//! Watches: what they tell, from when on, and in which order.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Place, RunningStore, Server, StoreKind, Watch, names, on_each_store, on_shared_servers,
    revision,
};

on_shared_servers!(
    a_watch_after_a_version_tells_what_follows_it,
    a_watch_from_nothing_begins_with_what_is_there,
    a_watch_tells_what_its_selector_sees,
    a_watch_tells_of_its_own_namespace_only,
    a_watch_of_what_lives_in_no_namespace_is_selected_alike,
    what_leaves_a_selector_is_told_as_deleted,
    a_deletion_has_a_version_of_its_own,
    what_expires_is_told_as_deleted,
    a_watcher_that_reads_late_hears_everything_in_order,
    watchers_that_do_not_read_hold_nobody_up,
    a_streamed_list_ends_with_a_marked_bookmark,
    the_mark_of_a_streamed_list_is_as_new_as_the_store,
    a_streamed_list_must_be_asked_for_in_full,
    a_watch_ends_when_its_time_is_over,
    bookmarks_and_events_come_in_order,
    watchers_of_one_node_hear_of_its_pods_only,
    a_watch_of_tables_tells_rows,
    a_watch_begins_as_its_parameters_say,
);

/// A watch of config maps after an object's or list's version, with more parameters.
async fn watch_after(at: &Place, from: &Value, more: &str) -> Watch {
    let path = format!(
        "{}?watch=1&resourceVersion={}{more}",
        at.maps(),
        revision(from)
    );
    at.client.watch(&path).await
}

fn number(object: &Value) -> u64 {
    revision(object).parse().expect("a version is a number")
}

async fn a_watch_after_a_version_tells_what_follows_it(at: Place) {
    let first = at.make("a", "x").await;
    at.make("b", "x").await;
    let mut watch = watch_after(&at, &first, "").await;
    assert_eq!(watch.told().await, "ADDED b");
    let changed = at.relabel("a", "y").await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]),
        (&json!("MODIFIED"), &changed)
    );
    at.delete("b").await;
    assert_eq!(watch.told().await, "DELETED b");
}

async fn a_watch_from_nothing_begins_with_what_is_there(at: Place) {
    at.make("a", "x").await;
    let now = at.relabel("a", "y").await;
    for version in ["", "&resourceVersion=0"] {
        let path = format!(
            "{}?watch=1{version}&fieldSelector=metadata.name%3Da",
            at.maps()
        );
        let event = at.client.watch(&path).await.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &now));
    }
}

/// What is done to one config map.
enum Step {
    /// It gets this label, and is made if it is not there.
    Label(&'static str),
    Delete,
}

async fn a_watch_tells_what_its_selector_sees(at: Place) {
    use Step::{Delete, Label};
    // For each step what is told, and "" for nothing.
    let cases: [(&str, &[(Step, &str)]); 5] = [
        (
            "",
            &[
                (Label("x"), "ADDED"),
                (Label("y"), "MODIFIED"),
                (Delete, "DELETED"),
            ],
        ),
        (
            "&labelSelector=kind%3Dy",
            &[(Label("x"), ""), (Label("y"), "ADDED")],
        ),
        (
            "&labelSelector=kind%21%3Dy",
            &[(Label("x"), "ADDED"), (Label("y"), "DELETED"), (Delete, "")],
        ),
        (
            "&labelSelector=kind+in+(x,z)",
            &[
                (Label("x"), "ADDED"),
                (Label("y"), "DELETED"),
                (Label("x"), "ADDED"),
                (Label("z"), "MODIFIED"),
                (Delete, "DELETED"),
            ],
        ),
        (
            "&fieldSelector=metadata.name%3Dother",
            &[(Label("x"), ""), (Delete, "")],
        ),
    ];
    for (case, (selector, steps)) in cases.iter().enumerate() {
        let name = format!("m{case}");
        let one = format!("&fieldSelector=metadata.name%3D{name}");
        // One object's path is watched as well as all of them.
        let both = [(*selector).to_owned(), format!("{one}{selector}")];
        let asked = if selector.starts_with("&field") {
            &both[..1]
        } else {
            &both[..]
        };
        for selector in asked {
            let selector = selector.replace(' ', "+");
            let mut watch = watch_after(&at, &at.list("").await, &selector).await;
            let mut last = Value::Null;
            for (step, told) in *steps {
                let before = last.clone();
                match step {
                    Label(label) if last.is_null() => last = at.make(&name, label).await,
                    Label(label) => last = at.relabel(&name, label).await,
                    Delete => {
                        at.delete(&name).await;
                        last = Value::Null;
                    }
                }
                if told.is_empty() {
                    continue;
                }
                let event = watch.next().await.unwrap();
                assert_eq!(event["type"], *told, "{selector}");
                let object = &event["object"];
                match *told {
                    // As it was while it was selected, with the version of its leaving.
                    "DELETED" => {
                        assert_eq!(object["metadata"]["labels"], before["metadata"]["labels"]);
                        assert!(last.is_null() || revision(object) == revision(&last));
                        assert!(number(object) > number(&before));
                    }
                    _ => assert_eq!(*object, last, "{selector}"),
                }
            }
            if !last.is_null() {
                at.delete(&name).await;
            }
        }
    }
}

/// Selectors, and which of the pods they select: `a` on n1, `b` on n2 and `c` on none.
const OF_PODS: &[(&str, &[&str])] = &[
    ("", &["a", "b", "c"]),
    ("metadata.namespace%3DHERE", &["a", "b", "c"]),
    ("metadata.namespace%3Delsewhere", &[]),
    ("spec.nodeName%3Dn1", &["a"]),
    ("spec.nodeName%3D", &["c"]),
    ("spec.nodeName%21%3Dn1", &["b", "c"]),
    ("spec.nodeName%3Dn3", &[]),
    ("metadata.name%3Da", &["a"]),
    ("metadata.name%3Da,metadata.namespace%3DHERE", &["a"]),
    ("metadata.name%3Da,spec.nodeName%3Dn1", &["a"]),
    ("metadata.name%3Da,spec.nodeName%3Dn2", &[]),
    (
        "metadata.name%3Db,metadata.namespace%3DHERE,spec.nodeName%3Dn2",
        &["b"],
    ),
    (
        "metadata.name%3Db,metadata.namespace%3DHERE,spec.nodeName%3Dn1",
        &[],
    ),
];

async fn a_watch_tells_of_its_own_namespace_only(at: Place) {
    let elsewhere = Place::on(at.server.clone()).await;
    let before = at.client.get(&at.core("pods")).await.ok();
    let mut watches = Vec::new();
    for (selector, expected) in OF_PODS {
        let selector = selector.replace("HERE", &at.namespace);
        let query = format!("fieldSelector={selector}");
        let path = format!(
            "{}?watch=1&resourceVersion={}&{query}",
            at.core("pods"),
            revision(&before)
        );
        watches.push((at.client.watch(&path).await, query, *expected));
    }
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "")] {
        elsewhere.make_pod(name, node).await;
        at.make_pod(name, node).await;
    }
    for (watch, query, expected) in &mut watches {
        let list = at
            .client
            .get(&format!("{}?{query}", at.core("pods")))
            .await
            .ok();
        assert_eq!(names(&list), *expected, "{query}");
        for name in *expected {
            assert_eq!(watch.told().await, format!("ADDED {name}"), "{query}");
        }
    }
    // Whoever is still to hear something hears this: nothing else was told.
    for name in ["a", "b", "c"] {
        let path = format!("{}/{name}?gracePeriodSeconds=0", at.core("pods"));
        at.client.delete(&path).await.ok();
    }
    for (watch, query, expected) in &mut watches {
        for name in *expected {
            assert_eq!(watch.told().await, format!("DELETED {name}"), "{query}");
        }
    }
}

async fn a_watch_of_what_lives_in_no_namespace_is_selected_alike(at: Place) {
    let name = |suffix: &str| format!("{}-{suffix}", at.namespace);
    let before = at.client.get("/api/v1/nodes").await.ok();
    let watch = async |selector: &str| {
        let version = revision(&before);
        let path = format!("/api/v1/nodes?watch=1&resourceVersion={version}&{selector}");
        at.client.watch(&path).await
    };
    let label = format!("labelSelector=of%3D{}", at.namespace);
    let named = format!("fieldSelector=metadata.name%3D{}", name("b"));
    let both = format!("{label}&{named}");
    let unschedulable = format!("{label}&fieldSelector=spec.unschedulable%3Dtrue");
    let mut watches = [
        (watch(&label).await, vec![name("a"), name("b")]),
        (watch(&named).await, vec![name("b")]),
        (watch(&both).await, vec![name("b")]),
        (watch(&unschedulable).await, vec![name("a")]),
    ];
    for (node, unschedulable) in [(name("a"), true), (name("b"), false)] {
        let labels = json!({"of": at.namespace});
        let object = json!({"metadata": {"name": node, "labels": labels}, "spec": {"unschedulable": unschedulable}});
        at.client.post("/api/v1/nodes", &object).await.ok();
    }
    for (watch, expected) in &mut watches {
        for name in expected {
            assert_eq!(watch.told().await, format!("ADDED {name}"));
        }
    }
}

async fn what_leaves_a_selector_is_told_as_deleted(at: Place) {
    let first = at.make("a", "x").await;
    let mut watch = watch_after(&at, &first, "&labelSelector=kind%3Dx").await;
    let left = at.relabel("a", "y").await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    // The object as it was while it was selected, with the version of its leaving.
    assert_eq!(event["object"]["metadata"]["labels"]["kind"], "x");
    assert_eq!(revision(&event["object"]), revision(&left));
    at.relabel("a", "z").await;
    at.relabel("a", "x").await;
    assert_eq!(watch.told().await, "ADDED a");
}

async fn a_deletion_has_a_version_of_its_own(at: Place) {
    let first = at.make("a", "x").await;
    let mut watch = watch_after(&at, &first, "").await;
    at.delete("a").await;
    let second = at.make("a", "x").await;
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert!(number(&deleted["object"]) > number(&first));
    assert!(number(&deleted["object"]) < number(&second));
}

async fn what_expires_is_told_as_deleted(at: Place) {
    let path = format!("{}?watch=1&resourceVersion=0", at.core("events"));
    let mut watch = at.client.watch(&path).await;
    let mut store = at.server.store().client().await;
    let lease = store.lease_grant(1, None).await.unwrap().id();
    let event = json!({"metadata": {"name": "a", "namespace": at.namespace}});
    let key = format!("/registry/events/{}/a", at.namespace);
    let with_lease = etcd_client::PutOptions::new().with_lease(lease);
    store
        .put(key, event.to_string(), Some(with_lease))
        .await
        .unwrap();
    assert_eq!(watch.told().await, "ADDED a");
    assert_eq!(watch.told().await, "DELETED a");
}

async fn a_watcher_that_reads_late_hears_everything_in_order(at: Place) {
    let mut watch = watch_after(&at, &at.list("").await, "").await;
    for number in 0..50 {
        at.make(&format!("m{number}"), "x").await;
    }
    for number in 0..50 {
        assert_eq!(watch.told().await, format!("ADDED m{number}"));
    }
}

async fn watchers_that_do_not_read_hold_nobody_up(at: Place) {
    let before = at.list("").await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(watch_after(&at, &before, "").await);
    }
    let mut watch = watch_after(&at, &before, "").await;
    for number in 0..22 {
        let made = at.make(&format!("m{number}"), "x").await;
        let event = watch.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &made));
    }
    for watch in &mut idle {
        assert_eq!(watch.told().await, "ADDED m0");
    }
}

const STREAMED: &str =
    "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";

async fn is_mark(watch: &mut Watch) -> Value {
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    let annotations = &mark["object"]["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    mark["object"].clone()
}

async fn a_streamed_list_ends_with_a_marked_bookmark(at: Place) {
    at.make("a", "x").await;
    at.make("b", "y").await;
    let last = at.make("c", "x").await;
    let path = format!("{}?watch=1&{STREAMED}&labelSelector=kind%3Dx", at.maps());
    let mut watch = at.client.watch(&path).await;
    assert_eq!(watch.told().await, "ADDED a");
    assert_eq!(watch.told().await, "ADDED c");
    assert!(number(&is_mark(&mut watch).await) >= number(&last));
    at.relabel("b", "x").await;
    assert_eq!(watch.told().await, "ADDED b");
}

async fn the_mark_of_a_streamed_list_is_as_new_as_the_store(at: Place) {
    for name in ["a", "b", "c"] {
        at.make(name, "x").await;
    }
    let elsewhere = Place::on(at.server.clone()).await;
    for (selector, expected) in [
        ("", &["ADDED a", "ADDED b", "ADDED c"][..]),
        ("&fieldSelector=metadata.name%3Db", &["ADDED b"]),
        ("&fieldSelector=metadata.name%3Dnobody", &[]),
    ] {
        // Of another namespace, and not selected.
        let last = elsewhere.make(&format!("m{}", selector.len()), "x").await;
        let path = format!("{}?watch=1&{STREAMED}{selector}", at.maps());
        let mut watch = at.client.watch(&path).await;
        for one in expected {
            assert_eq!(watch.told().await, *one, "{selector}");
        }
        assert!(
            number(&is_mark(&mut watch).await) >= number(&last),
            "{selector}"
        );
    }
}

async fn a_streamed_list_must_be_asked_for_in_full(at: Place) {
    for query in [
        "sendInitialEvents=true&allowWatchBookmarks=true",
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        "resourceVersionMatch=NotOlderThan",
    ] {
        let reply = at
            .client
            .get(&format!("{}?watch=1&{query}", at.maps()))
            .await;
        assert_eq!(reply.code, 422, "{query}: {}", reply.text);
    }
}

on_each_store!(
    a_watch_from_before_what_is_kept_is_too_old,
    async |running| {
        let at = Place::alone(running, &["--watch-history-bytes=1"]).await;
        let first = at.make("a", "x").await;
        at.make("b", "x").await;
        let last = at.make("c", "x").await;
        at.list("").await;
        let mut old = watch_after(&at, &first, "").await;
        let event = old.next().await.unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["code"]),
            (&json!("ERROR"), &json!(410))
        );
        assert!(old.next().await.is_none());
        let mut recent = watch_after(&at, &last, "").await;
        at.make("d", "x").await;
        assert_eq!(recent.told().await, "ADDED d");
    }
);

on_each_store!(
    a_watch_from_nothing_needs_no_history_of_the_stores,
    async |running| {
        let at = Place::alone(running, &[]).await;
        let first = at.make("a", "x").await;
        let now = at.relabel("a", "y").await;
        at.compact(&now).await;
        let path = format!("{}?watch=1&resourceVersion=0", at.maps());
        let event = at.client.watch(&path).await.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &now));
        // The server has a history of its own, until it is another server.
        assert_eq!(
            watch_after(&at, &first, "").await.told().await,
            "MODIFIED a"
        );
        let Place {
            server,
            namespace,
            client,
        } = at;
        drop(client);
        let server = std::sync::Arc::into_inner(server).expect("nobody else has it");
        let server = server.restart().await;
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let old = format!("{path}?watch=1&resourceVersion={}", revision(&first));
        let event = server
            .client(Some("admin"))
            .watch(&old)
            .await
            .next()
            .await
            .unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["code"]),
            (&json!("ERROR"), &json!(410))
        );
    }
);

async fn a_watch_ends_when_its_time_is_over(at: Place) {
    let first = at.make("a", "x").await;
    let mut told = watch_after(&at, &first, "&timeoutSeconds=1&allowWatchBookmarks=true").await;
    let mut untold = watch_after(&at, &first, "&timeoutSeconds=1").await;
    // The client goes on from the bookmark, if it understands it.
    let bookmark = told.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert!(number(&bookmark["object"]) >= number(&first));
    assert!(told.next().await.is_none());
    assert!(untold.next().await.is_none());
}

async fn bookmarks_and_events_come_in_order(at: Place) {
    let before = at.list("").await;
    let mut watch = watch_after(&at, &before, "&timeoutSeconds=1&allowWatchBookmarks=true").await;
    let elsewhere = Place::on(at.server.clone()).await;
    let writes = async {
        for number in 0.. {
            at.make(&format!("m{number}"), "x").await;
            elsewhere.make(&format!("m{number}"), "x").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reads = async {
        let (mut last, mut bookmarks) = (number(&before), 0);
        while let Some(event) = watch.next().await {
            let version = number(&event["object"]);
            match event["type"].as_str() {
                Some("BOOKMARK") => {
                    bookmarks += 1;
                    assert!(version >= last);
                }
                _ => assert!(version > last),
            }
            last = version;
        }
        // None if it is not up to date when its time is over.
        assert!(bookmarks <= 1);
    };
    tokio::select! {
        () = writes => {}
        () = reads => {}
    }
}

async fn watchers_of_one_node_hear_of_its_pods_only(at: Place) {
    let path = format!(
        "{}?watch=1&resourceVersion=0&fieldSelector=spec.nodeName%3Dn1",
        at.core("pods")
    );
    let mut watch = at.client.watch(&path).await;
    for name in ["a", "b"] {
        at.make_pod(name, "").await;
    }
    for (name, node) in [("a", "n2"), ("b", "n1")] {
        let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        let path = at.core(&format!("pods/{name}/binding"));
        at.client.post(&path, &binding).await.ok();
    }
    assert_eq!(watch.told().await, "ADDED b");
    for name in ["a", "b"] {
        let path = at.core(&format!("pods/{name}?gracePeriodSeconds=0"));
        at.client.delete(&path).await.ok();
    }
    assert_eq!(watch.told().await, "DELETED b");
}

async fn a_watch_of_tables_tells_rows(at: Place) {
    at.make("a", "x").await;
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let list = at
        .client
        .request("GET", &at.maps(), &headers, b"")
        .await
        .ok();
    assert_eq!(list["kind"], "Table");
    assert_eq!(list["columnDefinitions"][0]["name"], "Name");
    assert_eq!(list["rows"][0]["cells"][0], "a");
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

/// What a watch with these parameters tells before something new happens; RV stands for the version of the last object.
const SEMANTICS: &[(&str, &[&str])] = &[
    ("", &["ADDED a", "ADDED b"]),
    ("allowWatchBookmarks=true", &["ADDED a", "ADDED b"]),
    ("resourceVersion=0", &["ADDED a", "ADDED b"]),
    (
        "resourceVersion=0&allowWatchBookmarks=true",
        &["ADDED a", "ADDED b"],
    ),
    ("resourceVersion=RV", &[]),
    ("resourceVersion=RV&allowWatchBookmarks=true", &[]),
    (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        &["ADDED a", "ADDED b", "BOOKMARK "],
    ),
    (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=0",
        &["ADDED a", "ADDED b", "BOOKMARK "],
    ),
    (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=1",
        &["ADDED a", "ADDED b", "BOOKMARK "],
    ),
    (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=RV",
        &["ADDED a", "ADDED b", "BOOKMARK "],
    ),
    (
        "sendInitialEvents=false&resourceVersionMatch=NotOlderThan",
        &[],
    ),
    (
        "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        &[],
    ),
    (
        "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=0",
        &[],
    ),
    (
        "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=RV",
        &[],
    ),
];

async fn a_watch_begins_as_its_parameters_say(at: Place) {
    at.make("a", "x").await;
    let mut last = at.make("b", "x").await;
    for (parameters, expected) in SEMANTICS {
        // At version 0 a watch begins with whatever the caches have: that is to be what was written last.
        at.list(&format!("resourceVersion={}", revision(&last)))
            .await;
        let parameters = parameters.replace("RV", revision(&last));
        let path = format!("{}?watch=1&{parameters}", at.maps());
        let mut watch = at.client.watch(&path).await;
        for one in *expected {
            assert_eq!(watch.told().await, *one, "{parameters}");
        }
        at.make("new", "x").await;
        assert_eq!(watch.told().await, "ADDED new", "{parameters}");
        at.delete("new").await;
        assert_eq!(watch.told().await, "DELETED new", "{parameters}");
        last = at.relabel("b", &format!("v{}", revision(&last))).await;
    }
}

#[tokio::test]
async fn a_watch_may_ask_for_any_time_and_gets_a_days_at_most() {
    let server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let client = server.client(Some("admin"));
    let namespaces = "/api/v1/namespaces?watch=1&timeoutSeconds=9223372036854775807";
    let mut watch = client.watch(namespaces).await;
    assert!(watch.told().await.starts_with("ADDED "));
}
