//! Lists in pages, and the revisions that they may be asked at.

use serde_json::{Value, json};

use crate::support::{Client, RunningStore, Server, StoreKind, on_each_store};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(client: &Client, name: &str, label: &str) -> Value {
    let object = json!({"metadata": {"name": name, "labels": {"kind": label}}, "data": {"a": "b"}});
    client.post(MAPS, &object).await.ok()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list has items");
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

fn token(list: &Value) -> String {
    list["metadata"]["continue"]
        .as_str()
        .unwrap_or("")
        .to_owned()
}

on_each_store!(pages_are_of_the_first_pages_revision, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    for name in ["a", "b", "c", "d"] {
        make(&client, name, "x").await;
    }
    let first = client.get(&format!("{MAPS}?limit=3")).await.ok();
    assert_eq!(names(&first), ["a", "b", "c"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    // Neither what is new nor what is gone since shows in the pages that follow.
    make(&client, "e", "x").await;
    client.delete(&format!("{MAPS}/d")).await.ok();
    let second = client
        .get(&format!("{MAPS}?limit=3&continue={}", token(&first)))
        .await
        .ok();
    assert_eq!(names(&second), ["d"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert_eq!(token(&second), "");
});

on_each_store!(a_token_leads_into_no_other_namespace, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    let other = "/api/v1/namespaces/aaa/configmaps";
    let namespace = json!({"metadata": {"name": "aaa"}});
    client.post("/api/v1/namespaces", &namespace).await.ok();
    for name in ["a", "b"] {
        let object = json!({"metadata": {"name": name}});
        client.post(other, &object).await.ok();
        make(&client, name, "x").await;
    }
    let first = client.get(&format!("{other}?limit=1")).await.ok();
    assert_eq!(names(&first), ["a"]);
    let elsewhere = client
        .get(&format!("{MAPS}?continue={}", token(&first)))
        .await
        .ok();
    for item in elsewhere["items"].as_array().unwrap() {
        assert_eq!(item["metadata"]["namespace"], "default");
    }
    client
        .delete(&format!("{MAPS}?continue={}", token(&first)))
        .await
        .ok();
    assert_eq!(names(&client.get(other).await.ok()), ["a", "b"]);
});

on_each_store!(a_selector_is_applied_before_the_limit, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "y"), ("e", "x")] {
        make(&client, name, label).await;
    }
    let path = format!("{MAPS}?limit=2&labelSelector=kind%3Dx");
    let first = client.get(&path).await.ok();
    assert_eq!(names(&first), ["a", "c"]);
    assert_eq!(first["metadata"].get("remainingItemCount"), None);
    let second = client
        .get(&format!("{path}&continue={}", token(&first)))
        .await
        .ok();
    assert_eq!(names(&second), ["e"]);
    assert_eq!(token(&second), "");
});

on_each_store!(
    a_page_of_what_was_compacted_can_be_continued_inconsistently,
    async |running| {
        let server = Server::start(running).await;
        let client = server.client(Some("admin"));
        for name in ["a", "b", "c"] {
            make(&client, name, "x").await;
        }
        let first = client.get(&format!("{MAPS}?limit=1")).await.ok();
        let last = make(&client, "d", "x").await;
        let revision = last["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        server
            .store()
            .client()
            .await
            .compact(revision, None)
            .await
            .unwrap();
        let expired = client
            .get(&format!("{MAPS}?limit=1&continue={}", token(&first)))
            .await;
        assert_eq!(
            (expired.code, expired.json["reason"].as_str()),
            (410, Some("Expired"))
        );
        let rest = client
            .get(&format!("{MAPS}?continue={}", token(&expired.json)))
            .await
            .ok();
        assert_eq!(names(&rest), ["b", "c", "d"]);
    }
);

on_each_store!(a_list_is_at_least_as_new_as_asked, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    let first = make(&client, "a", "x").await;
    let revision = first["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    make(&client, "b", "x").await;
    let latest = client.get(MAPS).await.ok();
    assert_eq!(names(&latest), ["a", "b"]);
    let exact = format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    assert_eq!(names(&client.get(&exact).await.ok()), ["a"]);
    let not_older = client
        .get(&format!("{MAPS}?resourceVersion={revision}"))
        .await
        .ok();
    assert_eq!(not_older["items"][0]["metadata"]["name"], "a");
    let any = client.get(&format!("{MAPS}?resourceVersion=0")).await;
    assert_eq!(any.code, 200);
});

on_each_store!(
    a_list_of_the_future_is_refused_after_a_while,
    async |running| {
        let server = Server::start(running).await;
        let client = server.client(Some("admin"));
        let reply = client.get(&format!("{MAPS}?resourceVersion=1000000")).await;
        assert_eq!(reply.code, 504);
        assert!(
            reply
                .message()
                .contains("Too large resource version: 1000000"),
            "{}",
            reply.text
        );
    }
);

on_each_store!(
    options_that_contradict_each_other_are_refused,
    async |running| {
        let server = Server::start(running).await;
        let client = server.client(Some("admin"));
        for (query, code) in [
            ("resourceVersionMatch=Exact", 422),
            ("resourceVersion=0&resourceVersionMatch=Exact", 422),
            ("resourceVersion=1&resourceVersionMatch=Nearly", 422),
            ("resourceVersion=x", 422),
            ("continue=%21", 400),
            ("limit=x", 400),
            ("labelSelector=a%20b", 400),
            ("fieldSelector=spec.color%3Dred", 400),
        ] {
            let reply = client.get(&format!("{MAPS}?{query}")).await;
            assert_eq!(reply.code, code, "{query}: {}", reply.text);
        }
    }
);
