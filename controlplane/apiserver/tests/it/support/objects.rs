//! Objects that tests make, and what they ask of objects and lists.

use serde_json::{Value, json};

use super::Place;

impl Place {
    /// Makes a config map with a label `kind`.
    pub async fn make(&self, name: &str, label: &str) -> Value {
        let object = json!({"metadata": {"name": name, "labels": {"kind": label}}});
        self.client.post(&self.maps(), &object).await.ok()
    }

    /// Gives a config map another label `kind`.
    pub async fn relabel(&self, name: &str, label: &str) -> Value {
        let patch = json!({"metadata": {"labels": {"kind": label}}});
        let path = format!("{}/{name}", self.maps());
        self.client.patch(&path, "merge", &patch).await.ok()
    }

    pub async fn delete(&self, name: &str) {
        self.client
            .delete(&format!("{}/{name}", self.maps()))
            .await
            .ok();
    }

    /// What a list of config maps with a query gives.
    pub async fn list(&self, query: &str) -> Value {
        self.client
            .get(&format!("{}?{query}", self.maps()))
            .await
            .ok()
    }

    /// Makes a pod, on a node unless that is "".
    pub async fn make_pod(&self, name: &str, node: &str) -> Value {
        let container = json!({"name": "c", "image": "i"});
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [container]}});
        self.client.post(&self.core("pods"), &pod).await.ok()
    }

    /// Compacts the whole store up to the last change of an object.
    pub async fn compact(&self, object: &Value) {
        let revision = revision(object).parse().expect("a version is a number");
        let mut store = self.server.store().client().await;
        store
            .compact(revision, None)
            .await
            .expect("it can be compacted");
    }
}

/// The resource version of an object or list.
pub fn revision(object: &Value) -> &str {
    object["metadata"]["resourceVersion"]
        .as_str()
        .expect("an object has a version")
}

/// The names of a list's items.
pub fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list has items");
    items
        .iter()
        .map(|item| {
            item["metadata"]["name"]
                .as_str()
                .expect("an object has a name")
        })
        .collect()
}

/// The token with which a list goes on; "" at its end.
pub fn token(list: &Value) -> &str {
    list["metadata"]["continue"].as_str().unwrap_or("")
}
