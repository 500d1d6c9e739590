//! `watch`: follows keys until it is interrupted or the server refuses.
//!
//! A broken connection, a member that dies or one that has lost its leader do not end a watch: it is
//! opened again, at the next endpoint, from the revision after the last one seen. Events that come
//! twice because of that are dropped, so each is printed once, in order.

use super::txn::first_line;
use crate::cli::kv::{WatchArgs, WatchLine};
use crate::cli::spell_out_booleans;
use crate::client::Trouble;
use crate::error::{CtlError, Exit};
use crate::go::quote::quote;
use crate::go::words;
use crate::output::{Kind, Reply, WatchReply, event_name, tell, write_stdout};
use crate::settings::Settings;
use clap::{CommandFactory as _, FromArgMatches as _};
use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{WatchOptions, WatchRequestSender, WatchResponseStream};
use std::ffi::OsString;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use tonic::Status;

/// How long to wait before the endpoints are tried again when none takes the watch.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// What etcd answers when the history asked for is gone.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// What a member without a leader answers; another member may have one.
const NO_LEADER: &str = "etcdserver: no leader";

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

/// The key and range end that the environment names.
#[derive(Debug, Default)]
struct Named {
    key: Option<OsString>,
    range_end: Option<OsString>,
}

impl Named {
    fn from_environment() -> Result<Self, CtlError> {
        let get = |name: &str| {
            let variables = [format!("KVCTL_{name}"), format!("ETCDCTL_{name}")];
            variables
                .into_iter()
                .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
        };
        let named = Self {
            key: get("WATCH_KEY"),
            range_end: get("WATCH_RANGE_END"),
        };
        match (&named.key, &named.range_end) {
            (None, Some(end)) => Err(CtlError::Arguments(format!(
                "KVCTL_WATCH_KEY (or ETCDCTL_WATCH_KEY) is empty but WATCH_RANGE_END is {}",
                quote(end.as_bytes())
            ))),
            _ => Ok(named),
        }
    }
}

/// What to watch, and what to do with an event.
#[derive(Debug)]
struct Plan {
    key: Vec<u8>,
    options: WatchOptions,
    /// The first revision of interest; 0 until it is known where the watch began.
    next_revision: i64,
    exec: Vec<OsString>,
}

impl Plan {
    fn new(args: WatchArgs, named: &Named, ends_in_separator: bool) -> Result<Self, CtlError> {
        let refuse = |why: &str| Err(CtlError::Arguments(why.to_owned()));
        if ends_in_separator && args.exec.is_empty() {
            return refuse("bad number of arguments (found separator --, but no commands)");
        }
        let (key, range_end) = match (args.key, &named.key) {
            (Some(_), Some(_)) => {
                return refuse("bad number of arguments (found conflicting environment key)");
            }
            (None, Some(key)) => (key.clone(), named.range_end.clone()),
            (Some(key), None) => (key, args.range_end),
            (None, None) => {
                return refuse(
                    "bad number of arguments: name a key, or --prefix '' for all of them",
                );
            }
        };
        let mut options = WatchOptions::new();
        match (range_end, args.prefix) {
            (Some(_), true) => return refuse("`range_end` and `--prefix` are mutually exclusive"),
            (Some(end), false) => options = options.with_range(end.as_bytes()),
            (None, true) => options = options.with_prefix(),
            (None, false) => {}
        }
        if args.prev_kv {
            options = options.with_prev_key();
        }
        if args.progress_notify {
            options = options.with_progress_notify();
        }
        Ok(Self {
            key: key.into_vec(),
            options,
            next_revision: args.rev,
            exec: args.exec,
        })
    }
}

/// What a message on the stream means for the watch.
#[derive(Debug, PartialEq)]
enum Step {
    /// Nothing to print.
    Quiet,
    /// Something to print.
    Print(WatchReply),
    /// Something to print, preceded by the revision up to which everything was seen.
    Progress(WatchReply),
    /// The member cannot serve the watch; another may.
    Elsewhere(String),
    /// The server will not serve the watch, for this reason.
    End(WatchReply, String),
}

/// Decides what a message means, and moves `next_revision` on past what it brings.
fn step(next_revision: &mut i64, message: PbWatchResponse) -> Step {
    let header = message.header.unwrap_or_default();
    if message.canceled && message.compact_revision != 0 {
        let compact_revision = message.compact_revision;
        let reply = WatchReply {
            header,
            events: Some(Vec::new()),
            compact_revision,
            canceled: true,
        };
        return Step::End(reply, COMPACTED.to_owned());
    }
    if message.canceled {
        if message.cancel_reason == NO_LEADER {
            return Step::Elsewhere(message.cancel_reason);
        }
        return Step::End(refusal(), message.cancel_reason);
    }
    if message.created {
        // The watch begins after the revision at which it was registered, unless told otherwise.
        if *next_revision <= 0 {
            *next_revision = header.revision + 1;
        }
        return Step::Quiet;
    }
    let is_new = |event: &PbEvent| revision_of(event) >= *next_revision;
    let brought_events = !message.events.is_empty();
    let events: Vec<PbEvent> = message.events.into_iter().filter(is_new).collect();
    let reply = |events| WatchReply {
        header,
        events: Some(events),
        ..WatchReply::default()
    };
    match events.last() {
        Some(last) => {
            *next_revision = revision_of(last) + 1;
            Step::Print(reply(events))
        }
        None if brought_events || header.revision == 0 => Step::Quiet,
        None => {
            *next_revision = (*next_revision).max(header.revision + 1);
            Step::Progress(reply(events))
        }
    }
}

