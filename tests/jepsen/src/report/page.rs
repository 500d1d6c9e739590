//! The verdict as one page that needs nothing from anywhere.

use std::fmt::Write as _;

use super::summary::{self, Row, count, took};
use super::timeline::Timeline;
use super::verdict::headline;
use crate::check::{Checker, Verdict, words};
use crate::history::History;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page: the verdict, what is wrong, the timeline, and the figures.
pub fn page(history: &History, verdict: &Verdict) -> String {
    let timeline = Timeline::of(history, verdict);
    // Within a script no tag may be closed, whatever a value holds.
    let timeline = serde_json::to_string(&timeline)
        .expect("numbers and strings are always written")
        .replace('<', "\\u003c");
    let mut body = String::new();
    head(&mut body, history, verdict);
    violations(&mut body, verdict);
    body.push_str(TIMELINE);
    figures(&mut body, history, verdict);
    let run = &history.run;
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} · {} · seed {}</title>\n<style>\n{STYLE}</style>\n<body>\n{body}\
         <script type=\"application/json\" id=\"data\">{timeline}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        word(verdict),
        escape(&run.target),
        run.seed
    )
}

const TIMELINE: &str = "\
<section id=\"timeline\">
<h2>Timeline</h2>
<div class=\"bar\">
<span class=\"keys\"><i class=\"ok\"></i>ok <i class=\"unknown\"></i>outcome unknown <i class=\"refused\"></i>refused \
<i class=\"fault\"></i>fault <i class=\"blame\"></i>contradiction</span>
<span class=\"hint\">wheel zooms · drag moves · double click resets</span>
<button id=\"closer\" title=\"zoom in\">+</button><button id=\"wider\" title=\"zoom out\">−</button><button id=\"whole\">whole run</button>
</div>
<canvas id=\"overview\"></canvas>
<div id=\"lanes\"><canvas id=\"detail\"></canvas></div>
<p id=\"cut\"></p>
<div id=\"tip\" hidden></div>
</section>
";

fn head(body: &mut String, history: &History, verdict: &Verdict) {
    let run = &history.run;
    let headline = headline(history, verdict);
    let reason = headline.split_once(": ").map_or("", |(_, reason)| reason);
    let _ = write!(
        body,
        "<header class=\"{}\"><h1>{}</h1><p>{}</p>",
        word(verdict).replace(' ', "-"),
        word(verdict),
        escape(&words::capital(reason))
    );
    let _ = write!(body, "<dl>");
    let facts = [
        ("seed", run.seed.to_string()),
        ("target", run.target.clone()),
        ("members", run.members.to_string()),
        ("clients worked for", format!("{} s", run.seconds)),
        ("workloads", run.workloads.join(", ")),
        ("faults", run.nemeses.join(", ")),
        ("began", run.began.clone()),
    ];
    for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
        let _ = write!(body, "<dt>{name}</dt><dd>{}</dd>", escape(fact));
    }
    let _ = write!(body, "</dl>");
    if !run.command.is_empty() {
        let _ = write!(
            body,
            "<pre class=\"command\" title=\"runs it again\">{}</pre>",
            escape(&run.command)
        );
    }
    let _ = writeln!(body, "</header>");
}

/// One or two words that the verdict comes down to.
fn word(verdict: &Verdict) -> &'static str {
    if verdict.is_valid() {
        "Valid"
    } else if verdict.count() == 0 {
        "Inconclusive"
    } else {
        "Not valid"
    }
}

fn violations(body: &mut String, verdict: &Verdict) {
    if verdict.is_valid() {
        return;
    }
    let _ = writeln!(
        body,
        "<section><h2>What is wrong</h2><ol class=\"violations\">"
    );
    for (number, violation) in verdict.violations.iter().enumerate() {
        let _ = write!(
            body,
            "<li data-violation=\"{number}\" tabindex=\"0\"><b>{}</b><p>{}</p><small>",
            violation.checker,
            escape(&violation.sentence)
        );
        for id in &violation.operations {
            let _ = write!(body, "<a data-operation=\"{0}\">operation {0}</a> ", id.0);
        }
        let _ = writeln!(body, "</small></li>");
    }
    let _ = writeln!(body, "</ol>");
    for (checker, omitted) in &verdict.omitted {
        let _ = writeln!(
            body,
            "<p class=\"more\">… and {} more that the checker “{checker}” found.</p>",
            count(*omitted)
        );
    }
    for sentence in &verdict.inconclusive {
        let _ = writeln!(
            body,
            "<p class=\"inconclusive\"><b>not judged</b> {}</p>",
            escape(sentence)
        );
    }
    let _ = writeln!(body, "</section>");
}

fn figures(body: &mut String, history: &History, verdict: &Verdict) {
    let _ = writeln!(body, "<div class=\"figures\">");
    operations(body, history);
    checkers(body, verdict);
    faults(body, history);
    if !history.notes.is_empty() {
        let _ = writeln!(body, "<section><h2>Notes</h2><ul>");
        for note in &history.notes {
            let _ = writeln!(body, "<li>{}</li>", escape(note));
        }
        let _ = writeln!(body, "</ul></section>");
    }
    let _ = writeln!(body, "</div>");
}

fn operations(body: &mut String, history: &History) {
    let (rows, all) = summary::rows(history);
    let _ = writeln!(
        body,
        "<section><h2>Operations</h2><table><thead><tr><th><th>ok<th>unknown<th>refused<th>median<th>99 %<th>longest</tr></thead><tbody>"
    );
    let mut line = |name: &str, row: &Row| {
        let _ = write!(
            body,
            "<tr><th>{name}<td>{}<td>{}<td>{}",
            count(row.done),
            count(row.unknown),
            count(row.refused)
        );
        for latency in row.latency {
            let _ = write!(body, "<td>{}", took(latency));
        }
        let _ = writeln!(body, "</tr>");
    };
    for (workload, row) in &rows {
        line(summary::name(*workload), row);
    }
    line("all", &all);
    let _ = writeln!(body, "</tbody></table></section>");
}

fn checkers(body: &mut String, verdict: &Verdict) {
    let _ = writeln!(
        body,
        "<section><h2>Checkers</h2><table class=\"words\"><tbody>"
    );
    for checker in Checker::ALL {
        let Some(judged) = verdict.judged.get(&checker) else {
            continue;
        };
        let wrong = verdict
            .violations
            .iter()
            .any(|violation| violation.checker == checker);
        let (class, mark) = if wrong {
            ("wrong", "✗")
        } else {
            ("right", "✓")
        };
        let _ = writeln!(
            body,
            "<tr class=\"{class}\"><th>{mark} {checker}<td>{}</tr>",
            escape(judged)
        );
    }
    let _ = writeln!(body, "</tbody></table></section>");
}

fn faults(body: &mut String, history: &History) {
    let faults = summary::faults(history);
    if faults.is_empty() {
        return;
    }
    let _ = writeln!(
        body,
        "<section><h2>Faults</h2><table><thead><tr><th><th>times<th>in all</tr></thead><tbody>"
    );
    for (name, (times, micros)) in faults {
        let _ = writeln!(
            body,
            "<tr><th>{}<td>{times}<td>{}</tr>",
            escape(name),
            took(micros)
        );
    }
    let _ = writeln!(body, "</tbody></table></section>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
