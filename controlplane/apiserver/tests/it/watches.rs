//! Watches: the cases of Kubernetes' own watcher tests.

use serde_json::{Value, json};

use crate::support::{Client, RunningStore, Server, StoreKind, on_each_store};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(client: &Client, name: &str, label: &str) -> Value {
    let object = json!({"metadata": {"name": name, "labels": {"kind": label}}});
    client.post(MAPS, &object).await.ok()
}

async fn relabel(client: &Client, name: &str, label: &str) -> Value {
    let patch = json!({"metadata": {"labels": {"kind": label}}});
    client
        .patch(&format!("{MAPS}/{name}"), "merge", &patch)
        .await
        .ok()
}

fn revision(object: &Value) -> &str {
    object["metadata"]["resourceVersion"]
        .as_str()
        .expect("an object has a version")
}

on_each_store!(
    a_watch_after_a_version_tells_what_follows_it,
    async |running| {
        let server = Server::start(running).await;
        let client = server.client(Some("admin"));
        let first = make(&client, "a", "x").await;
        make(&client, "b", "x").await;
        let mut watch = client
            .watch(&format!(
                "{MAPS}?watch=1&resourceVersion={}",
                revision(&first)
            ))
            .await;
        assert_eq!(watch.told().await, "ADDED b");
        relabel(&client, "a", "y").await;
        assert_eq!(watch.told().await, "MODIFIED a");
        client.delete(&format!("{MAPS}/b")).await.ok();
        assert_eq!(watch.told().await, "DELETED b");
    }
);

on_each_store!(
    a_watch_from_nothing_begins_with_what_is_there,
    async |running| {
        let server = Server::start(running).await;
        let client = server.client(Some("admin"));
        make(&client, "a", "x").await;
        for version in ["", "&resourceVersion=0"] {
            let path = format!("{MAPS}?watch=1{version}&fieldSelector=metadata.name%3Da");
            let mut watch = client.watch(&path).await;
            assert_eq!(watch.told().await, "ADDED a");
        }
    }
);

on_each_store!(what_leaves_a_selector_is_told_as_deleted, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    let first = make(&client, "a", "x").await;
    let path = format!(
        "{MAPS}?watch=1&labelSelector=kind%3Dx&resourceVersion={}",
        revision(&first)
    );
    let mut watch = client.watch(&path).await;
    let left = relabel(&client, "a", "y").await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    // The object as it was while it was selected, with the version of its leaving.
    assert_eq!(event["object"]["metadata"]["labels"]["kind"], "x");
    assert_eq!(revision(&event["object"]), revision(&left));
    relabel(&client, "a", "z").await;
    relabel(&client, "a", "x").await;
    assert_eq!(watch.told().await, "ADDED a");
});

on_each_store!(a_deletion_has_a_version_of_its_own, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    let first = make(&client, "a", "x").await;
    let mut watch = client
        .watch(&format!(
            "{MAPS}?watch=1&resourceVersion={}",
            revision(&first)
        ))
        .await;
    client.delete(&format!("{MAPS}/a")).await.ok();
    let second = make(&client, "a", "x").await;
    let deleted = watch.next().await.unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert!(number(revision(&deleted["object"])) > number(revision(&first)));
    assert!(number(revision(&deleted["object"])) < number(revision(&second)));
});

on_each_store!(
    a_streamed_list_ends_with_a_marked_bookmark,
    async |running| {
        let server = Server::start(running).await;
        let client = server.client(Some("admin"));
        make(&client, "a", "x").await;
        make(&client, "b", "y").await;
        let last = make(&client, "c", "x").await;
        let path = format!(
            "{MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&labelSelector=kind%3Dx"
        );
        let mut watch = client.watch(&path).await;
        assert_eq!(watch.told().await, "ADDED a");
        assert_eq!(watch.told().await, "ADDED c");
        let mark = watch.next().await.unwrap();
        assert_eq!(mark["type"], "BOOKMARK");
        assert_eq!(
            mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
            "true"
        );
        assert!(
            revision(&mark["object"]).parse::<u64>().unwrap() >= revision(&last).parse().unwrap()
        );
        relabel(&client, "b", "x").await;
        assert_eq!(watch.told().await, "ADDED b");
    }
);

on_each_store!(a_streamed_list_must_be_asked_for_in_full, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    for query in [
        "sendInitialEvents=true&allowWatchBookmarks=true",
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        "resourceVersionMatch=NotOlderThan",
    ] {
        let reply = client.get(&format!("{MAPS}?watch=1&{query}")).await;
        assert_eq!(reply.code, 422, "{query}: {}", reply.text);
    }
});

