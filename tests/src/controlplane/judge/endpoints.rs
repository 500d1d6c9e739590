//! Where services lead.

use std::collections::BTreeSet;

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
                for (pod, address) in ready_in(slice) {
                    if !self.ready.contains(&(pod.clone(), address.clone())) {
                        let slice = name(&slice.metadata);
                        say(
                            Rule::Endpoints,
                            format!("{slice} leads to {address}, where pod {pod} never was ready"),
                        );
                    }
                }
            }
            _ => {}
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
