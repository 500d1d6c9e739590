//! Following one kind: everything that there is, and then every change, for ever.
//!
//! The runtime's own watcher begins a streaming list at any revision that the server has cached. That may be older than
//! what this process' predecessor wrote before it was killed, and whoever counts pods in it creates them twice. So the
//! list here is always of now: a watch that begins at no revision in particular, or a list that does.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::runtime::watcher::Event;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::error::message;

/// How long a watch lasts; the server then ends it, and it is taken up where it was.
const WATCH_SECONDS: u32 = 290;
/// A watch of which nothing is heard for this long, not even its end, has lost its connection.
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
/// So has one of a server that sends bookmarks, which it does once a minute.
const SILENCE_BETWEEN_BOOKMARKS_MAX: Duration = Duration::from_secs(90);
/// So has a list that goes no further.
const SILENCE_IN_LIST_MAX: Duration = Duration::from_secs(30);
/// A watch that ends sooner than this is not taken up again at once, and is no reason to think that all is well.
const SHORT: Duration = Duration::from_secs(1);
/// Nor is one that expires sooner than this: what it costs is a list of everything.
const SHORT_FOR_A_LIST: Duration = Duration::from_secs(5);
const PAGE: u32 = 500;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const INITIAL_END: &str = "k8s.io/initial-events-end";

type Stream<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

/// Why a list or a watch has ended.
enum End {
    /// The server has no history from there: list again.
    Expired,
    /// The server has no streaming lists.
    NoStreaming,
    /// Something else: go on from where it was, after a pause.
    Broken(String),
    /// As it should, after its time.
    Quiet,
}

impl From<kube::Error> for End {
    fn from(error: kube::Error) -> End {
        match &error {
            kube::Error::Api(status) if status.code == 410 => End::Expired,
            _ => End::Broken(message(&error)),
        }
    }
}

/// The follower of one kind.
pub struct Follow<K> {
    api: Api<K>,
    fields: Option<String>,
    streaming: bool,
    /// The server is known to send bookmarks. One that has streaming lists does.
    bookmarks: bool,
    backoff: Duration,
}

