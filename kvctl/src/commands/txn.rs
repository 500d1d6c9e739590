//! `txn`: comparisons and two lists of operations, in etcdctl's grammar.
//!
//! The input is read and checked whole before anything is sent. An input that ends early is
//! refused: half a list is not what was meant.

use super::kv::{parse_del, parse_get, parse_put};
use super::parse_lease_id;
use crate::cli::kv::{Operation, OperationLine, TxnArgs};
use crate::cli::{Refused, spell_out_booleans};
use crate::error::CtlError;
use crate::go::{quote, words};
use crate::output::{Kind, Reply, tell, write_stdout};
use crate::settings::Settings;
use clap::{CommandFactory as _, FromArgMatches as _};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::os::unix::ffi::OsStringExt as _;

/// `txn`
pub async fn run(settings: &Settings, args: &TxnArgs) -> Result<(), CtlError> {
    settings.output.require(Kind::KeyWrite)?;
    let txn = match &args.file {
        Some(path) => {
            let action = "cannot be read";
            let file = File::open(path).map_err(|source| CtlError::File {
                path: path.clone(),
                action,
                source,
            })?;
            read_txn(&mut BufReader::new(file), |_| Ok(()))?
        }
        None => {
            let interactive = args.interactive;
            if !interactive && io::stdin().is_terminal() {
                tell(format_args!(
                    "Type comparisons, an empty line, operations if they hold, an empty line, operations if not, an empty line."
                ));
            }
            let prompt = |text: &str| {
                if interactive {
                    write_stdout(text.as_bytes())
                } else {
                    Ok(())
                }
            };
            read_txn(&mut io::stdin().lock(), prompt)?
        }
    };
    let reply = settings
        .cluster
        .write("txn", async |connection| {
            connection.kv().txn(txn.clone()).await
        })
        .await?;
    settings.output.print(&Reply::Txn(&reply.0))
}

/// Reads a transaction: three lists, each ended by an empty line.
fn read_txn(
    input: &mut dyn BufRead,
    prompt: impl Fn(&str) -> Result<(), CtlError>,
) -> Result<Txn, CtlError> {
    prompt("compares:\n")?;
    let compares = read_list(input, "comparisons", parse_compare)?;
    prompt("success requests (get, put, del):\n")?;
    let success = read_list(input, "success requests", parse_operation)?;
    prompt("failure requests (get, put, del):\n")?;
    let failure = read_list(input, "failure requests", parse_operation)?;
    Ok(Txn::new().when(compares).and_then(success).or_else(failure))
}

fn read_list<T>(
    input: &mut dyn BufRead,
    what: &str,
    parse: fn(&[u8]) -> Result<T, String>,
) -> Result<Vec<T>, CtlError> {
    let mut list = Vec::new();
    loop {
        let mut line = Vec::new();
        input
            .read_until(b'\n', &mut line)
            .map_err(|source| CtlError::Stdio {
                stream: "stdin",
                source,
            })?;
        if line.last() != Some(&b'\n') {
            return Err(CtlError::Input(format!(
                "the input ends within the {what}; each of the three lists (comparisons, success \
                 requests, failure requests) is ended by an empty line"
            )));
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(list);
        }
        list.push(parse(line).map_err(CtlError::Input)?);
    }
}

/// Reads `target("key") op "value"`.
fn parse_compare(line: &[u8]) -> Result<Compare, String> {
    let shown = String::from_utf8_lossy(line);
    let malformed = || format!("malformed comparison: {shown}; write TARGET(\"key\") OP \"value\"");
    let paren = line
        .iter()
        .position(|&byte| byte == b'(')
        .ok_or_else(malformed)?;
    let (target, rest) = (&line[..paren], &line[paren + 1..]);
    let (key, rest) = quote::unquote_prefix(rest.trim_ascii_start()).ok_or_else(malformed)?;
    let rest = rest
        .strip_prefix(b")")
        .ok_or_else(malformed)?
        .trim_ascii_start();
    let op_end = rest
        .iter()
        .position(u8::is_ascii_whitespace)
        .ok_or_else(malformed)?;
    let (op, rest) = rest.split_at(op_end);
    let (value, rest) = quote::unquote_prefix(rest.trim_ascii_start()).ok_or_else(malformed)?;
    if !rest.trim_ascii().is_empty() {
        return Err(format!(
            "malformed comparison: {shown}; there is something after the value"
        ));
    }
    let op = match op {
        b"=" => CompareOp::Equal,
        b"!=" => CompareOp::NotEqual,
        b">" => CompareOp::Greater,
        b"<" => CompareOp::Less,
        _ => {
            return Err(format!(
                "malformed comparison: {shown}; the operators are =, !=, < and >"
            ));
        }
    };
    let text = || std::str::from_utf8(&value).unwrap_or_default();
    let number = || {
        text().parse::<i64>().map_err(|_| {
            format!("invalid txn compare request: {shown}; the value must be a number in quotes")
        })
    };
    match target {
        b"ver" | b"version" => Ok(Compare::version(key, op, number()?)),
        b"c" | b"create" => Ok(Compare::create_revision(key, op, number()?)),
        b"m" | b"mod" => Ok(Compare::mod_revision(key, op, number()?)),
        b"val" | b"value" => Ok(Compare::value(key, op, value)),
        b"lease" => {
            let lease = parse_lease_id(text())
                .map_err(|error| format!("malformed comparison: {shown}; {error}"))?;
            Ok(Compare::lease(key, op, lease))
        }
        _ => Err(format!(
            "malformed comparison: {shown} (unknown target {}); the targets are value, version, create, mod and lease",
            String::from_utf8_lossy(target)
        )),
    }
}

