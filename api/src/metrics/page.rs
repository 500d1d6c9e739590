//! The page in the form that etcd's has: Prometheus' text format, version 0.0.4.
//!
//! The metrics library writes OpenMetrics, which differs where counters are concerned: their names end with `_total` and
//! their headings' do not, and every scraper that goes by the older format misses their type. etcd has two
//! counters whose names do not end so, which OpenMetrics cannot say.

/// The content type of what [`prometheus`] gives.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the library appends to a counter's name.
const TOTAL: &str = "_total";

/// Counters that have no such ending in etcd.
const BARE: [&str; 2] = ["etcd_server_health_success", "etcd_server_health_failures"];

/// Makes Prometheus' text of OpenMetrics' text.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len() + open_metrics.len() / 16);
    let mut help = None;
    for line in open_metrics.lines() {
        let comment = line.strip_prefix("# ").map(|rest| rest.split_once(' '));
        match comment {
            // It comes before the type, and has to wait for it.
            Some(Some(("HELP", text))) => help = Some(text),
            Some(Some(("TYPE", text))) => push_heading(&mut page, help.take(), text),
            // The unit, and the end.
            Some(_) => {}
            None => {
                push_sample(&mut page, line);
                page.push('\n');
            }
        }
    }
    page
}

fn push_heading(page: &mut String, help: Option<&str>, text: &str) {
    let (name, kind) = text.split_once(' ').unwrap_or((text, "untyped"));
    let total = if kind == "counter" && !BARE.contains(&name) {
        TOTAL
    } else {
        ""
    };
    if let Some((_, help)) = help.and_then(|help| help.split_once(' ')) {
        page.push_str(&format!("# HELP {name}{total} {help}\n"));
    }
    page.push_str(&format!("# TYPE {name}{total} {kind}\n"));
}

fn push_sample(page: &mut String, line: &str) {
    let bare = BARE.iter().find_map(|name| {
        let rest = line.strip_prefix(name)?.strip_prefix(TOTAL)?;
        rest.starts_with([' ', '{']).then_some((name, rest))
    });
    match bare {
        Some((name, rest)) => {
            page.push_str(name);
            page.push_str(rest);
        }
        None => page.push_str(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_and_its_heading_have_one_name() {
        let open = "# HELP a_things Things.\n# TYPE a_things counter\na_things_total{kind=\"x\"} 1\n# EOF\n";
        let page = "# HELP a_things_total Things.\n# TYPE a_things_total counter\na_things_total{kind=\"x\"} 1\n";
        assert_eq!(prometheus(open), page);
    }

    #[test]
    fn other_metrics_stay_as_they_are() {
        let open = "# HELP a A thing.\n# TYPE a gauge\n# UNIT a seconds\na 1\n# HELP h H.\n# TYPE h histogram\n\
                    h_sum 0.0\nh_count 0\nh_bucket{le=\"+Inf\"} 0\n";
        assert_eq!(prometheus(open), open.replace("# UNIT a seconds\n", ""));
    }

    #[test]
    fn etcds_health_counters_have_etcds_names() {
        let open = "# HELP etcd_server_health_success H.\n# TYPE etcd_server_health_success counter\n\
                    etcd_server_health_success_total 3\n";
        let page = "# HELP etcd_server_health_success H.\n# TYPE etcd_server_health_success counter\n\
                    etcd_server_health_success 3\n";
        assert_eq!(prometheus(open), page);
    }
}
