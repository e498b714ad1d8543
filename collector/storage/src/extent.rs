//! From when to when the store has samples, and in how many sealed pieces.

use telemetry::Timestamp;

use crate::Storage;
use crate::block::Block;

/// What [`Storage::extent`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Of the oldest sample in memory, which may have expired a moment ago.
    pub oldest: Timestamp,
    pub newest: Timestamp,
    /// Sealed blocks of all series.
    pub blocks: usize,
}

impl Storage {
    /// None for a store without samples.
    pub fn extent(&self) -> Option<Extent> {
        let head = self.read();
        let (mut oldest, mut newest, mut blocks) = (i64::MAX, i64::MIN, 0);
        for series in &head.series {
            let (hot, own) = (head.hot(series).0, series.blocks());
            let ends = [own.first().map(Block::first), own.last().map(Block::last)];
            for end in ends.into_iter().flatten().chain(hot.first().copied()).chain(hot.last().copied()) {
                (oldest, newest) = (oldest.min(end), newest.max(end));
            }
            blocks += own.len();
        }
        for rows in head.groups.iter().flatten() {
            for sheet in rows.sheets.all() {
                (oldest, newest) = (oldest.min(sheet.times.first), newest.max(sheet.times.last));
            }
            blocks += rows.sheets.blocks_len();
        }
        (oldest <= newest).then_some(Extent { oldest: Timestamp(oldest), newest: Timestamp(newest), blocks })
    }
}

#[cfg(test)]
mod tests {
    use telemetry::{Labels, Sample};

    use super::*;
    use crate::Config;

    #[test]
    fn the_extent_spans_all_series() {
        let storage = Storage::new(Config::default());
        assert_eq!(storage.extent(), None);
        let sample = |name: &str, at: i64| Sample {
            labels: Labels::from_pairs([("__name__", name)]),
            timestamp: Timestamp(at),
            value: 1.0,
        };
        let now = Timestamp(3_600_000);
        storage.append(&[sample("a", 60_000), sample("b", 30_000), sample("a", 90_000)], now);
        let extent = storage.extent().expect("samples");
        assert_eq!((extent.oldest, extent.newest, extent.blocks), (Timestamp(30_000), Timestamp(90_000), 0));
        let many: Vec<Sample> = (0..1000).map(|i| sample("a", 90_001 + i)).collect();
        storage.append(&many, now);
        let extent = storage.extent().expect("samples");
        assert_eq!(extent.newest, Timestamp(91_000));
        assert!(extent.blocks > 0, "{extent:?}");
    }
}
