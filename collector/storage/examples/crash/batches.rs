//! What is appended: told by a batch's number and the seed alone, so that parent and child agree.

use std::time::Duration;

use storage::Config;
use telemetry::{Histogram, HistogramSample, Labels, Sample, Timestamp};

pub(crate) const GROUPS: u64 = 2;
pub(crate) const SERIES: u64 = 24;
pub(crate) const LOOSE: u64 = 8;
pub(crate) const STEP_MS: i64 = 1000;
pub(crate) const START_MS: i64 = 1_700_000_000_000;
pub(crate) const RETENTION: Duration = Duration::from_secs(1800);

/// Small and seeded; no two calls of one argument differ.
pub(crate) fn random(seed: u64, salt: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn config() -> Config {
    Config { retention: RETENTION, out_of_order_window: Duration::from_secs(60), ..Config::default() }
}

pub(crate) fn time_of(batch: u64) -> i64 {
    START_MS + batch as i64 * STEP_MS
}

/// What a batch does; told by its number and the seed alone.
pub(crate) enum Batch {
    /// A row: its group, the values of the series that it has, the series that end with it.
    Row(u64, Vec<(u64, f64)>, Vec<u64>),
    Samples(Vec<Sample>),
    Histogram(HistogramSample),
    Expire,
}

pub(crate) fn row_labels(group: u64, series: u64) -> Labels {
    Labels::from_pairs([("__name__", "row".to_owned()), ("g", group.to_string()), ("s", series.to_string())])
}

pub(crate) fn value(seed: u64, batch: u64, series: u64) -> f64 {
    let chance = random(seed, batch * 31 + series);
    match series % 5 {
        0 | 1 => (batch * (series + 1)) as f64,
        2 => (chance % 1000) as f64 / 8.0,
        3 => f64::from_bits(chance),
        _ => (batch * 5_000_000_000 * (chance % 2)) as f64,
    }
}

/// Whether the series is in the row of this batch: of two thirds always, so that they are sealed together; of the others it
/// changes every 40 batches.
pub(crate) fn is_present(seed: u64, batch: u64, group: u64, series: u64) -> bool {
    series < SERIES * 2 / 3 || !random(seed, batch / 40 * 1000 + group * 100 + series).is_multiple_of(8)
}

pub(crate) fn kind(seed: u64, batch: u64) -> u64 {
    random(seed, batch) % 100
}

pub(crate) fn row_group(seed: u64, batch: u64) -> Option<u64> {
    let kind = kind(seed, batch);
    (kind < 70).then_some(kind % GROUPS)
}

pub(crate) fn batch(seed: u64, number: u64) -> Batch {
    let time = Timestamp(time_of(number));
    match kind(seed, number) {
        0..70 => {
            let group = kind(seed, number) % GROUPS;
            let present = |batch: u64| move |series: &u64| is_present(seed, batch, group, *series);
            let values = (0..SERIES).filter(present(number)).map(|s| (s, value(seed, number, s))).collect();
            let before = (0..number).rev().take(1000).find(|b| row_group(seed, *b) == Some(group));
            let ended = before.map_or(Vec::new(), |before| {
                (0..SERIES).filter(present(before)).filter(|s| !present(number)(s)).collect()
            });
            Batch::Row(group, values, ended)
        }
        70..92 => {
            let late = random(seed, number + 7).is_multiple_of(4);
            let sample = |series: u64| Sample {
                labels: Labels::from_pairs([("__name__", "loose".to_owned()), ("s", series.to_string())]),
                // Half a step off, so that no other sample has the time.
                timestamp: if late { Timestamp(time.0 - 20 * STEP_MS + STEP_MS / 2) } else { time },
                value: value(seed, number, series),
            };
            Batch::Samples((0..LOOSE).map(sample).collect())
        }
        92..98 => Batch::Histogram(HistogramSample {
            labels: Labels::from_pairs([("__name__", "histogram")]),
            timestamp: time,
            histogram: Histogram {
                count: number as f64,
                sum: number as f64 / 3.0,
                positive: vec![(3, number as f64)],
                ..Histogram::default()
            },
        }),
        _ => Batch::Expire,
    }
}
