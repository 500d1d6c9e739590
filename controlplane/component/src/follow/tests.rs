//! A server that goes silent, or that has only trouble to tell of.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;

use super::*;

const LISTED: &str = concat!(
    r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}"#,
    "\n",
    r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
    "\n",
);
const MARK: &str = concat!(
    r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"1"}}}"#,
    "\n",
);

/// What a server says to a watch.
#[derive(Clone, Copy)]
enum Says {
    /// This, and then the end.
    All(&'static str),
    /// This, and then nothing more.
    AndIsSilent(&'static str),
}

/// Follows a server that says this to whoever lists, and that to whoever watches, for so long; returns how often it was
/// asked for either.
async fn asked(list: Says, watch: Says, seconds: u64) -> [usize; 2] {
    let asked = Arc::<Mutex<[usize; 2]>>::default();
    let notes = asked.clone();
    let answer = move |request: http::Request<kube::client::Body>| {
        let query = request.uri().query().unwrap_or_default();
        let is_list = query.contains("sendInitialEvents");
        notes.lock()[usize::from(!is_list)] += 1;
        let says = if is_list { list } else { watch };
        let (Says::All(said) | Says::AndIsSilent(said)) = says;
        let first = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from(said)))]);
        let body = match says {
            Says::All(_) => StreamBody::new(first.boxed()),
            Says::AndIsSilent(_) => StreamBody::new(first.chain(stream::pending()).boxed()),
        };
        std::future::ready(Ok::<_, std::io::Error>(http::Response::new(body)))
    };
    let client = kube::Client::new(tower::service_fn(answer), "default");
    let follow = Follow::<ConfigMap>::new(Api::all(client), None);
    let following = follow.run(|_| ());
    let ended = tokio::time::timeout(Duration::from_secs(seconds), following).await;
    assert!(ended.is_err(), "it follows for ever");
    *asked.lock()
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_gone_silent_is_begun_anew_when_a_bookmark_has_long_been_due() {
    let [lists, watches] = asked(Says::AndIsSilent(LISTED), Says::AndIsSilent(MARK), 290).await;
    assert_eq!((lists, watches), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_goes_no_further_is_begun_anew() {
    let added = LISTED.split_inclusive('\n').next().unwrap();
    let [lists, watches] = asked(Says::AndIsSilent(added), Says::All(""), 100).await;
    assert_eq!((lists, watches), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_tells_of_trouble_at_once_is_asked_less_and_less_often() {
    let expired = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"too old"}}"#;
    let failed = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":500,"reason":"InternalError","message":"no"}}"#;
    for trouble in [expired, failed, ""] {
        let [lists, watches] = asked(Says::All(LISTED), Says::All(trouble), 60).await;
        assert!(
            lists + watches < 24,
            "{trouble}: {lists} lists, {watches} watches"
        );
        assert!(
            lists + watches > 8,
            "{trouble}: {lists} lists, {watches} watches"
        );
    }
}
