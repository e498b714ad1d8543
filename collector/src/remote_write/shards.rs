//! How many requests are on their way at a time, with each series in order.
//!
//! Series are divided by a hash into a power of two of shards, and a request holds series of one shard. Two requests may
//! travel together unless they may have a series in common; so the number of shards can change from one batch to the
//! next while older batches wait, on disk too. It doubles while full batches queue up, and halves when they are small.

use std::time::Duration;

use super::QueueConfig;

/// How often the load is looked at, as in Prometheus.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// As many as a shard's number has.
const BITS_MAX: u8 = 16;

/// The series whose hashes end in these bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) bits: u8,
    pub(super) number: u16,
}

impl Shard {
    /// Of requests without series, whose order does not matter.
    pub(super) const NO_SERIES: Shard = Shard { bits: u8::MAX, number: 0 };

    /// Whether a series may be in both.
    pub(super) fn overlaps(self, other: Shard) -> bool {
        if self == Shard::NO_SERIES || other == Shard::NO_SERIES {
            return false;
        }
        let common = self.bits.min(other.bits);
        (self.number ^ other.number) & mask(common) == 0
    }
}

fn mask(bits: u8) -> u16 {
    match bits {
        0..BITS_MAX => (1 << bits) - 1,
        _ => u16::MAX,
    }
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) batches: u64,
    /// Of those, closed because they were full and not because they were old.
    pub(super) full: u64,
    /// Batches that are not sent yet.
    pub(super) waiting: u64,
}

/// The number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shards {
    bits: u8,
    bits_min: u8,
    bits_max: u8,
}

impl Shards {
    /// Powers of two: `min_shards` rounded up, `max_shards` rounded down.
    pub(super) fn new(queue: &QueueConfig) -> Self {
        let bits = |shards: usize| shards.max(1).ilog2() as u8;
        let bits_max = bits(queue.max_shards).min(BITS_MAX);
        let bits_min = (bits(queue.min_shards) + u8::from(!queue.min_shards.is_power_of_two())).min(bits_max);
        Shards { bits: bits_min, bits_min, bits_max }
    }

    pub(super) fn count(self) -> usize {
        1 << self.bits
    }

    pub(super) fn count_max(self) -> usize {
        1 << self.bits_max
    }

    /// Of a series with this hash.
    pub(super) fn of(self, hash: u64) -> Shard {
        Shard { bits: self.bits, number: hash as u16 & mask(self.bits) }
    }

    /// What the load asks for. Small batches gain nothing from company: they are never divided further.
    pub(super) fn after(self, load: Load) -> Shards {
        let shards = self.count() as u64;
        let bits = match load {
            Load { batches, full, waiting } if 2 * full > batches && waiting > 2 * shards => self.bits + 1,
            Load { batches, full, waiting } if 4 * full < batches && 2 * waiting <= shards => {
                self.bits.saturating_sub(1)
            }
            _ => self.bits,
        };
        Shards { bits: bits.clamp(self.bits_min, self.bits_max), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shards(min: usize, max: usize) -> Shards {
        Shards::new(&QueueConfig { min_shards: min, max_shards: max, ..QueueConfig::default() })
    }

    #[test]
    fn the_number_follows_the_load_within_its_bounds() {
        let busy = Load { batches: 10, full: 9, waiting: 100 };
        let idle = Load { batches: 10, full: 0, waiting: 0 };
        let mut now = shards(1, 50);
        assert_eq!((now.count(), now.count_max()), (1, 32));
        let grown: Vec<usize> = (0..7).map(|_| (now = now.after(busy), now.count()).1).collect();
        assert_eq!(grown, [2, 4, 8, 16, 32, 32, 32]);
        assert_eq!(now.after(Load { waiting: 3, ..busy }), now, "full batches that are sent at once are no backlog");
        assert_eq!(now.after(Load { full: 0, ..busy }), now, "a backlog of small batches");
        let shrunk: Vec<usize> = (0..6).map(|_| (now = now.after(idle), now.count()).1).collect();
        assert_eq!(shrunk, [16, 8, 4, 2, 1, 1]);
        assert_eq!(shards(3, 4).after(idle).count(), 4);
        assert_eq!(shards(5, 5).count(), 4, "not above the most");
    }

    proptest! {
        #[test]
        fn shards_overlap_exactly_where_a_series_may_be_in_both(a in 0u8..6, b in 0u8..6, x in 0u64..64, y in 0u64..64) {
            let of = |bits, hash| Shards { bits, bits_min: 0, bits_max: BITS_MAX }.of(hash);
            let shared = (0..64).any(|hash| of(a, hash) == of(a, x) && of(b, hash) == of(b, y));
            prop_assert_eq!(of(a, x).overlaps(of(b, y)), shared);
            prop_assert!(!of(a, x).overlaps(Shard::NO_SERIES));
        }
    }
}
