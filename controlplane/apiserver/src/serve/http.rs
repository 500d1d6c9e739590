//! From an HTTP request to its response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::auth::{self, Attempt, Caller};
use super::body::ReplyBody;
use super::inflight::Inflight;
use super::listener::Answer;
use super::metrics::{Labels, Metrics};
use super::negotiate::{self, Shape};
use super::openapi::OpenApi;
use super::route::{self, Target};
use super::{BODY_BYTES_MAX, absent, discovery, encode, health, reviews, warnings, watch_stream};
use crate::clock;
use crate::rest::{Api, Outcome, Query, Reply, Request, User};
use crate::status::{ApiError, ApiResult};

/// How long anything but a watch may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// The server's side of all connections.
pub struct Server {
    pub(super) api: Arc<Api>,
    pub(super) metrics: Metrics,
    documents: discovery::Documents,
    openapi: OpenApi,
    inflight: Inflight,
    health: health::Probe,
    stop: CancellationToken,
}

impl Answer for Server {
    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        caller: &Caller,
    ) -> Response<ReplyBody> {
        self.answer_any(request, caller).await
    }
}

/// A request without its body.
struct Head {
    method: String,
    path: String,
    query: Query,
    headers: HeaderMap,
    user: User,
}

impl Head {
    fn header(&self, name: header::HeaderName) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Server {
    /// Serves `api`, so many requests at a time. Watches end at `stop`.
    pub fn new(api: Arc<Api>, inflight: Inflight, stop: CancellationToken) -> Server {
        Server {
            api,
            metrics: Metrics::default(),
            documents: discovery::Documents::new(),
            openapi: OpenApi::default(),
            inflight,
            health: health::Probe::default(),
            stop,
        }
    }

    async fn answer_any(
        &self,
        request: hyper::Request<Incoming>,
        caller: &Caller,
    ) -> Response<ReplyBody> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let mut head = Head {
            method: parts.method.as_str().to_owned(),
            path: parts.uri.path().to_owned(),
            query: Query::parse(parts.uri.query().unwrap_or("")),
            headers: parts.headers,
            user: User::anonymous(),
        };
        let target = route::target(&head.path);
        let labels = Labels::of(&head.method, target.as_ref(), head.query.flag("watch"));
        let user = caller
            .user(clock::now_s())
            .and_then(|user| auth::authenticate(&head.headers, user, &*self.api.caches));
        let answered = match (user, &target) {
            (Err(error), _) => Err(error),
            (Ok(user), Some(target)) => {
                head.user = user;
                self.answer_resource(&head, target, body).await
            }
            (Ok(user), None) => {
                head.user = user;
                self.answer_path(&head, body).await
            }
        };
        let response = answered.unwrap_or_else(|error| failure(&error));
        self.metrics
            .observe(labels, response.status(), began.elapsed());
        response
    }

    async fn answer_resource(
        &self,
        head: &Head,
        target: &Target,
        body: Incoming,
    ) -> ApiResult<Response<ReplyBody>> {
        let verb = target.verb(&head.method, head.query.flag("watch"));
        let resource_path = match target.subresource.as_str() {
            "" => target.resource.clone(),
            part => format!("{}/{part}", target.resource),
        };
        auth::authorize(
            &head.user,
            &Attempt::Resource {
                verb: verb.to_owned(),
                group: target.group.clone(),
                resource: resource_path,
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                fields: head.query.get("fieldSelector").to_owned(),
            },
            &*self.api.caches,
        )?;
        let _turn = self.inflight.turn(verb).await?;
        let accept = head.header(header::ACCEPT);
        if let Some(review) = reviews::find(target) {
            let request = self.review_request(head, target, body).await?;
            let value = reviews::answer(review, verb, &request)?;
            return Ok(json_response(StatusCode::CREATED, &value));
        }
        if !self.documents.knows(&target.group, &target.version) {
            return Ok(not_found());
        }
        let Some((resource, subresource)) = target.find() else {
            return Err(absent::why(target));
        };
        if !target.can_be(verb, resource) {
            return Err(ApiError::method_not_allowed());
        }
        let shape = negotiate::shape(accept, head.query.get("includeObject"))?;
        let request = Request {
            user: head.user.clone(),
            resource,
            subresource,
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            query: head.query.clone(),
            content_type: content_type(head),
            body: read_body(head, body).await?,
            user_agent: head.header(header::USER_AGENT).to_owned(),
        };
        let outcome = tokio::time::timeout(REQUEST_MAX, self.api.handle(verb, &request))
            .await
            .map_err(|_| {
                ApiError::timeout("Timeout: request did not complete within the allotted timeout")
            })??;
        Ok(self.respond(outcome, shape))
    }

