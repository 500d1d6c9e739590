//! Operations and values as a person reads them.

use std::fmt::Write as _;

use crate::history::{
    Call, Compare, CompareResult, Data, Delete, Kv, Lease, MemberChange, Micros, Operation,
    Outcome, Put, Range, Reply, Step, Target, Txn,
};

/// Longer values are cut in sentences.
const VALUE_CHARS: usize = 48;

pub fn time(at: Micros) -> String {
    format!("{}.{:03} s", at.0 / 1_000_000, at.0 / 1_000 % 1_000)
}

/// `operation 17 (client 2 at m1, 3.104–3.110 s: put x = "4")`.
pub fn operation(operation: &Operation) -> String {
    format!(
        "operation {} (client {} at m{}, {} to {}: {})",
        operation.id.0,
        operation.client.0,
        operation.member.0,
        time(operation.start),
        time(operation.end),
        call(&operation.call)
    )
}

/// What came of an operation.
pub fn outcome(operation: &Operation) -> String {
    match &operation.outcome {
        Outcome::Done {
            header,
            reply: told,
        } => {
            format!("revision {}: {}", header.revision.0, reply(told))
        }
        Outcome::Refused { error } => format!("refused: {error}"),
        Outcome::Unknown { error } => format!("unknown: {error}"),
    }
}

fn reply(told: &Reply) -> String {
    const SHOWN: usize = 4;
    match told {
        Reply::Range { kvs, count, .. } => {
            let shown: Vec<String> = kvs.iter().take(SHOWN).map(kv).collect();
            let cut = if kvs.len() > SHOWN { ", …" } else { "" };
            format!("{count} keys: {}{cut}", shown.join(", "))
        }
        Reply::Put { prev_kv: None } => "written".to_owned(),
        Reply::Put {
            prev_kv: Some(prev),
        } => format!("written; before: {}", kv(prev)),
        Reply::Delete { deleted, .. } => format!("{deleted} deleted"),
        Reply::Txn {
            succeeded,
            responses,
        } => {
            let responses: Vec<String> = responses.iter().map(reply).collect();
            let succeeded = if *succeeded { "succeeded" } else { "failed" };
            format!("{succeeded} ({})", responses.join("; "))
        }
        Reply::Compact => "compacted".to_owned(),
        Reply::Lease { id, ttl, .. } => format!("lease {:x} has {ttl} s", id.0),
        Reply::Revoked => "revoked".to_owned(),
        Reply::Leases(leases) => format!("{} leases", leases.len()),
        Reply::Members(members) => format!("{} members", members.len()),
        Reply::Moved => "moved".to_owned(),
        Reply::Hash(hashed) => format!("{:08x}", hashed.hash),
    }
}

/// As the beginning of a sentence.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

pub fn value(value: &Data) -> String {
    let text = value.to_string();
    if text.chars().count() <= VALUE_CHARS {
        return format!("“{text}”");
    }
    let cut: String = text.chars().take(VALUE_CHARS).collect();
    format!("“{cut}…”")
}

pub fn kv(kv: &Kv) -> String {
    let mut text = format!(
        "{} = {} (mod {}",
        kv.key,
        value(&kv.value),
        kv.mod_revision.0
    );
    let _ = write!(
        text,
        ", create {}, version {}",
        kv.create_revision.0, kv.version
    );
    if !kv.lease.is_none() {
        let _ = write!(text, ", lease {:x}", kv.lease.0);
    }
    text + ")"
}

pub fn keys(key: &Data, range_end: &Data) -> String {
    if range_end.is_empty() {
        key.to_string()
    } else if range_end.0.as_ref() == b"\0" {
        format!("[{key}, …)")
    } else {
        format!("[{key}, {range_end})")
    }
}

pub fn call(call: &Call) -> String {
    match call {
        Call::Range(call) => range(call),
        Call::Put(call) => put(call),
        Call::Delete(call) => delete(call),
        Call::Txn(call) => txn(call),
        Call::Compact(call) => format!("compact at {}", call.revision.0),
        Call::Lease(Lease::Grant { id, ttl }) => format!("grant lease {:x} of {ttl} s", id.0),
        Call::Lease(Lease::Revoke { id }) => format!("revoke lease {:x}", id.0),
        Call::Lease(Lease::KeepAlive { id }) => format!("keep lease {:x} alive", id.0),
        Call::Lease(Lease::TimeToLive { id, .. }) => format!("ask about lease {:x}", id.0),
        Call::Lease(Lease::List) => "list leases".to_owned(),
        Call::Member(MemberChange::Add { peer_urls, learner }) => format!(
            "add {} {}",
            if *learner { "learner" } else { "member" },
            peer_urls.join(",")
        ),
        Call::Member(MemberChange::Remove { id }) => format!("remove member {id:x}"),
        Call::Member(MemberChange::Promote { id }) => format!("promote member {id:x}"),
        Call::Member(MemberChange::Update { id, .. }) => format!("update member {id:x}"),
        Call::MemberList { .. } => "list members".to_owned(),
        Call::MoveLeader { target } => format!("move the leadership to {target:x}"),
        Call::HashKv(call) => format!("hash at {}", call.revision.0),
    }
}

fn range(range: &Range) -> String {
    let mut text = format!(
        "{} {}",
        if range.count_only { "count" } else { "read" },
        keys(&range.key, &range.range_end)
    );
    if range.revision.0 > 0 {
        let _ = write!(text, " at revision {}", range.revision.0);
    }
    if range.limit > 0 {
        let _ = write!(text, ", at most {}", range.limit);
    }
    if range.serializable {
        text.push_str(", serializable");
    }
    text
}

fn put(put: &Put) -> String {
    let mut text = format!("put {} = {}", put.key, value(&put.value));
    if !put.lease.is_none() {
        let _ = write!(text, " on lease {:x}", put.lease.0);
    }
    text
}

fn delete(delete: &Delete) -> String {
    format!("delete {}", keys(&delete.key, &delete.range_end))
}

fn txn(txn: &Txn) -> String {
    let compares: Vec<String> = txn.compares.iter().map(compare).collect();
    let mut text = match compares.as_slice() {
        [] => format!("txn: {}", steps(&txn.success)),
        compares => format!("if {} then {}", compares.join(" and "), steps(&txn.success)),
    };
    if !txn.failure.is_empty() {
        let _ = write!(text, " else {}", steps(&txn.failure));
    }
    text
}

fn steps(steps: &[Step]) -> String {
    if steps.is_empty() {
        return "nothing".to_owned();
    }
    let steps: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Range(step) => range(step),
            Step::Put(step) => put(step),
            Step::Delete(step) => delete(step),
            Step::Txn(step) => format!("({})", txn(step)),
        })
        .collect();
    steps.join("; ")
}

fn compare(compare: &Compare) -> String {
    let sign = match compare.result {
        CompareResult::Equal => "=",
        CompareResult::Greater => ">",
        CompareResult::Less => "<",
        CompareResult::NotEqual => "≠",
    };
    let (what, with) = match &compare.target {
        Target::Version(version) => ("version", version.to_string()),
        Target::Create(revision) => ("create", revision.0.to_string()),
        Target::Mod(revision) => ("mod", revision.0.to_string()),
        Target::Value(data) => ("value", value(data)),
        Target::Lease(lease) => ("lease", format!("{:x}", lease.0)),
    };
    format!(
        "{what}({}) {sign} {with}",
        keys(&compare.key, &compare.range_end)
    )
}
