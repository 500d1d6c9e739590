//! The words in which flags say times, switches and addresses.

use std::time::Duration;

use keelson_api::identity::{UrlError, parse_url};
use thiserror::Error;

/// Why a word does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum ValueError {
    #[error("{0:?} is not a time: write 10s, 5m or 1h30m")]
    Time(String),
    #[error("{0:?} is not true or false")]
    Switch(String),
    #[error("{0:?} is not a number that fits")]
    Number(String),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("{0:?} is https, and TLS is not there yet")]
    Https(String),
    #[error(
        "{0:?} must name an address of this machine to listen on, or localhost; not a host name"
    )]
    NotAnAddress(String),
}

/// A time as Go writes it: `1h30m`, `1.5s`, `100ms`; a bare `0` too. As in Go, it ends after some 292 years: what is
/// longer could not be added to any point in time.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let bad = || ValueError::Time(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: f64 = number.parse().map_err(|_| bad())?;
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(bad()),
            };
        rest = after;
    }
    if text.is_empty() {
        Err(bad())
    } else {
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| time.as_nanos() <= i64::MAX as u128)
            .ok_or_else(bad)
    }
}

/// A switch, in the words that Go takes.
pub fn switch(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::Switch(text.to_owned())),
    }
}

/// A number.
pub fn number<T: std::str::FromStr>(text: &str) -> Result<T, ValueError> {
    text.parse()
        .map_err(|_| ValueError::Number(text.to_owned()))
}

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// As it was given.
    pub url: String,
    /// The address, or `localhost`.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Listen {
    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }
}

/// URLs to listen at: comma-separated, of addresses of this machine.
pub fn listen_urls(text: &str) -> Result<Vec<Listen>, ValueError> {
    let mut places = Vec::new();
    for url in urls(text)? {
        let parsed = parse_url(&url)?;
        let host = match parsed.host() {
            Some(url::Host::Ipv4(address)) => address.to_string(),
            Some(url::Host::Ipv6(address)) => address.to_string(),
            Some(url::Host::Domain("localhost")) => "localhost".to_owned(),
            Some(url::Host::Domain(_)) | None => return Err(ValueError::NotAnAddress(url)),
        };
        let port = parsed.port_or_known_default().unwrap_or(80);
        places.push(Listen { url, host, port });
    }
    Ok(places)
}

/// URLs: comma-separated, in the order of the text.
pub fn urls(text: &str) -> Result<Vec<String>, ValueError> {
    let mut urls = Vec::new();
    for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        if parse_url(url)?.scheme() == "https" {
            return Err(ValueError::Https(url.to_owned()));
        }
        urls.push(url.to_owned());
    }
    if urls.is_empty() {
        Err(UrlError::Empty.into())
    } else {
        Ok(urls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_go() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("2m3s", 123_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in [
            "", "5", "s", "5 s", "-1s", "1d", "1.2.3s", "ten", "2562048h",
        ] {
            assert_eq!(duration(bad), Err(ValueError::Time(bad.into())), "{bad}");
        }
    }

    #[test]
    fn a_place_to_listen_is_an_address_or_localhost() {
        let places =
            listen_urls("http://127.0.0.1:2379,http://[::1]:1, http://localhost:80").unwrap();
        let told: Vec<(&str, u16, bool)> = places
            .iter()
            .map(|place| (place.host.as_str(), place.port, place.is_loopback()))
            .collect();
        assert_eq!(
            told,
            [
                ("127.0.0.1", 2379, true),
                ("::1", 1, true),
                ("localhost", 80, true)
            ]
        );
        assert!(!listen_urls("http://0.0.0.0:2379").unwrap()[0].is_loopback());
        assert!(matches!(
            listen_urls("http://example.com:2379"),
            Err(ValueError::NotAnAddress(_))
        ));
    }

    #[test]
    fn https_is_refused_and_not_served_in_the_clear() {
        assert!(matches!(
            listen_urls("https://127.0.0.1:2379"),
            Err(ValueError::Https(_))
        ));
        assert!(matches!(
            urls("http://a:1,https://b:2"),
            Err(ValueError::Https(_))
        ));
    }

    #[test]
    fn malformed_urls_are_refused() {
        for bad in [
            "",
            "127.0.0.1:2379",
            "http://127.0.0.1",
            "http://127.0.0.1:x",
            "http://127.0.0.1:2379/x",
        ] {
            assert!(matches!(listen_urls(bad), Err(ValueError::Url(_))), "{bad}");
        }
    }
}
