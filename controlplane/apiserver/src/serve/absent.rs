//! What Kubernetes has at a path, and this server not yet: why, for those who would otherwise read "could not find the
//! requested resource" of something that every Kubernetes has.

use super::route::Target;
use crate::status::ApiError;

/// The answer for a path of the API's form at which nothing is.
pub fn why(target: &Target) -> ApiError {
    let name = &target.name;
    let path = (
        target.group.as_str(),
        target.resource.as_str(),
        target.subresource.as_str(),
    );
    match path {
        ("", "pods", "exec" | "attach") => ApiError::not_implemented(format!(
            "nothing can be run in pod {name:?}, nor joined there: nodes are hollow, and run nothing"
        )),
        ("", "pods", "portforward") => ApiError::not_implemented(format!(
            "no port of pod {name:?} can be reached: nodes are hollow, and run nothing"
        )),
        ("", "serviceaccounts", "token") => ApiError::not_implemented(format!(
            "service account {name:?} cannot be given a token: there are none yet, and clients have certificates"
        )),
        _ => ApiError::no_such_resource(),
    }
}
