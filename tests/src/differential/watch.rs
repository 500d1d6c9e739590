//! The same watches on two servers, and what a client may rely on in each.
//!
//! How a server cuts events into responses is its own affair; that each event comes once, in order, whole
//! revisions at a time and after `created`, is not. [`Session`] asserts the latter of every response that it
//! takes in, and keeps the events and the control messages of each watch apart, to be compared.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::{Event, KeyValue, event::EventType};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::client::Client;
use crate::differential::reply;
use crate::wait;

/// The id in responses that belong to no watch: refusals, and answers to progress requests.
pub const NO_WATCH: i64 = -1;

/// What came for one watch beside its events.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// Ids masked.
    pub header: Option<pb::ResponseHeader>,
    /// The watch that it is about.
    pub watch_id: i64,
    /// Answers a create request.
    pub created: bool,
    /// The watch is over.
    pub canceled: bool,
    /// Why: it began below this revision.
    pub compact_revision: i64,
    /// Why, in words.
    pub cancel_reason: String,
}

/// What one watch has brought.
#[derive(Debug, Default)]
pub struct Watched {
    /// In the order in which they came.
    pub events: Vec<Event>,
    /// Likewise.
    pub controls: Vec<Control>,
    /// The last response was a fragment: the next one continues its last revision.
    in_fragment: bool,
}

impl Watched {
    fn canceled(&self) -> bool {
        self.controls.last().is_some_and(|control| control.canceled)
    }

    fn created(&self) -> bool {
        self.controls.iter().any(|control| control.created)
    }
}

/// One watch stream to one server, and all that came on it.
pub struct Session {
    name: &'static str,
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    watched: BTreeMap<i64, Watched>,
    /// The largest response, encoded.
    largest_bytes: usize,
    fragments: usize,
}