fn revision_of(event: &PbEvent) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// What is printed for a watch that the server refused outright.
fn refusal() -> WatchReply {
    WatchReply {
        canceled: true,
        ..WatchReply::default()
    }
}

/// Follows a watch for as long as the server will. Whenever something arrives on `progress`, the
/// server is asked how far it has got. Returns when the server has ended the watch.
async fn follow(
    settings: &Settings,
    mut plan: Plan,
    mut progress: mpsc::Receiver<()>,
) -> Result<(), CtlError> {
    let cluster = &settings.cluster;
    let mut endpoint = 0;
    let mut failures = Vec::new();
    let mut was_open = false;
    loop {
        let trouble = match open(settings, &plan, endpoint).await {
            Ok((sender, stream)) => {
                if was_open {
                    let revision = plan.next_revision;
                    notice(
                        settings,
                        format_args!(
                            "watching on from revision {revision} at {}",
                            cluster.endpoints[endpoint]
                        ),
                    );
                }
                was_open = true;
                failures.clear();
                match listen(settings, &mut plan, sender, stream, &mut progress).await? {
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
        if was_open {
            notice(
                settings,
                format_args!("{}: {trouble}", cluster.endpoints[endpoint]),
            );
        }
        failures.push((cluster.endpoints[endpoint].clone(), trouble));
        endpoint = (endpoint + 1) % cluster.endpoints.len();
        if failures.len() >= cluster.endpoints.len() {
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
            failures.clear();
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Opens the watch's stream at an endpoint.
async fn open(
    settings: &Settings,
    plan: &Plan,
    endpoint: usize,
) -> Result<(WatchRequestSender, WatchResponseStream), Trouble> {
    let cluster = &settings.cluster;
    let connection = cluster
        .connect_requiring_leader(&cluster.endpoints[endpoint])
        .await?;
    let options = plan.options.clone().with_start_revision(plan.next_revision);
    let mut client = connection.watch();
    // A member that accepts connections but does nothing must not hold the watch up.
    match timeout(
        cluster.command_timeout,
        client.watch(plan.key.clone(), Some(options)),
    )
    .await
    {
        Ok(stream) => Ok(stream?.split()),
        Err(_) => Err(Trouble::Lost("no answer".to_owned())),
    }
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
    mut sender: WatchRequestSender,
    mut stream: WatchResponseStream,
    progress: &mut mpsc::Receiver<()>,
) -> Result<Option<Trouble>, CtlError> {
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            Some(()) = progress.recv() => {
                // If the stream is gone, the next message says so.
                let _ = sender.request_progress().await;
                continue;
            }
        };
        let message = match message {
            Ok(Some(message)) => message.0,
            Ok(None) => {
                return Ok(Some(Trouble::Lost(
                    "the server ended the stream".to_owned(),
                )));
            }
            Err(error) => return Ok(Some(error.into())),
        };
        match step(&mut plan.next_revision, message) {
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
            Step::Elsewhere(reason) => return Ok(Some(Trouble::Lost(reason))),
            Step::End(reply, reason) => {
                tell(format_args!("watch was canceled ({reason})"));
                settings.output.print(&Reply::Watch(&reply))?;
                return Ok(None);
            }
        }
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

/// A line typed into `watch -i`.
#[derive(Debug)]
enum Typed {
    Watch(Box<Plan>),
    Progress,
}

fn parse_line(line: &[u8], named: &Named) -> Result<Typed, String> {
    let words = words::split(line)?;
    let mut words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
    match words.first().map(|word| word.as_bytes()) {
        Some(b"watch") => {}
        Some(b"progress") => return Ok(Typed::Progress),
        _ => return Err("watch and progress supported".to_owned()),
    }
    words.remove(0);
    let ends_in_separator = words.last().is_some_and(|last| last == "--");
    let command = WatchLine::command();
    let words = spell_out_booleans(words, &command);
    let args = command
        .try_get_matches_from(words)
        .and_then(|matches| WatchLine::from_arg_matches(&matches))
        .map_err(|error| first_line(error.into()))?
        .watch;
    Plan::new(args, named, ends_in_separator)
        .map(|plan| Typed::Watch(Box::new(plan)))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::{PbKeyValue, PbResponseHeader};

    fn plan(line: &str, named: &Named) -> Result<Plan, String> {
        match parse_line(line.as_bytes(), named)? {
            Typed::Watch(plan) => Ok(*plan),
            Typed::Progress => Err("progress".to_owned()),
        }
    }

    fn named(key: &str, range_end: Option<&str>) -> Named {
        Named {
            key: Some(key.into()),
            range_end: range_end.map(OsString::from),
        }
    }

    #[test]
    fn keys_flags_and_commands_are_told_apart() {
        let plan = plan(
            "watch foo --rev 3 bar -- echo 'hello world' --rev",
            &Named::default(),
        )
        .unwrap();
        assert_eq!((plan.key.as_slice(), plan.next_revision), (&b"foo"[..], 3));
        assert_eq!(plan.exec, ["echo", "hello world", "--rev"]);
    }

    #[test]
    fn the_environment_may_name_the_key_but_not_contradict_it() {
        let from_environment = plan("watch -- echo hi", &named("foo", Some("goo"))).unwrap();
        assert_eq!(from_environment.key, b"foo");
        assert_eq!(from_environment.exec, ["echo", "hi"]);
        assert!(
            plan("watch foo", &named("foo", None))
                .unwrap_err()
                .contains("conflicting")
        );
        assert!(
            plan("watch --prefix", &named("foo", Some("goo")))
                .unwrap_err()
                .contains("mutually exclusive")
        );
    }

    #[test]
    fn malformed_watches_are_refused() {
        for line in [
            "watch",
            "watch foo --",
            "watch foo bar --prefix",
            "watch foo --nope",
            "watch foo --rev x",
            "get foo",
            "",
            "watch 'foo",
        ] {
            assert!(plan(line, &Named::default()).is_err(), "{line}");
        }
        assert!(matches!(
            parse_line(b"progress", &Named::default()),
            Ok(Typed::Progress)
        ));
    }

    fn header(revision: i64) -> Option<PbResponseHeader> {
        Some(PbResponseHeader {
            revision,
            ..PbResponseHeader::default()
        })
    }

    fn events(revisions: &[i64], at: i64) -> PbWatchResponse {
        let event = |&mod_revision: &i64| PbEvent {
            kv: Some(PbKeyValue {
                mod_revision,
                ..PbKeyValue::default()
            }),
            ..PbEvent::default()
        };
        PbWatchResponse {
            header: header(at),
            events: revisions.iter().map(event).collect(),
            ..PbWatchResponse::default()
        }
    }

    #[test]
    fn a_watch_from_now_resumes_after_the_revision_at_which_it_began() {
        let mut next = 0;
        let created = PbWatchResponse {
            header: header(41),
            created: true,
            ..PbWatchResponse::default()
        };
        assert_eq!(step(&mut next, created.clone()), Step::Quiet);
        assert_eq!(next, 42);
        // Opened again later: the place where it was is not forgotten.
        let created = PbWatchResponse {
            header: header(90),
            ..created
        };
        assert_eq!(step(&mut next, created), Step::Quiet);
        assert_eq!(next, 42);
    }

    #[test]
    fn events_that_were_seen_before_are_dropped() {
        let mut next = 5;
        let Step::Print(reply) = step(&mut next, events(&[4, 5, 5, 7], 9)) else {
            panic!()
        };
        assert_eq!(
            reply
                .events
                .unwrap()
                .iter()
                .map(revision_of)
                .collect::<Vec<_>>(),
            [5, 5, 7]
        );
        assert_eq!(next, 8, "the header's revision may be ahead of the events");
        assert_eq!(step(&mut next, events(&[5, 7], 9)), Step::Quiet);
        assert_eq!(next, 8);
    }

    #[test]
    fn progress_moves_the_place_to_resume_from() {
        let mut next = 5;
        assert!(matches!(
            step(&mut next, events(&[], 20)),
            Step::Progress(_)
        ));
        assert_eq!(next, 21);
    }

    #[test]
    fn a_refused_watch_ends_and_one_without_a_leader_moves_on() {
        let canceled = |reason: &str, compact_revision| PbWatchResponse {
            header: header(0),
            canceled: true,
            compact_revision,
            cancel_reason: reason.to_owned(),
            ..PbWatchResponse::default()
        };
        let mut next = 5;
        assert!(
            matches!(step(&mut next, canceled("", 7)), Step::End(reply, _) if reply.compact_revision == 7)
        );
        assert!(
            matches!(step(&mut next, canceled("mvcc: watcher range is empty", 0)), Step::End(reply, _) if reply.events.is_none())
        );
        assert!(matches!(
            step(&mut next, canceled(NO_LEADER, 0)),
            Step::Elsewhere(_)
        ));
    }
}
