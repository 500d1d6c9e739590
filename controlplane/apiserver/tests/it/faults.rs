//! What the server does when its store is away, and when many write at once.

use std::time::Duration;

use keelson_apiserver::serve::Pki;
use serde_json::json;

use crate::support::{Client, RunningStore, Server, StoreKind, on_each_store};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn is_ready(client: &Client) -> bool {
    client.get("/readyz").await.code == 200
}

async fn until_ready(client: &Client) {
    for _ in 0..400 {
        if is_ready(client).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the server is not ready again");
}

on_each_store!(the_server_outlives_its_store, async |running| {
    let mut server = Server::start(running).await;
    let client = server.client(Some("admin"));
    client
        .post(MAPS, &json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    let mut watch = client
        .watch(&format!("{MAPS}?watch=1&resourceVersion=0"))
        .await;
    assert_eq!(watch.told().await, "ADDED a");
    server.store_mut().kill();
    assert!(!is_ready(&client).await);
    assert_eq!(client.get("/livez").await.code, 200);
    // What may be old is still told.
    assert_eq!(
        client.get(&format!("{MAPS}?resourceVersion=0")).await.code,
        200
    );
    let refused = client.post(MAPS, &json!({"metadata": {"name": "b"}})).await;
    assert!(matches!(refused.code, 503 | 504), "{}", refused.text);
    server.store_mut().start_again().await;
    until_ready(&client).await;
    client
        .post(MAPS, &json!({"metadata": {"name": "c"}}))
        .await
        .ok();
    // The watch has missed nothing, and never ended.
    assert_eq!(watch.told().await, "ADDED c");
});

on_each_store!(a_list_is_fresh_whatever_was_written_last, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    client
        .post(MAPS, &json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    // A key that is none of ours moves the store on, and no watch of ours tells of it.
    let mut store = server.store().client().await;
    for _ in 0..5 {
        store.put("elsewhere", "x", None).await.unwrap();
        let list = client.get(MAPS).await.ok();
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    }
});

on_each_store!(writers_that_meet_lose_nothing, async |running| {
    let server = Server::start(running).await;
    let client = server.client(Some("admin"));
    let path = format!("{MAPS}/a");
    client
        .post(MAPS, &json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    futures::future::join_all((0..20).map(|number| {
        let (client, path) = (&client, &path);
        async move {
            let patch = json!({"data": {format!("key-{number}"): "x"}});
            client.patch(path, "merge", &patch).await.ok()
        }
    }))
    .await;
    let all = client.get(&path).await.ok();
    assert_eq!(all["data"].as_object().unwrap().len(), 20);
});

#[tokio::test]
async fn a_server_on_a_store_of_another_finds_everything() {
    let mut server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let client = server.client(Some("admin"));
    let made = client
        .post(MAPS, &json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    server = server.restart().await;
    let client = server.client(Some("admin"));
    assert_eq!(client.get(&format!("{MAPS}/a")).await.ok(), made);
    let list = client.get(&format!("{MAPS}?resourceVersion=0")).await.ok();
    assert_eq!(list["items"][0], made);
}

#[tokio::test]
async fn a_store_that_wants_to_know_its_clients_is_shown_a_certificate() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let pki = Pki::open(dir.path()).unwrap();
    pki.server(&[], &["127.0.0.1".parse().unwrap()]).unwrap();
    pki.client("etcd-client", "kube-apiserver", "").unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let flags = [
        format!("--etcd-cafile={}", file("ca.crt")),
        format!("--etcd-certfile={}", file("etcd-client.crt")),
        format!("--etcd-keyfile={}", file("etcd-client.key")),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let store = RunningStore::start_secured(dir.path());
    let server = Server::start_with(store, &flags).await;
    let client = server.client(Some("admin"));
    assert_eq!(client.get("/readyz").await.code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_are_both_endpoints_until_one_leaves() {
    let server = Server::start(RunningStore::start(StoreKind::Kvd).await).await;
    let client = server.client(Some("admin"));
    let ports = async || {
        let endpoints = client
            .get("/api/v1/namespaces/default/endpoints/kubernetes")
            .await
            .ok();
        let mut ports: Vec<u64> = endpoints["subsets"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|subset| subset["ports"][0]["port"].as_u64())
            .collect();
        ports.sort_unstable();
        ports
    };
    let (port, stop, other) = server.start_beside();
    let mut both = [u64::from(server.port), u64::from(port)];
    both.sort_unstable();
    let seen = async {
        while ports().await != both {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    seen.expect("both are endpoints");
    stop.cancel();
    other.await.unwrap().unwrap();
    assert_eq!(ports().await, [u64::from(server.port)]);
    let slices = client
        .get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices")
        .await
        .ok();
    assert_eq!(slices["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_a_store_does_not_have_any_more_is_not_shown_for_long() {
    let mut server = Server::start(RunningStore::start(StoreKind::Etcd).await).await;
    let client = server.client(Some("admin"));
    for name in ["a", "b"] {
        let object = json!({"metadata": {"name": name}});
        client.post(MAPS, &object).await.ok();
    }
    // Now it is behind what the caches have: as one that was restored from a backup.
    server.store_mut().kill();
    server.store_mut().start_empty().await;
    for _ in 0..400 {
        let list = client.get(MAPS).await;
        if list.code == 200 && list.json["items"] == json!([]) {
            // What is always there is there again, and so can others be.
            let object = json!({"metadata": {"name": "a"}});
            if client.post(MAPS, &object).await.code == 201 {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the server shows what is no more");
}
