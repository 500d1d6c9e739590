//! The command line and the environment, as etcd's users know them.
//!
//! A flag is `--name=value`, `--name value`, or with one dash, as Go's programs take it; a switch is `--name` or
//! `--name=false`, and never takes the next word. Each flag is also an environment variable, `ETCD_` and the name in
//! capitals; the command line wins. This module knows names and words; what they mean is [`crate::config`]'s.

mod help;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

pub use help::{help, version};
pub use table::{Flag, Group, Standing, TABLE, find};

/// What an environment variable's name begins with.
pub const ENV_PREFIX: &str = "ETCD_";

/// What the old, experimental name of a flag begins with.
pub const EXPERIMENTAL: &str = "experimental-";

/// Where a setting came from, to name it in an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    CommandLine,
    /// The environment.
    Environment,
    /// The file of `--config-file`.
    File(String),
}

/// A flag's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As it was written.
    pub value: String,
    /// Where it was written.
    pub source: Source,
}

/// The flags that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    by_name: BTreeMap<&'static str, Setting>,
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To run with these settings.
    Run(Settings),
    /// To be told the flags.
    Help,
    /// To be told the version.
    Version,
}

/// What is wrong with a command line, an environment or a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum FlagError {
    #[error("{0} is not a flag of kvd; see kvd --help")]
    Unknown(String),
    #[error("{0:?} is not a flag: flags begin with --; see kvd --help")]
    NotAFlag(String),
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("{place} is not supported by kvd yet, and ignoring it would not be safe: {why}")]
    Refused { place: String, why: &'static str },
    #[error("{place}: {problem}")]
    Invalid { place: String, problem: String },
    #[error("the configuration file {path}: {problem}")]
    File { path: String, problem: String },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::CommandLine => f.write_str("the command line"),
            Source::Environment => f.write_str("the environment"),
            Source::File(path) => f.write_str(path),
        }
    }
}

impl Settings {
    /// The value of a flag, if it was given.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.by_name.get(name)
    }

    /// Every flag that was given.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Flag, &Setting)> {
        self.by_name
            .iter()
            .filter_map(|(name, setting)| Some((find(name)?, setting)))
    }

    /// Notes a flag's value in place of an earlier one.
    pub fn set(&mut self, flag: &'static Flag, value: impl Into<String>, source: Source) {
        self.by_name.insert(
            flag.name,
            Setting {
                value: value.into(),
                source,
            },
        );
    }

    /// How to name a flag in a message: as it was given.
    pub fn place(&self, name: &str) -> String {
        place(
            name,
            self.get(name)
                .map_or(&Source::CommandLine, |setting| &setting.source),
        )
    }

    /// An error about a flag's value.
    pub fn invalid(&self, name: &str, problem: impl fmt::Display) -> FlagError {
        FlagError::Invalid {
            place: self.place(name),
            problem: problem.to_string(),
        }
    }

    /// Refuses what is not built and must not be ignored, and words a warning for what means nothing here.
    pub fn vet(&self) -> Result<Vec<String>, FlagError> {
        let mut warnings = Vec::new();
        for (flag, setting) in self.iter() {
            let place = place(flag.name, &setting.source);
            match flag.standing {
                Standing::Built => {}
                Standing::Ignored(why) => warnings.push(format!("{place} has no effect: {why}")),
                Standing::Refused(_) if is_off(flag, &setting.value) => {}
                Standing::Refused(why) => return Err(FlagError::Refused { place, why }),
            }
        }
        Ok(warnings)
    }
}

/// Whether the value of a flag turns off what it is about. A file may have any name but these.
fn is_off(flag: &Flag, value: &str) -> bool {
    matches!(value, "" | "false" | "0") || flag.switch && crate::values::switch(value) == Ok(false)
}

fn place(name: &str, source: &Source) -> String {
    match source {
        Source::CommandLine => format!("--{name}"),
        Source::Environment => env_name(name),
        Source::File(path) => format!("{name} in {path}"),
    }
}

