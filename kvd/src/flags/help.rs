//! What `--help` and `--version` print.

use super::{Flag, Group, Standing, TABLE};
use keelson_api::version::ETCD_VERSION;

/// The width of the help's lines.
const WIDTH: usize = 100;
const INDENT: usize = 6;

/// The help: usage, the flags by groups, and those that are known and mean nothing.
pub fn help() -> String {
    let mut page = String::from(
        "kvd: one member of a replicated key-value store that speaks etcd's v3 API.\n\n\
         Usage:\n  \
         kvd [flags]      Run a member.\n  \
         kvd --version    Print the version.\n  \
         kvd --help       Print this.\n\n\
         A member of its own, on this machine alone:\n  \
         kvd --data-dir ./data\n\n\
         Every flag is also an environment variable: --data-dir is ETCD_DATA_DIR. The command line wins;\n\
         with --config-file, the file alone counts.\n",
    );
    for group in Group::ALL {
        page.push_str(&format!("\n{}:\n", group.title()));
        let flags = || TABLE.iter().filter(move |flag| flag.group == group);
        for flag in flags().filter(|flag| flag.standing == Standing::Built) {
            page.push_str(&entry(flag));
        }
        let names = |keep: fn(&Standing) -> bool| -> Vec<&str> {
            flags()
                .filter(|flag| keep(&flag.standing))
                .map(|flag| flag.name)
                .collect()
        };
        let refused = names(|standing| matches!(standing, Standing::Refused(_)));
        if !refused.is_empty() {
            page.push_str(&wrapped(&list(&refused), 2));
        }
        let ignored = names(|standing| matches!(standing, Standing::Ignored(_)));
        if !ignored.is_empty() {
            page.push_str("\nTaken for the sake of existing configurations, and without effect:\n");
            page.push_str(&wrapped(&list(&ignored), 2));
        }
    }
    page
}

fn list(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("--{name}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn entry(flag: &Flag) -> String {
    let default = if flag.default.is_empty() {
        String::new()
    } else {
        format!(" ({})", flag.default)
    };
    format!("  --{}{default}\n{}", flag.name, wrapped(flag.help, INDENT))
}

/// Breaks a text into lines with so many spaces before each.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut line = " ".repeat(indent);
    for word in text.split_whitespace() {
        if line.len() > indent && line.len() + 1 + word.len() > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = " ".repeat(indent);
        }
        if line.len() > indent {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines + &line + "\n"
}

/// The version, with the line that scripts look for in etcd's.
pub fn version() -> String {
    format!(
        "kvd Version: {}\netcd Version: {ETCD_VERSION}\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_flag_and_keeps_to_its_width() {
        let page = help();
        for flag in TABLE {
            let name = format!("--{}", flag.name);
            assert!(
                page.split_whitespace().any(|word| word == name),
                "{name} is missing"
            );
        }
        for line in page.lines() {
            assert!(line.chars().count() <= WIDTH + 10, "{line}");
        }
    }

    #[test]
    fn the_version_has_etcds_line() {
        assert!(
            version()
                .lines()
                .any(|line| line == format!("etcd Version: {ETCD_VERSION}"))
        );
    }
}
