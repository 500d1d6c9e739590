//! Namespaces: emptied before they go, and given what every namespace has while they are there.
//!
//! [`due`] says what of it shall go next, and [`reconcile`] what a namespace that is being deleted says of what is left, or
//! that it may go; [`run`](run::Namespaces) looks and does it. [`defaults`] keeps the default service account and the root
//! certificate.

pub mod defaults;
mod patience;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::common::conditions;
use crate::common::meta::is_deleted;

pub use run::Namespaces;

/// The finalizer that this controller takes away.
pub const FINALIZER: &str = "kubernetes";

/// What is left of one resource in a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// The resource, as in `deployments.apps`.
    pub resource: String,
    /// How many objects.
    pub count: usize,
    /// How many of them have which finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// How many are not being deleted yet.
    pub untouched: usize,
}

/// What is known of one namespace.
pub struct Observed<'a> {
    /// Itself.
    pub namespace: &'a Namespace,
    /// What is left in it; resources of which nothing is left need not be named.
    pub left: &'a [Left],
    /// Why it is not known what resources there are, if it is not, or not of all groups.
    pub discovery_failure: Option<&'a str>,
    /// What went wrong while looking or deleting, and still matters, in the server's words.
    pub failures: &'a [String],
    /// The time.
    pub now: Timestamp,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write this status.
    SetStatus(NamespaceStatus),
    /// Take our finalizer away: nothing is left.
    Finalize,
}

/// Whether a namespace is being deleted, and waits for us to empty it.
pub fn is_ending(namespace: &Namespace) -> bool {
    let spec = namespace.spec.as_ref();
    let finalizers = spec.and_then(|spec| spec.finalizers.as_ref());
    let ours = finalizers.is_some_and(|all| all.iter().any(|name| name == FINALIZER));
    is_deleted(&namespace.metadata) && ours
}

/// The resources of which all shall be deleted now. Pods go first: whatever they need, a volume or a secret, must outlive
/// them.
pub fn due(left: &[Left]) -> Vec<&str> {
    let has_pods = left
        .iter()
        .any(|left| left.resource == "pods" && left.count > 0);
    let due = left
        .iter()
        .filter(|left| left.untouched > 0 && (!has_pods || left.resource == "pods"));
    due.map(|left| left.resource.as_str()).collect()
}

/// Says what to do about one namespace, once what is [`due`] was asked to go. One that is not being deleted is left alone.
pub fn reconcile(observed: &Observed<'_>) -> Vec<Action> {
    if !is_ending(observed.namespace) {
        return Vec::new();
    }
    let left: Vec<&Left> = observed.left.iter().filter(|left| left.count > 0).collect();
    let mut actions = Vec::new();
    let status = status(observed, &left);
    if observed.namespace.status.as_ref() != Some(&status) {
        actions.push(Action::SetStatus(status));
    }
    if left.is_empty() && observed.discovery_failure.is_none() && observed.failures.is_empty() {
        actions.push(Action::Finalize);
    }
    actions
}

fn status(observed: &Observed<'_>, left: &[&Left]) -> NamespaceStatus {
    let mut status = observed.namespace.status.clone().unwrap_or_default();
    status.phase = Some("Terminating".into());
    let mut set = |kind: &str, bad: Option<(&str, String)>, good: (&str, &str)| {
        let truth = if bad.is_some() { "True" } else { "False" };
        let (reason, message) = bad.unwrap_or((good.0, good.1.into()));
        let condition = NamespaceCondition {
            type_: kind.into(),
            status: truth.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(observed.now)),
        };
        conditions::set_with_message(&mut status.conditions, condition);
    };
    let discovery = observed
        .discovery_failure
        .map(|why| ("DiscoveryFailed", why.to_owned()));
    set(
        "NamespaceDeletionDiscoveryFailure",
        discovery,
        (
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
    );
    set(
        "NamespaceDeletionGroupVersionParsingFailure",
        None,
        (
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
    );
    let failed = (!observed.failures.is_empty()).then(|| {
        let mut failures = observed.failures.to_vec();
        failures.sort();
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            failures.len(),
            failures.join(", "),
        );
        ("ContentDeletionFailed", message)
    });
    set(
        "NamespaceDeletionContentFailure",
        failed,
        (
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
    );
    let remaining = (!left.is_empty()).then(|| {
        let all = left
            .iter()
            .map(|left| format!("{} has {} resource instances", qualified(left), left.count));
        let mut all: Vec<String> = all.collect();
        all.sort();
        let all = all.join(", ");
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {all}"),
        )
    });
    set(
        "NamespaceContentRemaining",
        remaining,
        ("ContentRemoved", "All content successfully removed"),
    );
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, count) in left.iter().flat_map(|left| &left.finalizers) {
        *finalizers.entry(name).or_default() += count;
    }
    let held = (!finalizers.is_empty()).then(|| {
        let all = finalizers
            .iter()
            .map(|(name, count)| format!("{name} in {count} resource instances"));
        let all = all.collect::<Vec<_>>().join(", ");
        let message = format!("Some content in the namespace has finalizers remaining: {all}");
        ("SomeFinalizersRemain", message)
    });
    set(
        "NamespaceFinalizersRemaining",
        held,
        (
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    );
    status
}

/// A resource as Kubernetes prints it here: its group, though it be empty, after a dot.
fn qualified(left: &Left) -> String {
    match left.resource.contains('.') {
        true => left.resource.clone(),
        false => format!("{}.", left.resource),
    }
}
