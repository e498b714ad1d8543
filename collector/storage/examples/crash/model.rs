//! What the store must hold.

use std::collections::BTreeMap;

use storage::Storage;
use telemetry::{Labels, Timestamp, stale_nan};

use crate::batches::{Batch, RETENTION, batch, row_labels, time_of};

pub(crate) type Samples = BTreeMap<Labels, BTreeMap<i64, u64>>;

/// All that was appended.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) samples: Samples,
    pub(crate) histograms: BTreeMap<i64, u64>,
    pub(crate) batches: u64,
}

impl Model {
    pub(crate) fn go_on_to(&mut self, seed: u64, batches: u64) {
        for number in self.batches..batches {
            let time = time_of(number);
            let mut put = |labels: Labels, time: i64, value: f64| {
                self.samples.entry(labels).or_default().insert(time, value.to_bits());
            };
            match batch(seed, number) {
                Batch::Row(group, values, ended) => {
                    values.into_iter().for_each(|(s, v)| put(row_labels(group, s), time, v));
                    ended.into_iter().for_each(|s| put(row_labels(group, s), time, stale_nan()));
                }
                Batch::Samples(samples) => samples.into_iter().for_each(|s| put(s.labels, s.timestamp.0, s.value)),
                Batch::Histogram(s) => drop(self.histograms.insert(time, s.histogram.sum.to_bits())),
                Batch::Expire => {}
            }
        }
        self.batches = batches;
        let oldest = self.oldest();
        self.samples.values_mut().for_each(|samples| *samples = samples.split_off(&oldest));
        self.samples.retain(|_, samples| !samples.is_empty());
        self.histograms = self.histograms.split_off(&oldest);
    }

    /// Older samples may have expired or not.
    fn oldest(&self) -> i64 {
        time_of(self.batches) - RETENTION.as_millis() as i64
    }

    /// The samples of the store that cannot have expired.
    fn of(storage: &Storage, oldest: i64) -> (Samples, BTreeMap<i64, u64>) {
        let (mut samples, mut histograms) = (Samples::new(), BTreeMap::new());
        for series in storage.select(&[], Timestamp(oldest - 1), Timestamp::MAX) {
            histograms.extend(series.histograms.iter().map(|(at, h)| (at.0, h.sum.to_bits())));
            let own: BTreeMap<i64, u64> = series.samples.iter().map(|(at, v)| (at.0, v.to_bits())).collect();
            if !own.is_empty() {
                samples.insert(series.labels, own);
            }
        }
        (samples, histograms)
    }

    pub(crate) fn equals(&self, storage: &Storage) -> bool {
        Model::of(storage, self.oldest()) == (self.samples.clone(), self.histograms.clone())
    }
}

/// The newest time in the store, of samples and histograms; quick to compare.
pub(crate) fn newest_time(storage: &Storage) -> Option<i64> {
    let series = storage.select(&[], Timestamp::MIN, Timestamp::MAX);
    let newest =
        |s: &storage::SeriesData| s.samples.last().map(|(at, _)| at.0).max(s.histograms.last().map(|(at, _)| at.0));
    series.iter().filter_map(newest).max()
}

/// The newest time after so many batches.
pub(crate) fn newest_of(seed: u64, batches: u64) -> Option<i64> {
    let times = |number: u64| match batch(seed, number) {
        Batch::Row(_, values, ended) => (!values.is_empty() || !ended.is_empty()).then(|| time_of(number)),
        Batch::Samples(samples) => samples.iter().map(|s| s.timestamp.0).max(),
        Batch::Histogram(_) => Some(time_of(number)),
        Batch::Expire => None,
    };
    (0..batches).rev().take(200).filter_map(times).max()
}
