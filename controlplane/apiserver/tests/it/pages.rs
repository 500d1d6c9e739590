//! Gets and lists: the revisions that they may be asked at, and lists in pages.

use serde_json::Value;

use crate::support::{
    Place, RunningStore, StoreKind, names, on_each_store, on_shared_servers, revision, token,
};

on_shared_servers!(
    a_get_is_at_least_as_new_as_asked,
    one_object_is_listed_by_its_name_as_it_was,
    names_that_begin_alike_are_told_apart,
    what_is_no_object_hides_nothing_else,
    pages_are_of_the_first_pages_revision,
    pages_of_any_size_make_the_whole_list,
    a_token_leads_into_no_other_namespace,
    a_selector_is_applied_before_the_limit,
    a_rare_object_is_on_the_first_page,
    a_token_without_a_revision_goes_on_with_what_is_there,
    a_list_is_at_least_as_new_as_asked,
    a_list_of_the_future_is_refused_after_a_while,
    options_that_contradict_each_other_are_refused,
);

async fn a_get_is_at_least_as_new_as_asked(at: Place) {
    let made = at.make("a", "x").await;
    let now = at.relabel("a", "y").await;
    let last = at.make("b", "x").await;
    let get = async |query: &str| at.client.get(&format!("{}/{query}", at.maps())).await;
    let versions = [revision(&now), revision(&last)].map(|of| format!("a?resourceVersion={of}"));
    for query in ["a", &versions[0], &versions[1]] {
        assert_eq!(get(query).await.ok(), now, "{query}");
    }
    // Either may be told, but nothing older.
    let either = get(&format!("a?resourceVersion={}", revision(&made)))
        .await
        .ok();
    assert!(either == made || either == now, "{either}");
    assert!(matches!(get("a?resourceVersion=0").await.code, 200 | 404));
    let future = get("a?resourceVersion=1000000").await;
    assert_eq!(
        (future.code, future.json["reason"].as_str()),
        (504, Some("Timeout"))
    );
    for query in ["c", "c?resourceVersion=0"] {
        let missing = get(query).await;
        assert_eq!(
            (missing.code, missing.message()),
            (404, "configmaps \"c\" not found")
        );
    }
}

async fn one_object_is_listed_by_its_name_as_it_was(at: Place) {
    let made = at.make("a", "x").await;
    let now = at.relabel("a", "y").await;
    at.make("b", "x").await;
    let exact = |of: &Value| {
        format!(
            "&resourceVersion={}&resourceVersionMatch=Exact",
            revision(of)
        )
    };
    let not_older = format!("&resourceVersion={}", revision(&now));
    for (query, expected) in [
        (String::new(), &now),
        (not_older, &now),
        (exact(&now), &now),
        (exact(&made), &made),
    ] {
        let list = at
            .list(&format!("fieldSelector=metadata.name%3Da{query}"))
            .await;
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{query}");
        assert_eq!(items[0]["metadata"], expected["metadata"], "{query}");
        let none = at
            .list(&format!("fieldSelector=metadata.name%3Dc{query}"))
            .await;
        assert_eq!(names(&none), Vec::<&str>::new(), "{query}");
    }
}

async fn names_that_begin_alike_are_told_apart(at: Place) {
    let alike = format!("{}-alike", at.namespace);
    at.make_namespace(&alike).await;
    let elsewhere = format!("/api/v1/namespaces/{alike}/configmaps");
    for name in ["foo", "foobar", "foo-bar"] {
        at.make(name, "x").await;
        let object = serde_json::json!({"metadata": {"name": name}});
        at.client.post(&elsewhere, &object).await.ok();
    }
    let exact = {
        let list = at.list("").await;
        format!(
            "resourceVersion={}&resourceVersionMatch=Exact",
            revision(&list)
        )
    };
    for query in ["", "resourceVersion=0", exact.as_str()] {
        let all = at.list(query).await;
        assert_eq!(names(&all), ["foo", "foo-bar", "foobar"], "{query}");
        for item in all["items"].as_array().unwrap() {
            assert_eq!(item["metadata"]["namespace"], at.namespace);
        }
        let one = at
            .list(&format!("{query}&fieldSelector=metadata.name%3Dfoo"))
            .await;
        assert_eq!(names(&one), ["foo"], "{query}");
    }
    at.delete("foo").await;
    assert_eq!(names(&at.list("").await), ["foo-bar", "foobar"]);
}

async fn what_is_no_object_hides_nothing_else(at: Place) {
    let before = at.make("a", "x").await;
    let mut store = at.server.store().client().await;
    let key = format!("/registry/configmaps/{}/b", at.namespace);
    store.put(key, "no object", None).await.unwrap();
    at.make("c", "x").await;
    assert_eq!(names(&at.list("").await), ["a", "c"]);
    let path = format!(
        "{}?watch=1&resourceVersion={}",
        at.maps(),
        revision(&before)
    );
    assert_eq!(at.client.watch(&path).await.told().await, "ADDED c");
    let reply = at.client.get(&format!("{}/b", at.maps())).await;
    assert_eq!(
        (reply.code, reply.json["reason"].as_str()),
        (500, Some("InternalError"))
    );
}

