//! What to watch: from the command line, the environment, or a line typed into `watch -i`.

use crate::cli::kv::{WatchArgs, WatchLine};
use crate::cli::spell_out_booleans;
use crate::commands::txn::first_line;
use crate::error::CtlError;
use crate::go::quote::quote;
use crate::go::words;
use clap::{CommandFactory as _, FromArgMatches as _};
use etcd_client::WatchOptions;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The key and range end that the environment names.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) key: Option<OsString>,
    pub(super) range_end: Option<OsString>,
}

impl Named {
    pub(super) fn from_environment() -> Result<Self, CtlError> {
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
pub(super) struct Plan {
    pub(super) key: Vec<u8>,
    pub(super) options: WatchOptions,
    /// The first revision of interest; 0 until it is known where the watch began.
    pub(super) next_revision: i64,
    pub(super) exec: Vec<OsString>,
}

impl Plan {
    pub(super) fn new(
        args: WatchArgs,
        named: &Named,
        ends_in_separator: bool,
    ) -> Result<Self, CtlError> {
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

/// A line typed into `watch -i`.
#[derive(Debug)]
pub(super) enum Typed {
    Watch(Box<Plan>),
    Progress,
}

pub(super) fn parse_line(line: &[u8], named: &Named) -> Result<Typed, String> {
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
}
