//! `-w table`, and the tables that a person at a terminal gets.

use super::{Format, Output, Reply};
use crate::go::{duration, human_bytes, quote::quote};
use comfy_table::presets::{ASCII_FULL_CONDENSED, UTF8_FULL_CONDENSED};
use comfy_table::{
    Cell, CellAlignment, Color, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle,
};
use etcd_client::proto::PbMember;

/// The colour of the columns' names.
const HEADER: Color = Color::Cyan;
/// The lines that etcdctl draws.
const ETCDCTL: TableStyle =
    ASCII_FULL_CONDENSED.header_separator(LineStyle::new('+', '-', '+', '+'));
/// The lines for a person: none between rows.
const PERSON: TableStyle = UTF8_FULL_CONDENSED
    .header_lines(ContentLineStyle::new('│', '│', '│'))
    .content_lines(ContentLineStyle::new('│', '│', '│'));

/// A reply in rows and columns; also the source of the comma-separated lines of `-w simple`.
pub struct Rows {
    /// The names of the columns.
    pub header: Vec<&'static str>,
    /// The cells.
    pub rows: Vec<Vec<String>>,
}

/// The table of a reply, if it is one that has rows and columns.
pub fn render(output: &Output, reply: &Reply<'_>) -> Option<Vec<u8>> {
    let rows = rows(reply)?;
    let person = output.format == Format::Person;
    let table = draw(output, &rows, person);
    let drawn_width = table
        .column_max_content_widths()
        .iter()
        .map(|width| width + 3)
        .sum::<u16>()
        + 1;
    let terminal_width = Table::new().width();
    match terminal_width {
        Some(width) if person && width < drawn_width => Some(stack(output, &rows).into_bytes()),
        _ => Some(format!("{table}\n").into_bytes()),
    }
}

fn draw(output: &Output, Rows { header, rows }: &Rows, person: bool) -> Table {
    let mut table = Table::new();
    // A wrapped id or URL could not be copied.
    table.set_content_arrangement(ContentArrangement::Disabled);
    let (style, alignment) = if person {
        (PERSON, CellAlignment::Left)
    } else {
        (ETCDCTL, CellAlignment::Right)
    };
    table.load_style(style);
    if output.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(header.iter().enumerate().map(|(column, name)| {
        let column = rows.iter().filter_map(|row| row.get(column));
        let text = if person {
            name.to_uppercase()
        } else {
            centred(name, column)
        };
        painted(Cell::new(text), output.colour.then_some(HEADER))
    }));
    for row in rows {
        table.add_row(row.iter().zip(header).map(|(text, name)| {
            let colour = if output.colour {
                colour_of(name, text)
            } else {
                None
            };
            painted(Cell::new(text).set_alignment(alignment), colour)
        }));
    }
    table
}

/// Each row as a block of lines, for a terminal that is too narrow for the table.
fn stack(output: &Output, Rows { header, rows }: &Rows) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_content_arrangement(ContentArrangement::Disabled);
    if output.colour {
        table.enforce_styling();
    }
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            table.add_row([""]);
        }
        for (name, text) in header.iter().zip(row) {
            let colour = |colour: Option<Color>| if output.colour { colour } else { None };
            table.add_row([
                painted(Cell::new(name.to_uppercase()), colour(Some(HEADER))),
                painted(Cell::new(text), colour(colour_of(name, text))),
            ]);
        }
    }
    format!("{table}\n")
}

fn painted(cell: Cell, colour: Option<Color>) -> Cell {
    match colour {
        Some(colour) => cell.fg(colour),
        None => cell,
    }
}

/// A column's name in the middle, as etcdctl has it: an odd space goes to the right.
fn centred<'a>(name: &str, column: impl Iterator<Item = &'a String>) -> String {
    let widest = column.map(|cell| cell.chars().count()).max().unwrap_or(0);
    let before = widest.saturating_sub(name.len()) / 2;
    " ".repeat(before) + &name.to_uppercase()
}

fn colour_of(column: &str, text: &str) -> Option<Color> {
    match (column, text) {
        ("Status", "started") | ("health", "true") | ("is leader", "true") => Some(Color::Green),
        ("Status", "unstarted") | ("is learner" | "Is Learner", "true") => Some(Color::Yellow),
        ("health", "false") => Some(Color::Red),
        ("errors" | "error", text) if !text.is_empty() => Some(Color::Red),
        _ => None,
    }
}

/// The rows and columns of a reply, if it has them.
pub fn rows(reply: &Reply<'_>) -> Option<Rows> {
    match reply {
        Reply::MemberList(reply) => Some(Rows {
            header: vec![
                "ID",
                "Status",
                "Name",
                "Peer Addrs",
                "Client Addrs",
                "Is Learner",
            ],
            rows: reply.members.iter().map(member).collect(),
        }),
        Reply::Health(endpoints) => Some(Rows {
            header: vec!["endpoint", "health", "took", "error"],
            rows: endpoints
                .iter()
                .map(|health| {
                    vec![
                        health.endpoint.clone(),
                        health.error.is_none().to_string(),
                        health.took.map(duration::format).unwrap_or_default(),
                        health.error.clone().unwrap_or_default(),
                    ]
                })
                .collect(),
        }),
        Reply::Status(endpoints) => Some(Rows {
            header: vec![
                "endpoint",
                "ID",
                "version",
                "db size",
                "is leader",
                "is learner",
                "raft term",
                "raft index",
                "raft applied index",
                "errors",
            ],
            rows: endpoints
                .iter()
                .map(|(endpoint, reply)| {
                    let id = reply.header.map_or(0, |header| header.member_id);
                    vec![
                        endpoint.clone(),
                        format!("{id:x}"),
                        reply.version.clone(),
                        human_bytes(u64::try_from(reply.db_size).unwrap_or_default()),
                        (reply.leader == id).to_string(),
                        reply.is_learner.to_string(),
                        reply.raft_term.to_string(),
                        reply.raft_index.to_string(),
                        reply.raft_applied_index.to_string(),
                        reply.errors.join(", "),
                    ]
                })
                .collect(),
        }),
        Reply::HashKv(endpoints) => Some(Rows {
            header: vec!["endpoint", "hash"],
            rows: endpoints
                .iter()
                .map(|(endpoint, reply)| vec![endpoint.clone(), reply.hash.to_string()])
                .collect(),
        }),
        Reply::SnapshotStatus(status) => Some(Rows {
            header: vec!["hash", "revision", "total keys", "total size"],
            rows: vec![vec![
                format!("{:x}", status.hash),
                status.revision.to_string(),
                status.total_key.to_string(),
                human_bytes(status.total_size),
            ]],
        }),
        Reply::Range(reply) => Some(Rows {
            header: vec![
                "key",
                "value",
                "create revision",
                "mod revision",
                "version",
                "lease",
            ],
            rows: reply
                .kvs
                .iter()
                .map(|kv| {
                    vec![
                        quote(&kv.key),
                        quote(&kv.value),
                        kv.create_revision.to_string(),
                        kv.mod_revision.to_string(),
                        kv.version.to_string(),
                        if kv.lease == 0 {
                            String::new()
                        } else {
                            format!("{:016x}", kv.lease)
                        },
                    ]
                })
                .collect(),
        }),
        _ => None,
    }
}

fn member(member: &PbMember) -> Vec<String> {
    let status = if member.name.is_empty() {
        "unstarted"
    } else {
        "started"
    };
    vec![
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}
