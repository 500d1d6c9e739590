//! Which nodes a pod wants to be on, and which pods it wants to be with.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

/// Labels, as objects carry them.
pub type Labels = BTreeMap<String, String>;

/// The labels of namespaces, by name.
pub type Namespaces = HashMap<String, Labels>;

/// Alternatives: a node must match one of them.
#[derive(Clone, Debug)]
pub struct Terms(pub Vec<NodeSelectorTerm>);

impl Terms {
    /// Whether a node will do.
    pub fn match_node(&self, name: &str, labels: &Labels) -> bool {
        self.0.iter().any(|term| term_matches(term, name, labels))
    }
}

/// Whether a node matches all of a term. An empty term matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let by_label = |requirement: &NodeSelectorRequirement| {
        meets(
            requirement,
            labels.get(&requirement.key).map(String::as_str),
        )
    };
    let by_field = |requirement: &NodeSelectorRequirement| {
        requirement.key == "metadata.name" && meets(requirement, Some(name))
    };
    expressions.iter().all(by_label) && fields.iter().all(by_field)
}

fn meets(requirement: &NodeSelectorRequirement, has: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_among = |has: &str| values.iter().any(|value| value == has);
    let compare = |holds: fn(&i64, &i64) -> bool| {
        let has = has.and_then(|has| has.parse::<i64>().ok());
        let bound = values.first().and_then(|value| value.parse::<i64>().ok());
        has.zip(bound)
            .is_some_and(|(has, bound)| holds(&has, &bound))
    };
    match requirement.operator.as_str() {
        "In" => has.is_some_and(is_among),
        "NotIn" => !has.is_some_and(is_among),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

/// A set of pods, near which (within one topology domain) a pod wants to be, or not to be.
#[derive(Clone, Debug)]
pub struct PodTerm {
    /// The label of nodes whose value names the domain.
    pub topology_key: String,
    namespaces: Vec<String>,
    /// Which namespaces besides.
    namespace_selector: Option<Selector>,
    selector: Selector,
    /// The same for terms that are about the same pods and domains.
    pub identity: String,
}

impl PodTerm {
    fn new(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> PodTerm {
        let keys = |keys: &Option<Vec<String>>| keys.clone().unwrap_or_default();
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        let by_selector = term.namespace_selector.as_ref();
        if namespaces.is_empty() && by_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        let namespace_selector = by_selector.map(|given| narrowed(Some(given), &[], &[], labels));
        let selector = narrowed(
            term.label_selector.as_ref(),
            &keys(&term.match_label_keys),
            &keys(&term.mismatch_label_keys),
            labels,
        );
        let by_name = namespaces.join(",");
        let by_label = namespace_selector.as_ref().map(Selector::to_string);
        PodTerm {
            identity: format!(
                "{:?}",
                (&term.topology_key, by_name, by_label, selector.to_string())
            ),
            topology_key: term.topology_key.clone(),
            namespaces,
            namespace_selector,
            selector,
        }
    }

    /// Whether a pod with these labels is in the set. A namespace that is not known (yet) has no labels.
    pub fn matches(&self, namespace: &str, labels: &Labels, namespaces: &Namespaces) -> bool {
        let is_named = self.namespaces.iter().any(|named| named == namespace);
        let is_selected = || {
            let nothing = Labels::new();
            let has = namespaces.get(namespace).unwrap_or(&nothing);
            let selector = self.namespace_selector.as_ref();
            selector.is_some_and(|selector| selector.matches(has))
        };
        (is_named || is_selected()) && self.selector.matches(labels)
    }
}

/// A label selector, narrowed to pods that have the same values as `labels` for some keys, or others for some.
/// One that is absent selects nothing.
pub fn narrowed(
    selector: Option<&LabelSelector>,
    same: &[String],
    other: &[String],
    labels: &Labels,
) -> Selector {
    let nothing = || {
        [
            kube::core::Expression::Exists("keelson.invalid/never".into()),
            kube::core::Expression::DoesNotExist("keelson.invalid/never".into()),
        ]
        .into_iter()
        .collect()
    };
    let Some(given) = selector.cloned() else {
        return nothing();
    };
    let Ok(mut selector) = Selector::try_from(given) else {
        return nothing();
    };
    let value = |key: &String| labels.get(key).map(|value| (key.clone(), value.clone()));
    for (key, value) in same.iter().filter_map(value) {
        selector.extend([kube::core::Expression::In(key, [value].into())]);
    }
    for (key, value) in other.iter().filter_map(value) {
        selector.extend([kube::core::Expression::NotIn(key, [value].into())]);
    }
    selector
}

/// What a pod that is there adds for one that it must have near it, as Kubernetes' default has it.
const REQUIRED_WEIGHT: i64 = 1;

/// Everything that a pod says about other pods.
#[derive(Clone, Debug, Default)]
pub struct PodTerms {
    /// A pod of each set must be in the domain.
    pub required: Vec<PodTerm>,
    /// No pod of any set may be in the domain.
    pub forbidden: Vec<PodTerm>,
    /// Sets that earn a node points, or with a negative weight cost it some.
    pub preferred: Vec<(i64, PodTerm)>,
}

impl PodTerms {
    /// Reads them.
    pub fn new(affinity: &Affinity, namespace: &str, labels: &Labels) -> PodTerms {
        let term = |term: &PodAffinityTerm| PodTerm::new(term, namespace, labels);
        let with = affinity.pod_affinity.clone().unwrap_or_default();
        let without = affinity.pod_anti_affinity.clone().unwrap_or_default();
        let required = |terms: Option<Vec<PodAffinityTerm>>| -> Vec<PodTerm> {
            terms.iter().flatten().map(term).collect()
        };
        let likes = with
            .preferred_during_scheduling_ignored_during_execution
            .into_iter()
            .flatten()
            .map(|likes| (i64::from(likes.weight), term(&likes.pod_affinity_term)));
        let dislikes = without
            .preferred_during_scheduling_ignored_during_execution
            .into_iter()
            .flatten()
            .map(|likes| (-i64::from(likes.weight), term(&likes.pod_affinity_term)));
        PodTerms {
            required: required(with.required_during_scheduling_ignored_during_execution),
            forbidden: required(without.required_during_scheduling_ignored_during_execution),
            preferred: likes.chain(dislikes).collect(),
        }
    }

    /// Sets that earn points near this pod once it is on a node: those that it prefers, and a little those that it must
    /// have near it, so that they find together again.
    pub fn draws(&self) -> impl Iterator<Item = (i64, &PodTerm)> {
        let preferred = self.preferred.iter().map(|(weight, term)| (*weight, term));
        let required = self.required.iter().map(|term| (REQUIRED_WEIGHT, term));
        preferred.chain(required)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn matches(term: serde_json::Value, node: &Labels) -> bool {
        term_matches(&serde_json::from_value(term).unwrap(), "n1", node)
    }

    #[test]
    fn every_operator_of_a_node_selector_means_what_kubernetes_says() {
        let node = labels(&[("zone", "a"), ("cores", "8")]);
        let cases = [
            ("zone", "In", vec!["a", "b"], true),
            ("zone", "In", vec!["b"], false),
            ("rack", "In", vec!["b"], false),
            ("zone", "NotIn", vec!["a"], false),
            ("rack", "NotIn", vec!["a"], true),
            ("zone", "Exists", vec![], true),
            ("rack", "Exists", vec![], false),
            ("rack", "DoesNotExist", vec![], true),
            ("cores", "Gt", vec!["4"], true),
            ("cores", "Gt", vec!["8"], false),
            ("cores", "Lt", vec!["16"], true),
            ("zone", "Lt", vec!["16"], false),
            ("rack", "Gt", vec!["0"], false),
        ];
        for (key, operator, values, expected) in cases {
            let term =
                json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
            assert_eq!(matches(term.clone(), &node), expected, "{term}");
        }
    }

    #[test]
    fn a_term_needs_all_it_names_and_an_empty_one_matches_nothing() {
        let node = labels(&[("zone", "a")]);
        let zone = json!({"key": "zone", "operator": "Exists"});
        let name = |name: &str| json!({"key": "metadata.name", "operator": "In", "values": [name]});
        assert!(!matches(json!({}), &node));
        assert!(matches(json!({"matchFields": [name("n1")]}), &node));
        assert!(!matches(json!({"matchFields": [name("n2")]}), &node));
        let both = json!({"matchExpressions": [zone], "matchFields": [name("n2")]});
        assert!(!matches(both, &node));
    }

    #[test]
    fn a_pod_term_is_about_its_own_namespace_unless_it_names_or_selects_others() {
        let term = |more: serde_json::Value| {
            let mut term = json!({
                "topologyKey": "zone",
                "labelSelector": {"matchLabels": {"app": "web"}},
            });
            term.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            PodTerm::new(
                &serde_json::from_value(term).unwrap(),
                "mine",
                &labels(&[("v", "1")]),
            )
        };
        let namespaces = Namespaces::from([("theirs".into(), labels(&[("team", "red")]))]);
        let matches = |more, namespace: &str, pod: &[(&str, &str)]| {
            term(more).matches(namespace, &labels(pod), &namespaces)
        };
        let web = [("app", "web"), ("v", "1")];
        assert!(matches(json!({}), "mine", &web));
        assert!(!matches(json!({}), "theirs", &web));
        assert!(!matches(json!({}), "mine", &[("app", "db")]));
        let named = json!({"namespaces": ["theirs"]});
        assert!(matches(named.clone(), "theirs", &web));
        assert!(!matches(named, "mine", &web));
        let team = |team: &str| json!({"namespaceSelector": {"matchLabels": {"team": team}}});
        assert!(matches(
            json!({"namespaceSelector": {}}),
            "unheard of",
            &web
        ));
        assert!(matches(team("red"), "theirs", &web));
        assert!(!matches(team("blue"), "theirs", &web));
        assert!(!matches(team("red"), "mine", &web));
        let both =
            json!({"namespaces": ["mine"], "namespaceSelector": team("red")["namespaceSelector"]});
        assert!(matches(both.clone(), "mine", &web) && matches(both, "theirs", &web));
        let same = json!({"matchLabelKeys": ["v"]});
        assert!(matches(same.clone(), "mine", &web));
        assert!(!matches(same, "mine", &[("app", "web"), ("v", "2")]));
    }
}