async fn pages_are_of_the_first_pages_revision(at: Place) {
    for name in ["a", "b", "c", "d"] {
        at.make(name, "x").await;
    }
    let first = at.list("limit=3").await;
    assert_eq!(names(&first), ["a", "b", "c"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    // Neither what is new nor what is gone since shows in the pages that follow.
    at.make("e", "x").await;
    at.delete("d").await;
    let second = at
        .list(&format!("limit=3&continue={}", token(&first)))
        .await;
    assert_eq!(names(&second), ["d"]);
    assert_eq!(revision(&second), revision(&first));
    assert_eq!(token(&second), "");
}

async fn pages_of_any_size_make_the_whole_list(at: Place) {
    for name in ["a", "b", "c", "d", "e"] {
        at.make(name, if name == "c" { "y" } else { "x" }).await;
    }
    let last = at.list("").await;
    let exact = format!(
        "resourceVersion={}&resourceVersionMatch=Exact",
        revision(&last)
    );
    for query in ["", "labelSelector=kind%3Dx", "resourceVersion=0", &exact] {
        let whole = at.list(query).await;
        for limit in 1..=6 {
            let mut page = at.list(&format!("limit={limit}&{query}")).await;
            let mut all: Vec<Value> = Vec::new();
            loop {
                let items = page["items"].as_array().unwrap();
                assert!(items.len() <= limit, "{query} by {limit}");
                all.extend(items.iter().cloned());
                if token(&page).is_empty() {
                    break;
                }
                assert_eq!(items.len(), limit, "{query} by {limit}");
                let selector = if query.starts_with("label") {
                    query
                } else {
                    ""
                };
                let next = format!("limit={limit}&continue={}&{selector}", token(&page));
                page = at.list(&next).await;
            }
            assert_eq!(Value::from(all), whole["items"], "{query} by {limit}");
        }
    }
}

async fn a_token_leads_into_no_other_namespace(at: Place) {
    // Before this one in the store's order, so that the token leads further.
    let other = Place::on(at.server.clone()).await;
    let (low, high) = match at.namespace < other.namespace {
        true => (at, other),
        false => (other, at),
    };
    for name in ["a", "b"] {
        low.make(name, "x").await;
        high.make(name, "x").await;
    }
    let first = low.list("limit=1").await;
    assert_eq!(names(&first), ["a"]);
    let elsewhere = high.list(&format!("continue={}", token(&first))).await;
    for item in elsewhere["items"].as_array().unwrap() {
        assert_eq!(item["metadata"]["namespace"], high.namespace);
    }
    let path = format!("{}?continue={}", high.maps(), token(&first));
    high.client.delete(&path).await.ok();
    assert_eq!(names(&low.list("").await), ["a", "b"]);
}

async fn a_selector_is_applied_before_the_limit(at: Place) {
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "y"), ("e", "x")] {
        at.make(name, label).await;
    }
    let query = "limit=2&labelSelector=kind%3Dx";
    let first = at.list(query).await;
    assert_eq!(names(&first), ["a", "c"]);
    assert_eq!(first["metadata"].get("remainingItemCount"), None);
    let second = at
        .list(&format!("{query}&continue={}", token(&first)))
        .await;
    assert_eq!(names(&second), ["e"]);
    assert_eq!(token(&second), "");
}

async fn a_rare_object_is_on_the_first_page(at: Place) {
    let store = at.store().await;
    // More than are read from the store at a time.
    let put = |number: usize| {
        let name = format!("m-{number:04}");
        let kind = if number == 999 { "rare" } else { "common" };
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": at.namespace, "labels": {"kind": kind}},
        });
        let key = format!("/registry/configmaps/{}/{name}", at.namespace);
        keelson_apiserver::storage::Put::new(key, object.to_string())
    };
    let puts: Vec<_> = (0..1_000).map(put).collect();
    for some in puts.chunks(100) {
        let written = some.iter().map(|put| store.write(put, None));
        for one in futures::future::join_all(written).await {
            one.unwrap().unwrap();
        }
    }
    let all = at.list("limit=1").await;
    assert_eq!(all["metadata"]["remainingItemCount"], 999);
    let exact = format!(
        "resourceVersion={}&resourceVersionMatch=Exact&",
        revision(&all)
    );
    for query in ["", exact.as_str()] {
        for selector in [
            "labelSelector=kind%3Drare",
            "fieldSelector=metadata.name%3Dm-0999",
        ] {
            let page = at.list(&format!("{query}limit=1&{selector}")).await;
            assert_eq!(
                (names(&page), token(&page)),
                (vec!["m-0999"], ""),
                "{query}{selector}"
            );
        }
    }
}

/// A token of the server's own format, that names no revision.
fn token_from(start: &str) -> String {
    use base64::Engine;
    let token = serde_json::json!({"v": "meta.k8s.io/v1", "rv": -1, "start": start});
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string())
}

