//! Where services lead.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::Rule;
use super::world::{Changed, Step, address, is_ready, name, uid};

/// Which pods were ever ready, and where.
#[derive(Debug, Default)]
pub struct Endpoints {
    ready: BTreeSet<(String, String)>,
    changes: usize,
}

impl Endpoints {
    /// How many changes of slices were judged.
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// Notes a change, and judges it: an endpoint may lag behind its pod, but never be ahead of it.
    pub fn see(&mut self, changed: &Changed, say: &mut dyn FnMut(Rule, String)) {
        match changed {
            Changed::Pod(Step { new: Some(pod), .. }) if is_ready(pod) => {
                if let Some(address) = address(pod) {
                    let ready = (uid(&pod.metadata).to_owned(), address.to_owned());
                    self.ready.insert(ready);
                }
            }
            Changed::Slice(Step {
                new: Some(slice), ..
            }) => {
                self.changes += 1;
                self.are_known(name(&slice.metadata), ready_in(slice), say);
            }
            Changed::Endpoints(Step { new: Some(old), .. }) => {
                self.are_known(name(&old.metadata), ready_in_old_form(old), say);
            }
            _ => {}
        }
    }

    fn are_known(
        &self,
        who: &str,
        pods: impl Iterator<Item = (String, String)>,
        say: &mut dyn FnMut(Rule, String),
    ) {
        for (pod, address) in pods {
            if !self.ready.contains(&(pod.clone(), address.clone())) {
                say(
                    Rule::Endpoints,
                    format!("{who} leads to {address}, where pod {pod} never was ready"),
                );
            }
        }
    }
}

/// The endpoints of a slice that say that they are ready, and are pods': the pod's UID, and the address.
pub fn ready_in(slice: &EndpointSlice) -> impl Iterator<Item = (String, String)> {
    let endpoints = slice.endpoints.iter().flatten();
    endpoints.filter_map(|endpoint| {
        let conditions = endpoint.conditions.as_ref()?;
        conditions.ready.filter(|ready| *ready)?;
        let pod = endpoint.target_ref.as_ref()?.uid.clone()?;
        Some((pod, endpoint.addresses.first()?.clone()))
    })
}

/// The same of endpoints in the old form.
fn ready_in_old_form(endpoints: &v1::Endpoints) -> impl Iterator<Item = (String, String)> {
    let subsets = endpoints.subsets.iter().flatten();
    let addresses = subsets.flat_map(|subset| subset.addresses.iter().flatten());
    addresses.filter_map(|address| {
        let pod = address.target_ref.as_ref()?.uid.clone()?;
        Some((pod, address.ip.clone()))
    })
}
