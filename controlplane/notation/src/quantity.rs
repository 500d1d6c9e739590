//! Resource quantities, such as `500m` and `1.5Gi`.
//!
//! A quantity is a fixed-point number of at most nine decimals, and remembers which suffixes it was written with. Its
//! canonical form has no fraction and the largest suffix that loses nothing, so that `0.5` is `500m`, and `1024Mi` is
//! `1Gi`.

use std::fmt;

/// A parsed quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    /// In thousand-millionths. No further than [`Quantity::MAX`] from zero.
    nanos: i128,
    notation: Notation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// `k`, `M`, `G`, …
    Decimal,
    /// `Ki`, `Mi`, `Gi`, …
    Binary,
    /// `e3`, `e6`, …
    Exponent,
}

/// Why a text is no quantity, in the words of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a number with a suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// A suffix that there is not.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANOS: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [(&str, u32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];

impl Quantity {
    /// The largest amount; what is larger is taken for this.
    pub const MAX: i64 = i64::MAX;

    /// Reads a quantity. What is smaller than a thousand-millionth is rounded up, away from zero.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (negative, rest) = match text.as_bytes().first().ok_or(Error::Format)? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(Error::Format);
        }
        let (notation, scale) = Scale::parse(suffix)?;
        let magnitude = magnitude(whole, fraction, scale).min(i128::from(Self::MAX) * NANOS);
        let small = notation == Notation::Binary && magnitude < NANOS;
        let notation = if small { Notation::Decimal } else { notation };
        Ok(Quantity {
            nanos: if negative { -magnitude } else { magnitude },
            notation,
        })
    }

    /// The amount in thousandths, rounded up.
    pub fn millis(&self) -> i128 {
        -(-self.nanos).div_euclid(NANOS / 1000)
    }

    /// The amount, rounded up.
    pub fn units(&self) -> i128 {
        -(-self.nanos).div_euclid(NANOS)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.nanos.partial_cmp(&other.nanos)
    }
}

/// The canonical form of a quantity.
pub fn canonical(text: &str) -> Result<String, Error> {
    Quantity::parse(text).map(|quantity| quantity.to_string())
}

#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

impl Scale {
    fn parse(suffix: &str) -> Result<(Notation, Scale), Error> {
        if let Some((_, power)) = DECIMAL.iter().find(|(known, _)| *known == suffix) {
            return Ok((Notation::Decimal, Scale::Ten(*power)));
        }
        if let Some((_, power)) = BINARY.iter().find(|(known, _)| *known == suffix) {
            return Ok((Notation::Binary, Scale::Two(*power)));
        }
        if !suffix
            .chars()
            .all(|c| "eEinumkKMGTP+-0123456789".contains(c))
        {
            return Err(Error::Format);
        }
        let power = suffix.strip_prefix(['e', 'E']).ok_or(Error::Suffix)?;
        let power = power.parse().map_err(|_| Error::Suffix)?;
        Ok((Notation::Exponent, Scale::Ten(power)))
    }
}

/// `whole.fraction` times the scale, in thousand-millionths, rounded up; `i128::MAX` if it is larger than that.
fn magnitude(whole: &str, fraction: &str, scale: Scale) -> i128 {
    // No more digits than can matter, so that the product below is exact; a digit that is cut only rounds up.
    const DIGITS_MAX: usize = 19;
    let whole = whole.trim_start_matches('0');
    let kept = fraction.len().min(DIGITS_MAX);
    let mut digits: i128 = 0;
    for digit in whole.bytes().chain(fraction[..kept].bytes()) {
        let next = digits
            .checked_mul(10)
            .and_then(|digits| digits.checked_add(i128::from(digit - b'0')));
        let Some(next) = next else { return i128::MAX };
        digits = next;
    }
    if fraction[kept..].bytes().any(|digit| digit != b'0') {
        digits = digits.saturating_add(1);
    }
    if digits == 0 {
        return 0;
    }
    let (digits, power) = match scale {
        Scale::Ten(power) => (Some(digits), power),
        Scale::Two(power) => (digits.checked_mul(1 << power), 0),
    };
    let Some(digits) = digits else {
        return i128::MAX;
    };
    let power = power.saturating_add(9).saturating_sub(kept as i32);
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    match (power >= 0, factor) {
        (true, factor) => factor
            .and_then(|factor| digits.checked_mul(factor))
            .unwrap_or(i128::MAX),
        (false, Some(factor)) => {
            digits.div_euclid(factor) + i128::from(digits.rem_euclid(factor) != 0)
        }
        (false, None) => 1,
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANOS;
        if self.notation == Notation::Binary && self.nanos % NANOS == 0 && whole.abs() >= 1024 {
            let (mut amount, mut times) = (whole, 0);
            while amount % 1024 == 0 {
                amount /= 1024;
                times += 1;
            }
            let suffix = if times == 0 { "" } else { BINARY[times - 1].0 };
            return write!(f, "{amount}{suffix}");
        }
        let (mut amount, mut power) = (self.nanos, -9);
        while amount % 1000 == 0 {
            amount /= 1000;
            power += 3;
        }
        match self.notation {
            Notation::Exponent if power == 0 => write!(f, "{amount}"),
            Notation::Exponent => write!(f, "{amount}e{power}"),
            Notation::Decimal | Notation::Binary => {
                let suffix = DECIMAL
                    .iter()
                    .find(|(_, of)| *of == power)
                    .map_or("", |(suffix, _)| suffix);
                write!(f, "{amount}{suffix}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_written_without_fraction_and_with_the_largest_suffix() {
        let cases = [
            ("0", "0"),
            ("0.5", "500m"),
            ("1", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("100", "100"),
            ("1000", "1k"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("12e-3", "12e-3"),
            ("+1", "1"),
            ("-0.5", "-500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.0000000001", "1n"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775807"),
            ("100E", "9223372036854775807"),
            (
                "123456789012345678901234567890123456789012345678901234567890",
                "9223372036854775807",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_in_the_words_that_users_know() {
        for text in ["", "-", ".", "abc", "1.2.3", "1 Gi", "1Gb"] {
            assert_eq!(canonical(text), Err(Error::Format), "{text}");
        }
        for text in ["1K", "1ki", "1e", "1mm", "1i"] {
            assert_eq!(canonical(text), Err(Error::Suffix), "{text}");
        }
    }

    #[test]
    fn amounts_are_rounded_up() {
        let quantity = Quantity::parse("1500u").expect("a quantity");
        assert_eq!((quantity.millis(), quantity.units()), (2, 1));
    }
}
