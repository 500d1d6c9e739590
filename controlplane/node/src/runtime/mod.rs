//! What runs containers. The agent decides what should run; a runtime runs it, and says how it does.

pub mod hollow;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

/// Runs pods. Every call may be repeated: what is there already is left as it is, what is gone is gone.
pub trait Runtime: Send + Sync + 'static {
    /// What a node's status says it runs on, as in `containerd://2.1.0`.
    fn version(&self) -> String;

    /// What there is of a pod, by its UID; nothing if it was never prepared, or was removed.
    fn look(&self, uid: &str, now: Timestamp) -> impl Future<Output = Option<Sandbox>> + Send;

    /// Prepares a pod to be run at an address. No container is started.
    fn prepare(
        &self,
        pod: &Pod,
        address: IpAddr,
        now: Timestamp,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Starts a container of a prepared pod, for the first time or again.
    fn start(
        &self,
        uid: &str,
        container: &str,
        now: Timestamp,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Asks all containers of a pod to end, and ends those that have not after `grace`.
    fn stop(
        &self,
        uid: &str,
        grace: Duration,
        now: Timestamp,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Removes what is left of a pod.
    fn remove(&self, uid: &str) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A prepared pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Where it can be reached.
    pub address: IpAddr,
    /// Its containers that were started at least once, by name.
    pub containers: BTreeMap<String, Seen>,
    /// It was asked to end, and will have ended by then.
    pub stopping: Option<Timestamp>,
    /// When any of this changes by itself, if that is known.
    pub next_change: Option<Timestamp>,
}

/// A container that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Under which the runtime knows it, as in `containerd://abc`.
    pub id: String,
    /// What it does now.
    pub state: State,
    /// It can serve.
    pub ready: bool,
    /// How it ended the time before.
    pub last: Option<Exit>,
    /// How often it was started again.
    pub restarts: i32,
    /// How often in a row it has ended soon after its start.
    pub crashes: u32,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs since then.
    Running(Timestamp),
    /// It has ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Under which the runtime knew it.
    pub id: String,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// 0: as it should.
    pub code: i32,
}
