//! The addresses of a node's pods: each gets one of the node's own range, and keeps it as long as it lives.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, bail};

/// The first address names the network and the second is the node's own.
const RESERVED: u32 = 2;

/// A range of IPv4 addresses, as `10.244.1.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u32,
    count: u32,
}

impl std::str::FromStr for Range {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Range> {
        let (address, bits) = text
            .split_once('/')
            .with_context(|| format!("{text:?} is no range of addresses, as 10.244.1.0/24"))?;
        let address: Ipv4Addr = address
            .parse()
            .with_context(|| format!("{text:?}: only IPv4 ranges can be given to pods"))?;
        let bits: u32 = bits
            .parse()
            .ok()
            .filter(|bits| (8..=30).contains(bits))
            .with_context(|| format!("{text:?}: a range for pods has a prefix of 8 to 30 bits"))?;
        let count = 1_u32 << (32 - bits);
        Ok(Range {
            first: u32::from(address) & !(count - 1),
            count,
        })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{}",
            Ipv4Addr::from(self.first),
            32 - self.count.trailing_zeros()
        )
    }
}

impl Range {
    /// The range of the same size that lies so many ranges further on; none beyond the last address.
    pub fn following(self, ranges: u32) -> Option<Range> {
        let first = self.count.checked_mul(ranges)?.checked_add(self.first)?;
        first.checked_add(self.count - 1)?;
        Some(Range { first, ..self })
    }
}

/// Who has which address of a range.
#[derive(Debug)]
pub struct Addresses {
    range: Range,
    /// By offset in the range.
    taken: HashMap<u32, String>,
    next: u32,
}

impl Addresses {
    /// None is taken.
    pub fn new(range: Range) -> Addresses {
        Addresses {
            range,
            taken: HashMap::new(),
            next: RESERVED,
        }
    }

    /// The address of a pod: the one that it has, the one that it had in an agent's life before this one, or a new one.
    pub fn take(&mut self, uid: &str, had: Option<IpAddr>) -> anyhow::Result<IpAddr> {
        let of_pod = self.taken.iter().find(|(_, holder)| *holder == uid);
        let kept = of_pod.map(|(offset, _)| *offset).or_else(|| {
            let IpAddr::V4(had) = had? else { return None };
            let offset = u32::from(had).checked_sub(self.range.first)?;
            let is_free = offset < self.range.count && !self.taken.contains_key(&offset);
            is_free.then_some(offset)
        });
        let offset = match kept {
            Some(offset) => offset,
            None => self.free()?,
        };
        self.taken.insert(offset, uid.to_owned());
        Ok(IpAddr::V4(Ipv4Addr::from(self.range.first + offset)))
    }

    /// A pod is gone.
    pub fn give_back(&mut self, uid: &str) {
        self.taken.retain(|_, holder| holder != uid);
    }

    /// The next free one, in turn, so that an address is not used again soon after its pod has gone.
    fn free(&mut self) -> anyhow::Result<u32> {
        // The last address is for broadcasts.
        let usable = self.range.count - RESERVED - 1;
        for _ in 0..usable {
            let offset = self.next;
            self.next = match offset + 2 < self.range.count {
                true => offset + 1,
                false => RESERVED,
            };
            if !self.taken.contains_key(&offset) {
                return Ok(offset);
            }
        }
        bail!("all {usable} addresses of {} are taken", self.range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(range: &str) -> Addresses {
        Addresses::new(range.parse().unwrap())
    }

    fn taken(addresses: &mut Addresses, uid: &str) -> String {
        addresses.take(uid, None).unwrap().to_string()
    }

    #[test]
    fn each_pod_has_its_own_and_keeps_it() {
        let mut addresses = addresses("10.244.1.0/24");
        assert_eq!(taken(&mut addresses, "a"), "10.244.1.2");
        assert_eq!(taken(&mut addresses, "b"), "10.244.1.3");
        assert_eq!(taken(&mut addresses, "a"), "10.244.1.2");
    }

    #[test]
    fn an_address_that_a_pod_had_is_its_again_unless_somebody_has_it() {
        let mut addresses = addresses("10.244.1.0/24");
        let had = Some("10.244.1.9".parse().unwrap());
        assert_eq!(addresses.take("a", had).unwrap().to_string(), "10.244.1.9");
        assert_eq!(addresses.take("b", had).unwrap().to_string(), "10.244.1.2");
        let elsewhere = Some("10.9.9.9".parse().unwrap());
        assert_eq!(
            addresses.take("c", elsewhere).unwrap().to_string(),
            "10.244.1.3"
        );
    }

    #[test]
    fn an_address_comes_back_when_all_others_were_used() {
        let mut addresses = addresses("10.0.0.0/29");
        for uid in ["a", "b", "c", "d", "e"] {
            taken(&mut addresses, uid);
        }
        let error = addresses.take("f", None).unwrap_err().to_string();
        assert_eq!(error, "all 5 addresses of 10.0.0.0/29 are taken");
        addresses.give_back("c");
        assert_eq!(taken(&mut addresses, "f"), "10.0.0.4");
    }

    #[test]
    fn ranges_follow_each_other() {
        let range: Range = "10.244.0.7/24".parse().unwrap();
        assert_eq!(range.to_string(), "10.244.0.0/24");
        assert_eq!(range.following(258).unwrap().to_string(), "10.245.2.0/24");
        assert_eq!(
            "255.255.255.0/24".parse::<Range>().unwrap().following(1),
            None
        );
        for wrong in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/31",
            "fd00::/64",
            "x/24",
        ] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
