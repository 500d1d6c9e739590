//! Reviews: questions about users and rights, which are asked by creating an object that is stored nowhere.

use bytes::Bytes;
use serde_json::{Value, json};

use super::auth::{self, Attempt, Cluster, MASTERS, NodeRule};
use super::route::Target;
use crate::clock;
use crate::resources::EVERY_VERB;
use crate::rest::{User, codec};
use crate::status::{ApiError, ApiResult, FieldError};
use crate::value;

/// A kind of question.
pub struct Review {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub namespaced: bool,
    ask: fn(&ReviewRequest<'_>, &Value) -> ApiResult<Value>,
}

/// A question and who asks it.
pub struct ReviewRequest<'a> {
    pub cluster: &'a dyn Cluster,
    pub user: User,
    pub namespace: String,
    pub content_type: String,
    pub body: Bytes,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// What can be asked.
pub static REVIEWS: &[Review] = &[
    Review {
        group: AUTHENTICATION,
        version: "v1",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        namespaced: false,
        ask: who_am_i,
    },
    Review {
        group: AUTHENTICATION,
        version: "v1",
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        namespaced: false,
        ask: whose_token,
    },
    Review {
        group: AUTHORIZATION,
        version: "v1",
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        namespaced: true,
        ask: may_somebody,
    },
    Review {
        group: AUTHORIZATION,
        version: "v1",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        namespaced: false,
        ask: may_i,
    },
    Review {
        group: AUTHORIZATION,
        version: "v1",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        namespaced: false,
        ask: what_may_i,
    },
    Review {
        group: AUTHORIZATION,
        version: "v1",
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        namespaced: false,
        ask: may_somebody,
    },
];

/// The review of a path.
pub fn find(target: &Target) -> Option<&'static Review> {
    REVIEWS
        .iter()
        .find(|review| {
            (review.group, review.version, review.plural)
                == (&target.group, &target.version, &target.resource)
                && review.namespaced != target.namespace.is_empty()
        })
        .filter(|_| target.name.is_empty())
}

/// Answers a question.
pub fn answer(review: &Review, verb: &str, request: &ReviewRequest<'_>) -> ApiResult<Value> {
    if verb != "create" {
        return Err(ApiError::method_not_allowed());
    }
    let gvk = (review.group, review.version, review.kind);
    let asked = codec::decode_bytes(
        &request.body,
        &request.content_type,
        gvk,
        codec::FieldValidation::Ignore,
    )?
    .0;
    (review.ask)(request, &asked)
}

fn user_info(user: &User) -> Value {
    json!({"username": user.name, "groups": user.groups})
}

fn who_am_i(request: &ReviewRequest<'_>, asked: &Value) -> ApiResult<Value> {
    let mut answer = asked.clone();
    value::set(
        &mut answer,
        &["metadata", "creationTimestamp"],
        clock::now_rfc3339(),
    );
    value::set(
        &mut answer,
        &["status"],
        json!({"userInfo": user_info(&request.user)}),
    );
    Ok(answer)
}

fn whose_token(_: &ReviewRequest<'_>, asked: &Value) -> ApiResult<Value> {
    if value::str_at(asked, &["spec", "token"]).is_empty() {
        let error = FieldError::required("spec.token", "");
        return Err(ApiError::bad_request(format!(
            "token is required for TokenReview in authentication: {error}"
        )));
    }
    let mut answer = asked.clone();
    // No token is anybody's yet.
    value::set(
        &mut answer,
        &["status"],
        json!({"authenticated": false, "user": {}}),
    );
    Ok(answer)
}

fn may_i(request: &ReviewRequest<'_>, asked: &Value) -> ApiResult<Value> {
    verdict(
        "SelfSubjectAccessReview",
        &request.user,
        asked,
        request.cluster,
    )
}

