//! `get`, `put`, `del` and `compaction`.

use super::parse_lease_id;
use crate::cli::kv::{CompactionArgs, DelArgs, GetArgs, PutArgs};
use crate::error::CtlError;
use crate::output::{Format, Kind, Reply, tell, write_stdout};
use crate::settings::Settings;
use etcd_client::{
    CompactionOptions, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget,
};
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::ffi::OsStrExt as _;

/// A `get`, ready to be sent.
#[derive(Debug, Clone)]
pub struct Get {
    /// The first key.
    pub key: Vec<u8>,
    /// Everything else.
    pub options: GetOptions,
}

/// A `put`, ready to be sent.
#[derive(Debug, Clone)]
pub struct Put {
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` if it is still to be read from stdin.
    pub value: Option<Vec<u8>>,
    /// Everything else.
    pub options: PutOptions,
}

/// A `del`, ready to be sent.
#[derive(Debug, Clone)]
pub struct Del {
    /// The first key.
    pub key: Vec<u8>,
    /// Everything else.
    pub options: DeleteOptions,
}

/// Checks the arguments of a `get`.
pub fn parse_get(args: &GetArgs) -> Result<Get, CtlError> {
    check_range(args.prefix, args.from_key, &args.range_end)?;
    if args.keys_only && args.count_only {
        return Err(CtlError::Arguments(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one"
                .to_owned(),
        ));
    }
    let mut options = GetOptions::new().with_limit(args.limit);
    if args.rev > 0 {
        options = options.with_revision(args.rev);
    }
    options = match args.consistency.as_str() {
        "l" => options,
        "s" => options.with_serializable(),
        other => {
            return Err(CtlError::Unsupported(format!(
                "unknown consistency flag {other:?}; use l or s"
            )));
        }
    };
    options = options.with_sort(sort_target(&args.sort_by)?, sort_order(&args.order)?);
    options = match (&args.range_end, args.prefix, args.from_key) {
        (Some(end), ..) => options.with_range(end.as_bytes()),
        (None, true, _) => options.with_prefix(),
        (None, _, true) => options.with_from_key(),
        (None, false, false) => options,
    };
    if args.keys_only {
        options = options.with_keys_only();
    }
    if args.count_only {
        options = options.with_count_only();
    }
    Ok(Get {
        key: args.key.as_bytes().to_vec(),
        options,
    })
}

/// Checks the arguments of a `put`.
pub fn parse_put(args: &PutArgs) -> Result<Put, CtlError> {
    if args.ignore_value && args.value.is_some() {
        return Err(CtlError::Arguments(
            "put command needs only 1 argument when 'ignore-value' is set".to_owned(),
        ));
    }
    let mut options = PutOptions::new();
    match parse_lease_id(&args.lease)? {
        0 => {}
        lease => options = options.with_lease(lease),
    }
    if args.prev_kv {
        options = options.with_prev_key();
    }
    if args.ignore_value {
        options = options.with_ignore_value();
    }
    if args.ignore_lease {
        options = options.with_ignore_lease();
    }
    let value = if args.ignore_value {
        Some(Vec::new())
    } else {
        args.value.as_ref().map(|value| value.as_bytes().to_vec())
    };
    Ok(Put {
        key: args.key.as_bytes().to_vec(),
        value,
        options,
    })
}

/// Checks the arguments of a `del`.
pub fn parse_del(args: &DelArgs) -> Result<Del, CtlError> {
    check_range(args.prefix, args.from_key, &args.range_end)?;
    let mut options = DeleteOptions::new();
    options = match (&args.range_end, args.prefix, args.from_key) {
        (Some(end), ..) => options.with_range(end.as_bytes()),
        (None, true, _) => options.with_prefix(),
        (None, _, true) => options.with_from_key(),
        (None, false, false) => options,
    };
    if args.prev_kv {
        options = options.with_prev_key();
    }
    Ok(Del {
        key: args.key.as_bytes().to_vec(),
        options,
    })
}

fn check_range(prefix: bool, from_key: bool, range_end: &Option<OsString>) -> Result<(), CtlError> {
    let problem = if prefix && from_key {
        "`--prefix` and `--from-key` cannot be set at the same time, choose one"
    } else if range_end.is_some() && (prefix || from_key) {
        "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"
    } else {
        return Ok(());
    };
    Err(CtlError::Arguments(problem.to_owned()))
}

fn sort_order(text: &str) -> Result<SortOrder, CtlError> {
    match text.to_uppercase().as_str() {
        "" => Ok(SortOrder::None),
        "ASCEND" => Ok(SortOrder::Ascend),
        "DESCEND" => Ok(SortOrder::Descend),
        _ => Err(CtlError::Unsupported(format!(
            "bad sort order {text:?}; use ascend or descend"
        ))),
    }
}

fn sort_target(text: &str) -> Result<SortTarget, CtlError> {
    match text.to_uppercase().as_str() {
        "" | "KEY" => Ok(SortTarget::Key),
        "CREATE" => Ok(SortTarget::Create),
        "MODIFY" => Ok(SortTarget::Mod),
        "VALUE" => Ok(SortTarget::Value),
        "VERSION" => Ok(SortTarget::Version),
        _ => Err(CtlError::Unsupported(format!(
            "bad sort target {text:?}; use create, key, modify, value or version"
        ))),
    }
}

/// `get`
pub async fn get(settings: &Settings, args: &GetArgs) -> Result<(), CtlError> {
    let mut output = settings.output;
    output.require(Kind::Range)?;
    let counts = [Format::Fields, Format::Json, Format::Person];
    if args.count_only && !counts.contains(&output.format) {
        return Err(CtlError::Arguments(
            "--count-only is only for `--write-out=fields` or json".to_owned(),
        ));
    }
    if args.print_value_only && !output.is_simple() {
        return Err(CtlError::Arguments(
            "print-value-only is only for `--write-out=simple`".to_owned(),
        ));
    }
    output.value_only = args.print_value_only;
    let get = parse_get(args)?;
    let reply = settings
        .cluster
        .read("get", async |connection| {
            connection
                .kv()
                .get(get.key.clone(), Some(get.options.clone()))
                .await
        })
        .await?;
    if output.format == Format::Person && args.count_only {
        return write_stdout(format!("{}\n", reply.count()).as_bytes());
    }
    if output.format == Format::Person && reply.kvs().is_empty() {
        tell(format_args!("(no such key)"));
    }
    output.print(&Reply::Range(&reply.0))
}

/// `put`
pub async fn put(settings: &Settings, args: &PutArgs) -> Result<(), CtlError> {
    settings.output.require(Kind::KeyWrite)?;
    let put = parse_put(args)?;
    let value = match put.value {
        Some(value) => value,
        None => read_value()?,
    };
    let reply = settings
        .cluster
        .write("put", async |connection| {
            connection
                .kv()
                .put(put.key.clone(), value.clone(), Some(put.options.clone()))
                .await
        })
        .await?;
    settings.output.print(&Reply::Put(&reply.0))
}

/// The value of a `put` that has none on its command line: all of stdin, as it is.
fn read_value() -> Result<Vec<u8>, CtlError> {
    if io::stdin().is_terminal() {
        tell(format_args!("Type the value, then Ctrl-D."));
    }
    let mut value = Vec::new();
    io::stdin()
        .read_to_end(&mut value)
        .map_err(|source| CtlError::Stdio {
            stream: "stdin",
            source,
        })?;
    if value.is_empty() {
        return Err(CtlError::Arguments(
            "put command needs 1 argument and input from stdin or 2 arguments".to_owned(),
        ));
    }
    Ok(value)
}

/// `del`
pub async fn del(settings: &Settings, args: &DelArgs) -> Result<(), CtlError> {
    settings.output.require(Kind::KeyWrite)?;
    let del = parse_del(args)?;
    let reply = settings
        .cluster
        .write("del", async |connection| {
            connection
                .kv()
                .delete(del.key.clone(), Some(del.options.clone()))
                .await
        })
        .await?;
    settings.output.print(&Reply::Delete(&reply.0))
}

/// `compaction`, which prints the same in every format.
pub async fn compaction(settings: &Settings, args: &CompactionArgs) -> Result<(), CtlError> {
    let revision: i64 = args.revision.parse().map_err(|error| {
        CtlError::Arguments(format!("bad revision {:?} ({error})", args.revision))
            .with_exit(crate::error::Exit::General)
    })?;
    let mut options = CompactionOptions::new();
    if args.physical {
        options = options.with_physical();
    }
    settings
        .cluster
        .write("compaction", async |connection| {
            connection
                .kv()
                .compact(revision, Some(options.clone()))
                .await
        })
        .await?;
    write_stdout(format!("compacted revision {revision}\n").as_bytes())
}
