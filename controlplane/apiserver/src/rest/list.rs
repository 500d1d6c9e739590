//! Lists and watches.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use super::api::parse_revision;
use super::{Api, Outcome, Reply, Request, WatchReply};
use crate::cache::{Entry, Scope, Snapshot, Start, Watcher, Within};
use crate::resources::Resource;
use crate::selector::{FieldSelector, LabelSelector, Selector};
use crate::status::{ApiError, ApiResult, FieldError};
use crate::storage::{Continue, Revision, StoreError};

/// How many objects are read at a time, to find those that are selected.
const STORE_PAGE: i64 = 500;
/// No watch lasts longer, whatever its client asks for.
const WATCH_MAX: Duration = Duration::from_secs(86_400);

/// Objects at one revision.
pub struct ListReply {
    /// In which form they are shown.
    pub resource: &'static Resource,
    /// The revision.
    pub revision: Revision,
    /// In the order of their keys.
    pub items: Vec<Arc<Entry>>,
    /// To go on with.
    pub continue_token: Option<String>,
    /// How many follow, where that is known.
    pub remaining: Option<i64>,
}

/// What a list may be read at.
enum At {
    /// The revision of the request, or later.
    Latest,
    /// Anything not older.
    NotOlderThan(Revision),
    /// That one only, from a key on.
    Exact(Revision, Option<String>),
}

impl Api {
    pub(super) async fn list(&self, request: &Request) -> ApiResult<Outcome> {
        Ok(Reply::List(self.list_reply(request).await?).into())
    }

    pub(super) async fn list_reply(&self, request: &Request) -> ApiResult<ListReply> {
        let scope = scope(request)?;
        let limit = request.query.number("limit")?.unwrap_or(0).max(0) as usize;
        match read_at(request)? {
            At::Exact(revision, from) => {
                let from = from.as_deref();
                self.list_store(request, &scope, revision, from, limit)
                    .await
            }
            At::NotOlderThan(revision) => {
                self.caches.wait_for(revision).await?;
                Ok(self.list_cache(request.resource, &scope, limit))
            }
            At::Latest => {
                self.caches.catch_up().await?;
                Ok(self.list_cache(request.resource, &scope, limit))
            }
        }
    }

    fn list_cache(&self, resource: &'static Resource, scope: &Scope, limit: usize) -> ListReply {
        let snapshot = self.caches.of(resource).snapshot();
        let mut selected = snapshot.select(scope, None);
        if limit == 0 {
            return ListReply {
                resource,
                revision: snapshot.revision,
                items: selected.cloned().collect(),
                continue_token: None,
                remaining: None,
            };
        }
        let items: Vec<Arc<Entry>> = selected.by_ref().take(limit).cloned().collect();
        let more = selected.count();
        let last = items.last().filter(|_| more > 0);
        let prefix = keys_of(resource, &scope.within);
        ListReply {
            resource,
            revision: snapshot.revision,
            continue_token: last.map(|last| {
                let key = format!("{}{}", resource.prefix(), last.key());
                Continue::after(&key, Some(snapshot.revision)).encode(&prefix)
            }),
            remaining: last
                .filter(|_| scope.selector.is_everything())
                .map(|_| more as i64),
            items,
        }
    }

