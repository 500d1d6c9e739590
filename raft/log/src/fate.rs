//! What a crash of the simulated disk does to each change that was not synced, by seed.

const SECTOR_BYTES: u64 = 512;

/// How one crash treats what is not synced.
#[derive(Clone, Copy)]
pub(crate) enum Mood {
    KeepAll,
    DropAll,
    Mixed,
}

impl Mood {
    /// One crash in eight loses nothing, and one everything: both are likely and telling.
    pub(crate) fn choose(random: &mut Random) -> Mood {
        match random.below(8) {
            0 => Mood::KeepAll,
            1 => Mood::DropAll,
            _ => Mood::Mixed,
        }
    }

    pub(crate) fn fate(self, random: &mut Random) -> Fate {
        match self {
            Mood::KeepAll => Fate::Kept,
            Mood::DropAll => Fate::Dropped,
            Mood::Mixed => match random.below(5) {
                0 | 1 => Fate::Kept,
                2 => Fate::Dropped,
                3 => Fate::TornSectors(random.next()),
                _ => Fate::TornBytes(random.next()),
            },
        }
    }
}

/// What becomes of one unsynced change.
pub(crate) enum Fate {
    Kept,
    Dropped,
    /// Each sector survives or not.
    TornSectors(u64),
    /// A range of bytes, often a prefix, survives.
    TornBytes(u64),
    /// A prefix survives.
    BrokenOff(u64),
}

impl Fate {
    /// Writes what survives of `data` into `durable`. Beyond its length nothing does.
    pub(crate) fn write(&self, durable: &mut [u8], offset: u64, data: &[u8]) {
        let mut put = |from: usize, to: usize| {
            let at = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .saturating_add(from);
            let to = to.min(durable.len().saturating_sub(at).saturating_add(from));
            if let (Some(place), Some(data)) = (
                durable.get_mut(at..at + to.saturating_sub(from)),
                data.get(from..to),
            ) {
                place.copy_from_slice(data);
            }
        };
        match self {
            Fate::Dropped => {}
            Fate::Kept => put(0, data.len()),
            Fate::TornBytes(seed) => {
                let mut random = Random::new(*seed);
                let len = data.len() as u64;
                let to = random.below(len + 1);
                let from = if random.below(2) == 0 {
                    0
                } else {
                    random.below(to + 1)
                };
                put(from as usize, to as usize);
            }
            Fate::BrokenOff(seed) => {
                let to = Random::new(*seed).below(data.len() as u64 + 1);
                put(0, to as usize);
            }
            Fate::TornSectors(seed) => {
                let mut random = Random::new(*seed);
                let mut from = 0;
                while from < data.len() {
                    let left_in_sector = SECTOR_BYTES - (offset + from as u64) % SECTOR_BYTES;
                    let to = data.len().min(from + left_in_sector as usize);
                    if random.below(2) == 0 {
                        put(from, to);
                    }
                    from = to;
                }
            }
        }
    }
}

/// SplitMix64: small, and good enough to choose fates.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
