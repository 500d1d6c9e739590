//! The store's calls: what is about one object or one transaction.

use std::net::SocketAddr;

use keelson_apiserver::storage::{
    ChangeKind, Claim, Continue, Found, Guard, MasterLease, Put, Revision, Store, StoreError,
    StoreWatch,
};

use crate::support::{Place, RunningStore, StoreKind, on_each_store, on_shared_servers};

on_shared_servers!(
    what_was_created_is_read_as_it_was,
    creating_what_is_there_shows_what_is_there,
    an_update_of_an_old_version_changes_nothing,
    an_update_of_what_is_gone_says_so,
    a_delete_of_an_old_version_deletes_nothing,
    two_cannot_claim_the_same,
    nothing_is_written_once_what_it_depends_on_has_changed,
    a_list_is_of_one_revision_page_by_page,
    a_watch_tells_what_happened_after_its_revision,
);

const A: &str = "/registry/pods/default/a";

/// Writes what must succeed, and gives its revision.
async fn written(store: &Store, put: Put) -> Revision {
    store.write(&put, None).await.unwrap().unwrap()
}

/// Writes what must not, and gives what is there.
async fn refused(store: &Store, put: Put) -> Found {
    store.write(&put, None).await.unwrap().unwrap_err()
}

async fn what_was_created_is_read_as_it_was(at: Place) {
    let (store, a) = (at.store().await, at.key("a"));
    assert_eq!(store.get(&a).await.unwrap(), None);
    let revision = written(&store, Put::new(a.as_str(), "one")).await;
    let stored = store.get(&a).await.unwrap().unwrap();
    assert_eq!(
        (stored.value.as_ref(), stored.revision),
        (&b"one"[..], revision)
    );
}

async fn creating_what_is_there_shows_what_is_there(at: Place) {
    let (store, a) = (at.store().await, at.key("a"));
    written(&store, Put::new(a.as_str(), "one")).await;
    let found = refused(&store, Put::new(a.as_str(), "two")).await;
    assert_eq!(found.object.unwrap().value.as_ref(), b"one");
}

async fn an_update_of_an_old_version_changes_nothing(at: Place) {
    let (store, a) = (at.store().await, at.key("a"));
    let first = written(&store, Put::new(a.as_str(), "one")).await;
    let second = written(&store, Put::over(first, a.as_str(), "two")).await;
    assert!(second > first);
    let found = refused(&store, Put::over(first, a.as_str(), "three")).await;
    let found = found.object.unwrap();
    assert_eq!(
        (found.value.as_ref(), found.revision),
        (&b"two"[..], second)
    );
}

async fn an_update_of_what_is_gone_says_so(at: Place) {
    let (store, a) = (at.store().await, at.key("a"));
    let first = written(&store, Put::new(a.as_str(), "one")).await;
    store.delete(&a, first, &[]).await.unwrap().unwrap();
    let found = refused(&store, Put::over(first, a.as_str(), "two")).await;
    assert_eq!(found, Found::default());
    let found = store.delete(&a, first, &[]).await.unwrap();
    assert_eq!(found, Err(Found::default()));
}

async fn a_delete_of_an_old_version_deletes_nothing(at: Place) {
    let (store, a) = (at.store().await, at.key("a"));
    let first = written(&store, Put::new(a.as_str(), "one")).await;
    let second = written(&store, Put::over(first, a.as_str(), "two")).await;
    let late = store.delete(&a, first, &[]).await.unwrap().unwrap_err();
    assert_eq!(late.object.unwrap().revision, second);
    let deleted = store.delete(&a, second, &[]).await.unwrap().unwrap();
    assert!(deleted > second);
    assert_eq!(store.get(&a).await.unwrap(), None);
}

async fn two_cannot_claim_the_same(at: Place) {
    let store = at.store().await;
    let claim = Claim {
        key: at.key("claimed"),
        value: b"a".to_vec(),
    };
    let claiming = |name: &str| Put {
        claims: vec![claim.clone()],
        ..Put::new(at.key(name), name)
    };
    let first = written(&store, claiming("a")).await;
    assert_eq!(refused(&store, claiming("b")).await, Found::default());
    assert_eq!(store.get(&at.key("b")).await.unwrap(), None);
    let keys = store.keys(&at.key("")).await.unwrap();
    assert_eq!(keys, [at.key("a"), claim.key.clone()]);
    // With its holder it goes, or when he gives it up.
    let gives_up = Put {
        releases: vec![claim.key.clone()],
        ..Put::over(first, at.key("a"), "a")
    };
    let first = written(&store, gives_up).await;
    let second = written(&store, claiming("b")).await;
    let released = std::slice::from_ref(&claim.key);
    store
        .delete(&at.key("b"), second, released)
        .await
        .unwrap()
        .unwrap();
    let again = Put {
        expected: first,
        ..claiming("a")
    };
    written(&store, again).await;
}