on_each_store!(
    a_watch_from_before_what_is_kept_is_too_old,
    async |running| {
        let server = Server::start_with(running, &["--watch-history-bytes=1"]).await;
        let client = server.client(Some("admin"));
        let first = make(&client, "a", "x").await;
        make(&client, "b", "x").await;
        let last = make(&client, "c", "x").await;
        client.get(MAPS).await.ok();
        let watch = |from: &Value| format!("{MAPS}?watch=1&resourceVersion={}", revision(from));
        let mut old = client.watch(&watch(&first)).await;
        let event = old.next().await.unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["code"]),
            (&json!("ERROR"), &json!(410))
        );
        assert!(old.next().await.is_none());
        let mut recent = client.watch(&watch(&last)).await;
        make(&client, "d", "x").await;
        assert_eq!(recent.told().await, "ADDED d");
    }
);

on_each_store!(a_watch_ends_when_its_time_is_over, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    let first = make(&client, "a", "x").await;
    let path = format!(
        "{MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={}",
        revision(&first)
    );
    let mut watch = client.watch(&path).await;
    // The client goes on from the bookmark.
    assert_eq!(watch.next().await.unwrap()["type"], "BOOKMARK");
    assert!(watch.next().await.is_none());
});

on_each_store!(
    watchers_of_one_node_hear_of_its_pods_only,
    async |running| {
        let server = Server::start(running).await;
        let client = server.client(Some("admin"));
        let pods = "/api/v1/namespaces/default/pods";
        let mut watch = client
            .watch("/api/v1/pods?watch=1&resourceVersion=0&fieldSelector=spec.nodeName%3Dn1")
            .await;
        for name in ["a", "b"] {
            let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
            client.post(pods, &pod).await.ok();
        }
        for (name, node) in [("a", "n2"), ("b", "n1")] {
            let binding =
                json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
            client
                .post(&format!("{pods}/{name}/binding"), &binding)
                .await
                .ok();
        }
        assert_eq!(watch.told().await, "ADDED b");
        for name in ["a", "b"] {
            client
                .delete(&format!("{pods}/{name}?gracePeriodSeconds=0"))
                .await
                .ok();
        }
        assert_eq!(watch.told().await, "DELETED b");
    }
);

on_each_store!(a_watch_of_tables_tells_rows, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    make(&client, "a", "x").await;
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let list = client.request("GET", MAPS, &headers, b"").await.ok();
    assert_eq!(list["kind"], "Table");
    assert_eq!(list["columnDefinitions"][0]["name"], "Name");
    assert_eq!(list["rows"][0]["cells"][0], "a");
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
});

/// What a watch with these parameters tells before something new happens; RV stands for the version of the last object.
const SEMANTICS: &[(&str, &[&str])] = &[
    ("", &["ADDED a", "ADDED b"]),
    ("resourceVersion=0", &["ADDED a", "ADDED b"]),
    ("resourceVersion=RV", &[]),
    (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        &["ADDED a", "ADDED b", "BOOKMARK "],
    ),
    (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=0",
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
        "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=0",
        &[],
    ),
    (
        "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=RV",
        &[],
    ),
];

on_each_store!(a_watch_begins_as_its_parameters_say, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    make(&client, "a", "x").await;
    let mut last = make(&client, "b", "x").await;
    for (parameters, expected) in SEMANTICS {
        let parameters = parameters.replace("RV", revision(&last));
        let mut watch = client.watch(&format!("{MAPS}?watch=1&{parameters}")).await;
        for one in *expected {
            assert_eq!(watch.told().await, *one, "{parameters}");
        }
        make(&client, "new", "x").await;
        assert_eq!(watch.told().await, "ADDED new", "{parameters}");
        client.delete(&format!("{MAPS}/new")).await.ok();
        assert_eq!(watch.told().await, "DELETED new", "{parameters}");
        // Of the caches at least so new.
        last = relabel(&client, "b", &format!("v{}", revision(&last))).await;
    }
});

#[tokio::test]
async fn a_watch_may_ask_for_any_time_and_gets_a_days_at_most() {
    let server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let client = server.client(Some("admin"));
    let namespaces = "/api/v1/namespaces?watch=1&timeoutSeconds=9223372036854775807";
    let mut watch = client.watch(namespaces).await;
    assert!(watch.told().await.starts_with("ADDED "));
}
