//! Kubernetes quantities as whole numbers: `250m`, `1.5Gi`, `129e6`.
//!
//! Our own, since the crates that there are know neither exponents nor fractions of binary units. The grammar is that of
//! `resource.Quantity` in Kubernetes' API documentation.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in units of one `per`-th, rounded up as Kubernetes rounds requests, at most what fits. What is not a
/// quantity counts as nothing: the API server has refused it long before.
pub fn amount(quantity: &Quantity, per: i64) -> i64 {
    parse(&quantity.0).map_or(0, |parsed| parsed.times(per))
}

/// mantissa × 10^decimal × 1024^binary.
struct Parsed {
    mantissa: i128,
    decimal: i32,
    binary: u32,
}

impl Parsed {
    fn times(&self, per: i64) -> i64 {
        let up = u32::try_from(self.decimal).unwrap_or(0);
        let down = self.decimal.min(0).unsigned_abs();
        let power = |base: i128, exponent| base.checked_pow(exponent);
        let numerator = self
            .mantissa
            .checked_mul(i128::from(per))
            .zip(power(10, up))
            .and_then(|(value, by)| value.checked_mul(by))
            .zip(power(1024, self.binary))
            .and_then(|(value, by)| value.checked_mul(by));
        let most = if self.mantissa < 0 {
            i64::MIN
        } else {
            i64::MAX
        };
        let Some(numerator) = numerator else {
            return most;
        };
        // More decimals than an i128 has are less than one of anything.
        let denominator = power(10, down).unwrap_or(i128::MAX);
        let whole = numerator / denominator;
        let rest = numerator % denominator;
        i64::try_from(whole + rest.signum()).unwrap_or(most)
    }
}

fn parse(text: &str) -> Option<Parsed> {
    let is_of_number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.bytes().position(|byte| !is_of_number(byte));
    let (number, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (power, binary) = match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 1),
        "Mi" => (0, 2),
        "Gi" => (0, 3),
        "Ti" => (0, 4),
        "Pi" => (0, 5),
        "Ei" => (0, 6),
        _ => (suffix.strip_prefix(['e', 'E'])?.parse().ok()?, 0),
    };
    Some(Parsed {
        mantissa: sign * mantissa,
        decimal: power - i32::try_from(fraction.len()).ok()?,
        binary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_every_notation_and_rounded_up() {
        let amounts = [
            ("250m", 1000, 250),
            ("1.5", 1000, 1500),
            ("0.0001", 1000, 1),
            ("100n", 1000, 1),
            ("1Gi", 1, 1 << 30),
            ("1.5Gi", 1, 3 << 29),
            (".5Ki", 1, 512),
            ("128974848", 1, 128_974_848),
            ("129e6", 1, 129_000_000),
            ("1E3", 1, 1000),
            ("1E", 1, 1_000_000_000_000_000_000),
            ("129M", 1, 129_000_000),
            ("-2k", 1, -2000),
            ("9Ei", 1000, i64::MAX),
            ("1e400", 1, i64::MAX),
        ];
        for (text, per, expected) in amounts {
            assert_eq!(amount(&Quantity(text.into()), per), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_nothing() {
        for text in ["", "Gi", "1Zi", "1 Gi", "1e", "--1", "."] {
            assert_eq!(amount(&Quantity(text.into()), 1), 0, "{text}");
        }
    }
}
