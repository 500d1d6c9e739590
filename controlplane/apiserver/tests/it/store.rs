//! The store's calls: the cases of Kubernetes' own storage tests that are about one object or one transaction.

use keelson_apiserver::storage::{
    ChangeKind, Claim, Connection, Continue, Store, StoreError, StoreWatch,
};

use crate::support::{RunningStore, StoreKind, on_each_store};

async fn open(running: &RunningStore) -> Store {
    let endpoints = vec![running.endpoint.clone()];
    let tls = None;
    Store::connect(&Connection { endpoints, tls })
        .await
        .expect("the store is there")
}

const A: &str = "/registry/pods/default/a";

on_each_store!(what_was_created_is_read_as_it_was, async |running| {
    let store = open(&running).await;
    assert_eq!(store.get(A).await.unwrap(), None);
    let revision = store
        .create(A, b"one".to_vec(), &[], None)
        .await
        .unwrap()
        .unwrap();
    let stored = store.get(A).await.unwrap().unwrap();
    assert_eq!(
        (stored.value.as_ref(), stored.revision),
        (&b"one"[..], revision)
    );
});

on_each_store!(
    creating_what_is_there_shows_what_is_there,
    async |running| {
        let store = open(&running).await;
        store
            .create(A, b"one".to_vec(), &[], None)
            .await
            .unwrap()
            .unwrap();
        let found = store
            .create(A, b"two".to_vec(), &[], None)
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(found.unwrap().value.as_ref(), b"one");
    }
);

on_each_store!(
    an_update_of_an_old_version_changes_nothing,
    async |running| {
        let store = open(&running).await;
        let first = store
            .create(A, b"one".to_vec(), &[], None)
            .await
            .unwrap()
            .unwrap();
        let second = store
            .replace(A, first, b"two".to_vec(), &[], &[], None)
            .await
            .unwrap()
            .unwrap();
        assert!(second > first);
        let late = store
            .replace(A, first, b"three".to_vec(), &[], &[], None)
            .await
            .unwrap();
        let found = late.unwrap_err().unwrap();
        assert_eq!(
            (found.value.as_ref(), found.revision),
            (&b"two"[..], second)
        );
    }
);

on_each_store!(an_update_of_what_is_gone_says_so, async |running| {
    let store = open(&running).await;
    let first = store
        .create(A, b"one".to_vec(), &[], None)
        .await
        .unwrap()
        .unwrap();
    store.delete(A, first, &[]).await.unwrap().unwrap();
    let late = store
        .replace(A, first, b"two".to_vec(), &[], &[], None)
        .await
        .unwrap();
    assert_eq!(late, Err(None));
});

on_each_store!(
    a_delete_of_an_old_version_deletes_nothing,
    async |running| {
        let store = open(&running).await;
        let first = store
            .create(A, b"one".to_vec(), &[], None)
            .await
            .unwrap()
            .unwrap();
        let second = store
            .replace(A, first, b"two".to_vec(), &[], &[], None)
            .await
            .unwrap()
            .unwrap();
        let late = store.delete(A, first, &[]).await.unwrap().unwrap_err();
        assert_eq!(late.unwrap().revision, second);
        let deleted = store.delete(A, second, &[]).await.unwrap().unwrap();
        assert!(deleted > second);
        assert_eq!(store.get(A).await.unwrap(), None);
    }
);

on_each_store!(two_cannot_claim_the_same, async |running| {
    let store = open(&running).await;
    let claim = Claim {
        key: "/registry/ipaddresses/10.96.0.9".to_owned(),
        value: b"a".to_vec(),
    };
    let claims = [claim.clone()];
    let first = store
        .create(A, b"one".to_vec(), &claims, None)
        .await
        .unwrap()
        .unwrap();
    let other = "/registry/pods/default/b";
    let refused = store
        .create(other, b"two".to_vec(), &claims, None)
        .await
        .unwrap();
    assert_eq!(refused, Err(None));
    assert_eq!(store.get(other).await.unwrap(), None);
    // With its holder it goes.
    store
        .delete(A, first, std::slice::from_ref(&claim.key))
        .await
        .unwrap()
        .unwrap();
    store
        .create(other, b"two".to_vec(), &claims, None)
        .await
        .unwrap()
        .unwrap();
});

