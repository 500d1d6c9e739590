//! The command line: which commands and flags there are, and what their help says.
//!
//! Names and meanings are etcdctl's. Flags also come from the environment, as `KVCTL_<NAME>` or
//! `ETCDCTL_<NAME>`; a flag beats both. The checks that need more than one flag, and everything
//! that has an exit code of its own in etcdctl, are left to the commands.

pub mod cluster;
pub mod kv;

use crate::go;
use clap::builder::Resettable;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::time::Duration;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// The command line of Keelson's store, and of any etcd.
#[derive(Debug, Parser)]
#[command(
    name = "kvctl",
    version,
    styles = STYLES,
    infer_subcommands = true,
    subcommand_required = true,
    arg_required_else_help = true,
    args_override_self = true,
    max_term_width = 100,
    about = "The command line of Keelson's store: reads and writes keys, watches them, tends the cluster.",
    after_help = "\
Examples:
  kvctl put greeting hello                       write a key
  kvctl get --prefix app/                        read all keys that begin with app/
  kvctl watch --prefix app/                      follow their changes until Ctrl-C
  kvctl endpoint status --cluster -w table       how each member is doing

Each global option can be set in the environment, as in KVCTL_ENDPOINTS=host1:2379,host2:2379
(ETCDCTL_* is read too). `kvctl help COMMAND` says more about a command."
)]
pub struct Cli {
    /// The flags that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// Flags of etcdctl's which kvctl knows, but cannot honour yet.
    #[command(flatten)]
    pub unsupported: UnsupportedArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The command line as a shell should complete it: without what is refused anyway.
#[derive(Debug, Parser)]
#[command(name = "kvctl")]
struct Completed {
    #[command(flatten)]
    _global: GlobalArgs,
    #[command(subcommand)]
    _command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Where the members listen, separated by commas; the others are used when one is down
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        allow_hyphen_values = true
    )]
    pub endpoints: Vec<String>,

    /// Output format: simple, fields, json or table [default: simple; tables on a terminal]
    #[arg(
        short = 'w',
        long,
        global = true,
        value_name = "FORMAT",
        allow_hyphen_values = true
    )]
    pub write_out: Option<String>,

    /// Print byte strings in hexadecimal
    #[arg(long, global = true, value_parser = go::parse_bool)]
    pub hex: bool,

    /// How long to try to connect to one endpoint
    #[arg(long, global = true, value_name = "TIME", default_value = "2s", value_parser = go::duration::parse, allow_hyphen_values = true)]
    pub dial_timeout: Duration,

    /// How long a command may take [default: 5s; none for watch, keep-alive, snapshot save]
    #[arg(long, global = true, value_name = "TIME", value_parser = go::duration::parse, allow_hyphen_values = true)]
    pub command_timeout: Option<Duration>,

    /// How often to ask an idle connection whether it is alive (10s at least)
    #[arg(long, global = true, value_name = "TIME", default_value = "2s", value_parser = go::duration::parse, allow_hyphen_values = true)]
    pub keepalive_time: Duration,

    /// How long to wait for that answer before the connection counts as dead
    #[arg(long, global = true, value_name = "TIME", default_value = "6s", value_parser = go::duration::parse, allow_hyphen_values = true)]
    pub keepalive_timeout: Duration,

    /// Say on stderr what is tried, and where
    #[arg(long, global = true, value_parser = go::parse_bool)]
    pub debug: bool,
}