    async fn review_request(
        &self,
        head: &Head,
        target: &Target,
        body: Incoming,
    ) -> ApiResult<reviews::ReviewRequest<'_>> {
        Ok(reviews::ReviewRequest {
            cluster: &*self.api.caches,
            user: head.user.clone(),
            namespace: target.namespace.clone(),
            content_type: content_type(head),
            body: read_body(head, body).await?,
        })
    }

    async fn answer_path(&self, head: &Head, body: Incoming) -> ApiResult<Response<ReplyBody>> {
        drop(body);
        let path = head.path.trim_end_matches('/');
        auth::authorize(
            &head.user,
            &Attempt::Path {
                verb: head.method.to_lowercase(),
                path: if path.is_empty() {
                    "/".to_owned()
                } else {
                    path.to_owned()
                },
            },
            &*self.api.caches,
        )?;
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            return Err(ApiError::method_not_allowed());
        }
        let accept = head.header(header::ACCEPT);
        if let Some(report) = health::report(&self.health, &self.api, path, &head.query) {
            return Ok(health::respond(report.await));
        }
        if path == "/metrics" {
            let text = self.metrics.text(&self.api);
            return Ok(text_response(
                StatusCode::OK,
                &text,
                super::metrics::CONTENT_TYPE,
            ));
        }
        if path == "/version" {
            return Ok(json_response(StatusCode::OK, &discovery::version()));
        }
        let known = head.header(header::IF_NONE_MATCH);
        if let Some(document) = self.openapi.respond(path, &head.query, accept, known) {
            return Ok(document);
        }
        if let Some(document) = self.documents.find(path, negotiate::aggregated(accept)) {
            return Ok(document.respond(known));
        }
        Ok(not_found())
    }

    fn respond(&self, outcome: Outcome, shape: Shape) -> Response<ReplyBody> {
        let mut response = match outcome.reply {
            Reply::Object {
                code,
                resource,
                object,
            } => json_response(status(code), &encode::object(resource, object, shape)),
            Reply::Value { code, value } => json_response(status(code), &value),
            Reply::List(list) => response(
                StatusCode::OK,
                "application/json",
                encode::list(list, shape),
            ),
            Reply::FailedWatch(error) => {
                let line = encode::error_event(&error.status());
                let body = ReplyBody::Whole(Some(line));
                response(StatusCode::OK, "application/json", body)
            }
            Reply::Watch(watch) => {
                let lines = watch_stream::lines(*watch, shape, self.stop.clone());
                response(
                    StatusCode::OK,
                    "application/json",
                    ReplyBody::Stream(Box::pin(lines)),
                )
            }
        };
        warn(&mut response, outcome.warnings.iter().map(String::as_str));
        response
    }
}

fn content_type(head: &Head) -> String {
    let header = head.header(header::CONTENT_TYPE);
    header.split(';').next().unwrap_or("").trim().to_owned()
}

async fn read_body(head: &Head, body: Incoming) -> ApiResult<Bytes> {
    if matches!(head.method.as_str(), "GET" | "HEAD") {
        return Ok(Bytes::new());
    }
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(REQUEST_MAX, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(BODY_BYTES_MAX))
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!(
            "the body could not be read: {error}"
        ))),
        Err(_) => Err(ApiError::timeout(
            "Timeout: the body did not arrive in time",
        )),
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A response with a body of a type.
pub(super) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: ReplyBody,
) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// A response of one JSON value.
pub(super) fn json_response(status: StatusCode, value: &Value) -> Response<ReplyBody> {
    let body = ReplyBody::Whole(Some(encode::json_bytes(value)));
    response(status, "application/json", body)
}

/// A response of plain text.
pub(super) fn text_response(
    status: StatusCode,
    text: &str,
    content_type: &'static str,
) -> Response<ReplyBody> {
    let body = ReplyBody::Whole(Some(Bytes::copy_from_slice(text.as_bytes())));
    let mut response = response(status, content_type, body);
    let sniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, sniff);
    response
}

/// What a path that leads nowhere gets.
fn not_found() -> Response<ReplyBody> {
    text_response(
        StatusCode::NOT_FOUND,
        "404 page not found\n",
        "text/plain; charset=utf-8",
    )
}

fn failure(error: &ApiError) -> Response<ReplyBody> {
    let mut response = json_response(status(error.code()), &error.status());
    if let Some(seconds) = error.retry_after_s() {
        let value = HeaderValue::from(seconds);
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    warn(&mut response, error.warning());
    response
}

fn warn<'a>(response: &mut Response<ReplyBody>, texts: impl IntoIterator<Item = &'a str>) {
    for value in warnings::headers(texts) {
        response.headers_mut().append(header::WARNING, value);
    }
}
