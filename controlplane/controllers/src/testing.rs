//! What tests of loops have in place of an API server.

use futures::FutureExt;
use keelson_component::{Connect, Key, Queue, Recorder};
use serde_json::{Value, json};

use crate::context::Context;

/// A client whose requests, each a method, a path and a body, are answered so.
pub fn client<A>(answer: A) -> kube::Client
where
    A: Fn(&str, &str, Value) -> (u16, Value) + Clone + Send + Sync + 'static,
{
    let serve = move |request: http::Request<kube::client::Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await?).unwrap_or_default();
            let (code, answer) = answer(head.method.as_str(), head.uri.path(), body);
            let body = http_body_util::Full::from(answer.to_string());
            let response = http::Response::builder().status(code).body(body);
            response.map_err(kube::Error::HttpError)
        }
    };
    kube::Client::new(tower::service_fn(serve), "default")
}

/// A controller's context with this client, and without events.
pub fn context(client: kube::Client) -> Context {
    let connect = Connect {
        client,
        name: "tester".into(),
        ca_pem: None,
    };
    let recorder = Recorder::silent();
    Context { connect, recorder }
}

/// Takes all that a loop would look at now, and gives their names in order.
pub fn queued(queue: &Queue<Key>) -> Vec<String> {
    let next = || queue.next().now_or_never();
    let taken = std::iter::from_fn(next).inspect(|key| queue.done(key));
    let mut names: Vec<_> = taken.map(|key| key.name).collect();
    names.sort();
    names
}

/// An answer that says why not.
pub fn failure(code: u16, message: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": "", "message": message});
    (code, status)
}
