//! From the global flags to what the commands work with. Whatever cannot be honoured is refused
//! here, before anything is sent.

use crate::cli::{GlobalArgs, UnsupportedArgs};
use crate::client::{Cluster, Endpoint};
use crate::error::CtlError;
use crate::output::Output;
use std::time::Duration;

/// etcdctl's default for commands that end by themselves.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// The global flags, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whom to ask.
    pub cluster: Cluster,
    /// How to print.
    pub output: Output,
    /// What --command-timeout was set to, for commands that have no limit by default.
    pub time_limit: Option<Duration>,
}

impl Settings {
    /// Checks the global flags.
    pub fn new(global: &GlobalArgs, unsupported: &UnsupportedArgs) -> Result<Self, CtlError> {
        refuse_unsupported(unsupported)?;
        let output = Output::choose(global.write_out.as_deref(), global.hex)?;
        let endpoints = global
            .endpoints
            .iter()
            .filter(|text| !text.trim().is_empty())
            .map(|text| Endpoint::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(CtlError::Arguments(
                "--endpoints names no endpoint".to_owned(),
            ));
        }
        let cluster = Cluster {
            endpoints,
            dial_timeout: global.dial_timeout,
            command_timeout: global.command_timeout.unwrap_or(COMMAND_TIMEOUT),
            keepalive_time: global.keepalive_time,
            keepalive_timeout: global.keepalive_timeout,
            debug: global.debug,
        };
        Ok(Self {
            cluster,
            output,
            time_limit: global.command_timeout,
        })
    }
}

fn refuse_unsupported(args: &UnsupportedArgs) -> Result<(), CtlError> {
    let given = [
        ("--cert", args.cert.is_some(), "TLS"),
        ("--key", args.key.is_some(), "TLS"),
        ("--cacert", args.cacert.is_some(), "TLS"),
        (
            "--insecure-skip-tls-verify",
            args.insecure_skip_tls_verify,
            "TLS",
        ),
        (
            "--insecure-transport=false",
            !args.insecure_transport,
            "TLS",
        ),
        ("--user", args.user.is_some(), "authentication"),
        ("--password", args.password.is_some(), "authentication"),
        ("--discovery-srv", args.discovery_srv.is_some(), "discovery"),
        (
            "--discovery-srv-name",
            args.discovery_srv_name.is_some(),
            "discovery",
        ),
    ];
    match given.into_iter().find(|(_, given, _)| *given) {
        None => Ok(()),
        Some((flag, _, feature)) => Err(CtlError::Unsupported(format!(
            "{flag}: {feature} is not supported yet, and is not ignored; leave the flag out (and its \
             KVCTL_ or ETCDCTL_ variable unset), or use etcdctl"
        ))),
    }
}
