//! Which kinds of objects a server has, and which of them a word of its user's means.

use anyhow::{Context, bail};
use kube::Client;
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};

/// Abbreviations that kubectl's users type.
const SHORT: [(&str, &str); 10] = [
    ("cm", "configmaps"),
    ("deploy", "deployments"),
    ("ep", "endpoints"),
    ("ev", "events"),
    ("no", "nodes"),
    ("ns", "namespaces"),
    ("po", "pods"),
    ("rs", "replicasets"),
    ("sa", "serviceaccounts"),
    ("svc", "services"),
];
/// Groups whose objects are shown as those of another group too, or say nothing but that somebody lives.
const LEFT_OUT: [&str; 2] = ["events.k8s.io", "coordination.k8s.io"];

/// A kind that can be watched.
#[derive(Debug, Clone)]
pub struct Kind {
    pub resource: ApiResource,
    pub is_namespaced: bool,
}

/// All kinds that the server lets one watch.
pub async fn discover(client: Client) -> anyhow::Result<Vec<Kind>> {
    let discovery = Discovery::new(client).exclude(&LEFT_OUT);
    let discovery = discovery
        .run()
        .await
        .context("cannot ask the API server what it has")?;
    let mut kinds = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.supports_operation(verbs::WATCH)
                && capabilities.supports_operation(verbs::LIST)
            {
                kinds.push(Kind {
                    resource,
                    is_namespaced: capabilities.scope == Scope::Namespaced,
                });
            }
        }
    }
    Ok(kinds)
}

/// The kind that is meant by a word: `deployment`, `deployments`, `deploy` or `deployments.apps`.
pub fn resolve<'a>(word: &str, kinds: &'a [Kind]) -> anyhow::Result<&'a Kind> {
    let word = word.to_ascii_lowercase();
    let short = SHORT.iter().find(|(short, _)| *short == word);
    let word = short.map_or(word.as_str(), |(_, plural)| *plural);
    let (plain, group) = word.split_once('.').unwrap_or((word, ""));
    let is_meant = |kind: &&Kind| {
        let resource = &kind.resource;
        (resource.plural == plain || resource.kind.eq_ignore_ascii_case(plain))
            && (group.is_empty() || resource.group == group)
    };
    match kinds.iter().find(is_meant) {
        Some(kind) => Ok(kind),
        None => bail!("the server has no resource type {word:?} that can be watched"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, kind: &str, plural: &str) -> Kind {
        Kind {
            resource: ApiResource {
                group: group.to_owned(),
                version: "v1".to_owned(),
                api_version: format!("{group}/v1"),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
            },
            is_namespaced: true,
        }
    }

    #[test]
    fn a_kind_has_the_names_that_kubectl_knows() {
        let kinds = [
            kind("", "Pod", "pods"),
            kind("apps", "Deployment", "deployments"),
        ];
        for word in [
            "deployment",
            "Deployment",
            "deployments",
            "deploy",
            "deployments.apps",
        ] {
            assert_eq!(
                resolve(word, &kinds).unwrap().resource.kind,
                "Deployment",
                "{word}"
            );
        }
        assert_eq!(resolve("po", &kinds).unwrap().resource.kind, "Pod");
        for word in ["unicorn", "deployments.batch"] {
            assert!(resolve(word, &kinds).is_err(), "{word}");
        }
    }
}