/// TLS, authentication and discovery. Understood so that they can be refused: a security flag that
/// is silently ignored is worse than none.
#[derive(Debug, Args)]
pub struct UnsupportedArgs {
    /// Client certificate
    #[arg(long, global = true, hide = true, allow_hyphen_values = true)]
    pub cert: Option<String>,
    /// Client key
    #[arg(
        id = "tls-key",
        long = "key",
        global = true,
        hide = true,
        allow_hyphen_values = true
    )]
    pub key: Option<String>,
    /// CA bundle
    #[arg(long, global = true, hide = true, allow_hyphen_values = true)]
    pub cacert: Option<String>,
    /// User name
    #[arg(long, global = true, hide = true, allow_hyphen_values = true)]
    pub user: Option<String>,
    /// Password
    #[arg(long, global = true, hide = true, allow_hyphen_values = true)]
    pub password: Option<String>,
    /// Domain with SRV records
    #[arg(
        short = 'd',
        long,
        global = true,
        hide = true,
        allow_hyphen_values = true
    )]
    pub discovery_srv: Option<String>,
    /// Name of the SRV records
    #[arg(long, global = true, hide = true, allow_hyphen_values = true)]
    pub discovery_srv_name: Option<String>,
    /// Trust any server
    #[arg(long, global = true, hide = true, value_parser = go::parse_bool)]
    pub insecure_skip_tls_verify: bool,
    /// Plain TCP, which is all there is
    #[arg(
        long, global = true, hide = true, value_parser = go::parse_bool,
        default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub insecure_transport: bool,
    /// Accept plain-TCP endpoints from SRV records; without --discovery-srv there are none
    #[arg(
        long, global = true, hide = true, value_parser = go::parse_bool,
        default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub insecure_discovery: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read a key or a range of keys
    Get(kv::GetArgs),
    /// Write a key
    Put(kv::PutArgs),
    /// Delete a key or a range of keys
    Del(kv::DelArgs),
    /// Compare keys and do one of two lists of operations, all at once
    Txn(kv::TxnArgs),
    /// Follow the changes of a key or a range of keys
    Watch(kv::WatchArgs),
    /// Forget the history before a revision
    #[command(visible_alias = "compact")]
    Compaction(kv::CompactionArgs),
    /// Leases: keys that vanish with their owner
    #[command(subcommand, arg_required_else_help = true, infer_subcommands = true)]
    Lease(cluster::LeaseCommand),
    /// The members of the cluster
    #[command(subcommand, arg_required_else_help = true, infer_subcommands = true)]
    Member(cluster::MemberCommand),
    /// The state of single endpoints
    #[command(arg_required_else_help = true, infer_subcommands = true)]
    Endpoint(cluster::EndpointArgs),
    /// Hand leadership over to another member
    MoveLeader(cluster::MoveLeaderArgs),
    /// Give space back to the file system
    Defrag(cluster::DefragArgs),
    /// Alarms, which stop writes until they are disarmed
    #[command(subcommand, arg_required_else_help = true, infer_subcommands = true)]
    Alarm(cluster::AlarmCommand),
    /// Back up a member, and restore from the backup
    #[command(subcommand, arg_required_else_help = true, infer_subcommands = true)]
    Snapshot(cluster::SnapshotCommand),
    /// Print the script that completes commands in your shell
    Completion(cluster::CompletionArgs),
    /// Print the version
    Version,
}

/// A command line that cannot be used, or that asks for help.
#[derive(Debug)]
pub enum Refused {
    /// Help, to be printed on stdout; not an error.
    Help(clap::Error),
    /// A mistake in the number of arguments (etcdctl's exit code 128).
    Arguments(clap::Error),
    /// Any other mistake, such as an unknown flag (exit code 1).
    Usage(clap::Error),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Self {
        use clap::error::{ContextKind, ContextValue, ErrorKind};
        match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion => Self::Help(error),
            // (TooManyValues is `--hex=yes`: a value for a switch.)
            ErrorKind::MissingRequiredArgument
            | ErrorKind::TooFewValues
            | ErrorKind::WrongNumberOfValues => Self::Arguments(error),
            ErrorKind::UnknownArgument => match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(word)) if !word.starts_with('-') => {
                    Self::Arguments(error)
                }
                _ => Self::Usage(error),
            },
            _ => Self::Usage(error),
        }
    }
}

/// The whole command line as clap knows it. What the environment says is a global flag's default.
///
/// `environment` gives a variable's value.
fn command(environment: impl Fn(&str) -> Option<OsString>) -> clap::Command {
    Cli::command().mut_args(|arg| {
        match arg
            .get_long()
            .and_then(|long| variable_of(long, &environment))
        {
            Some((_, value)) => arg.default_value(value),
            None => arg,
        }
    })
}

/// The command line for a shell's completion. Values that can be listed are; a command line itself takes them as
/// strings, since etcdctl has exit codes of its own for wrong ones.
pub fn completed() -> clap::Command {
    fn values(arg: clap::Arg) -> clap::Arg {
        match arg.get_long() {
            Some("write-out") => arg.value_parser(["simple", "fields", "json", "table"]),
            Some("sort-by") => arg
                .default_value(Resettable::Reset)
                .value_parser(["create", "key", "modify", "value", "version"]),
            Some("order") => arg
                .default_value(Resettable::Reset)
                .value_parser(["ascend", "descend"]),
            Some("consistency") => arg.value_parser(["l", "s"]),
            _ => arg,
        }
    }
    fn with_values(command: clap::Command) -> clap::Command {
        command.mut_args(values).mut_subcommands(with_values)
    }
    with_values(Completed::command())
}

