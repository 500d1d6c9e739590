//! A watch stream to one server, recorded.

use std::fmt;

use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb::Event;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::mod_revision;
use super::record::{Control, NO_WATCH, Record};
use crate::client::Client;
use crate::wait;

/// One watch stream to one server, and all that came on it.
pub struct Session {
    name: &'static str,
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    record: Record,
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
        let record = Record::default();
        let mut session = Session {
            name,
            requests,
            responses,
            record,
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
        let controls = &self.record.watch(watch_id).controls;
        if let Some(canceled) = controls.iter().find(|control| control.canceled) {
            return canceled.clone();
        }
        self.control("the end of a watch", |control| {
            control.canceled && control.watch_id == watch_id
        })
        .await
    }

    /// Waits until the watch has brought that many events.
    pub async fn wait_events(&mut self, watch_id: i64, count: usize) -> &[Event] {
        self.wait_watched(watch_id, &format!("{count} events"), |events| {
            events.len() >= count
        })
        .await
    }

    /// Waits until the watch has brought an event of `revision` or a later one.
    pub async fn wait_revision(&mut self, watch_id: i64, revision: i64) -> &[Event] {
        self.wait_watched(
            watch_id,
            &format!("an event of revision {revision}"),
            |events| {
                events
                    .last()
                    .is_some_and(|event| mod_revision(event) >= revision)
            },
        )
        .await
    }

    async fn wait_watched(
        &mut self,
        watch_id: i64,
        what: &str,
        enough: impl Fn(&[Event]) -> bool,
    ) -> &[Event] {
        let deadline = tokio::time::Instant::now() + wait::SOON;
        while !enough(&self.record.watch(watch_id).events) {
            let Ok(response) = tokio::time::timeout_at(deadline, self.responses.message()).await
            else {
                let brought = self.record.watch(watch_id);
                panic!(
                    "{}: instead of {what}, watch {watch_id} has brought {brought:#?}",
                    self.name
                );
            };
            self.absorb(response);
        }
        &self.record.watch(watch_id).events
    }

    /// Waits for a response that notifies of progress on this watch; gives the header's revision.
    pub async fn wait_progress_notify(&mut self, watch_id: i64) -> i64 {
        let control = self.control("a progress notification", |control| {
            control.watch_id == watch_id && !control.created && !control.canceled
        });
        control.await.header.unwrap_or_default().revision
    }

    /// All that has come so far.
    pub fn record(&self) -> &Record {
        &self.record
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

    fn absorb(
        &mut self,
        response: Result<Option<pb::WatchResponse>, tonic::Status>,
    ) -> Option<Control> {
        let name = self.name;
        let response = response.unwrap_or_else(|e| panic!("{name} broke the watch stream: {e}"));
        let response = response.unwrap_or_else(|| panic!("{name} ended the watch stream"));
        self.record
            .absorb(response)
            .unwrap_or_else(|wrong| panic!("{name}: {wrong}"))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.name)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}
