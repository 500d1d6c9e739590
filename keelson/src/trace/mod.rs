//! `keelson trace`: the story of an object, told live from watch streams and field managers.
//!
//! It knows Kubernetes' API only, so that it traces on any cluster. What follows from what is decided in [`story`]; here
//! is the loop around it.

mod diff;
mod held;
mod kinds;
mod object;
mod story;
mod writer;

use std::collections::{HashMap, HashSet};
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::stream::{BoxStream, SelectAll, StreamExt};
use keelson_component::ConnectArgs;
use keelson_notation::duration;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use self::held::Held;
use self::kinds::Kind;
use self::object::Object;
use self::story::{Change, Story};

/// `keelson trace`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line is one write: when it was seen, its revision, the field manager that made it, what it changed, and which \
write before it it followed from. The last is a deduction, since nobody records it: what is wanted flows from owners \
down to what they own, and how it goes flows back up. Nothing records who deletes: (somebody). Why is told where it \
can only be an owner that ended or wants fewer, or what was asked to end before.

  keelson trace deployment/web        in one terminal, and in another:
  kubectl create deployment web --image=nginx")]
pub struct TraceArgs {
    /// The object, which may not be there yet, as deployment/web, svc/web or node/node-1
    #[arg(value_name = "KIND/NAME")]
    pub object: String,
    /// The object's namespace
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// End when nothing has happened for so long, as 2s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub until_idle: Option<Duration>,
}