async fn a_token_without_a_revision_goes_on_with_what_is_there(at: Place) {
    for name in ["a", "b"] {
        at.make(name, "x").await;
    }
    let last = at.make("c", "x").await;
    let rest = at.list(&format!("continue={}", token_from("b"))).await;
    assert_eq!(names(&rest), ["b", "c"]);
    let number = |text: &str| text.parse::<i64>().unwrap();
    assert!(number(revision(&rest)) >= number(revision(&last)));
    let page = at
        .list(&format!("limit=1&continue={}", token_from("b")))
        .await;
    assert_eq!(names(&page), ["b"]);
    // From here on it has one.
    at.make("d", "x").await;
    let rest = at.list(&format!("continue={}", token(&page))).await;
    assert_eq!(names(&rest), ["c"]);
}

on_each_store!(
    a_page_of_what_was_compacted_can_be_continued_inconsistently,
    async |running| {
        let at = Place::alone(running, &[]).await;
        for name in ["a", "b", "c"] {
            at.make(name, "x").await;
        }
        let first = at.list("limit=1").await;
        at.delete("c").await;
        let last = at.make("d", "x").await;
        at.compact(&last).await;
        let path = |query: &str| format!("{}?{query}", at.maps());
        let expired = at
            .client
            .get(&path(&format!("limit=1&continue={}", token(&first))))
            .await;
        assert_eq!(
            (expired.code, expired.json["reason"].as_str()),
            (410, Some("Expired"))
        );
        // What has changed in between shows; what was on the first page does not.
        let rest = at.list(&format!("continue={}", token(&expired.json))).await;
        assert_eq!(names(&rest), ["b", "d"]);
        // Without a token there is nothing to go on with.
        let exact = format!(
            "resourceVersion={}&resourceVersionMatch=Exact",
            revision(&first)
        );
        let gone = at.client.get(&path(&exact)).await;
        assert_eq!(
            (gone.code, gone.message()),
            (410, "The resourceVersion for the provided list is too old.")
        );
        assert_eq!(names(&at.list("resourceVersion=1").await), ["a", "b", "d"]);
    }
);

async fn a_list_is_at_least_as_new_as_asked(at: Place) {
    let empty = at.list("").await;
    let first = at.make("a", "x").await;
    let second = at.make("b", "x").await;
    let gone = at.make("c", "x").await;
    at.delete("c").await;
    at.relabel("a", "y").await;
    let exact = |of: &Value| {
        format!(
            "resourceVersion={}&resourceVersionMatch=Exact",
            revision(of)
        )
    };
    assert_eq!(names(&at.list("").await), ["a", "b"]);
    // Each revision is there as it was.
    for (of, expected) in [
        (&empty, vec![]),
        (&first, vec!["a"]),
        (&second, vec!["a", "b"]),
        (&gone, vec!["a", "b", "c"]),
    ] {
        let list = at.list(&exact(of)).await;
        assert_eq!((names(&list), revision(&list)), (expected, revision(of)));
    }
    let old = at.list(&exact(&second)).await;
    assert_eq!(old["items"][0]["metadata"]["labels"]["kind"], "x");
    for query in [
        "resourceVersion=0",
        "resourceVersion=1&resourceVersionMatch=NotOlderThan",
    ] {
        at.list(query).await;
    }
    // Who asks for a page of a revision gets that one.
    let page = at
        .list(&format!("resourceVersion={}&limit=2", revision(&gone)))
        .await;
    assert_eq!(
        (names(&page), revision(&page)),
        (vec!["a", "b"], revision(&gone))
    );
    assert_ne!(token(&page), "");
    let not_older = at
        .list(&format!("resourceVersion={}", revision(&gone)))
        .await;
    assert_eq!(not_older["items"][0]["metadata"]["name"], "a");
    let number = |list: &Value| revision(list).parse::<i64>().unwrap();
    assert!(number(&not_older) >= number(&gone));
}

async fn a_list_of_the_future_is_refused_after_a_while(at: Place) {
    at.make("a", "x").await;
    for query in ["", "&resourceVersionMatch=Exact"] {
        let path = format!("{}?resourceVersion=1000000{query}", at.maps());
        let reply = at.client.get(&path).await;
        assert_eq!(reply.code, 504);
        assert!(
            reply
                .message()
                .contains("Too large resource version: 1000000"),
            "{}",
            reply.text
        );
    }
}

async fn options_that_contradict_each_other_are_refused(at: Place) {
    at.make("a", "x").await;
    at.make("b", "x").await;
    let first = at.list("limit=1").await;
    let with_token = |more: &str| format!("continue={}&{more}", token(&first));
    let empty_start = format!("continue={}", token_from(""));
    for (query, code) in [
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Nearly", 422),
        ("resourceVersion=x", 422),
        ("resourceVersion=-1", 422),
        ("continue=%21", 400),
        (&empty_start, 400),
        (&with_token("resourceVersion=1"), 400),
        (&with_token("resourceVersionMatch=Exact"), 422),
        (&with_token("resourceVersion=0"), 200),
        ("limit=x", 400),
        ("labelSelector=a%20b", 400),
        ("fieldSelector=spec.color%3Dred", 400),
    ] {
        let reply = at.client.get(&format!("{}?{query}", at.maps())).await;
        assert_eq!(reply.code, code, "{query}: {}", reply.text);
    }
}