/// The variable that sets a global flag, and its value. `KVCTL_X` goes before `ETCDCTL_X`; an empty
/// variable counts as unset, as it does for etcdctl.
fn variable_of(
    flag: &str,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<(String, OsString)> {
    let name = flag.to_uppercase().replace('-', "_");
    let variables = [format!("KVCTL_{name}"), format!("ETCDCTL_{name}")];
    variables.into_iter().find_map(|variable| {
        let value = environment(&variable).filter(|value| !value.is_empty())?;
        Some((variable, value))
    })
}

/// Reads a command line, its first word being the program's name.
pub fn parse(
    words: Vec<OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Cli, Refused> {
    let environment =
        |variable: &str| environment(variable).filter(|_| !turned_off(&words, variable));
    let command = command(environment);
    let matches = command
        .clone()
        .try_get_matches_from(spell_out_booleans(words.clone(), &command))
        .map_err(|error| blame_the_variable(error, environment))?;
    Ok(Cli::from_arg_matches(&matches)?)
}

/// Whether a word such as `--hex=false` turns off the switch which this variable turns on.
fn turned_off(words: &[OsString], variable: &str) -> bool {
    let flags = words.iter().take_while(|word| *word != "--");
    flags.filter_map(|word| word.to_str()).any(|word| {
        let given = word
            .strip_prefix("--")
            .and_then(|flag| flag.split_once('='));
        given.is_some_and(|(flag, value)| {
            go::parse_bool(value) == Ok(false)
                && variable_of(flag, |name| (name == variable).then(|| name.into())).is_some()
        })
    })
}

/// If the value that cannot be read is one of the environment's, the error shall say so: nobody finds
/// a mistake in a flag that they have not typed.
fn blame_the_variable(
    mut error: clap::Error,
    environment: impl Fn(&str) -> Option<OsString>,
) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    // `--dial-timeout <TIME>`
    let arg = context(ContextKind::InvalidArg);
    let flag = arg.split(' ').next().unwrap_or_default();
    let variable = flag
        .strip_prefix("--")
        .and_then(|flag| variable_of(flag, environment));
    if let Some((variable, value)) = variable
        && error.kind() == ErrorKind::ValueValidation
        && value.to_string_lossy() == context(ContextKind::InvalidValue)
    {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// Turns `--flag=true` into `--flag` and drops `--flag=false`, up to `--`: Go's flag package takes
/// a value for a switch, clap does not.
pub fn spell_out_booleans(words: Vec<OsString>, command: &clap::Command) -> Vec<OsString> {
    let mut switches = Vec::new();
    collect_switches(command, &mut switches);
    let mut out: Vec<OsString> = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    for word in words.by_ref() {
        let switch = word.to_str().and_then(|text| {
            let (name, value) = text.strip_prefix("--")?.split_once('=')?;
            let known = switches.iter().any(|switch| switch == name);
            known.then(|| Some((format!("--{name}"), go::parse_bool(value).ok()?)))?
        });
        match switch {
            Some((flag, value)) => {
                out.retain(|earlier| *earlier != *flag);
                if value {
                    out.push(flag.into());
                }
            }
            None => {
                let end_of_flags = word == "--";
                out.push(word);
                if end_of_flags {
                    break;
                }
            }
        }
    }
    out.extend(words);
    out
}

fn collect_switches(command: &clap::Command, switches: &mut Vec<String>) {
    let is_switch = |arg: &&clap::Arg| matches!(arg.get_action(), clap::ArgAction::SetTrue);
    let names = command
        .get_arguments()
        .filter(is_switch)
        .filter_map(clap::Arg::get_long);
    switches.extend(names.map(str::to_owned));
    for subcommand in command.get_subcommands() {
        collect_switches(subcommand, switches);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn parse_with(line: &str, environment: &[(&str, &str)]) -> Result<Cli, Refused> {
        let environment: HashMap<_, _> = environment.iter().copied().collect();
        let words = std::iter::once("kvctl")
            .chain(line.split(' '))
            .map(OsString::from);
        parse(words.collect(), |name| {
            environment.get(name).map(OsString::from)
        })
    }

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_before_and_after_the_command() {
        for line in [
            "--endpoints a:1,b:2 -w json get k",
            "get k -w=json --endpoints=a:1 --endpoints b:2",
        ] {
            let cli = parse_with(line, &[]).unwrap();
            assert_eq!(cli.global.endpoints, ["a:1", "b:2"], "{line}");
            assert_eq!(cli.global.write_out.as_deref(), Some("json"), "{line}");
        }
    }

    #[test]
    fn a_flag_beats_kvctl_which_beats_etcdctl_in_the_environment() {
        let both = [("KVCTL_WRITE_OUT", "fields"), ("ETCDCTL_WRITE_OUT", "json")];
        let format =
            |line, environment: &[_]| parse_with(line, environment).unwrap().global.write_out;
        assert_eq!(format("get k -w simple", &both).as_deref(), Some("simple"));
        assert_eq!(format("get k", &both).as_deref(), Some("fields"));
        assert_eq!(format("get k", &both[1..]).as_deref(), Some("json"));
        assert_eq!(
            format("get k", &[("KVCTL_WRITE_OUT", ""), both[1]]).as_deref(),
            Some("json")
        );
        let hex = |line| {
            parse_with(line, &[("ETCDCTL_HEX", "true")])
                .unwrap()
                .global
                .hex
        };
        assert!(hex("get k") && hex("get -- --hex=false"));
        assert!(!hex("get k --hex=false"));
    }

    #[test]
    fn a_bad_value_is_blamed_on_the_variable_that_holds_it() {
        let environment = [("ETCDCTL_DIAL_TIMEOUT", "abc"), ("KVCTL_HEX", "maybe")];
        let message = |line| match parse_with(line, &environment) {
            Err(Refused::Usage(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        let both = message("get k --hex=false");
        assert!(
            both.contains("'abc' for 'ETCDCTL_DIAL_TIMEOUT': "),
            "{both}"
        );
        let hex = message("get k --dial-timeout=1s");
        assert!(hex.contains("'maybe' for 'KVCTL_HEX': "), "{hex}");
        let typed = message("get k --hex=false --dial-timeout=xyz");
        assert!(
            typed.contains("'xyz' for '--dial-timeout <TIME>': "),
            "{typed}"
        );
    }

    #[test]
    fn the_whole_cluster_may_be_asked_for_before_and_after_what_is_asked() {
        for line in [
            "endpoint --cluster status",
            "endpoint status --cluster",
            "endpoint --cluster=true hashkv --rev 3",
        ] {
            match parse_with(line, &[]).unwrap().command {
                Command::Endpoint(args) => assert!(args.cluster, "{line}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn switches_take_values_as_in_go() {
        let get = |line| match parse_with(line, &[]).unwrap().command {
            Command::Get(get) => get,
            other => panic!("{other:?}"),
        };
        assert!(get("get k --prefix=true").prefix);
        assert!(!get("get k --prefix=false").prefix);
        assert!(!get("get k --prefix --prefix=0").prefix);
        assert_eq!(get("get -- --prefix=true").key, "--prefix=true");
        assert!(
            parse_with("get k", &[("ETCDCTL_HEX", "true")])
                .unwrap()
                .global
                .hex
        );
    }

    #[test]
    fn commands_may_be_abbreviated() {
        assert!(matches!(
            parse_with("mem l", &[]).unwrap().command,
            Command::Member(cluster::MemberCommand::List(_))
        ));
    }

    #[test]
    fn mistakes_are_told_apart() {
        assert!(matches!(parse_with("get", &[]), Err(Refused::Arguments(_))));
        assert!(matches!(
            parse_with("del a b c", &[]),
            Err(Refused::Arguments(_))
        ));
        assert!(matches!(
            parse_with("get a --nope", &[]),
            Err(Refused::Usage(_))
        ));
        assert!(matches!(parse_with("nope", &[]), Err(Refused::Usage(_))));
        assert!(matches!(
            parse_with("get a --limit x", &[]),
            Err(Refused::Usage(_))
        ));
        assert!(matches!(
            parse_with("get a --hex=yes", &[]),
            Err(Refused::Usage(_))
        ));
        assert!(matches!(parse_with("lease", &[]), Err(Refused::Help(_))));
        assert!(matches!(
            parse_with("--version", &[]),
            Err(Refused::Help(_))
        ));
        assert!(matches!(
            parse_with("get --help", &[]),
            Err(Refused::Help(_))
        ));
    }
}
