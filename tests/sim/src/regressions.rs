//! Seeds that found a defect, kept in a file: a line each, the seed and then what it was.
//!
//! A seed means the run that the simulation made of it when it was written down; a later change of the simulation makes
//! another run of it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// What is told of a seed may take so many characters: the rest, the seed tells.
const WHAT_CHARS: usize = 200;

/// Appends seeds with what they found, each in a line of its own.
pub fn save(path: &Path, failed: &BTreeMap<u64, String>) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for (seed, what) in failed {
        let what: String = what.chars().take(WHAT_CHARS).collect();
        writeln!(file, "{seed} {}", what.replace('\n', " "))?;
    }
    Ok(())
}

/// The seeds of such a file; the line that does not begin with one, if there is one.
pub fn parse(text: &str) -> Result<Vec<u64>, String> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let seed = |line: &str| {
        let first = line.split_whitespace().next();
        first
            .and_then(|seed| seed.parse().ok())
            .ok_or_else(|| line.to_owned())
    };
    lines.map(seed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("regressions.txt");
        std::fs::write(&path, "# Seeds.\n\n7 lost\n").expect("a file");
        let failed = BTreeMap::from([(9, "first\nsecond".to_string()), (8, String::new())]);
        save(&path, &failed).expect("a file that can be written");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(parse(&text), Ok(vec![7, 8, 9]));
        assert_eq!(parse("seven"), Err("seven".to_string()));
    }
}