impl<K> Follow<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    pub fn new(api: Api<K>, fields: Option<String>) -> Self {
        Follow {
            api,
            fields,
            streaming: true,
            bookmarks: false,
            backoff: BACKOFF_MIN,
        }
    }

    /// Tells everything, in order, for ever. After every list, whatever was told before and is not in it is gone.
    pub async fn run(mut self, mut tell: impl FnMut(Event<K>)) {
        loop {
            tell(Event::Init);
            let listed = if self.streaming {
                self.list_by_watch(&mut tell).await
            } else {
                self.list(&mut tell).await.map(|version| (version, None))
            };
            match listed {
                Ok((version, stream)) => {
                    tell(Event::InitDone);
                    self.bookmarks |= stream.is_some();
                    self.watch(version, stream, &mut tell).await;
                    self.pause("the watch has expired").await;
                }
                Err(End::NoStreaming) => self.streaming = false,
                Err(End::Broken(why)) => self.pause(&why).await,
                Err(End::Expired | End::Quiet) => self.pause("the list has expired").await,
            }
        }
    }

    /// Lists by a watch that tells first what there is: it costs the server no second copy of everything.
    async fn list_by_watch(
        &self,
        tell: &mut impl FnMut(Event<K>),
    ) -> Result<(String, Option<Stream<K>>), End> {
        let params = self.watch_params().initial_events();
        let mut stream = match self.api.watch(&params, "").await {
            Ok(stream) => stream.boxed(),
            // 422 with the feature off; 400 from a server that does not know it.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                debug!(
                    url = self.api.resource_url(),
                    "no streaming lists: listing instead"
                );
                return Err(End::NoStreaming);
            }
            Err(error) => return Err(error.into()),
        };
        loop {
            match next(&mut stream, SILENCE_IN_LIST_MAX).await? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    tell(Event::InitApply(object));
                }
                WatchEvent::Bookmark(mark)
                    if mark.metadata.annotations.contains_key(INITIAL_END) =>
                {
                    return Ok((mark.metadata.resource_version, Some(stream)));
                }
                WatchEvent::Bookmark(_) => (),
                WatchEvent::Deleted(object) => {
                    let name = object.name_any();
                    return Err(End::Broken(format!(
                        "{name} was deleted from an initial list"
                    )));
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            }
        }
    }

    async fn list(&self, tell: &mut impl FnMut(Event<K>)) -> Result<String, End> {
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector = self.fields.clone();
        loop {
            let page = self.api.list(&params).await?;
            page.items
                .into_iter()
                .for_each(|object| tell(Event::InitApply(object)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(page.metadata.resource_version.unwrap_or_default()),
            }
        }
    }

    /// Watches from `version` on, until the server has no history from there any more.
    async fn watch(
        &mut self,
        mut version: String,
        mut stream: Option<Stream<K>>,
        tell: &mut impl FnMut(Event<K>),
    ) {
        loop {
            let begun = Instant::now();
            let end = match stream.take() {
                Some(stream) => self.drain(stream, &mut version, tell).await,
                None => match self.api.watch(&self.watch_params(), &version).await {
                    Ok(stream) => self.drain(stream.boxed(), &mut version, tell).await,
                    Err(error) => error.into(),
                },
            };
            let held_for_long = match end {
                End::Expired => SHORT_FOR_A_LIST,
                _ => SHORT,
            };
            if begun.elapsed() >= held_for_long {
                self.backoff = BACKOFF_MIN;
            }
            match end {
                End::Expired => {
                    debug!(
                        url = self.api.resource_url(),
                        "the watch has expired: listing again"
                    );
                    return;
                }
                End::Broken(why) => self.pause(&why).await,
                // A server that goes down ends watches as soon as they begin.
                End::Quiet | End::NoStreaming if begun.elapsed() < SHORT => {
                    self.pause("the watch has ended at once").await;
                }
                End::Quiet | End::NoStreaming => (),
            }
        }
    }

    async fn drain(
        &mut self,
        mut stream: Stream<K>,
        version: &mut String,
        tell: &mut impl FnMut(Event<K>),
    ) -> End {
        loop {
            let silence_max = match self.bookmarks {
                true => SILENCE_BETWEEN_BOOKMARKS_MAX,
                false => SILENCE_MAX,
            };
            let event = match next(&mut stream, silence_max).await {
                Ok(event) => event,
                Err(end) => return end,
            };
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *version = object.resource_version().unwrap_or_default();
                    tell(Event::Apply(object));
                }
                WatchEvent::Deleted(object) => {
                    *version = object.resource_version().unwrap_or_default();
                    tell(Event::Delete(object));
                }
                WatchEvent::Bookmark(mark) => {
                    self.bookmarks = true;
                    *version = mark.metadata.resource_version;
                }
                WatchEvent::Error(status) => return kube::Error::Api(status).into(),
            }
        }
    }

    fn watch_params(&self) -> WatchParams {
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        match &self.fields {
            Some(fields) => params.fields(fields),
            None => params,
        }
    }

    async fn pause(&mut self, why: &str) {
        // The first is often the end of an old connection, and says nothing.
        if self.backoff > BACKOFF_MIN * 4 {
            warn!(url = self.api.resource_url(), why, "cannot watch");
        }
        // Not all kinds at the same time.
        tokio::time::sleep(self.backoff.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

async fn next<K>(stream: &mut Stream<K>, silence_max: Duration) -> Result<WatchEvent<K>, End> {
    match tokio::time::timeout(silence_max, stream.try_next()).await {
        Err(_) => Err(End::Broken("nothing was heard for too long".into())),
        Ok(Ok(None)) => Err(End::Quiet),
        Ok(Ok(Some(event))) => Ok(event),
        Ok(Err(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
