//! `watch`: follows keys until it is interrupted or the server refuses.
//!
//! A broken connection, a member that dies or one that has lost its leader do not end a watch: it is
//! opened again, at the next endpoint, from the revision after the last one seen. Events that come
//! twice because of that are dropped, so each is printed once, in order. A person at the terminal is
//! told once an outage what is wrong, however often it is tried again.

mod plan;
mod step;

use crate::cli::kv::WatchArgs;
use crate::client::{Endpoint, Trouble};
use crate::error::{CtlError, Exit};
use crate::go::quote::quote;
use crate::output::{Kind, Reply, event_name, tell, write_stdout};
use crate::settings::Settings;
use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{WatchRequestSender, WatchResponseStream};
use plan::{Named, Plan, Typed, parse_line};
use std::ffi::OsString;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;
use step::{Step, refusal, step};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use tonic::Status;

/// How long to wait before the endpoints are tried again when none takes the watch.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// `watch`
pub async fn run(settings: &Settings, args: WatchArgs) -> Result<(), CtlError> {
    settings.output.require(Kind::Watch)?;
    let named = Named::from_environment()?;
    if args.interactive {
        return LocalSet::new()
            .run_until(interactive(settings, &named))
            .await;
    }
    let ends_in_separator = std::env::args_os()
        .next_back()
        .is_some_and(|last| last == "--");
    let plan = Plan::new(args, &named, ends_in_separator)?;
    let (_no_progress_wanted, progress) = mpsc::channel(1);
    follow(settings, plan, progress).await?;
    Err(
        CtlError::Reported("watch is canceled by the server".to_owned())
            .with_exit(Exit::Interrupted),
    )
}

/// Follows a watch for as long as the server will. Whenever something arrives on `progress`, the
/// server is asked how far it has got. Returns when the server has ended the watch.
async fn follow(
    settings: &Settings,
    mut plan: Plan,
    mut progress: mpsc::Receiver<()>,
) -> Result<(), CtlError> {
    let cluster = &settings.cluster;
    let mut next_endpoint = 0;
    let mut failures = Vec::new();
    let mut was_open = false;
    let mut rounds_failed = 0;
    loop {
        let endpoint = &cluster.endpoints[next_endpoint];
        let trouble = match open(settings, &mut plan, endpoint).await {
            Ok(opened) => {
                if was_open {
                    let revision = plan.next_revision;
                    notice(
                        settings,
                        format_args!("watching on from revision {revision} at {endpoint}"),
                    );
                }
                was_open = true;
                rounds_failed = 0;
                failures.clear();
                match listen(settings, &mut plan, opened, &mut progress).await? {
                    Some(trouble) => trouble,
                    None => return Ok(()),
                }
            }
            Err(trouble) => trouble,
        };
        if let Some(status) = verdict(&trouble) {
            tell(format_args!("watch was canceled ({})", status.message()));
            return settings.output.print(&Reply::Watch(&refusal()));
        }
        if was_open && rounds_failed == 0 {
            notice(settings, format_args!("{endpoint}: {trouble}"));
        }
        failures.push((endpoint.clone(), trouble));
        next_endpoint = (next_endpoint + 1) % cluster.endpoints.len();
        if failures.len() < cluster.endpoints.len() {
            continue;
        }
        // A watch that has begun waits for as long as it takes; one that never did is an error,
        // unless a member at least answers.
        let all_are_down = failures
            .iter()
            .all(|(_, trouble)| matches!(trouble, Trouble::NeverSent(_)));
        if !was_open && all_are_down {
            return Err(CtlError::NoEndpoint {
                what: "watch",
                failed: failures,
            });
        }
        if rounds_failed == 0 {
            if !was_open {
                for (endpoint, trouble) in &failures {
                    notice(settings, format_args!("{endpoint}: {trouble}"));
                }
            }
            notice(
                settings,
                format_args!("no endpoint serves it; trying until one does"),
            );
        }
        rounds_failed += 1;
        failures.clear();
        sleep(RETRY_PAUSE).await;
    }
}

/// A watch that a member serves.
struct Opened {
    sender: WatchRequestSender,
    stream: WatchResponseStream,
    /// What its first message means.
    first: Step,
}

/// Opens the watch at an endpoint, which it has done once the member there has said a word.
async fn open(
    settings: &Settings,
    plan: &mut Plan,
    endpoint: &Endpoint,
) -> Result<Opened, Trouble> {
    let cluster = &settings.cluster;
    let connection = cluster.connect_requiring_leader(endpoint).await?;
    let options = plan.options.clone().with_start_revision(plan.next_revision);
    let mut client = connection.watch();
    let opening = async {
        let stream = client.watch(plan.key.clone(), Some(options)).await?;
        let (sender, mut stream) = stream.split();
        let first = next_message(&mut stream).await?;
        Ok((sender, stream, first))
    };
    // A member that accepts connections but does nothing must not hold the watch up.
    let (sender, stream, first) = match timeout(cluster.command_timeout, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(trouble)) => return Err(cluster.unmask(endpoint, trouble).await),
        Err(_) => return Err(Trouble::Silent(cluster.command_timeout)),
    };
    match step(&mut plan.next_revision, first) {
        Step::Elsewhere(reason) => Err(no_service(reason)),
        first => Ok(Opened {
            sender,
            stream,
            first,
        }),
    }
}

