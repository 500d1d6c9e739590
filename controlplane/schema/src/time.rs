//! Times as the API writes them: RFC 3339, in UTC, to the second or to the microsecond.

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Since 1970, in UTC, without leap seconds.
    pub seconds: i64,
    /// Below a thousand million.
    pub nanos: u32,
}

/// How much of a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// `2006-01-02T15:04:05Z`
    Seconds,
    /// `2006-01-02T15:04:05.000000Z`
    Micros,
}

impl Precision {
    /// What Go's messages call the form.
    fn layout(self) -> &'static str {
        match self {
            Precision::Seconds => "2006-01-02T15:04:05Z07:00",
            Precision::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

const SECONDS_PER_DAY: i64 = 86_400;

/// The same time in UTC, in the one way that the API writes it. An empty text is no time, and an error.
pub fn canonical(text: &str, precision: Precision) -> Result<String, String> {
    Timestamp::parse_as(text, precision).map(|time| time.format(precision))
}

impl Timestamp {
    /// Reads an RFC 3339 time; fails with the message of Go's parser.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_as(text, Precision::Seconds)
    }

    /// Any number of digits is fine, whatever is asked for: that is for messages only.
    fn parse_as(text: &str, precision: Precision) -> Result<Self, String> {
        let layout = precision.layout();
        let mut parser = Parser {
            text,
            rest: text,
            layout,
        };
        let year = parser.number(4, "2006")?;
        parser.literal("-")?;
        let month = parser.number(2, "01")?;
        parser.literal("-")?;
        let day = parser.number(2, "02")?;
        parser.literal("T")?;
        let hour = parser.number(2, "15")?;
        parser.literal(":")?;
        let minute = parser.number(2, "04")?;
        parser.literal(":")?;
        let second = parser.number(2, "05")?;
        let nanos = parser.fraction();
        let offset = parser.offset()?;
        if !parser.rest.is_empty() {
            return Err(format!(
                "{}: extra text: {}",
                parser.head(),
                crate::go::quoted(parser.rest)
            ));
        }
        let out_of_range = |what: &str| Err(format!("{}: {what} out of range", parser.head()));
        if !(1..=12).contains(&month) {
            return out_of_range("month");
        }
        if day < 1 || day > days_in(year, month) {
            return out_of_range("day");
        }
        for (value, max, what) in [
            (hour, 23, "hour"),
            (minute, 59, "minute"),
            (second, 59, "second"),
        ] {
            if value > max {
                return out_of_range(what);
            }
        }
        let seconds =
            days(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
        Ok(Timestamp { seconds, nanos })
    }

    /// Writes it, in UTC; what the precision does not show is cut off.
    pub fn format(&self, precision: Precision) -> String {
        let (year, month, day) = civil(self.seconds.div_euclid(SECONDS_PER_DAY));
        let second = self.seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let head = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        match precision {
            Precision::Seconds => head + "Z",
            Precision::Micros => format!("{head}.{:06}Z", self.nanos / 1000),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Parser<'_> {
    fn head(&self) -> String {
        format!("parsing time {}", crate::go::quoted(self.text))
    }

    fn error(&self, element: &str) -> String {
        let (head, rest, layout) = (self.head(), crate::go::quoted(self.rest), self.layout);
        format!("{head} as \"{layout}\": cannot parse {rest} as \"{element}\"")
    }

    fn number(&mut self, digits: usize, element: &str) -> Result<i64, String> {
        match self.rest.get(..digits) {
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.rest = &self.rest[digits..];
                Ok(number
                    .bytes()
                    .fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
            }
            _ => Err(self.error(element)),
        }
    }

    fn literal(&mut self, literal: &str) -> Result<(), String> {
        self.rest = self
            .rest
            .strip_prefix(literal)
            .ok_or_else(|| self.error(literal))?;
        Ok(())
    }

    fn fraction(&mut self) -> u32 {
        let Some(rest) = self.rest.strip_prefix(['.', ',']) else {
            return 0;
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return 0;
        }
        let nanos = rest
            .bytes()
            .take(digits)
            .chain(std::iter::repeat(b'0'))
            .take(9);
        self.rest = &rest[digits..];
        nanos.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
    }

    /// Seconds east of Greenwich.
    fn offset(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let whole = self.error("Z07:00");
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(whole),
        };
        self.rest = &self.rest[1..];
        let hours = self.number(2, "Z07:00").map_err(|_| whole.clone())?;
        self.literal(":").map_err(|_| whole.clone())?;
        let minutes = self.number(2, "Z07:00").map_err(|_| whole)?;
        if hours > 24 || minutes > 60 {
            return Err(format!("{}: time zone offset out of range", self.head()));
        }
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap(year)),
        _ => 31,
    }
}

/// Days since 1970. Years start in March here, so that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc() {
        let cases = [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2026-11-28T13:00:00+01:00", "2026-11-28T12:00:00Z"),
            ("2024-02-29T23:59:59.999-00:30", "2024-03-01T00:29:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                canonical(text, Precision::Seconds).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
        let micros = canonical("2026-11-28T13:00:00.1234567Z", Precision::Micros);
        assert_eq!(micros.as_deref(), Ok("2026-11-28T13:00:00.123456Z"));
    }

    #[test]
    fn what_is_no_time_is_refused_in_gos_words() {
        let message = |text| Timestamp::parse(text).expect_err("no time");
        assert_eq!(
            message("noon"),
            r#"parsing time "noon" as "2006-01-02T15:04:05Z07:00": cannot parse "noon" as "2006""#
        );
        assert_eq!(
            message("2026-11-28"),
            r#"parsing time "2026-11-28" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#
        );
        assert_eq!(
            message("2026-02-29T00:00:00Z"),
            r#"parsing time "2026-02-29T00:00:00Z": day out of range"#
        );
        assert_eq!(
            message("2026-02-28T00:00:00Zzz"),
            r#"parsing time "2026-02-28T00:00:00Zzz": extra text: "zz""#
        );
    }

    #[test]
    fn each_day_of_four_centuries_has_a_date_that_comes_back() {
        for day in 0..146_097 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }
}
