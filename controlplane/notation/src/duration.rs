//! Lengths of time, as Kubernetes' flags are written: `300ms`, `10s`, `1h30m`.

use std::time::Duration;

/// The longest that Go can write: 292 years. Longer ones cannot be added to a point in time.
const SECONDS_MAX: f64 = 9_223_372_036.0;

/// Reads a duration; a number without a unit is one of seconds. The error is a sentence for whoever wrote the flag.
pub fn parse(text: &str) -> Result<Duration, String> {
    let seconds = match text.parse() {
        Ok(seconds) => Some(seconds),
        Err(_) => in_units(text),
    };
    seconds
        .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text:?} is no duration such as 300ms, 10s or 1h30m"))
}

fn in_units(text: &str) -> Option<f64> {
    let mut seconds = 0.0;
    let mut rest = Some(text).filter(|text| !text.is_empty())?;
    while !rest.is_empty() {
        let is_of_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !is_of_number(c))?);
        let end = tail.find(is_of_number).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases = [
            ("10s", 10_000),
            ("300ms", 300),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("0s", 0),
            ("2", 2_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_none_or_cannot_be_added_to_a_time_is_refused() {
        for text in [
            "",
            "s",
            "1x",
            "10s5",
            "-1s",
            "-1",
            "1 s",
            "ten",
            "NaN",
            "inf",
            "9999999999h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
