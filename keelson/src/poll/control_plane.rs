//! Asks the API server whether it is ready, and what it knows of its clients, as the administrator.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use keelson_component::ConnectArgs;
use keelson_component::error::is_not_found;
use kube::api::GetParams;
use kube::{Api, Client};
use tokio::time::timeout;

use super::PATIENCE;
use crate::data_dir::DataDir;
use crate::part::{Kind, Lease, Part};
use crate::row::Report;

/// The control plane, by the places of its parts.
pub struct Asked {
    api_server: usize,
    clients: Vec<(usize, Lease)>,
    kubeconfig: PathBuf,
    /// Kept only while it works: the API server makes the kubeconfig, and after its next start it may be another.
    client: Option<Client>,
}

impl Asked {
    /// What of these there is to ask for; none if there is no API server.
    pub fn of(parts: &[Part], dir: &DataDir) -> Option<Asked> {
        let mut api_server = None;
        let mut clients = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            match &part.kind {
                Kind::Member(_) => {}
                Kind::ApiServer { .. } => api_server = Some(place),
                Kind::Client { lease, .. } => clients.push((place, lease.clone())),
            }
        }
        Some(Asked {
            api_server: api_server?,
            clients,
            kubeconfig: dir.admin_kubeconfig(),
            client: None,
        })
    }

    /// Asks once.
    pub async fn ask(&mut self) -> Vec<(usize, Option<Report>)> {
        let mut answers = vec![(self.api_server, None)];
        answers.extend(self.clients.iter().map(|(place, _)| (*place, None)));
        let Some(client) = self.connected().await else {
            return answers;
        };
        // Taken out first: what is cut off by impatience, or fails, is not used again.
        self.client = None;
        let asked = timeout(PATIENCE, async {
            let is_ready = is_ready(&client).await?;
            answers[0].1 = Some(Report::ApiServer { is_ready });
            if is_ready {
                for (answer, (_, lease)) in answers[1..].iter_mut().zip(&self.clients) {
                    let renewed = renewed(&client, lease).await?;
                    answer.1 = renewed.map(|renewed| Report::Client { renewed });
                }
            }
            Ok::<_, kube::Error>(())
        });
        if let Ok(Ok(())) = asked.await {
            self.client = Some(client);
        }
        answers
    }

    async fn connected(&self) -> Option<Client> {
        if let Some(client) = &self.client {
            return Some(client.clone());
        }
        let connect = ConnectArgs {
            kubeconfig: Some(self.kubeconfig.clone()),
        };
        Some(connect.connect("keelson").await.ok()?.client)
    }
}

/// What `/readyz` answers; an error if nothing does.
async fn is_ready(client: &Client) -> kube::Result<bool> {
    let request = http::Request::get("/readyz").body(Vec::new());
    let request = request.map_err(kube::Error::HttpError)?;
    match client.request_text(request).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// When a Lease was last renewed, if it has not run out since.
async fn renewed(client: &Client, lease: &Lease) -> kube::Result<Option<SystemTime>> {
    let leases: Api<LeaseObject> = Api::namespaced(client.clone(), lease.namespace);
    // From memory: asking twice a second should cost the store nothing.
    let found = match leases.get_with(&lease.name, &GetParams::any()).await {
        Ok(found) => found,
        Err(error) if is_not_found(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let renewed = found.spec.and_then(|held| {
        let is_held = held
            .holder_identity
            .is_some_and(|holder| !holder.is_empty());
        let renewed = SystemTime::from(held.renew_time.filter(|_| is_held)?.0);
        let lasts_s = u64::try_from(held.lease_duration_seconds?).ok()?;
        (renewed + Duration::from_secs(lasts_s) > SystemTime::now()).then_some(renewed)
    });
    Ok(renewed)
}