on_each_store!(a_list_is_of_one_revision_page_by_page, async |running| {
    let store = open(&running).await;
    let prefix = "/registry/pods/";
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        store
            .create(&format!("{prefix}{name}"), name.into(), &[], None)
            .await
            .unwrap()
            .unwrap();
    }
    // What begins alike, and lies elsewhere, does not count.
    store
        .create("/registry/podsecurity/x", b"x".to_vec(), &[], None)
        .await
        .unwrap()
        .unwrap();
    let first = store.list(prefix, None, 2, 0).await.unwrap();
    assert_eq!((first.items.len(), first.more, first.count), (2, true, 4));
    store
        .create(&format!("{prefix}a/4"), b"late".to_vec(), &[], None)
        .await
        .unwrap()
        .unwrap();
    let next = Continue::after(&first.items[1].key, Some(first.revision));
    let second = store
        .list(prefix, Some(&next.start), 0, first.revision)
        .await
        .unwrap();
    let keys: Vec<&str> = second
        .items
        .iter()
        .map(|item| &item.key[prefix.len()..])
        .collect();
    assert_eq!(keys, ["a/3", "b/1"]);
    assert_eq!((second.more, second.revision), (false, first.revision));
    let inside = store.list("/registry/pods/a/", None, 0, 0).await.unwrap();
    assert_eq!(inside.items.len(), 4);
});

on_each_store!(
    a_list_of_the_future_or_of_what_was_compacted_fails,
    async |running| {
        let store = open(&running).await;
        let first = store
            .create(A, b"one".to_vec(), &[], None)
            .await
            .unwrap()
            .unwrap();
        let second = store
            .replace(A, first, b"two".to_vec(), &[], &[], None)
            .await
            .unwrap()
            .unwrap();
        let future = store.list("/registry/pods/", None, 0, second + 100).await;
        assert!(matches!(future, Err(StoreError::Future)), "{future:?}");
        running.client().await.compact(second, None).await.unwrap();
        let past = store.list("/registry/pods/", None, 0, first).await;
        assert!(matches!(past, Err(StoreError::Compacted)), "{past:?}");
    }
);

async fn next_changes(watch: &mut StoreWatch) -> Vec<(String, ChangeKind)> {
    loop {
        let batch = watch.next().await.expect("the watch goes on");
        if !batch.changes.is_empty() {
            return batch
                .changes
                .into_iter()
                .map(|change| (change.key, change.kind))
                .collect();
        }
    }
}

on_each_store!(
    a_watch_tells_what_happened_after_its_revision,
    async |running| {
        let store = open(&running).await;
        let first = store
            .create(A, b"one".to_vec(), &[], None)
            .await
            .unwrap()
            .unwrap();
        let second = store
            .replace(A, first, b"two".to_vec(), &[], &[], None)
            .await
            .unwrap()
            .unwrap();
        let mut watch = store.watch("/registry/", first).await.unwrap();
        store.delete(A, second, &[]).await.unwrap().unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(next_changes(&mut watch).await);
        }
        assert_eq!(seen[0], (A.to_owned(), ChangeKind::Put("two".into())));
        assert_eq!(seen[1], (A.to_owned(), ChangeKind::Delete));
    }
);

on_each_store!(a_watch_of_what_was_compacted_fails, async |running| {
    let store = open(&running).await;
    let first = store
        .create(A, b"one".to_vec(), &[], None)
        .await
        .unwrap()
        .unwrap();
    let mut last = first;
    for _ in 0..3 {
        last = store
            .replace(A, last, b"more".to_vec(), &[], &[], None)
            .await
            .unwrap()
            .unwrap();
    }
    running.client().await.compact(last, None).await.unwrap();
    let mut watch = store.watch("/registry/", first).await.unwrap();
    let failed = loop {
        match watch.next().await {
            Ok(batch) => assert!(batch.changes.is_empty()),
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, StoreError::Compacted), "{failed}");
});