    /// A list at a revision that may be in the past; at 0, now.
    async fn list_store(
        &self,
        request: &Request,
        scope: &Scope,
        revision: Revision,
        from: Option<&str>,
        limit: usize,
    ) -> ApiResult<ListReply> {
        let resource = request.resource;
        let all = resource.prefix();
        let prefix = keys_of(resource, &scope.within);
        let cached = self.caches.of(resource).snapshot();
        let mut start = from.map(str::to_owned);
        let mut at = revision;
        let mut items: Vec<Arc<Entry>> = Vec::new();
        loop {
            let want = match limit {
                0 => STORE_PAGE,
                limit if scope.selector.is_everything() => (limit - items.len()) as i64,
                _ => STORE_PAGE,
            };
            let page = match self.store.list(&prefix, start.as_deref(), want, at).await {
                Ok(page) => page,
                Err(StoreError::Compacted) => {
                    // From where this request began: what was read of it before is not answered.
                    let token = from.map(|start| {
                        Continue {
                            revision: None,
                            start: start.to_owned(),
                        }
                        .encode(&prefix)
                    });
                    return Err(ApiError::continue_expired(token));
                }
                Err(StoreError::Future) => {
                    let current = self.caches.reached();
                    return Err(ApiError::too_large_resource_version(revision, current));
                }
                Err(error) => return Err(error.into()),
            };
            // All pages are of the first one's revision.
            at = page.revision;
            let mut left = page.count - page.items.len() as i64;
            let count = page.items.len();
            let last = page.items.last().map(|last| last.key.clone());
            for (number, stored) in page.items.into_iter().enumerate() {
                let key = stored.key.strip_prefix(&all).unwrap_or(&stored.key);
                // What has not changed since is not kept twice.
                let cached = cached
                    .get(key)
                    .filter(|one| one.revision() == stored.revision);
                let entry = cached.cloned().or_else(|| {
                    Entry::of_stored(resource, key, stored.revision, &stored.value).map(Arc::new)
                });
                let Some(entry) = entry.filter(|one| one.is_selected(resource, &scope.selector))
                else {
                    continue;
                };
                items.push(entry);
                let behind = count - number - 1;
                if items.len() == limit && (behind > 0 || page.more) {
                    left += behind as i64;
                    return Ok(ListReply {
                        resource,
                        revision: at,
                        items,
                        continue_token: Some(
                            Continue::after(&stored.key, Some(at)).encode(&prefix),
                        ),
                        remaining: scope.selector.is_everything().then_some(left),
                    });
                }
            }
            match last {
                Some(last) if page.more => start = Some(format!("{last}\0")),
                _ => {
                    return Ok(ListReply {
                        resource,
                        revision: at,
                        items,
                        continue_token: None,
                        remaining: None,
                    });
                }
            }
        }
    }

    pub(super) async fn watch(&self, request: &Request) -> ApiResult<Outcome> {
        let scope = scope(request)?;
        let query = &request.query;
        let asked = query.get("resourceVersion");
        let initial = query.flag("sendInitialEvents");
        check_streaming(request)?;
        let revision = match asked {
            "" => 0,
            asked => parse_revision(asked)?,
        };
        let timeout = match query.number("timeoutSeconds")? {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds as u64).min(WATCH_MAX),
            // Not all at the same time, or they would all come back at the same time.
            _ => self
                .options
                .watch_at_least
                .mul_f64(1.0 + rand::rng().random::<f64>()),
        };
        // What is wrong with the request itself is refused; what fails from here on is told as an event, as ever.
        let (watcher, snapshot) = match self.begin_watch(request, scope, revision).await {
            Ok(begun) => begun,
            Err(error) => return Ok(Reply::FailedWatch(error).into()),
        };
        Ok(Reply::Watch(Box::new(WatchReply {
            resource: request.resource,
            initial: snapshot,
            marks_initial_end: initial,
            bookmarks: query.flag("allowWatchBookmarks"),
            watcher,
            timeout,
        }))
        .into())
    }

    async fn begin_watch(
        &self,
        request: &Request,
        scope: Scope,
        revision: Revision,
    ) -> ApiResult<(Watcher, Option<Snapshot>)> {
        let query = &request.query;
        let is_unset = query.get("resourceVersion").is_empty();
        let initial = query.flag("sendInitialEvents");
        // Caches that are filled later would end the watch.
        self.caches.wait_for(0).await?;
        let start = if query.has("sendInitialEvents") {
            match is_unset && initial {
                // Everything, and no older than this request.
                true => {
                    self.caches.catch_up().await?;
                }
                false => self.caches.wait_for(revision).await?,
            }
            match (initial, revision) {
                (true, _) => Start::Everything,
                (false, 0) => Start::After(self.caches.catch_up().await?),
                (false, revision) => Start::After(revision),
            }
        } else if revision == 0 {
            // What Kubernetes has always done: whatever is there first; as old as it may be, at 0.
            if is_unset {
                self.caches.catch_up().await?;
            }
            Start::Everything
        } else {
            Start::After(revision)
        };
        Watcher::begin(self.caches.of(request.resource), scope, start)
    }
}

