//! What is printed on stdout, and in which format.
//!
//! `simple`, `fields` and `json` are etcdctl 3.5's, byte for byte. When no format was asked for and
//! stdout is a terminal, a person gets colours and tables instead. Nothing here talks to a server:
//! a [`Reply`] comes in, bytes go out.

mod fields;
mod json;
mod simple;
mod table;

use crate::error::CtlError;
use etcd_client::proto::{
    PbAlarmResponse, PbDeleteResponse, PbEvent, PbHashKvResponse, PbLeaseGrantResponse,
    PbLeaseKeepAliveResponse, PbLeaseLeasesResponse, PbLeaseRevokeResponse,
    PbLeaseTimeToLiveResponse, PbMemberAddResponse, PbMemberListResponse, PbMemberPromoteResponse,
    PbMemberRemoveResponse, PbMemberUpdateResponse, PbMoveLeaderResponse, PbPutResponse,
    PbRangeResponse, PbResponseHeader, PbStatusResponse, PbTxnResponse,
};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// How replies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// etcdctl's default: the bare keys and values, or a sentence.
    Simple,
    /// A line for each field.
    Fields,
    /// One line of JSON.
    Json,
    /// A table in ASCII.
    Table,
    /// For a person at a terminal: tables where they help, else `simple` in colour.
    Person,
}

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The format.
    pub format: Format,
    /// Whether byte strings are printed in hexadecimal.
    pub hex: bool,
    /// Whether only values are printed, not keys (`get --print-value-only`).
    pub value_only: bool,
    /// Whether escape sequences for colours are welcome.
    pub colour: bool,
}