async fn nothing_is_written_once_what_it_depends_on_has_changed(at: Place) {
    let store = at.store().await;
    let first = written(&store, Put::new(at.key("guard"), "one")).await;
    let guarded = |revision: Revision| Put {
        guard: Some(Guard {
            key: at.key("guard"),
            revision,
        }),
        ..Put::new(at.key("a"), "a")
    };
    let second = written(&store, Put::over(first, at.key("guard"), "two")).await;
    let found = refused(&store, guarded(first)).await;
    assert_eq!(found.object, None);
    assert_eq!(found.guard.unwrap().revision, second);
    assert_eq!(store.get(&at.key("a")).await.unwrap(), None);
    written(&store, guarded(second)).await;
    store
        .delete(&at.key("guard"), second, &[])
        .await
        .unwrap()
        .unwrap();
    let found = refused(&store, guarded(second)).await;
    assert_eq!((found.object.is_some(), found.guard), (true, None));
}

async fn a_list_is_of_one_revision_page_by_page(at: Place) {
    let (store, prefix) = (at.store().await, at.key(""));
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        written(&store, Put::new(at.key(name), name)).await;
    }
    // What begins alike, and lies elsewhere, does not count.
    let alike = format!("/registry/pods/{}x/1", at.namespace);
    written(&store, Put::new(alike, "x")).await;
    written(&store, Put::new(at.key("ab/1"), "x")).await;
    let first = store.list(&prefix, None, 2, 0).await.unwrap();
    assert_eq!((first.items.len(), first.more, first.count), (2, true, 5));
    written(&store, Put::new(at.key("a/4"), "late")).await;
    let next = Continue::after(&first.items[1].key, Some(first.revision));
    let second = store
        .list(&prefix, Some(&next.start), 0, first.revision)
        .await
        .unwrap();
    let keys: Vec<&str> = second
        .items
        .iter()
        .map(|item| &item.key[prefix.len()..])
        .collect();
    assert_eq!(keys, ["a/3", "ab/1", "b/1"]);
    assert_eq!((second.more, second.revision), (false, first.revision));
    let inside = store.list(&at.key("a/"), None, 0, 0).await.unwrap();
    assert_eq!(inside.items.len(), 4);
}

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

async fn a_watch_tells_what_happened_after_its_revision(at: Place) {
    let (store, a) = (at.store().await, at.key("a"));
    let first = written(&store, Put::new(a.as_str(), "one")).await;
    let second = written(&store, Put::over(first, a.as_str(), "two")).await;
    let mut watch = store.watch(&at.key(""), first).await.unwrap();
    store.delete(&a, second, &[]).await.unwrap().unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(next_changes(&mut watch).await);
    }
    assert_eq!(seen[0], (a.clone(), ChangeKind::Put("two".into())));
    assert_eq!(seen[1], (a, ChangeKind::Delete));
}

on_each_store!(
    lists_and_watches_of_the_future_or_of_what_was_compacted_fail,
    async |running: RunningStore| {
        let store = running.open().await;
        let first = written(&store, Put::new(A, "one")).await;
        let mut last = first;
        for _ in 0..3 {
            last = written(&store, Put::over(last, A, "more")).await;
        }
        let future = store.list("/registry/pods/", None, 0, last + 100).await;
        assert!(matches!(future, Err(StoreError::Future)), "{future:?}");
        running.client().await.compact(last, None).await.unwrap();
        let past = store.list("/registry/pods/", None, 0, first).await;
        assert!(matches!(past, Err(StoreError::Compacted)), "{past:?}");
        let mut watch = store.watch("/registry/", first).await.unwrap();
        let failed = loop {
            match watch.next().await {
                Ok(batch) => assert!(batch.changes.is_empty()),
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, StoreError::Compacted), "{failed}");
    }
);

on_each_store!(
    a_server_that_was_killed_is_listed_until_its_lease_ends,
    async |running: RunningStore| {
        let [stays, dies]: [SocketAddr; 2] =
            ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
        let mut living = MasterLease::new(running.open().await, stays);
        let mut killed = MasterLease::new(running.open().await, dies);
        living.renew().await.unwrap();
        assert_eq!(killed.renew().await.unwrap(), [stays, dies]);
        drop(killed);
        assert_eq!(living.renew().await.unwrap(), [stays, dies]);
        let mut client = running.client().await;
        let key = client.get(format!("/registry/masterleases/{dies}"), None);
        let lease = key.await.unwrap().kvs()[0].lease();
        let left = client.lease_time_to_live(lease, None).await.unwrap();
        assert!((0..=15).contains(&left.ttl()), "{}", left.ttl());
        // What the store does at its end, which the test need not wait for.
        client.lease_revoke(lease).await.unwrap();
        assert_eq!(living.renew().await.unwrap(), [stays]);
    }
);
