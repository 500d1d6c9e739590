//! The verdict in words, for a terminal.

use std::fmt::Write as _;

use super::summary::{self, Row, count, took};
use crate::check::{Checker, Verdict};
use crate::history::History;

/// The verdict in words: what came of the operations, what each checker had before it, what is wrong, and in a last line
/// what follows.
pub fn words(history: &History, verdict: &Verdict) -> String {
    let mut text = String::new();
    operations(&mut text, history);
    judged(&mut text, verdict);
    for note in &history.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for (number, violation) in verdict.violations.iter().enumerate() {
        let _ = writeln!(
            text,
            "\n{}. [{}] {}",
            number + 1,
            violation.checker,
            violation.sentence
        );
    }
    for (checker, omitted) in &verdict.omitted {
        let _ = writeln!(text, "\n[{checker}] … and {} more", count(*omitted));
    }
    for sentence in &verdict.inconclusive {
        let _ = writeln!(text, "\nNot judged: {sentence}");
    }
    let _ = writeln!(text, "\n{}", headline(history, verdict));
    if !verdict.is_valid() && !history.run.command.is_empty() {
        let _ = writeln!(text, "Again: {}", history.run.command);
    }
    text
}

/// The verdict in a sentence.
pub fn headline(history: &History, verdict: &Verdict) -> String {
    let (_, all) = summary::rows(history);
    let under = format!(
        "{} operations on {} under {} faults",
        count(all.all()),
        history.run.target,
        count(history.faults.len())
    );
    match verdict.count() {
        0 if verdict.is_valid() => format!("VALID: no contradiction in {under}."),
        0 => format!(
            "INCONCLUSIVE: no contradiction in {under}, but not everything could be judged."
        ),
        violations => format!(
            "NOT VALID: {} violation{} in {under}.",
            count(violations),
            if violations == 1 { "" } else { "s" }
        ),
    }
}

fn operations(text: &mut String, history: &History) {
    let (rows, all) = summary::rows(history);
    let mut line = |name: &str, row: &Row| {
        let [median, most, longest] = row.latency.map(took);
        let _ = writeln!(
            text,
            "{name:<12}{:>10}{:>10}{:>10}{:>12}{:>12}{:>12}",
            count(row.done),
            count(row.unknown),
            count(row.refused),
            median,
            most,
            longest
        );
    };
    for (workload, row) in &rows {
        line(summary::name(*workload), row);
    }
    line("all", &all);
    let head = format!(
        "{:<12}{:>10}{:>10}{:>10}{:>12}{:>12}{:>12}\n",
        "", "ok", "unknown", "refused", "median", "99 %", "longest"
    );
    text.insert_str(0, &head);
}

fn judged(text: &mut String, verdict: &Verdict) {
    text.push('\n');
    for checker in Checker::ALL {
        let Some(judged) = verdict.judged.get(&checker) else {
            continue;
        };
        let found = verdict
            .violations
            .iter()
            .filter(|violation| violation.checker == checker)
            .count();
        let found = found + verdict.omitted.get(&checker).copied().unwrap_or_default();
        let mark = if found == 0 { "ok" } else { "WRONG" };
        let _ = writeln!(text, "{:<12}{mark:<7}{judged}", checker.to_string());
    }
}