/// Tells until Ctrl-C, or until nothing happens any more.
pub async fn run(args: TraceArgs) -> anyhow::Result<ExitCode> {
    let Some((word, name)) = args.object.split_once('/') else {
        bail!("{:?} is not KIND/NAME, as deployment/web", args.object);
    };
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let client = args.connect.connect("keelson-trace").await?.client;
    let kinds = kinds::discover(client.clone()).await?;
    let root = kinds::resolve(word, &kinds)?;
    let namespace = root.is_namespaced.then_some(args.namespace.as_str());
    let telling = Teller::new(root, name, &kinds, &client, namespace).tell(args.until_idle);
    tokio::select! {
        told = telling => told?,
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What one of the streams says, and of which kind.
struct Seen {
    kind: String,
    what: watcher::Result<Event<DynamicObject>>,
}

struct Teller {
    story: Story,
    streams: SelectAll<BoxStream<'static, Seen>>,
    /// Kinds whose objects have not all been seen yet.
    unlisted: HashSet<String>,
    /// What a list of a kind that is under way has named so far, by uid.
    listing: HashMap<String, HashSet<String>>,
    /// Kinds that cannot be watched at the moment.
    troubled: HashSet<String>,
    held: Held,
    since: Instant,
}

impl Teller {
    fn new(
        root: &Kind,
        name: &str,
        kinds: &[Kind],
        client: &Client,
        namespace: Option<&str>,
    ) -> Teller {
        // Of what is in no namespace, nodes can matter to anything.
        let can_matter = |kind: &&Kind| {
            let name = &kind.resource.kind;
            kind.is_namespaced || *name == root.resource.kind || name == "Node"
        };
        let watched = || kinds.iter().filter(can_matter);
        Teller {
            story: Story::of(&root.resource.kind.to_ascii_lowercase(), name),
            streams: watched()
                .map(|kind| watch(client, kind, namespace))
                .collect(),
            unlisted: watched().map(|kind| kind.resource.kind.clone()).collect(),
            listing: HashMap::new(),
            troubled: HashSet::new(),
            held: Held::default(),
            since: Instant::now(),
        }
    }

    /// Tells until nothing has happened for so long; for ever if that is not said.
    async fn tell(mut self, until_idle: Option<Duration>) -> anyhow::Result<()> {
        while !self.unlisted.is_empty() {
            let seen = self
                .streams
                .next()
                .await
                .context("nothing can be watched")?;
            self.take(seen)?;
        }
        let mut last = Instant::now();
        // All that is there is there: nothing of an earlier revision can still come.
        self.say(Instant::now() + held::SETTLE)?;
        if !self.story.has_begun() {
            eprintln!(
                "keelson: {} is not there yet; waiting for it",
                self.story.root()
            );
        }
        loop {
            let settled = self.held.next_settled();
            let idle = until_idle.map(|idle| last + idle);
            tokio::select! {
                Some(seen) = self.streams.next() => self.take(seen)?,
                () = sleep_until(settled.unwrap_or(last)), if settled.is_some() => {
                    if self.say(Instant::now())? {
                        last = Instant::now();
                    }
                }
                // What is still held back has happened already.
                () = sleep_until(idle.unwrap_or(last)), if idle.is_some() && settled.is_none() => return Ok(()),
            }
        }
    }

    fn take(&mut self, seen: Seen) -> anyhow::Result<()> {
        let Seen { kind, what } = seen;
        let is_first = self.unlisted.contains(&kind);
        let (object, is_gone) = match what {
            Ok(Event::Init) => {
                self.listing.insert(kind, HashSet::new());
                return Ok(());
            }
            Ok(Event::InitDone) => {
                self.unlisted.remove(&kind);
                self.troubled.remove(&kind);
                let listed = self.listing.remove(&kind).unwrap_or_default();
                if !is_first {
                    // What is held back is older than the list.
                    self.say(Instant::now() + held::SETTLE)?;
                    self.story.are_all(&kind.to_ascii_lowercase(), &listed);
                }
                return Ok(());
            }
            Ok(Event::InitApply(object)) => {
                let listing = self.listing.entry(kind.clone()).or_default();
                listing.extend(object.metadata.uid.clone());
                (object, false)
            }
            Ok(Event::Apply(object)) => (object, false),
            Ok(Event::Delete(object)) => (object, true),
            Err(error) => {
                self.unlisted.remove(&kind);
                if self.troubled.insert(kind.clone()) {
                    eprintln!(
                        "keelson: cannot watch objects of kind {kind} at the moment: {error}"
                    );
                }
                return Ok(());
            }
        };
        let value = serde_json::to_value(object).context("an object that was read")?;
        let now = Instant::now();
        let change = Change {
            at: (!is_first).then(|| now - self.since),
            object: Object::new(&kind, value),
            is_gone,
        };
        self.held.hold(change, now);
        Ok(())
    }

    /// Tells of what has settled by then; says whether anything was told.
    fn say(&mut self, by: Instant) -> anyhow::Result<bool> {
        let mut any = false;
        for change in self.held.settled(by) {
            if let Some(line) = self.story.take(change) {
                writeln!(stdout(), "{line}").context("nobody listens")?;
                any = true;
            }
        }
        Ok(any)
    }
}

fn watch(client: &Client, kind: &Kind, namespace: Option<&str>) -> BoxStream<'static, Seen> {
    let api: Api<DynamicObject> = match namespace.filter(|_| kind.is_namespaced) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind.resource),
        None => Api::all_with(client.clone(), &kind.resource),
    };
    let kind = kind.resource.kind.clone();
    watcher(api, watcher::Config::default())
        .default_backoff()
        .map(move |what| Seen {
            kind: kind.clone(),
            what,
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_vanished_while_the_stream_was_broken_is_not_counted_any_more() {
        let mut teller = Teller {
            story: Story::of("replicaset", "web"),
            streams: SelectAll::new(),
            unlisted: ["ReplicaSet".into(), "Pod".into()].into(),
            listing: HashMap::new(),
            troubled: HashSet::new(),
            held: Held::default(),
            since: Instant::now(),
        };
        let object = |name: &str, revision: u64, owner: Option<&str>| {
            let owner =
                owner.map(|owner| json!({"kind": "ReplicaSet", "name": owner, "uid": owner}));
            let owners: Vec<_> = owner.into_iter().collect();
            serde_json::from_value::<DynamicObject>(json!({
                "metadata": {
                    "name": name, "uid": name, "resourceVersion": revision.to_string(),
                    "ownerReferences": owners,
                },
                "spec": {"replicas": 1},
            }))
            .unwrap()
        };
        let mut list = |kind: &str, objects: Vec<DynamicObject>| {
            let objects = objects.into_iter().map(Event::InitApply);
            let all = [Event::Init]
                .into_iter()
                .chain(objects)
                .chain([Event::InitDone]);
            for event in all {
                let (kind, what) = (kind.to_owned(), Ok(event));
                teller.take(Seen { kind, what }).unwrap();
            }
        };
        let pod = |name: &str, revision: u64| object(name, revision, Some("web"));
        list("ReplicaSet", vec![object("web", 1, None)]);
        list("Pod", vec![pod("a", 2), pod("b", 3)]);
        list("Pod", vec![pod("b", 3)]);
        let value = serde_json::to_value(pod("b", 4)).unwrap();
        let told = teller.story.take(Change {
            at: None,
            object: Object::new("Pod", value),
            is_gone: true,
        });
        // It has the one pod that it wants: somebody deleted it.
        assert!(!told.unwrap().to_string().contains("because"));
    }
}