/// A reply to print.
#[derive(Debug)]
pub enum Reply<'a> {
    /// `put`
    Put(&'a PbPutResponse),
    /// `get`
    Range(&'a PbRangeResponse),
    /// `del`
    Delete(&'a PbDeleteResponse),
    /// `txn`
    Txn(&'a PbTxnResponse),
    /// `watch`
    Watch(&'a WatchReply),
    /// `lease grant`
    Grant(&'a PbLeaseGrantResponse),
    /// `lease revoke`
    Revoke(i64, &'a PbLeaseRevokeResponse),
    /// `lease keep-alive`
    KeepAlive(&'a PbLeaseKeepAliveResponse),
    /// `lease timetolive`; whether the keys were asked for
    TimeToLive(&'a PbLeaseTimeToLiveResponse, bool),
    /// `lease list`
    Leases(&'a PbLeaseLeasesResponse),
    /// `member list`
    MemberList(&'a PbMemberListResponse),
    /// `member add`
    MemberAdd(&'a PbMemberAddResponse),
    /// `member remove`
    MemberRemove(u64, &'a PbMemberRemoveResponse),
    /// `member update`
    MemberUpdate(u64, &'a PbMemberUpdateResponse),
    /// `member promote`
    MemberPromote(u64, &'a PbMemberPromoteResponse),
    /// `endpoint health`
    Health(&'a [EndpointHealth]),
    /// `endpoint status`
    Status(&'a [(String, PbStatusResponse)]),
    /// `endpoint hashkv`
    HashKv(&'a [(String, PbHashKvResponse)]),
    /// `snapshot status`
    SnapshotStatus(&'a SnapshotStatus),
    /// `move-leader`: from which member to which
    MoveLeader(u64, u64, &'a PbMoveLeaderResponse),
    /// `alarm list`, `alarm disarm`
    Alarm(&'a PbAlarmResponse),
}

/// The replies, for asking beforehand whether a format can print them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the replies")]
pub enum Kind {
    Range,
    KeyWrite,
    Watch,
    Lease,
    MemberList,
    MemberChange,
    EndpointTable,
    MoveLeader,
    Alarm,
}

/// What a watch hands on: etcd's Go client makes this of the messages on the stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchReply {
    /// The header; empty if the server refused the watch.
    pub header: PbResponseHeader,
    /// The events; none if this is a progress report, or if the watch was refused outright.
    pub events: Option<Vec<PbEvent>>,
    /// Below which revision the history is gone, if that ended the watch.
    pub compact_revision: i64,
    /// Whether this is the end of the watch.
    pub canceled: bool,
}

/// An endpoint's state of health.
#[derive(Debug)]
pub struct EndpointHealth {
    /// Which one.
    pub endpoint: String,
    /// How long it took to read a key, if it was reached.
    pub took: Option<Duration>,
    /// What is wrong, if anything.
    pub error: Option<String>,
}

/// What a snapshot file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// The beginning of its SHA-256.
    pub hash: u32,
    /// The revision.
    pub revision: i64,
    /// How many keys there are.
    pub total_key: u64,
    /// Its size in bytes, without the checksum.
    pub total_size: u64,
}

impl Output {
    /// The output that was asked for with `-w` and `--hex`.
    pub fn choose(write_out: Option<&str>, hex: bool) -> Result<Self, CtlError> {
        let person = io::stdout().is_terminal();
        let format = match write_out {
            None if person => Format::Person,
            None | Some("simple") => Format::Simple,
            Some("fields") => Format::Fields,
            Some("json") => Format::Json,
            Some("table") => Format::Table,
            Some("protobuf") => {
                return Err(CtlError::Unsupported(
                    "-w protobuf is not supported; use simple, fields, json or table".to_owned(),
                ));
            }
            Some(other) => {
                return Err(CtlError::Unsupported(format!(
                    "unsupported output format {other:?}; use simple, fields, json or table"
                )));
            }
        };
        let colour =
            wants_colour(&io::stdout()) && matches!(format, Format::Person | Format::Table);
        Ok(Self {
            format,
            hex,
            value_only: false,
            colour,
        })
    }

    /// Refuses a format that cannot print such a reply, before anything is sent. (etcdctl refuses
    /// the same, but after it has done what was asked.)
    pub fn require(&self, kind: Kind) -> Result<(), CtlError> {
        let supported = match self.format {
            Format::Simple | Format::Json | Format::Person => true,
            Format::Fields => !matches!(kind, Kind::MemberChange | Kind::MoveLeader),
            Format::Table => matches!(kind, Kind::Range | Kind::MemberList | Kind::EndpointTable),
        };
        if supported {
            return Ok(());
        }
        let name = if self.format == Format::Fields {
            "fields"
        } else {
            "table"
        };
        Err(CtlError::Unsupported(format!(
            "{name} not supported as output format of this command; use simple or json"
        )))
    }

    /// The bytes of a reply.
    pub fn render(&self, reply: &Reply<'_>) -> Vec<u8> {
        match self.format {
            Format::Simple => simple::render(self, reply),
            Format::Fields => fields::render(reply),
            Format::Json => json::render(self, reply),
            Format::Table => {
                table::render(self, reply).unwrap_or_else(|| simple::render(self, reply))
            }
            Format::Person => match reply {
                // At a terminal, the keys and values themselves are what is wanted.
                Reply::Range(_) => simple::render(self, reply),
                _ => table::render(self, reply).unwrap_or_else(|| simple::render(self, reply)),
            },
        }
    }

    /// Prints a reply.
    pub fn print(&self, reply: &Reply<'_>) -> Result<(), CtlError> {
        write_stdout(&self.render(reply))
    }

    /// Whether the format is made for people or for pipes that expect etcdctl's sentences.
    pub fn is_simple(&self) -> bool {
        matches!(self.format, Format::Simple | Format::Person)
    }
}

/// Whether escape sequences for colours are welcome there.
pub fn wants_colour(stream: &impl io::IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_dumb = set("TERM").is_some_and(|terminal| terminal == "dumb");
    stream.is_terminal() && !is_dumb && set("NO_COLOR").is_none()
}

/// Writes to stdout and flushes, so that a pipe sees whole replies at once.
pub fn write_stdout(bytes: &[u8]) -> Result<(), CtlError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|source| CtlError::Stdio {
            stream: "stdout",
            source,
        })
}

/// Writes a line to stderr. If nobody reads that any more, there is nobody to tell.
pub fn tell(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The name of an alarm, as in the protocol.
fn alarm_name(alarm: i32) -> String {
    match alarm {
        0 => "NONE".to_owned(),
        1 => "NOSPACE".to_owned(),
        2 => "CORRUPT".to_owned(),
        other => other.to_string(),
    }
}

/// The name of an event's type, as in the protocol.
pub fn event_name(event: &PbEvent) -> String {
    match event.r#type {
        0 => "PUT".to_owned(),
        1 => "DELETE".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_a_person_has_no_lines_between_its_rows() {
        let health = |endpoint: &str| EndpointHealth {
            endpoint: endpoint.to_owned(),
            took: Some(Duration::from_millis(2)),
            error: None,
        };
        let output = Output {
            format: Format::Person,
            hex: false,
            value_only: false,
            colour: false,
        };
        let bytes = output.render(&Reply::Health(&[health("a:1"), health("b:2")]));
        let table = String::from_utf8(bytes).unwrap();
        assert_eq!(
            table,
            "\
┌──────────┬────────┬──────┬───────┐
│ ENDPOINT │ HEALTH │ TOOK │ ERROR │
╞══════════╪════════╪══════╪═══════╡
│ a:1      │ true   │ 2ms  │       │
│ b:2      │ true   │ 2ms  │       │
└──────────┴────────┴──────┴───────┘
"
        );
    }

    /// What etcdctl 3.5.1 printed of a snapshot with these numbers.
    #[test]
    fn a_snapshots_status_reads_as_etcdctl_prints_it() {
        let status = SnapshotStatus {
            hash: 3_566_520_970,
            revision: 4,
            total_key: 9,
            total_size: 20_480,
        };
        for (format, text) in [
            ("simple", "d494ca8a, 4, 9, 20 kB\n"),
            (
                "json",
                "{\"hash\":3566520970,\"revision\":4,\"totalKey\":9,\"totalSize\":20480}\n",
            ),
            (
                "fields",
                "\"Hash\" : 3566520970\n\"Revision\" : 4\n\"Keys\" : 9\n\"Size\" : 20480\n",
            ),
            (
                "table",
                "\
+----------+----------+------------+------------+
|   HASH   | REVISION | TOTAL KEYS | TOTAL SIZE |
+----------+----------+------------+------------+
| d494ca8a |        4 |          9 |      20 kB |
+----------+----------+------------+------------+
",
            ),
        ] {
            let output = Output::choose(Some(format), false).unwrap();
            let bytes = output.render(&Reply::SnapshotStatus(&status));
            assert_eq!(String::from_utf8(bytes).unwrap(), text, "{format}");
        }
    }
}
