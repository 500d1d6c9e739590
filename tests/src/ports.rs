//! Free ports on loopback.
//!
//! They are taken below the range that the kernel gives to outgoing connections, so that a killed member finds
//! its port still free when it is started again.
//!
//! A member that is down leaves its ports to whoever asks. So who starts clusters in several processes at a time gives
//! each process a range of its own, by `KEELSON_PORTS` in its environment: `LOWEST-HIGHEST`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rand::Rng;

/// Names the range.
pub const VARIABLE: &str = "KEELSON_PORTS";
/// What a process takes that was given no range.
const COMMON: Range<u16> = 12_000..32_000;
/// What is divided among processes, so that nothing collides with those that were given no range.
const DIVIDED: Range<u16> = 4_000..12_000;

/// Ports that this process has handed out. Who got one may not listen there yet.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// `N` different ports on which nothing listens now, and which this process was not given before.
pub fn free<const N: usize>() -> [u16; N] {
    let range = match std::env::var(VARIABLE) {
        Ok(text) => parse(&text).unwrap_or_else(|| {
            panic!("{VARIABLE}={text}: expected a range of ports, as 4000-4999")
        }),
        Err(_) => COMMON,
    };
    // Held until all are found, so that none is found twice.
    let mut held = Vec::with_capacity(N);
    let mut random = rand::rng();
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1_000 {
        if held.len() == N {
            break;
        }
        if given.len() + N > range.len() / 2 {
            // Whoever got the first ones has had time enough.
            given.clear();
        }
        let port = random.random_range(range.clone());
        if !given.insert(port) {
            continue;
        }
        held.extend(
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .ok()
                .map(|listener| (port, listener)),
        );
    }
    let ports: Vec<u16> = held.iter().map(|(port, _)| *port).collect();
    ports
        .try_into()
        .expect("a machine that runs tests has free ports")
}

/// Ranges for so many processes at a time, none of which reaches into another: values of [`VARIABLE`].
pub fn shares(processes: usize) -> Vec<String> {
    let length = (DIVIDED.len() / processes.max(1)) as u16;
    let share = |process: usize| {
        let lowest = DIVIDED.start + process as u16 * length;
        format!("{lowest}-{}", lowest + length - 1)
    };
    (0..processes).map(share).collect()
}

fn parse(text: &str) -> Option<Range<u16>> {
    let (lowest, highest) = text.split_once('-')?;
    let range = lowest.parse().ok()?..highest.parse::<u16>().ok()?.checked_add(1)?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_ranges_that_do_not_meet_each_other_nor_what_all_others_take() {
        let shares: Vec<Range<u16>> = shares(3)
            .iter()
            .map(|share| parse(share).expect("a share is a range"))
            .collect();
        for pair in shares.windows(2) {
            assert!(pair[0].end <= pair[1].start, "{shares:?}");
        }
        assert!(shares[2].end <= COMMON.start);
    }

    #[test]
    fn a_port_is_not_given_twice_though_nobody_listens_there_yet() {
        let mut given: Vec<u16> = (0..50).flat_map(|_| free::<10>()).collect();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 500);
    }

    #[test]
    fn what_is_no_range_is_not_taken_for_one() {
        for text in ["", "4000", "4000-", "5000-4000", "4000-70000"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("4000-4000"), Some(4000..4001));
    }
}
