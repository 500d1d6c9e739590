//! Which plots there are, and what of the results is in them.

use std::path::Path;

use anyhow::Context;

use super::plots::{Axis, Line, Panel, draw};
use super::results::{Measured, Results};

/// Draws every plot for which something was measured.
pub fn draw_all(results: &Results, out: &Path) -> anyhow::Result<()> {
    let plots = [
        (
            "throughput.svg",
            "Throughput against clients",
            throughput(results),
        ),
        (
            "latency.svg",
            "Latency of puts against offered load",
            offered(results),
        ),
        (
            "memory.svg",
            "Memory and restart against keys",
            memory(results),
        ),
        (
            "disturbed.svg",
            "Puts while the store does something else",
            disturbed(results),
        ),
    ];
    for (file, title, mut panels) in plots {
        panels.retain(worth_drawing);
        if !panels.is_empty() {
            draw(&out.join(file), title, &panels)
                .with_context(|| format!("{file} cannot be drawn"))?;
        }
    }
    Ok(())
}

fn axis(title: &str, logarithmic: bool) -> Axis {
    Axis {
        title: title.to_owned(),
        logarithmic,
    }
}

/// A line for each system, if there is anything on it.
fn lines(results: &Results, points: impl Fn(&str) -> Vec<(f64, f64)>, dots: bool) -> Vec<Line> {
    let systems = results.setting.systems.iter();
    let line = |(name, _): &(String, String)| Line {
        name: name.clone(),
        points: points(name),
        band: None,
        dots,
    };
    systems
        .map(line)
        .filter(|line| !line.points.is_empty())
        .collect()
}

/// Workloads whose names differ in the last number only, which is how many clients there were.
fn throughput(results: &Results) -> Vec<Panel> {
    let panels = [
        ("put-1", "puts to new keys, 1 member"),
        ("put-3", "puts to new keys, 3 members"),
        ("get-hot-1", "linearizable gets, 1 member"),
        ("get-hot-3", "linearizable gets, 3 members"),
    ];
    let of_clients = |workload: &Measured, prefix: &str| -> Option<f64> {
        workload
            .name
            .strip_prefix(prefix)?
            .strip_prefix('-')?
            .parse()
            .ok()
    };
    let panel = |(prefix, title): (&str, &str)| {
        let points = |system: &str| -> Vec<(f64, f64)> {
            let points = results.workloads.iter().filter_map(|workload| {
                let clients = of_clients(workload, prefix)?;
                Some((clients, workload.figure(system, "rate")?.median))
            });
            points.collect()
        };
        Panel {
            title: title.to_owned(),
            x: axis("clients", true),
            y: axis("operations a second", false),
            lines: lines(results, points, true),
        }
    };
    Vec::from(panels.map(panel))
}

fn offered(results: &Results) -> Vec<Panel> {
    let panels = [
        ("put-offered-1", "1 member"),
        ("put-offered-3", "3 members"),
    ];
    let panel = |(name, title): (&str, &str)| {
        let points = |system: &str| {
            let run = results
                .workload(name)
                .and_then(|workload| workload.typical(system));
            run.and_then(|outcome| outcome.lines.values().next().cloned())
                .unwrap_or_default()
        };
        Panel {
            title: title.to_owned(),
            x: axis("puts offered a second", false),
            y: axis("p99, ms", true),
            lines: lines(results, points, true),
        }
    };
    Vec::from(panels.map(panel))
}

fn memory(results: &Results) -> Vec<Panel> {
    let panels = [
        ("loaded_mib", "with all keys in it", "resident memory, MiB"),
        ("ready_quiet_s", "served again after SIGKILL", "seconds"),
    ];
    let panel = |(figure, title, unit): (&str, &str, &str)| {
        let points = |system: &str| -> Vec<(f64, f64)> {
            let mut points: Vec<(f64, f64)> = results
                .workloads
                .iter()
                .filter_map(|workload| {
                    let keys = workload.figure(system, "keys")?.median;
                    Some((keys, workload.figure(system, figure)?.median))
                })
                .collect();
            points.sort_by(|one, next| one.0.total_cmp(&next.0));
            points
        };
        Panel {
            title: title.to_owned(),
            x: axis("keys of 256 B", true),
            y: axis(unit, true),
            lines: lines(results, points, true),
        }
    };
    Vec::from(panels.map(panel))
}

fn disturbed(results: &Results) -> Vec<Panel> {
    let panels = [
        ("compaction-1", "a compaction, 1 member"),
        ("backup-1", "a backup, 1 member"),
        ("join-3", "a fourth member joins"),
    ];
    let panel = |(name, title): (&str, &str)| {
        let typical = |system: &str| {
            results
                .workload(name)
                .and_then(|workload| workload.typical(system))
        };
        let points = |system: &str| {
            let line = typical(system).and_then(|outcome| outcome.lines.get("longest put, ms"));
            line.cloned().unwrap_or_default()
        };
        let mut lines = lines(results, points, false);
        for line in &mut lines {
            let meanwhile = typical(&line.name).and_then(|outcome| outcome.lines.get("meanwhile"));
            line.band = meanwhile.and_then(|ends| Some((ends.first()?.0, ends.last()?.0)));
        }
        Panel {
            title: title.to_owned(),
            x: axis("seconds; shaded while it lasts", false),
            y: axis("longest put in a quarter second, ms", true),
            lines,
        }
    };
    Vec::from(panels.map(panel))
}

/// A line needs two points.
fn worth_drawing(panel: &Panel) -> bool {
    panel.lines.iter().any(|line| line.points.len() > 1)
}