fn may_somebody(request: &ReviewRequest<'_>, asked: &Value) -> ApiResult<Value> {
    let kind = value::str_at(asked, &["kind"]).to_owned();
    let groups: Vec<String> = value::list_at(asked, &["spec", "groups"])
        .iter()
        .filter_map(|group| group.as_str().map(str::to_owned))
        .collect();
    let name = value::str_at(asked, &["spec", "user"]).to_owned();
    if name.is_empty() && groups.is_empty() {
        let error = FieldError::required(
            "spec.user",
            "at least one of user or group must be specified",
        );
        return Err(ApiError::invalid(AUTHORIZATION, &kind, "", &[error]));
    }
    let asks_in = value::str_at(asked, &["spec", "resourceAttributes", "namespace"]);
    if !request.namespace.is_empty() && asks_in != request.namespace {
        let error = FieldError::invalid(
            "spec.resourceAttributes.namespace",
            asks_in,
            "must match metadata.namespace",
        );
        return Err(ApiError::invalid(AUTHORIZATION, &kind, "", &[error]));
    }
    verdict(&kind, &User { name, groups }, asked, request.cluster)
}

fn verdict(kind: &str, user: &User, asked: &Value, cluster: &dyn Cluster) -> ApiResult<Value> {
    let attempt = attempt(asked).ok_or_else(|| {
        let error = FieldError::invalid(
            "spec.resourceAttributes",
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        );
        ApiError::invalid(AUTHORIZATION, kind, "", &[error])
    })?;
    let mut answer = asked.clone();
    let allowed = auth::is_allowed(user, &attempt, cluster);
    value::set(&mut answer, &["status"], json!({"allowed": allowed}));
    Ok(answer)
}

fn attempt(asked: &Value) -> Option<Attempt> {
    let of = |part: &str| Some(value::at(asked, &["spec", part])).filter(|part| part.is_object());
    match (of("resourceAttributes"), of("nonResourceAttributes")) {
        (Some(resource), None) => {
            let text = |field: &str| value::str_at(resource, &[field]).to_owned();
            let plural = match text("subresource").as_str() {
                "" => text("resource"),
                part => format!("{}/{part}", text("resource")),
            };
            Some(Attempt::Resource {
                verb: text("verb"),
                group: text("group"),
                resource: plural,
                namespace: text("namespace"),
                name: text("name"),
                // What a selector is made of is not looked at: then it is asked for all.
                fields: value::str_at(resource, &["fieldSelector", "rawSelector"]).to_owned(),
            })
        }
        (None, Some(path)) => Some(Attempt::Path {
            verb: value::str_at(path, &["verb"]).to_owned(),
            path: value::str_at(path, &["path"]).to_owned(),
        }),
        _ => None,
    }
}

fn what_may_i(request: &ReviewRequest<'_>, asked: &Value) -> ApiResult<Value> {
    if value::str_at(asked, &["spec", "namespace"]).is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let user = &request.user;
    let rule = |verbs: &[&str], group: &str, resources: &[&str]| json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    let everything: Option<&[&str]> = match (user.is_in(MASTERS), auth::is_component(user)) {
        (true, _) => Some(&["*"]),
        (false, true) => Some(EVERY_VERB),
        (false, false) => None,
    };
    if let Some(verbs) = everything {
        resources.push(rule(verbs, "*", &["*"]));
        paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    let of_node = auth::rules_of_node(user);
    for NodeRule(group, resource, verbs) in of_node {
        resources.push(rule(verbs, group, &[resource]));
    }
    if !user.is_in(MASTERS) {
        let about_oneself = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
        resources.push(rule(&["create"], AUTHORIZATION, &about_oneself));
        resources.push(rule(&["create"], AUTHENTICATION, &["selfsubjectreviews"]));
    }
    paths.push(json!({
        "verbs": ["get"],
        "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
            "/version"],
    }));
    let mut answer = asked.clone();
    value::set(
        &mut answer,
        &["status"],
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": !of_node.is_empty()}),
    );
    if !of_node.is_empty() {
        // A rule cannot say that it holds for the node's own objects only.
        let why = "node authorizer does not support user rule resolution";
        value::set(&mut answer, &["status", "evaluationError"], why);
    }
    Ok(answer)
}