/// The environment variable of a flag.
pub fn env_name(name: &str) -> String {
    format!("{ENV_PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

/// Reads a command line, without the program's name, and an environment.
pub fn parse(
    args: impl IntoIterator<Item = String>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(Request, Vec<String>), FlagError> {
    let mut settings = Settings::default();
    let mut warnings = Vec::new();
    read_env(env, &mut settings, &mut warnings);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(rest) = arg
            .strip_prefix("--")
            .or_else(|| arg.strip_prefix('-'))
            .filter(|rest| !rest.is_empty())
        else {
            return Err(FlagError::NotAFlag(arg));
        };
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (rest, None),
        };
        match name {
            "help" | "h" => return Ok((Request::Help, Vec::new())),
            "version" => return Ok((Request::Version, Vec::new())),
            _ => {}
        }
        let flag = find(name).ok_or_else(|| FlagError::Unknown(format!("--{name}")))?;
        let value = match value {
            Some(value) => value,
            None if flag.switch => "true".to_owned(),
            None => args
                .next()
                .ok_or_else(|| FlagError::NoValue(format!("--{name}")))?,
        };
        settings.set(flag, value, Source::CommandLine);
    }
    Ok((Request::Run(settings), warnings))
}

/// What the environment says. etcd warns of variables that look like its own and are not, and so do we: a container
/// platform may set such things without being asked.
fn read_env(
    env: impl IntoIterator<Item = (String, String)>,
    settings: &mut Settings,
    warnings: &mut Vec<String>,
) {
    // Sorted, so that warnings come in the same order each time.
    let ours: BTreeMap<String, String> = env
        .into_iter()
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .collect();
    for (variable, value) in ours {
        let name = variable[ENV_PREFIX.len()..]
            .to_lowercase()
            .replace('_', "-");
        match find(&name) {
            // etcd takes an empty variable as one that is not set.
            Some(_) if value.is_empty() => {}
            Some(flag) => settings.set(flag, value, Source::Environment),
            None => warnings.push(format!(
                "the environment variable {variable} is not one that kvd knows"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Settings, FlagError> {
        with_env(args, &[]).map(|(settings, _)| settings)
    }

    fn with_env(args: &[&str], env: &[(&str, &str)]) -> Result<(Settings, Vec<String>), FlagError> {
        let args = args.iter().map(|arg| (*arg).to_owned());
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match parse(args, env)? {
            (Request::Run(settings), warnings) => Ok((settings, warnings)),
            (other, _) => panic!("{other:?}"),
        }
    }

    fn value(settings: &Settings, name: &str) -> Option<String> {
        settings.get(name).map(|setting| setting.value.clone())
    }

    #[test]
    fn a_value_follows_an_equals_sign_or_a_space_and_one_dash_is_as_good_as_two() {
        for args in [
            &["--name=a"][..],
            &["--name", "a"],
            &["-name=a"],
            &["-name", "a"],
        ] {
            assert_eq!(
                value(&run(args).unwrap(), "name").as_deref(),
                Some("a"),
                "{args:?}"
            );
        }
    }

    #[test]
    fn a_switch_does_not_take_the_next_word() {
        let settings = run(&["--strict-reconfig-check", "--name", "a"]).unwrap();
        assert_eq!(
            value(&settings, "strict-reconfig-check").as_deref(),
            Some("true")
        );
        assert_eq!(value(&settings, "name").as_deref(), Some("a"));
        let settings = run(&["--strict-reconfig-check=false"]).unwrap();
        assert_eq!(
            value(&settings, "strict-reconfig-check").as_deref(),
            Some("false")
        );
        assert_eq!(
            run(&["--strict-reconfig-check", "false"]),
            Err(FlagError::NotAFlag("false".into()))
        );
    }

    #[test]
    fn the_last_of_two_values_wins_and_the_command_line_wins_over_the_environment() {
        assert_eq!(
            value(&run(&["--name=a", "--name=b"]).unwrap(), "name").as_deref(),
            Some("b")
        );
        let (settings, _) = with_env(
            &["--name=b"],
            &[("ETCD_NAME", "a"), ("ETCD_DATA_DIR", "/d")],
        )
        .unwrap();
        assert_eq!(value(&settings, "name").as_deref(), Some("b"));
        assert_eq!(
            settings.get("data-dir").unwrap().source,
            Source::Environment
        );
    }

    #[test]
    fn the_old_experimental_names_are_taken() {
        let settings = run(&["--experimental-watch-progress-notify-interval=1s"]).unwrap();
        assert_eq!(
            value(&settings, "watch-progress-notify-interval").as_deref(),
            Some("1s")
        );
        let (settings, _) = with_env(&[], &[("ETCD_EXPERIMENTAL_MAX_LEARNERS", "3")]).unwrap();
        assert_eq!(value(&settings, "max-learners").as_deref(), Some("3"));
        assert_eq!(
            run(&["--experimental-name=a"]),
            Err(FlagError::Unknown("--experimental-name".into()))
        );
    }

    #[test]
    fn what_is_unknown_is_refused_by_name() {
        assert_eq!(run(&["--nmae=a"]), Err(FlagError::Unknown("--nmae".into())));
        assert_eq!(
            run(&["gateway"]),
            Err(FlagError::NotAFlag("gateway".into()))
        );
        assert_eq!(run(&["--"]), Err(FlagError::NotAFlag("--".into())));
        assert_eq!(run(&["--name"]), Err(FlagError::NoValue("--name".into())));
    }

    #[test]
    fn an_unknown_variable_is_a_warning_and_an_empty_one_is_nothing() {
        let (settings, warnings) =
            with_env(&[], &[("ETCD_NMAE", "a"), ("ETCD_NAME", ""), ("HOME", "/")]).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(
            warnings,
            ["the environment variable ETCD_NMAE is not one that kvd knows"]
        );
    }

    #[test]
    fn security_that_is_not_built_is_refused_wherever_it_is_asked_for() {
        for args in [
            &["--cert-file=x"][..],
            &["--client-cert-auth"],
            &["--auth-token=jwt"],
            &["--cipher-suites=a"],
        ] {
            assert!(
                matches!(run(args).unwrap().vet(), Err(FlagError::Refused { .. })),
                "{args:?}"
            );
        }
        let (settings, _) = with_env(&[], &[("ETCD_PEER_TRUSTED_CA_FILE", "x")]).unwrap();
        let error = settings.vet().unwrap_err().to_string();
        assert!(
            error.starts_with("ETCD_PEER_TRUSTED_CA_FILE is not supported"),
            "{error}"
        );
    }

    #[test]
    fn security_that_is_turned_off_needs_nothing_to_be_built() {
        assert_eq!(
            run(&[
                "--client-cert-auth=FALSE",
                "--peer-auto-tls=f",
                "--cert-file="
            ])
            .unwrap()
            .vet(),
            Ok(vec![])
        );
    }

    #[test]
    fn a_flag_that_means_nothing_here_is_a_warning() {
        let warnings = run(&["--backend-batch-limit=5"]).unwrap().vet().unwrap();
        assert!(
            warnings[0].starts_with("--backend-batch-limit has no effect: "),
            "{warnings:?}"
        );
    }

    #[test]
    fn help_and_version_are_answered_before_anything_else_is_looked_at() {
        let ask = |arg: &str| parse([arg.to_owned()], []).unwrap().0;
        assert_eq!(
            (ask("--help"), ask("-h"), ask("--version")),
            (Request::Help, Request::Help, Request::Version)
        );
    }
}
