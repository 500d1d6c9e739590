//! What must be so in the end.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Rule;
use super::endpoints::ready_in;
use super::world::{World, address, controller, is_available, is_ready, name, owner, uid};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What was asked for last of a deployment. A service of its name selects its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// How many pods.
    pub replicas: i32,
    /// The image of their only container.
    pub image: String,
}

/// What is not as it must be. What lies in system namespaces is no matter.
pub fn of(world: &World, asked: &[Asked]) -> Vec<(Rule, String)> {
    let mut wrong = Vec::new();
    leaks(world, &mut wrong);
    for asked in asked {
        let found = world
            .deployments
            .values()
            .find(|deployment| name(&deployment.metadata) == asked.name);
        match found {
            Some(deployment) => is_as_asked(world, deployment, asked, &mut wrong),
            None => wrong.push((
                Rule::Ending,
                format!("there is no deployment {}", asked.name),
            )),
        }
        leads_to_its_pods(world, asked, &mut wrong);
    }
    wrong
}

fn leaks(world: &World, wrong: &mut Vec<(Rule, String)>) {
    let mut uids: BTreeSet<&str> = BTreeSet::new();
    uids.extend(
        world
            .deployments
            .values()
            .map(|deployment| uid(&deployment.metadata)),
    );
    uids.extend(world.replica_sets.values().map(|set| uid(&set.metadata)));
    let mut look = |kind: &str, meta: &ObjectMeta, owned: bool| {
        let name = name(meta);
        if meta.namespace.as_deref().is_some_and(is_system) {
            return;
        }
        if meta.deletion_timestamp.is_some() {
            wrong.push((Rule::Leak, format!("{kind} {name} is still terminating")));
        }
        let is_there = owner(meta).is_some_and(|owner| uids.contains(owner.uid.as_str()));
        if owned && !is_there {
            wrong.push((
                Rule::Leak,
                format!("{kind} {name} has no owner that is there"),
            ));
        }
    };
    for deployment in world.deployments.values() {
        look("deployment", &deployment.metadata, false);
    }
    for set in world.replica_sets.values() {
        look("replica set", &set.metadata, true);
    }
    for pod in world.pods.values() {
        look("pod", &pod.metadata, true);
    }
}

/// Whether a namespace belongs to the cluster itself.
fn is_system(namespace: &str) -> bool {
    namespace.starts_with("kube-")
}

fn is_as_asked(
    world: &World,
    deployment: &Deployment,
    asked: &Asked,
    wrong: &mut Vec<(Rule, String)>,
) {
    let mut expect = |is: String, shall: String, what: &str| {
        if is != shall {
            let name = &asked.name;
            wrong.push((
                Rule::Ending,
                format!("{name} has {what} {is}, and shall have {shall}"),
            ));
        }
    };
    let status = deployment.status.clone().unwrap_or_default();
    let image = |set: &ReplicaSet| -> Option<String> {
        let spec = set.spec.template.as_ref()?.spec.as_ref()?;
        spec.containers.first()?.image.clone()
    };
    let all = asked.replicas.to_string();
    let number = |number: Option<i32>| number.unwrap_or_default().to_string();
    expect(number(deployment.spec.replicas), all.clone(), "replicas");
    for (count, what) in [
        (status.replicas, "status.replicas"),
        (status.updated_replicas, "status.updatedReplicas"),
        (status.ready_replicas, "status.readyReplicas"),
        (status.available_replicas, "status.availableReplicas"),
    ] {
        expect(number(count), all.clone(), what);
    }
    expect(
        number(status.unavailable_replicas),
        "0".to_owned(),
        "status.unavailableReplicas",
    );
    expect(
        format!("{:?}", status.observed_generation),
        format!("{:?}", deployment.metadata.generation),
        "status.observedGeneration",
    );
    let id = uid(&deployment.metadata);
    for set in world.sets_of(id) {
        let is_new = image(set).as_deref() == Some(asked.image.as_str());
        let size = if is_new { asked.replicas } else { 0 };
        let set_name = name(&set.metadata);
        expect(
            number(set.spec.replicas),
            size.to_string(),
            &format!("a replica set {set_name} of"),
        );
        let pods = world
            .active_of(uid(&set.metadata))
            .filter(|pod| is_available(pod));
        expect(
            pods.count().to_string(),
            size.to_string(),
            &format!("available pods of {set_name}:"),
        );
    }
    if asked.replicas > 0 {
        let news = world
            .sets_of(id)
            .filter(|set| image(set).as_deref() == Some(asked.image.as_str()));
        expect(
            news.count().to_string(),
            "1".to_owned(),
            "replica sets of its image:",
        );
    }
    let sets: BTreeSet<&str> = world.sets_of(id).map(|set| uid(&set.metadata)).collect();
    let of_it = |meta: &ObjectMeta| controller(meta).is_some_and(|owner| sets.contains(owner));
    let pods = world.pods.values().filter(|pod| of_it(&pod.metadata));
    expect(pods.count().to_string(), all, "pods of whatever state:");
}

fn leads_to_its_pods(world: &World, asked: &Asked, wrong: &mut Vec<(Rule, String)>) {
    let ready = world.pods.values().filter(|pod| {
        let set = controller(&pod.metadata);
        let deployment = set.and_then(|set| world.deployment_of(set));
        let of_it = |known: &&std::sync::Arc<Deployment>| {
            name(&known.metadata) == asked.name && Some(uid(&known.metadata)) == deployment
        };
        is_ready(pod) && world.deployments.values().any(|known| of_it(&known))
    });
    let mut shall: Vec<&str> = ready.filter_map(|pod| address(pod)).collect();
    shall.sort_unstable();
    let slices = world.slices.values().filter(|slice| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(SERVICE_LABEL)) == Some(&asked.name)
    });
    let mut sliced: Vec<String> = slices
        .flat_map(|slice| ready_in(slice).collect::<Vec<_>>())
        .map(|(_, address)| address)
        .collect();
    sliced.sort_unstable();
    let legacy = world
        .endpoints
        .values()
        .filter(|endpoints| name(&endpoints.metadata) == asked.name);
    let subsets = legacy.flat_map(|endpoints| endpoints.subsets.iter().flatten());
    let mut listed: Vec<&str> = subsets
        .flat_map(|subset| subset.addresses.iter().flatten())
        .map(|address| address.ip.as_str())
        .collect();
    listed.sort_unstable();
    if sliced != shall {
        let what = format!(
            "the slices of {} lead to {sliced:?}, and its pods are at {shall:?}",
            asked.name
        );
        wrong.push((Rule::Endpoints, what));
    }
    if listed != shall {
        let what = format!(
            "the endpoints of {} are {listed:?}, and its pods are at {shall:?}",
            asked.name
        );
        wrong.push((Rule::Endpoints, what));
    }
}