/// Reads `put …`, `get …` or `del …`, with their flags.
fn parse_operation(line: &[u8]) -> Result<TxnOp, String> {
    let invalid = |why: &str| {
        format!(
            "invalid txn request: {}\n  {why}",
            String::from_utf8_lossy(line)
        )
    };
    let words = words::split(line).map_err(|why| invalid(&why))?;
    let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
    let command = OperationLine::command();
    let words = spell_out_booleans(words, &command);
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|matches| OperationLine::from_arg_matches(&matches))
        .map_err(|error| invalid(&first_line(error.into())))?;
    let operation = match parsed.operation {
        Operation::Get(args) => parse_get(&args).map(|get| TxnOp::get(get.key, Some(get.options))),
        Operation::Del(args) => {
            parse_del(&args).map(|del| TxnOp::delete(del.key, Some(del.options)))
        }
        Operation::Put(args) => parse_put(&args).and_then(|put| match put.value {
            Some(value) => Ok(TxnOp::put(put.key, value, Some(put.options))),
            None => Err(CtlError::Arguments(
                "put needs a value here: stdin holds the transaction".to_owned(),
            )),
        }),
    };
    operation.map_err(|error| invalid(&error.to_string()))
}

/// What is wrong, without the usage that clap adds.
pub fn first_line(refused: Refused) -> String {
    let (Refused::Help(error) | Refused::Arguments(error) | Refused::Usage(error)) = refused;
    let text = error.to_string();
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.contains("try '--help'"));
    let text = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::{PbTargetUnion, PbTxnOpRequest, PbTxnRequest};

    fn read(text: &str) -> Result<PbTxnRequest, String> {
        read_txn(&mut text.as_bytes(), |_| Ok(()))
            .map(PbTxnRequest::from)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn three_lists_make_a_transaction() {
        let txn = read("mod(\"k\") > \"0\"\nval(`k`) = \"a\\n\"\n\nput k \"x y\"\nget a b --limit=3\n\n  del k --prefix\n\n").unwrap();
        assert_eq!(txn.compare.len(), 2);
        assert_eq!(
            txn.compare[0].target_union,
            Some(PbTargetUnion::ModRevision(0))
        );
        assert_eq!(
            txn.compare[1].target_union,
            Some(PbTargetUnion::Value(b"a\n".to_vec()))
        );
        assert_eq!((txn.success.len(), txn.failure.len()), (2, 1));
        match txn.success[0].request.as_ref().unwrap() {
            PbTxnOpRequest::RequestPut(put) => assert_eq!(put.value, b"x y"),
            other => panic!("{other:?}"),
        }
        match txn.success[1].request.as_ref().unwrap() {
            PbTxnOpRequest::RequestRange(range) => {
                assert_eq!((range.range_end.as_slice(), range.limit), (&b"b"[..], 3));
            }
            other => panic!("{other:?}"),
        }
        match txn.failure[0].request.as_ref().unwrap() {
            PbTxnOpRequest::RequestDeleteRange(del) => assert_eq!(del.range_end, b"l"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_target_is_known_by_its_names() {
        for (line, union) in [
            ("ver(\"k\") = \"1\"", PbTargetUnion::Version(1)),
            ("version(\"k\") = \"1\"", PbTargetUnion::Version(1)),
            ("c(\"k\") = \"-1\"", PbTargetUnion::CreateRevision(-1)),
            ("create(\"k\") = \"1\"", PbTargetUnion::CreateRevision(1)),
            ("m(\"k\")  !=  \"1\"", PbTargetUnion::ModRevision(1)),
            ("value(\"k\") < \"1\"", PbTargetUnion::Value(b"1".to_vec())),
            ("lease(\"k\") = \"1f\"", PbTargetUnion::Lease(0x1f)),
        ] {
            let txn = read(&format!("{line}\n\n\n\n")).unwrap();
            assert_eq!(txn.compare[0].target_union, Some(union), "{line}");
            assert_eq!(txn.compare[0].key, b"k", "{line}");
        }
    }

    #[test]
    fn malformed_comparisons_are_refused_with_the_line() {
        for line in [
            "mod",
            "mod(k) = \"1\"",
            "mod(\"k\") = 1",
            "mod(\"k\")=\"1\"",
            "mod(\"k\") == \"1\"",
            "mod(\"k\") = \"x\"",
            "nope(\"k\") = \"1\"",
            "mod(\"k\" = \"1\"",
            "mod(\"k\") = \"1\" x",
            "lease(\"k\") = \"xyz\"",
        ] {
            let error = read(&format!("{line}\n\n\n\n")).unwrap_err();
            assert!(error.contains(line), "{line}: {error}");
        }
    }

    #[test]
    fn malformed_operations_are_refused_with_the_line() {
        for line in [
            "put",
            "put k",
            "frobnicate k",
            "get",
            "get k --nope",
            "put k 'v",
            "get k --prefix --from-key",
            "put k v --lease xyz",
            "put k v w",
        ] {
            let error = read(&format!("\n{line}\n\n\n")).unwrap_err();
            assert!(error.contains(line), "{line}: {error}");
        }
    }

    #[test]
    fn an_input_that_ends_early_is_refused() {
        for text in [
            "",
            "mod(\"k\") = \"1\"",
            "\n",
            "\nput k v\n",
            "\n\nput k v\n",
            "\n\nput k v",
        ] {
            assert!(read(text).unwrap_err().contains("ends within"), "{text:?}");
        }
    }
}