/// What the keys of a list begin with. Tokens are relative to it, so that none leads into another namespace.
fn keys_of(resource: &Resource, within: &Within) -> String {
    match within {
        Within::Everywhere => resource.prefix(),
        Within::Namespace(namespace) => format!("{}{namespace}/", resource.prefix()),
    }
}

fn scope(request: &Request) -> ApiResult<Scope> {
    let labels = LabelSelector::parse(request.query.get("labelSelector"))?;
    let asked = FieldSelector::parse(request.query.get("fieldSelector"))?;
    let fields = match request.name.as_str() {
        "" => asked,
        // A watch of one object's path. A selector of others is not passed over: rights may have been given for it.
        name if asked.is_everything() => FieldSelector::name(name),
        name if asked.exact("metadata.name") == Some(name) => asked,
        _ => {
            let why = "fieldSelector metadata.name doesn't match requested name";
            return Err(ApiError::bad_request(why));
        }
    };
    fields.check(&request.resource.field_names())?;
    Ok(Scope {
        within: Within::of_request(&request.namespace),
        selector: Selector { labels, fields },
    })
}

fn list_options(field: &str, why: &str) -> ApiError {
    let error = FieldError::forbidden(field, why);
    ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error])
}

fn read_at(request: &Request) -> ApiResult<At> {
    let query = &request.query;
    let (asked, matching) = (
        query.get("resourceVersion"),
        query.get("resourceVersionMatch"),
    );
    if query.has("sendInitialEvents") {
        let why = "sendInitialEvents is forbidden for list";
        return Err(list_options("sendInitialEvents", why));
    }
    let token = query.get("continue");
    if !token.is_empty() {
        if !matching.is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            return Err(list_options("resourceVersionMatch", why));
        }
        if !matches!(asked, "" | "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let prefix = keys_of(request.resource, &Within::of_request(&request.namespace));
        let token = Continue::decode(token, &prefix)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        return Ok(At::Exact(token.revision.unwrap_or(0), Some(token.start)));
    }
    match (asked, matching) {
        ("", "") => Ok(At::Latest),
        ("", _) => Err(list_options(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        ("0", "Exact") => Err(list_options(
            "resourceVersionMatch",
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        (asked, "Exact") => Ok(At::Exact(parse_revision(asked)?, None)),
        // Whoever asked for a page of a revision has always got that one.
        (asked, "") if asked != "0" && query.number("limit")?.unwrap_or(0) > 0 => {
            Ok(At::Exact(parse_revision(asked)?, None))
        }
        (asked, "" | "NotOlderThan") => Ok(At::NotOlderThan(parse_revision(asked)?)),
        (_, other) => {
            let known = ["Exact", "NotOlderThan", ""];
            let error = FieldError::not_supported("resourceVersionMatch", other, &known);
            Err(ApiError::invalid(
                "meta.k8s.io",
                "ListOptions",
                "",
                &[error],
            ))
        }
    }
}

fn check_streaming(request: &Request) -> ApiResult<()> {
    let query = &request.query;
    let matching = query.get("resourceVersionMatch");
    if query.has("sendInitialEvents") {
        if matching != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(list_options("resourceVersionMatch", why));
        }
        if !query.flag("allowWatchBookmarks") && query.flag("sendInitialEvents") {
            let why = "sendInitialEvents requires setting allowWatchBookmarks to true";
            return Err(list_options("allowWatchBookmarks", why));
        }
    } else if !matching.is_empty() {
        let why =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return Err(list_options("resourceVersionMatch", why));
    }
    Ok(())
}