impl Session {
    /// Opens a stream with its first watch; gives the answer, too. `name` says in panics which server it is.
    pub async fn open(
        name: &'static str,
        client: &Client,
        first: pb::WatchCreateRequest,
    ) -> (Session, Control) {
        let (requests, outgoing) = mpsc::channel(16);
        // Before the stream, since etcd opens its half only when it has something to say.
        let first = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(first)),
        };
        requests
            .send(first)
            .await
            .expect("the other half is not dropped yet");
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let mut watch = client.watch();
        let opened = wait::soon("a watch stream", watch.watch(outgoing)).await;
        let responses = opened
            .unwrap_or_else(|status| panic!("{name} refuses a watch stream: {status}"))
            .into_inner();
        let mut session = Session {
            name,
            requests,
            responses,
            watched: BTreeMap::new(),
            largest_bytes: 0,
            fragments: 0,
        };
        let created = session
            .control("the answer to the first create request", |control| {
                control.created
            })
            .await;
        (session, created)
    }

    /// Creates a watch and waits for the answer.
    pub async fn create(&mut self, request: pb::WatchCreateRequest) -> Control {
        self.request(RequestUnion::CreateRequest(request)).await;
        self.control("the answer to a create request", |control| control.created)
            .await
    }

    /// Cancels a watch that exists and waits for the answer.
    pub async fn cancel(&mut self, watch_id: i64) -> Control {
        self.request(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id,
        }))
        .await;
        self.control("the answer to a cancel request", |control| {
            control.canceled && control.watch_id == watch_id
        })
        .await
    }

    /// Sends a cancel request that need not be answered.
    pub async fn cancel_unknown(&mut self, watch_id: i64) {
        self.request(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id,
        }))
        .await;
    }

    /// Asks for progress until it is answered (a watch that is behind delays the answer, or drops the request).
    /// Gives the header's revision.
    pub async fn progress(&mut self) -> i64 {
        let asking_again = std::time::Duration::from_millis(200);
        wait::soon("the answer to a progress request", async {
            loop {
                self.request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
                    .await;
                let is_answer = |control: &Control| {
                    control.watch_id == NO_WATCH && !control.created && !control.canceled
                };
                if let Ok(answer) =
                    tokio::time::timeout(asking_again, self.next_control(is_answer)).await
                {
                    return answer.header.unwrap_or_default().revision;
                }
            }
        })
        .await
    }

    /// Waits until the watch is over, which it becomes by itself.
    pub async fn wait_canceled(&mut self, watch_id: i64) -> Control {
        if let Some(canceled) = self
            .watched(watch_id)
            .controls
            .iter()
            .find(|control| control.canceled)
        {
            return canceled.clone();
        }
        self.control("the end of a watch", |control| {
            control.canceled && control.watch_id == watch_id
        })
        .await
    }

    /// Waits until the watch has brought that many events.
    pub async fn wait_events(&mut self, watch_id: i64, count: usize) -> &[Event] {
        let deadline = tokio::time::Instant::now() + wait::SOON;
        while self.watched(watch_id).events.len() < count {
            let what = || {
                format!(
                    "{}: watch {watch_id} has brought {:#?} instead of {count} events",
                    self.name,
                    self.watched.get(&watch_id)
                )
            };
            match tokio::time::timeout_at(deadline, self.responses.message()).await {
                Ok(response) => drop(self.absorb(response)),
                Err(_) => panic!("{}", what()),
            }
        }
        &self.watched(watch_id).events
    }

    /// Waits until the watch has brought an event of `revision` or a later one.
    pub async fn wait_revision(&mut self, watch_id: i64, revision: i64) -> &[Event] {
        wait::soon("an event of a revision", async {
            while self
                .watched(watch_id)
                .events
                .last()
                .is_none_or(|event| mod_revision(event) < revision)
            {
                let response = self.responses.message().await;
                self.absorb(response);
            }
        })
        .await;
        &self.watched(watch_id).events
    }

    /// Waits for a response that notifies of progress on this watch; gives the header's revision.
    pub async fn wait_progress_notify(&mut self, watch_id: i64) -> i64 {
        let control = self.control("a progress notification", |control| {
            control.watch_id == watch_id && !control.created && !control.canceled
        });
        control.await.header.unwrap_or_default().revision
    }

    /// What the watch has brought so far.
    pub fn watched(&mut self, watch_id: i64) -> &Watched {
        self.watched.entry(watch_id).or_default()
    }

    /// The size of the largest response so far, in bytes.
    pub fn largest_bytes(&self) -> usize {
        self.largest_bytes
    }

    /// How many responses so far said that they are fragments.
    pub fn fragments(&self) -> usize {
        self.fragments
    }

    async fn request(&self, request: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(request),
        };
        self.requests
            .send(request)
            .await
            .unwrap_or_else(|_| panic!("{} has closed the watch stream", self.name));
    }

    async fn control(&mut self, what: &str, is_it: impl Fn(&Control) -> bool) -> Control {
        let name = self.name;
        wait::soon(&format!("{what} from {name}"), self.next_control(is_it)).await
    }

    async fn next_control(&mut self, is_it: impl Fn(&Control) -> bool) -> Control {
        loop {
            let response = self.responses.message().await;
            if let Some(control) = self.absorb(response).filter(&is_it) {
                return control;
            }
        }
    }

    /// Takes in one response, and gives it back if it brings no events. Panics if no server may send it.
    fn absorb(
        &mut self,
        response: Result<Option<pb::WatchResponse>, tonic::Status>,
    ) -> Option<Control> {
        let name = self.name;
        let response =
            response.unwrap_or_else(|status| panic!("{name} broke the watch stream: {status}"));
        let mut response = response.unwrap_or_else(|| panic!("{name} ended the watch stream"));
        self.largest_bytes = self
            .largest_bytes
            .max(prost::Message::encoded_len(&response));
        self.fragments += usize::from(response.fragment);
        let watched = self.watched.entry(response.watch_id).or_default();
        let says = |what: &str| format!("{name}: {what} in {response:?}");
        if response.events.is_empty() {
            reply::mask(&mut response.header);
            let control = Control {
                header: response.header,
                watch_id: response.watch_id,
                created: response.created,
                canceled: response.canceled,
                compact_revision: response.compact_revision,
                cancel_reason: response.cancel_reason,
            };
            if control.created || control.canceled {
                watched.controls.push(control.clone());
            }
            return Some(control);
        }
        assert!(
            watched.created(),
            "{}",
            says("events before the watch is created")
        );
        assert!(
            !watched.canceled(),
            "{}",
            says("events after the watch is canceled")
        );
        let revisions: Vec<i64> = response.events.iter().map(mod_revision).collect();
        assert!(revisions.is_sorted(), "{}", says("events out of order"));
        let first = revisions.first().copied().unwrap_or(0);
        let last = revisions.last().copied().unwrap_or(0);
        let before = watched.events.last().map_or(0, mod_revision);
        let follows = if watched.in_fragment {
            before <= first
        } else {
            before < first
        };
        assert!(
            follows,
            "{}",
            says(&format!(
                "an event that is old, or torn from revision {before},"
            ))
        );
        let header = response.header.unwrap_or_default().revision;
        assert!(header >= last, "{}", says("a header older than its events"));
        watched.in_fragment = response.fragment;
        watched.events.extend(response.events);
        None
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.name)
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}

/// The revision at which an event happened.
pub fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// A watch that sees everything from `start_revision` on, with all that can be told of it.
pub fn everything(start_revision: i64) -> pb::WatchCreateRequest {
    let every_key = Bytes::from_static(b"\0");
    let (key, range_end) = (every_key.clone(), every_key);
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        prev_kv: true,
        fragment: true,
        ..Default::default()
    }
}

/// What a watch that asked for `request`, and was created at `created_at`, must bring of `history`.
pub fn expected(
    history: &[Event],
    request: &pb::WatchCreateRequest,
    created_at: i64,
) -> Vec<Event> {
    let start = if request.start_revision == 0 {
        created_at + 1
    } else {
        request.start_revision
    };
    let selected = history
        .iter()
        .filter(|event| mod_revision(event) >= start && selects(request, event));
    selected
        .map(|event| Event {
            prev_kv: event.prev_kv.clone().filter(|_| request.prev_kv),
            ..event.clone()
        })
        .collect()
}

fn selects(request: &pb::WatchCreateRequest, event: &Event) -> bool {
    let filter = match event.r#type() {
        EventType::Put => FilterType::Noput,
        EventType::Delete => FilterType::Nodelete,
    };
    let key = event
        .kv
        .as_ref()
        .map_or(&b""[..], |KeyValue { key, .. }| key);
    // No key means the first one there can be.
    let from = if request.key.is_empty() {
        &b"\0"[..]
    } else {
        &request.key[..]
    };
    let in_range = match &request.range_end[..] {
        b"" => key == from,
        b"\0" => key >= from,
        end => key >= from && key < end,
    };
    in_range && !request.filters().any(|known| known == filter)
}