async fn next_message(stream: &mut WatchResponseStream) -> Result<PbWatchResponse, Trouble> {
    match stream.message().await? {
        Some(message) => Ok(message.0),
        None => Err(Trouble::Lost("the server ended the stream".to_owned())),
    }
}

/// The trouble of a member that answers, but cannot serve a watch now.
fn no_service(reason: String) -> Trouble {
    Trouble::Answer(Box::new(Status::unavailable(reason)))
}

/// The server's answer, if it means that no endpoint will serve this watch.
fn verdict(trouble: &Trouble) -> Option<&Status> {
    match trouble {
        Trouble::Answer(status) if !trouble.read_may_move_on() => Some(status),
        _ => None,
    }
}

/// Prints what the stream brings. Gives why it broke, or `None` if the server ended the watch.
async fn listen(
    settings: &Settings,
    plan: &mut Plan,
    opened: Opened,
    progress: &mut mpsc::Receiver<()>,
) -> Result<Option<Trouble>, CtlError> {
    let Opened {
        mut sender,
        mut stream,
        first: mut now,
    } = opened;
    loop {
        match now {
            Step::Quiet => {}
            Step::Print(reply) => {
                settings.output.print(&Reply::Watch(&reply))?;
                for event in reply.events.iter().flatten() {
                    execute(&plan.exec, reply.header.revision, event).await?;
                }
            }
            Step::Progress(reply) => {
                write_stdout(format!("progress notify: {}\n", reply.header.revision).as_bytes())?;
                settings.output.print(&Reply::Watch(&reply))?;
            }
            Step::Elsewhere(reason) => return Ok(Some(no_service(reason))),
            Step::End(reply, reason) => {
                tell(format_args!("watch was canceled ({reason})"));
                settings.output.print(&Reply::Watch(&reply))?;
                return Ok(None);
            }
        }
        let message = loop {
            tokio::select! {
                message = next_message(&mut stream) => break message,
                Some(()) = progress.recv() => {
                    // If the stream is gone, the next message says so.
                    let _ = sender.request_progress().await;
                }
            }
        };
        now = match message {
            Ok(message) => step(&mut plan.next_revision, message),
            Err(trouble) => return Ok(Some(trouble)),
        };
    }
}

/// Runs the user's command for an event, and waits for it, so that they run in order.
async fn execute(exec: &[OsString], revision: i64, event: &PbEvent) -> Result<(), CtlError> {
    let Some((program, arguments)) = exec.split_first() else {
        return Ok(());
    };
    let (key, value) = event
        .kv
        .as_ref()
        .map_or((&b""[..], &b""[..]), |kv| (&kv.key, &kv.value));
    let outcome = Command::new(program)
        .args(arguments)
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote(event_name(event).as_bytes()))
        .env("ETCD_WATCH_KEY", quote(key))
        .env("ETCD_WATCH_VALUE", quote(value))
        .status()
        .await;
    let problem = match outcome {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let words: Vec<String> = exec.iter().map(|word| quote(word.as_bytes())).collect();
    Err(CtlError::Reported(format!(
        "command [{}] error ({problem})",
        words.join(" ")
    )))
}

/// Tells a person at a terminal, or whoever asked for --debug, what happens to the connection.
fn notice(settings: &Settings, text: std::fmt::Arguments<'_>) {
    if settings.cluster.debug || io::stderr().is_terminal() {
        tell(format_args!("watch: {text}"));
    }
}

/// Reads watches from stdin, a line each, and follows them all at once.
async fn interactive(settings: &Settings, named: &Named) -> Result<(), CtlError> {
    let mut lines = read_lines();
    let mut watches = JoinSet::new();
    let mut progress: Vec<mpsc::Sender<()>> = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            Some(ended) = watches.join_next() => {
                ended.expect("a watch neither panics nor is aborted")?;
                continue;
            }
        };
        let Some(line) = line else {
            return Err(CtlError::Input(
                "error reading watch request line: EOF".to_owned(),
            ));
        };
        match parse_line(&line, named) {
            Ok(Typed::Watch(plan)) => {
                let (sender, receiver) = mpsc::channel(1);
                progress.push(sender);
                let settings = settings.clone();
                watches.spawn_local(async move { follow(&settings, *plan, receiver).await });
            }
            Ok(Typed::Progress) => {
                progress.retain(|watch| !watch.is_closed());
                for watch in &progress {
                    // One that is asked already need not be asked again.
                    let _ = watch.try_send(());
                }
            }
            Err(why) => tell(format_args!(
                "Invalid command {} ({why})",
                String::from_utf8_lossy(&line)
            )),
        }
    }
}

/// The lines of stdin. They are read on a thread of their own, which nobody waits for at the end.
fn read_lines() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
