//! Go's text formats, byte for byte.
//!
//! etcdctl is written in Go, and scripts parse what its `%q`, `encoding/json`, `time.Duration` and
//! humanize packages print. These modules print the same bytes, and read the same syntax where a
//! user types it (flag values, the words of a transaction). They know nothing of etcd.

pub mod duration;
pub mod json;
pub mod quote;
pub mod words;

/// A byte count as `humanize.Bytes` prints it: SI units, one decimal below ten (`20 kB`, `1.6 MB`).
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog(1000) as usize;
    let scaled = bytes as f64 / 1000f64.powi(exponent as i32);
    let rounded = (scaled * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent.min(UNITS.len() - 1)];
    if rounded < 10.0 {
        format!("{rounded:.1} {unit}")
    } else {
        format!("{rounded:.0} {unit}")
    }
}

/// The spellings of a boolean that Go's `strconv.ParseBool` takes.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is not a boolean (true or false)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_humanize_prints_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_999, "10 kB"),
            (20_480, "20 kB"),
            (1_234_567, "1.2 MB"),
            (2_147_483_648, "2.1 GB"),
        ] {
            assert_eq!(human_bytes(bytes), text, "{bytes}");
        }
    }
}
